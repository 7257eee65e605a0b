"""When a session's record is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from coditect_cli.errors import Unreachable
from coditect_cli.sessions.session import SessionOutput, SessionState
from tests.support.gateway import Client, Gateway, running_gateway, until
from tests.support.records import recorded, store_of
from tests.support.shell import hooked_shell

PATIENT = """\
import sys
from coditect_cli.gateway import main, saving
saving.Saving.change.__defaults__ = (3600.0,)
sys.exit(main.main(sys.argv[1:]))
"""


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that waits an hour from a change to its save: what it saves, it saved at once."""
    bridge = tmp_path / "bridge.py"
    bridge.write_text(PATIENT)
    shell = hooked_shell(tmp_path)
    with running_gateway(tmp_path / "home", bridge=[str(bridge)], shell=shell) as gateway:
        yield gateway


def record(gateway: Gateway, id: str) -> tuple[SessionState, SessionOutput] | None:
    with suppress(Unreachable):  # there may be no store yet
        state, output = recorded(gateway, id)
        if state is not None and output is not None:
            return state, output
    return None


def leave(client: Client) -> None:
    client.detach()


def drop(client: Client) -> None:
    client.drop()


def exit_shell(client: Client) -> None:
    client.send(b"exit\n")
    client.message("exit")


@pytest.mark.parametrize("end", [leave, drop, exit_shell])
def test_it_is_saved_at_once_when_a_client_leaves_or_the_shell_ends(
    patient: Gateway, end: Callable[[Client], None]
) -> None:
    client = patient.attach()
    client.run("cd /usr; export FOO=1; echo shown")
    client.run("true")
    assert record(patient, client.session) is None
    end(client)
    state, output = until(lambda: record(patient, client.session), "the record")
    assert (state.working_directory, state.environment_vars["FOO"]) == ("/usr", "1")
    assert "shown" in output.lines
    assert (state.ended_at > 0) == (end is exit_shell)


def test_a_gateway_that_is_told_to_end_saves_first(patient: Gateway) -> None:
    client = patient.attach()
    client.run("cd /usr; echo shown")
    client.run("true")
    assert record(patient, client.session) is None
    patient.keeper.terminate()
    patient.keeper.wait()
    found = record(patient, client.session)
    assert found is not None
    assert (found[0].working_directory, found[0].ended_at) == ("/usr", 0)
    assert "shown" in found[1].lines


def test_changes_that_never_pause_are_saved_and_many_at_a_time(
    start_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start_gateway(shell=hooked_shell(tmp_path))
    client = gateway.attach()
    client.send(b"n=0; while [ ! -e stop ]; do echo line $((n += 1)); read -t 0.02; done\n")

    def newest() -> int:
        found = record(gateway, client.session)
        lines = [line for line in found[1].lines if line.startswith("line ")] if found else []
        return int(lines[-1].split()[1]) if lines else 0

    first = until(newest, "a first save")
    until(lambda: newest() > first + 100, "a later save")
    (gateway.paths.workspaces / "demo" / "root" / "stop").touch()
    client.drop()  # it has not read the lines
    with closing(store_of(gateway)) as store:
        saves = store.read(lambda snapshot: snapshot.version)
    assert saves < newest() / 2
