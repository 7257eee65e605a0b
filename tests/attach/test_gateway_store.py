"""What is saved where this machine can't look, read through a real gateway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from coditect_cli.attach.gateway_store import GatewayStore
from coditect_cli.errors import CoditectError, from_dict
from coditect_cli.protocol.shape import MOST_RANGES
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.sessions.listing import Listing
from coditect_cli.stores.sqlite import SQLiteStore
from tests.sessions.test_session import state
from tests.support.gateway import Gateway, running_gateway

IDS = [f"s{number:03}" for number in range(MOST_RANGES + 1)]


@pytest.fixture
def gateway(home: Path) -> Iterator[Gateway]:
    with running_gateway(home) as running:
        running.workspace()
        with closing(SQLiteStore(running.paths.session_store)) as store:
            for id in IDS:
                SessionLayer(store).save(state(id=id))
        yield running


def refuse(error: CoditectError) -> None:
    raise error


@pytest.fixture
def store(gateway: Gateway) -> GatewayStore:
    def ask(message: dict[str, Any]) -> dict[str, Any]:
        answer = gateway.request("demo", **message)
        if answer["type"] == "error":
            raise from_dict(answer)
        return answer

    return GatewayStore(ask, refuse)


def test_a_layer_reads_through_it(store: GatewayStore) -> None:
    layer = SessionLayer(store)
    assert list(layer.ids("demo")) == IDS
    assert layer.load("demo", "s007") == (state(id="s007"), None)
    keys = [f"demo/terminal_sessions/{id}".encode() for id in IDS]
    values = store.read(lambda snapshot: snapshot.get_all(keys))
    assert values == [state(id=id).encode() for id in IDS]
    pages = Listing(store, {}, ["demo"], after=("demo", IDS[-2])).pages(iter)
    assert [item.session for page in pages for item in page] == IDS[-1:]


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        (b"other/terminal_sessions/s1", b"other/terminal_sessions/s2"),
        (b"_coditect/leases/demo/s1", b"_coditect/leases/demo/s2"),
        (b"demo/other", b"demo/others"),
        (b"demo/terminal_sessions/", b"demo0"),
    ],
    ids=["another workspace", "a lease", "another record", "more than sessions"],
)
def test_only_a_workspaces_own_sessions_are_read(
    store: GatewayStore, begin: bytes, end: bytes
) -> None:
    with pytest.raises(CoditectError) as caught:
        store.read(lambda snapshot: snapshot.range(begin, end))
    assert caught.value.code == "workspace.forbidden"


def test_nothing_is_written(store: GatewayStore) -> None:
    with pytest.raises(CoditectError) as caught:
        SessionLayer(store).delete("demo", "s001")
    assert caught.value.code == "context.remote"


def test_an_older_release_is_said_to_be_one_and_has_none() -> None:
    def ask(message: dict[str, Any]) -> dict[str, Any]:
        raise from_dict({"code": "message.invalid", "exitCode": 2, "message": "unknown type"})

    told: list[str] = []
    store = GatewayStore(ask, lambda error: told.append(error.code))
    assert list(SessionLayer(store).ids("demo")) == []
    assert told == ["gateway.too_old"]
