"""The stores that a test runs on: a SQLite file of its own, and FoundationDB where there is one."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from coditect_cli.errors import Failed
from coditect_cli.stores import foundationdb
from coditect_cli.stores.foundationdb import FoundationDBStore
from coditect_cli.stores.sqlite import SQLiteStore
from coditect_cli.stores.store import (
    PAGE_ROWS,
    Page,
    Row,
    SessionStore,
    Snapshot,
    Transaction,
    prefix_end,
    scan,
)

T = TypeVar("T")
WAY = (
    "start a server, install foundationdb-clients 7.1 or later "
    "(https://github.com/apple/foundationdb/releases), and set FDB_CLUSTER_FILE"
)


def need_library() -> None:
    """Skip the test where FoundationDB's client library is not installed."""
    try:
        foundationdb._binding()
    except Failed as error:
        pytest.skip(f"{error.message}: {WAY}")


def shared_cluster_file() -> str:
    """The cluster that tests may use below a prefix of their own; without one the test skips."""
    need_library()
    if "FDB_CLUSTER_FILE" not in os.environ:
        pytest.skip(f"FDB_CLUSTER_FILE is not set: {WAY}")
    return os.environ["FDB_CLUSTER_FILE"]


def empty(store: SessionStore, begin: bytes, end: bytes) -> None:
    """Remove every key of begin <= key < end."""
    for page in scan(store, begin, end):

        def clear(transaction: Transaction, page: Page[bytes] = page) -> None:
            for key, _ in page.rows:
                transaction.clear(key)

        store.transact(clear)


class Below(SessionStore):
    """A store within another one, below a prefix: a shared cluster keeps its own keys.

    The prefix has no slash, so that the first part of a key stays one.
    """

    def __init__(self, store: SessionStore, prefix: bytes) -> None:
        self._store = store
        self._prefix = prefix

    def read(self, fn: Callable[[Snapshot], T], at: int | None = None) -> T:
        return self._store.read(lambda snapshot: fn(_Snapshot(snapshot, self._prefix)), at)

    def transact(self, fn: Callable[[Transaction], T]) -> T:
        return self._store.transact(lambda transaction: fn(_Transaction(transaction, self._prefix)))

    def wait_for_change(self, key: bytes, value: bytes | None, patience: float) -> None:
        self._store.wait_for_change(self._prefix + key, value, patience)

    def close(self) -> None:
        self._store.close()


class _Snapshot(Snapshot):
    def __init__(self, whole: Snapshot, prefix: bytes) -> None:
        self._whole = whole
        self._prefix = prefix
        self.version = whole.version

    def get(self, key: bytes) -> bytes | None:
        return self._whole.get(self._prefix + key)

    def get_all(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._whole.get_all([self._prefix + key for key in keys])

    def first_key(self, begin: bytes, end: bytes) -> bytes | None:
        key = self._whole.first_key(*_bounds(self._prefix, begin, end))
        return None if key is None else key.removeprefix(self._prefix)

    def below(
        self, begin: bytes, end: bytes, part: bytes, *, limit: int = PAGE_ROWS
    ) -> tuple[list[Row], bytes | None]:
        bounds = _bounds(self._prefix, begin, end)
        rows, position = self._whole.below(*bounds, part, limit=limit)
        following = None if position is None else position.removeprefix(self._prefix)
        return _without(self._prefix, rows), following

    def range(
        self, begin: bytes, end: bytes, *, limit: int = PAGE_ROWS, reverse: bool = False
    ) -> list[Row]:
        bounds = _bounds(self._prefix, begin, end)
        return _without(self._prefix, self._whole.range(*bounds, limit=limit, reverse=reverse))


class _Transaction(Transaction):
    def __init__(self, whole: Transaction, prefix: bytes) -> None:
        super().__init__()
        self._whole = whole
        self._prefix = prefix

    def get(self, key: bytes) -> bytes | None:
        return self._whole.get(self._prefix + key)

    def range(
        self, begin: bytes, end: bytes, *, limit: int = PAGE_ROWS, reverse: bool = False
    ) -> list[Row]:
        bounds = _bounds(self._prefix, begin, end)
        return _without(self._prefix, self._whole.range(*bounds, limit=limit, reverse=reverse))

    def _set(self, key: bytes, value: bytes) -> None:
        self._whole.set(self._prefix + key, value)

    def _clear(self, key: bytes) -> None:
        self._whole.clear(self._prefix + key)


def _bounds(prefix: bytes, begin: bytes, end: bytes) -> tuple[bytes, bytes]:
    return prefix + begin, min(prefix + end, prefix_end(prefix))


def _without(prefix: bytes, rows: list[Row]) -> list[Row]:
    return [(key.removeprefix(prefix), value) for key, value in rows]


def open_place(place: str) -> SessionStore:
    """The store that a `place` names, in this process or in another one."""
    kind, _, where = place.partition(":")
    if kind == "sqlite":
        return SQLiteStore(Path(where))
    return Below(FoundationDBStore(os.environ["FDB_CLUSTER_FILE"]), where.encode())


@pytest.fixture(
    params=["sqlite", pytest.param("foundationdb", marks=pytest.mark.foundationdb)],
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Names an empty store, for `open_place`; a test that uses it runs on each kind."""
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path / 'state' / 'sessions.db'}"
        return
    cluster_file = shared_cluster_file()
    prefix = f"coditect-test-{os.getpid()}-{secrets.token_hex(4)}-"
    yield f"foundationdb:{prefix}"
    whole = FoundationDBStore(cluster_file)
    empty(whole, prefix.encode(), prefix_end(prefix.encode()))


@pytest.fixture
def store(place: str) -> Iterator[SessionStore]:
    """An empty store of each kind."""
    opened = open_place(place)
    yield opened
    opened.close()


@contextmanager
def refusing(file: Path) -> Iterator[None]:
    """Every write to the SQLite store `file` fails with "no room" until this ends."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON entries "
            "BEGIN SELECT RAISE(FAIL, 'no room'); END"
        )
        yield
        connection.execute("DROP TRIGGER refuse")
