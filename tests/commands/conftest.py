from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coditect_cli.paths import Paths
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.stores.sqlite import SQLiteStore
from coditect_cli.stores.store import SessionStore
from coditect_cli.tokens import local_user
from tests.commands.desk import desk  # noqa: F401 - a fixture
from tests.support.gateway import Gateway, running_gateway


@pytest.fixture
def store(paths: Paths) -> Iterator[SessionStore]:
    """The store that commands of the test's home use."""
    store = SQLiteStore(paths.session_store)
    yield store
    store.close()


@pytest.fixture
def layer(store: SessionStore) -> SessionLayer:
    return SessionLayer(store)


@pytest.fixture
def gateway(home: Path) -> Iterator[Gateway]:
    """A gateway of the test's home, whose workspaces are ours."""
    with running_gateway(home) as running:
        running.user = local_user()
        yield running
