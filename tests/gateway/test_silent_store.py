"""A FoundationDB that falls silent under a gateway: terminals go on, and records catch up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.sessions.session import SessionState
from coditect_cli.stores.foundationdb import FoundationDBStore
from tests.support.fdbserver import FDBServer, running_fdbserver
from tests.support.gateway import Client, Gateway, running_gateway, until
from tests.support.shell import hooked_shell

pytestmark = [pytest.mark.foundationdb, pytest.mark.slow]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FDBServer]:
    with running_fdbserver(tmp_path / "fdb") as running:
        yield running


@pytest.fixture
def gateway(server: FDBServer, tmp_path: Path) -> Iterator[Gateway]:
    with running_gateway(
        tmp_path / "home",
        shell=hooked_shell(tmp_path),
        store="foundationdb",
        fdb_cluster_file=server.cluster_file,
    ) as running:
        yield running


def recorded(server: FDBServer, id: str, workspace: str = "demo") -> SessionState | None:
    with closing(FoundationDBStore(str(server.cluster_file))) as store:
        return SessionLayer(store).load(workspace, id)[0]


def said(server: FDBServer, id: str, text: str, workspace: str = "demo") -> SessionState:
    def look() -> SessionState | None:
        state = recorded(server, id, workspace)
        return state if state and text in str(state.command_history) else None

    found: SessionState = until(look, f"{text} in the record")
    return found


def before_it_falls_silent(gateway: Gateway, server: FDBServer) -> Client:
    """A client whose session has a record, of a store that no longer answers."""
    client = gateway.attach()
    client.run("echo before")
    said(server, client.session, "echo before")
    server.pause()
    return client


def test_terminals_go_on_and_records_catch_up(gateway: Gateway, server: FDBServer) -> None:
    clients = [gateway.attach(session="new") for _ in range(10)]
    leaving, *others = clients
    for client in clients:
        client.run("echo before")
    for client in clients:
        said(server, client.session, "echo before")
    server.pause()
    for client in clients:
        assert client.run("echo meanwhile") == b"meanwhile\r\n"
    leaving.send(b"exit 3\n")
    assert leaving.exit()["status"] == 3
    until(lambda: "not_saved" in gateway.log.read_text(), "the news that the store is silent")
    newcomer = gateway.attach("other")  # does not wait in a line behind every save
    newcomer.expect(b"saved sessions could not be looked up: FoundationDB does not answer")
    assert newcomer.run("echo new") == b"new\r\n"
    server.resume()
    for client in others:
        said(server, client.session, "echo meanwhile")
    said(server, newcomer.session, "echo new", "other")
    until(lambda: recorded(server, leaving.session).ended_at, "the end of what ended meanwhile")


def test_a_gateway_that_is_stopped_does_not_wait_for_it_and_names_what_is_lost(
    gateway: Gateway, server: FDBServer
) -> None:
    client = before_it_falls_silent(gateway, server)
    client.run("echo lost")
    gateway.keeper.terminate()
    gateway.keeper.wait(20)
    assert f"given_up workspace=demo id={client.session}" in gateway.log.read_text()


def test_a_gateway_is_asked_to_stop_and_says_what_would_be_lost(
    gateway: Gateway, server: FDBServer
) -> None:
    client = before_it_falls_silent(gateway, server)
    client.run("echo kept")
    client.send(b"exit\n")
    client.exit()
    answer = gateway.request("_gateway", type="gateway", action="stop", force=False)
    assert (answer["code"], answer["exitCode"]) == ("session.not_saved", 8)
    assert f"demo/{client.session}" in answer["message"]
    server.resume()
    said(server, client.session, "echo kept")
    until(lambda: not gateway.status()["notSaved"], "the news that all is saved")
    answer = gateway.request("_gateway", type="gateway", action="stop", force=False)
    assert answer == {"type": "accepted", "action": "stop", "notSaved": []}
