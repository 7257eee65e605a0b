from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from coditect_cli.stores.foundationdb import FoundationDBStore
from coditect_cli.stores.store import END
from tests.support.fdbserver import FDBServer, running_fdbserver
from tests.support.gateway import Gateway, running_gateway
from tests.support.stores import empty


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A real gateway that ends with the test."""
    with running_gateway(tmp_path / "home") as running:
        yield running


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Starts a gateway with these settings; it ends with the test."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running_gateway(tmp_path / "home", **settings))


@pytest.fixture(scope="module")
def fdb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FDBServer]:
    with running_fdbserver(tmp_path_factory.mktemp("fdb") / "server") as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("foundationdb", marks=pytest.mark.foundationdb)])
def store_settings(request: pytest.FixtureRequest) -> dict[str, str]:
    """Name an empty store of each kind."""
    if request.param == "sqlite":
        return {}
    cluster_file = str(request.getfixturevalue("fdb_server").cluster_file)
    empty(FoundationDBStore(cluster_file), b"", END)
    return {"store": "foundationdb", "fdb_cluster_file": cluster_file}


@pytest.fixture
def start(tmp_path: Path, store_settings: dict[str, str]) -> Iterator[Callable[..., Gateway]]:
    with ExitStack() as stack:

        def begin(**settings: Any) -> Gateway:
            gateway = Gateway(tmp_path / "home", **store_settings, **settings)
            stack.callback(gateway.stop)
            return gateway

        yield begin


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack
