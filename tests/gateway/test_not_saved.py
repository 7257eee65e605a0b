"""A store that takes nothing more: what is not saved is said, and saved once it can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.gateway import Client, Gateway, until
from tests.support.records import recorded
from tests.support.shell import hooked_shell
from tests.support.stores import refusing


def not_saved(gateway: Gateway) -> list[str]:
    return [one["session"] for one in gateway.status()["notSaved"]]


@pytest.fixture
def gateway(start_gateway: Callable[..., Gateway], tmp_path: Path) -> Gateway:
    return start_gateway(shell=hooked_shell(tmp_path))


@pytest.fixture
def outage() -> Iterator[ExitStack]:
    """Ends where the store takes writes again."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def client(gateway: Gateway, outage: ExitStack) -> Client:
    """In a session with something that could not be saved."""
    client = gateway.attach()
    client.run("echo before")
    until(lambda: "echo before" in history(gateway, client.session), "the first save")
    assert not_saved(gateway) == []
    outage.enter_context(refusing(gateway.paths.session_store))
    client.run("echo precious")
    client.run("true")
    until(lambda: not_saved(gateway), "the news that nothing is saved")
    return client


def history(gateway: Gateway, id: str) -> str:
    if not gateway.paths.session_store.exists():
        return ""
    state, _ = recorded(gateway, id)
    return str(state.command_history) if state else ""


def test_it_is_told_of_the_session_until_it_is_saved(
    gateway: Gateway, client: Client, outage: ExitStack
) -> None:
    assert not_saved(gateway) == [client.session]
    [live] = gateway.sessions()
    assert "no room" in live["notSaved"]
    outage.close()
    until(lambda: not_saved(gateway) == [], "the save")
    assert "echo precious" in history(gateway, client.session)
    [live] = gateway.sessions()
    assert live["notSaved"] is None


def test_a_session_that_ended_meanwhile_is_saved_later(
    gateway: Gateway, client: Client, outage: ExitStack
) -> None:
    client.send(b"exit\n")
    client.exit()
    until(lambda: not gateway.sessions(), "the session's end")
    assert not_saved(gateway) == [client.session]
    outage.close()
    until(lambda: not_saved(gateway) == [], "the save")
    assert "echo precious" in history(gateway, client.session)
    state, _ = recorded(gateway, client.session)
    assert state is not None
    assert state.ended_at


@pytest.mark.parametrize("action", ["stop", "restart"])
def test_a_gateway_ends_only_when_that_is_meant(
    gateway: Gateway, client: Client, action: str
) -> None:
    client.detach()
    answer = gateway.request("_gateway", type="gateway", action=action, force=False)
    assert (answer["code"], answer["exitCode"]) == ("session.not_saved", 8)
    assert f"demo/{client.session}" in answer["message"]
    assert gateway.sessions()
    answer = gateway.request("_gateway", type="gateway", action=action, force=True)
    assert [one["session"] for one in answer["notSaved"]] == [client.session]
    given_up = f"given_up workspace=demo id={client.session} code=store.failed"
    until(lambda: given_up in gateway.log.read_text(), "its name in the log")


def test_a_gateway_that_is_told_to_end_by_a_signal_names_it(
    gateway: Gateway, client: Client
) -> None:
    gateway.keeper.terminate()
    gateway.keeper.wait()
    assert f"given_up workspace=demo id={client.session}" in gateway.log.read_text()


def test_a_workspace_is_stopped_only_when_that_is_meant(
    gateway: Gateway, client: Client, outage: ExitStack
) -> None:
    client.detach()
    answer = gateway.request("demo", type="stop", force=False)
    assert (answer["code"], answer["exitCode"]) == ("session.not_saved", 8)
    assert gateway.sessions()
    answer = gateway.request("demo", type="stop", force=True)
    assert [one["session"] for one in answer["notSaved"]] == [client.session]
    outage.close()
    until(lambda: not_saved(gateway) == [], "the save")
    assert "echo precious" in history(gateway, client.session)


def test_a_session_of_a_bridge_before_that_ends_meanwhile_is_named(
    gateway: Gateway, client: Client
) -> None:
    gateway.kill_bridge()
    until(lambda: not_saved(gateway), "the news that it can't be taken in")
    client = gateway.attach(session=client.session)
    client.send(b"exit\n")
    client.exit()
    given_up = f"given_up workspace=demo id={client.session}"
    until(lambda: given_up in gateway.log.read_text(), "its name in the log")
    assert not_saved(gateway) == []
