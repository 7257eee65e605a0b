"""What a gateway has recorded of its sessions in the workspace `demo`, and how it is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import closing

import psutil

from coditect_cli import config
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.sessions.session import SessionOutput, SessionState
from coditect_cli.stores.store import SessionStore, open_store
from tests.support.gateway import Client, Gateway, until


def kill_everything(gateway: Gateway) -> None:
    """kill -9 keeper and bridge, and wait until the shells have followed them."""
    keeper = psutil.Process(gateway.keeper.pid)
    everyone = keeper.children(recursive=True)
    for pid in (gateway.keeper.pid, gateway.bridge_pid()):
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    gateway.keeper.wait()
    _, left = psutil.wait_procs(everyone, timeout=30)
    assert not left


def recorded(gateway: Gateway, id: str) -> tuple[SessionState | None, SessionOutput | None]:
    with closing(store_of(gateway)) as store:
        return SessionLayer(store).load("demo", id)


def store_of(gateway: Gateway) -> SessionStore:
    settings = config.load(gateway.paths, gateway.environ).settings
    return open_store(settings, gateway.paths)


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
