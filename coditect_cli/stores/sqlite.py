"""A store in one local SQLite file: several processes at once, one writer at a time."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from coditect_cli.errors import CoditectError, Failed, LimitReached, UsageError
from coditect_cli.paths import make_private, unusable
from coditect_cli.stores.store import (
    PAGE_BYTES,
    PAGE_ROWS,
    PATIENCE,
    Row,
    SessionStore,
    Snapshot,
    Transaction,
    time_limit,
    too_many_conflicts,
)

T = TypeVar("T")

BATCH_ROWS = 100
SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE version (number INTEGER NOT NULL);
INSERT INTO version VALUES (0);
"""
# `name` has the first key of each NAME/, found by skipping the rest of the one before.
_BELOW = """
WITH RECURSIVE name(first) AS (
  SELECT (SELECT key FROM entries WHERE key >= :begin AND key < :end ORDER BY key LIMIT 1)
  UNION ALL
  SELECT (
    SELECT key FROM entries WHERE key < :end AND key >= CAST(
      CASE instr(first, x'2f') WHEN 0 THEN first || x'00'
      ELSE substr(first, 1, instr(first, x'2f') - 1) || x'30' END AS BLOB
    ) ORDER BY key LIMIT 1
  ) FROM name WHERE first IS NOT NULL
)
SELECT key, value FROM name CROSS JOIN entries ON
  key >= max(:begin, CAST(substr(first, 1, instr(first, x'2f')) || :part || x'2f' AS BLOB)) AND
  key < min(:end, CAST(substr(first, 1, instr(first, x'2f')) || :part || x'30' AS BLOB))
WHERE instr(first, x'2f') LIMIT :limit
"""


class SQLiteStore(SessionStore):
    """The file is made on first use, 0600 in a 0700 folder. The contract is SessionStore's.

    `version` counts the transactions that wrote.
    """

    def __init__(self, path: Path, busy_seconds: float = PATIENCE) -> None:
        self._path = path
        self._cleared = False
        self._lock = threading.Lock()
        make_private(path.parent)
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            path.chmod(0o600)
        except OSError as error:
            raise unusable(path, error) from error
        with self._errors():
            self._connection = sqlite3.connect(
                path, timeout=busy_seconds, isolation_level=None, check_same_thread=False
            )
            self._connection.text_factory = bytes  # as another program may have written a value
        try:
            with self._errors():
                self._prepare(time.monotonic() + busy_seconds)
        except CoditectError:
            self._connection.close()
            raise

    def read(self, fn: Callable[[Snapshot], T], at: int | None = None) -> T:
        with self._lock, self._errors(), self._transaction("BEGIN", "ROLLBACK"):
            return fn(_Snapshot(self._connection))

    def transact(self, fn: Callable[[Transaction], T]) -> T:
        with self._lock, self._errors(), self._transaction("BEGIN IMMEDIATE", "COMMIT"):
            transaction = _Transaction(self._connection)
            with time_limit():
                result = fn(transaction)
            self._cleared |= transaction.has_cleared
            if transaction.has_written:
                self._connection.execute("UPDATE version SET number = number + 1")
        return result

    def size(self) -> int:
        """The pages in use; the file that holds them has nothing else of that size."""
        with self._lock, self._errors():
            used, free, size = (
                int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_count", "freelist_count", "page_size")
            )
        return (used - free) * size

    def close(self) -> None:
        with self._lock:
            if self._cleared:  # its text is still in the log, which others may keep open
                with suppress(sqlite3.Error):
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.close()

    def _prepare(self, deadline: float) -> None:
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:  # the time-out doesn't cover this switch
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA secure_delete = ON")
        found = self._schema_version()
        if not found:
            with self._transaction("BEGIN IMMEDIATE", "COMMIT"):
                found = self._schema_version()
                if not found:
                    for statement in _SCHEMA.strip().splitlines():
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                    found = SCHEMA_VERSION
        if found != SCHEMA_VERSION:
            raise Failed(
                f"{self._path} has schema {found}, and this release knows {SCHEMA_VERSION}",
                code="store.version",
                hint="upgrade coditect, or set CODITECT_HOME to another folder",
            )

    def _schema_version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def _transaction(self, begin: str, end: str) -> Iterator[None]:
        self._connection.execute(begin)
        try:
            yield
            self._connection.execute(end)
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _failure(error, self._path) from error


def _failure(error: sqlite3.Error, path: Path) -> CoditectError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return too_many_conflicts()
    if code == sqlite3.SQLITE_FULL:
        return Failed(f"no space is left for {path}", code="store.full", hint="free some space")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Failed(
            f"{path} is damaged: {error}",
            code="store.damaged",
            hint="move it and the -wal and -shm files beside it away; a new one is made",
        )
    if code == sqlite3.SQLITE_TOOBIG:
        return LimitReached(f"too large for {path}", code="store.value_too_large")
    if isinstance(error, sqlite3.ProgrammingError):
        return UsageError(f"{path} cannot be used so: {error}", code="store.usage")
    return Failed(
        f"cannot use {path}: {error}",
        code="store.failed",
        hint="check the folder's owner, mode and free space",
    )


class _Snapshot(Snapshot):
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.version = connection.execute("SELECT number FROM version").fetchone()[0]

    def get(self, key: bytes) -> bytes | None:
        return _get(self._connection, key)

    def first_key(self, begin: bytes, end: bytes) -> bytes | None:
        row = self._connection.execute(
            "SELECT key FROM entries WHERE key >= ? AND key < ? ORDER BY key LIMIT 1", (begin, end)
        ).fetchone()
        return None if row is None else row[0]

    def range(
        self, begin: bytes, end: bytes, *, limit: int = PAGE_ROWS, reverse: bool = False
    ) -> list[Row]:
        return _range(self._connection, begin, end, limit, reverse)

    def below(
        self, begin: bytes, end: bytes, part: bytes, *, limit: int = PAGE_ROWS
    ) -> tuple[list[Row], bytes | None]:
        asked = {"begin": begin, "end": end, "part": part, "limit": limit}
        rows = _page(self._connection.execute(_BELOW, asked))
        return rows, rows[-1][0] + b"\0" if rows else None

    def sizes(
        self, begin: bytes, end: bytes, *, limit: int = PAGE_ROWS, reverse: bool = False
    ) -> list[tuple[bytes, int]]:
        return _select("length(value)", self._connection, begin, end, limit, reverse).fetchall()


class _Transaction(Transaction):
    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__()
        self._connection = connection
        self.has_cleared = False

    @property
    def has_written(self) -> bool:
        return self._written > 0

    def get(self, key: bytes) -> bytes | None:
        return _get(self._connection, key)

    def range(
        self, begin: bytes, end: bytes, *, limit: int = PAGE_ROWS, reverse: bool = False
    ) -> list[Row]:
        return _range(self._connection, begin, end, limit, reverse)

    def _set(self, key: bytes, value: bytes) -> None:
        self._connection.execute("INSERT OR REPLACE INTO entries VALUES (?, ?)", (key, value))

    def _clear(self, key: bytes) -> None:
        self.has_cleared = True
        self._connection.execute("DELETE FROM entries WHERE key = ?", (key,))


def _get(connection: sqlite3.Connection, key: bytes) -> bytes | None:
    row = connection.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
    if row is not None and not isinstance(row[0], bytes):
        raise _no_bytes(key)
    return None if row is None else row[0]


def _no_bytes(key: bytes) -> Failed:
    """What another program bound as a number."""
    return Failed(
        f"the value of {key!r} is no BLOB, so no program of ours wrote it",
        code="store.no_bytes",
        hint="whoever wrote it must bind keys and values as BLOBs",
    )


def _range(
    connection: sqlite3.Connection, begin: bytes, end: bytes, limit: int, reverse: bool
) -> list[Row]:
    return _page(_select("value", connection, begin, end, limit, reverse))


def _page(cursor: sqlite3.Cursor) -> list[Row]:
    """The cursor's rows, no more once they hold PAGE_BYTES."""
    rows: list[Row] = []
    size = 0
    while size < PAGE_BYTES and (batch := cursor.fetchmany(BATCH_ROWS)):
        rows += batch
        try:
            size += sum([len(key) + len(value) for key, value in batch])
        except TypeError:
            raise _no_bytes(next(k for k, v in batch if not isinstance(v, bytes))) from None
    cursor.close()
    while rows and (size := size - sum(map(len, rows[-1]))) >= PAGE_BYTES:
        rows.pop()
    return rows


def _select(
    what: str, connection: sqlite3.Connection, begin: bytes, end: bytes, limit: int, reverse: bool
) -> sqlite3.Cursor:
    order = "DESC" if reverse else "ASC"
    return connection.execute(
        f"SELECT key, {what} FROM entries WHERE key >= ? AND key < ? "  # noqa: S608
        f"ORDER BY key {order} LIMIT ?",
        (begin, end, limit),
    )
