"""Sessions that come back from the store, after keeper and bridge were killed together."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.sessions.session import SessionOutput, SessionState
from coditect_cli.stores.sqlite import SQLiteStore
from tests.support.gateway import Client, Gateway, until
from tests.support.shell import hooked_shell


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    with ExitStack() as stack:

        def begin(**settings: Any) -> Gateway:
            gateway = Gateway(tmp_path / "home", **settings)
            stack.callback(gateway.stop)
            return gateway

        yield begin


def kill_everything(gateway: Gateway) -> None:
    """kill -9 keeper and bridge, and wait until the shells have followed them."""
    keeper = psutil.Process(gateway.keeper.pid)
    everyone = keeper.children(recursive=True)
    for process in (keeper, *keeper.children()):
        if process == keeper or "coditect_cli.gateway.main" in process.cmdline():
            os.kill(process.pid, signal.SIGKILL)
    gateway.keeper.wait()
    _, left = psutil.wait_procs(everyone, timeout=30)
    assert not left


def recorded(gateway: Gateway, id: str) -> tuple[SessionState | None, SessionOutput | None]:
    store = SQLiteStore(gateway.paths.session_store)
    try:
        return SessionLayer(store).load("demo", id)
    finally:
        store.close()


def state_when(
    gateway: Gateway, id: str, condition: Callable[[SessionState, SessionOutput], bool]
) -> SessionState:
    def look() -> SessionState | None:
        state, output = recorded(gateway, id)
        return state if state and output and condition(state, output) else None

    found: SessionState = until(look, "the record")
    return found


def type_lines(client: Client, *lines: str) -> None:
    for line in lines:
        client.run(line)


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_directory_variables_history_and_screen_come_back(
    start: Callable[..., Gateway], tmp_path: Path, name: str
) -> None:
    if not Path("/bin", name).exists():
        pytest.skip(f"needs {name}: apt install {name}")
    shell = hooked_shell(tmp_path, name)
    gateway = start(shell=shell)
    client = gateway.attach()
    type_lines(client, "export FOO='bar  baz'", "export GONE=1", "cd /tmp", "unset GONE")
    type_lines(client, "export GH_TOKEN=hunter2", " export QUIET=1", "echo on the screen")
    state = state_when(
        gateway,
        client.session,
        lambda state, output: (
            any("on the screen" in line for line in output.lines)
            and "on the screen" in "".join(state.command_history[-1:])
        ),
    )
    assert state.working_directory == "/tmp"
    assert state.environment_vars["FOO"] == "bar  baz"
    assert "GONE" not in state.environment_vars
    assert "GH_TOKEN" not in state.environment_vars
    assert "hunter2" not in str(state.command_history)
    assert not [line for line in state.command_history if line.startswith(" ")]
    kill_everything(gateway)

    again = start(shell=shell)
    client = again.attach()
    assert client.session == state.id
    client.expect(b"on the screen\x1b[m\r\n" if name == "bash" else b"on the screen")
    client.expect(b"restored: its processes did not survive")
    assert client.run('echo "$FOO,$PWD,${GONE-unset},${GH_TOKEN-unset}"') == (
        b"bar  baz,/tmp,unset,unset\r\n"
    )
    client.send(b"\x1b[A\x1b[A\x0a" if name == "bash" else b"\x1b[A\x1b[A\x0a")
    client.expect(b"on the screen")


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
