"""What is recorded of a session, on each store, while it lives and as it ends."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.stores.store import END
from tests.support.gateway import Gateway, until
from tests.support.records import kill_everything, recorded, state_when, store_of, type_lines
from tests.support.shell import hooked_shell


def test_a_shell_that_exits_is_recorded_and_not_restored(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start(shell=hooked_shell(tmp_path))
    client = gateway.attach()
    type_lines(client, "cd /usr")
    client.send(b"exit 3\n")
    assert client.exit()["status"] == 3
    state = state_when(gateway, client.session, lambda state, output: state.ended_at > 0)
    assert state.working_directory == "/usr"
    other = gateway.attach()
    assert other.session != client.session
    back = gateway.attach(session=client.session)
    back.expect(b"restored")
    assert back.run("pwd") == b"/usr\r\n"
    gateway.stop()  # which writes what is left
    assert "not_saved" not in gateway.log.read_text()


def test_a_session_that_is_deleted_as_it_ends_stays_deleted(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start(shell=hooked_shell(tmp_path))
    client = gateway.attach()
    client.send(b"exit\n")
    client.message("exit")
    state_when(gateway, client.session, lambda state, _: state.ended_at > 0)
    with closing(store_of(gateway)) as store:
        until(lambda: not [*SessionLayer(store).held("demo", 0)], "the lease's end")
        assert SessionLayer(store).delete("demo", client.session)
        client.send({"type": "done"})  # it is saved for the last time
        client.closed()
        gateway.stop()
        everything = store.read(lambda snapshot: snapshot.range(b"", END))
    assert everything == []


def test_a_bridge_that_dies_alone_forgets_nothing(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start(shell=hooked_shell(tmp_path))
    client = gateway.attach()
    type_lines(client, "echo one", "export FOO=1", "echo two")
    state_when(gateway, client.session, lambda state, _: len(state.command_history) >= 3)
    gateway.kill_bridge()
    until(gateway.bridge_pid, "another bridge")
    client = gateway.attach(session=client.session)
    type_lines(client, "echo three")
    state = state_when(gateway, client.session, lambda state, _: "three" in str(state))
    spoken = [line.split("; ")[1] for line in state.command_history]
    assert spoken == ["echo one", "export FOO=1", "echo two", "echo three"]
    assert state.environment_vars["FOO"] == "1"


def test_what_bash_erases_for_a_new_line_is_erased_in_the_record(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    rc = "PS1='$ '\nHISTCONTROL=erasedups\n"
    client = (gateway := start(shell=hooked_shell(tmp_path, rc=rc))).attach()
    for number in (1, 2, 1):
        client.send(f"echo {number}\n".encode())
    client.run("echo last")
    state = state_when(gateway, client.session, lambda state, _: "last" in str(state))
    assert state.command_history[:-1] == ["echo 2", "echo 1"]


def test_a_gateway_that_says_farewell_gives_its_leases_back(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start(shell=hooked_shell(tmp_path))
    session = gateway.attach().session
    state_when(gateway, session, lambda state, _: True)
    gateway.stop()
    store = store_of(gateway)
    assert SessionLayer(store).acquire("demo", session, "elsewhere#1", now=1, ttl=1).token == 2
    store.close()


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("bash", "exec bash --norc"),
        ("bash", "unset PROMPT_COMMAND"),
        ("bash", "PROMPT_COMMAND=(true)"),
        ("bash", "exec sh"),
        ("zsh", "exec zsh -f"),
        ("zsh", "precmd_functions=()"),
    ],
)
def test_a_shell_that_lost_its_hook_has_its_directory(
    start: Callable[..., Gateway], tmp_path: Path, name: str, command: str
) -> None:
    gateway = start(shell=hooked_shell(tmp_path, name))
    client = gateway.attach()
    client.run("export KEPT=1")
    state_when(gateway, client.session, lambda state, _: "KEPT" in state.environment_vars)
    client.send(f"{command}\n".encode())
    client.run("cd /usr/share")
    state = state_when(
        gateway, client.session, lambda state, _: state.working_directory == "/usr/share"
    )
    assert state.environment_vars["KEPT"] == "1"


@pytest.mark.parametrize("store_settings", [{}], ids=["sqlite"])
def test_a_store_that_cannot_be_used_stops_no_terminal(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start(shell=hooked_shell(tmp_path))
    gateway.paths.session_store.mkdir()
    client = gateway.attach()
    assert client.run("echo alive") == b"alive\r\n"
    until(lambda: "not_saved" in gateway.log.read_text(), "the news")
    gateway.paths.session_store.rmdir()
    state_when(gateway, client.session, lambda state, _: "alive" in str(state.command_history))


def test_another_bridge_that_took_the_session_ends_this_ones_shell(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start(shell=hooked_shell(tmp_path))
    client = gateway.attach()
    client.run("echo mine")
    state_when(gateway, client.session, lambda state, _: "mine" in str(state.command_history))
    store = store_of(gateway)
    later = 1 << 62
    layer = SessionLayer(store)
    layer.acquire("demo", client.session, "elsewhere#1", now=later, ttl=1)
    client.send(b"echo stale\n")
    exit = {"type": "exit", "status": 129, "signal": signal.SIGHUP, "reason": "taken"}
    assert client.message("exit") == exit
    assert "stale" not in str(recorded(gateway, client.session)[0])
    store.close()


def test_without_screens_none_is_recorded(start: Callable[..., Gateway], tmp_path: Path) -> None:
    gateway = start(shell=hooked_shell(tmp_path), save_screen="false", secret_names="MINE*")
    client = gateway.attach()
    client.run("export MINE_X=1 GH_TOKEN=open; echo shown")
    state = state_when(gateway, client.session, lambda state, _: bool(state.command_history))
    assert state.environment_vars["GH_TOKEN"] == "open"
    assert "MINE_X" not in state.environment_vars
    output = recorded(gateway, client.session)[1]
    assert output is not None
    assert output.lines == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_while_it_writes_it_loses_no_session(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    """Ten kills of keeper and bridge; the store's own hundred are in tests/stores."""
    shell = hooked_shell(tmp_path)
    gateway = start(shell=shell)
    sessions = [gateway.attach(session="new").session for _ in range(3)]
    reached = 0
    for _ in range(10):
        clients = [gateway.attach(session=id) for id in sessions]
        for _ in range(3):
            reached += 1
            for client in clients:
                client.run(f"export REACHED={reached}")
        time.sleep(1)  # older than a second: this much must be there
        for client in clients:
            client.send(f"export REACHED={reached}.5\n".encode())
        kill_everything(gateway)
        for id in sessions:
            state, output = recorded(gateway, id)
            assert state is not None
            assert output is not None
            assert float(state.environment_vars["REACHED"]) >= reached
        gateway = start(shell=shell)
