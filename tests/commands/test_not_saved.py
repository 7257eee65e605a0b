"""What commands say where sessions cannot be saved."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.conftest import RunCli
from tests.support.gateway import Client, Gateway, until
from tests.support.stores import refusing


@pytest.fixture
def client(gateway: Gateway) -> Iterator[Client]:
    """In a session of which what is new cannot be saved."""
    client = gateway.attach()
    until(gateway.paths.session_store.exists, "a store")
    until(lambda: gateway.sessions()[0]["notSaved"] is None, "the first save")
    with refusing(gateway.paths.session_store):
        client.run("echo precious")
        until(lambda: gateway.status()["notSaved"], "the news that it is not saved")
        yield client


def test_it_is_said_wherever_somebody_looks(run_cli: RunCli, client: Client) -> None:
    code, out, _ = run_cli("session", "show", "demo", client.session)
    assert code == 0
    assert "\nnot saved   cannot use " in out
    code, out, _ = run_cli("gateway", "status", "-o", "json")
    assert [one["session"] for one in json.loads(out)["notSaved"]] == [client.session]
    code, out, _ = run_cli("doctor", "-o", "json")
    [found] = [item for item in json.loads(out)["items"] if item["check"] == "gateway"]
    assert (code, found["status"]) == (8, "fail")
    assert f"sessions that could not be saved: 1 (demo/{client.session})" in found["message"]
    assert "no room" in found["message"]


@pytest.mark.parametrize(
    "words",
    [
        ("gateway", "restart"),
        ("gateway", "stop", "--yes"),
        ("workspace", "stop", "demo"),
        ("workspace", "delete", "demo", "--yes"),
    ],
)
def test_nothing_is_given_up_without_force(
    run_cli: RunCli, gateway: Gateway, client: Client, words: tuple[str, ...]
) -> None:
    client.detach()
    code, out, err = run_cli(*words)
    named = f"sessions that could not be saved: 1 (demo/{client.session})"
    assert (code, out) == (8, "")
    assert err.startswith(f"error: {named}")
    assert gateway.sessions()
    code, _, err = run_cli(*words, "--force")
    assert code == 0
    assert err.startswith(f"warning: {named}")
