"""The contract of an ordered key-value store, its limits, and what holds for every one of them.

Keys and values are bytes; keys are ordered by their bytes. What happens in one call of `transact`
happens whole or not at all, and as if it were alone. What `read` sees is the store at one moment,
its read version, whatever others write meanwhile.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from coditect_cli.errors import Conflict, LimitReached, UsageError

if TYPE_CHECKING:
    from coditect_cli.paths import Paths
    from coditect_cli.settings import Settings

T = TypeVar("T")
V = TypeVar("V", bytes, int)
Row = tuple[bytes, bytes]

MAX_KEY = 10_000  # bytes; this limit and the next three are FoundationDB's
MAX_VALUE = 100_000  # bytes
MAX_TRANSACTION = 10_000_000  # bytes, keys and values of all writes
MAX_SECONDS = 5.0
END = b"\xff"  # past every key: what starts with it is the store's own
PATIENCE = 10.0  # seconds until a call ends that gets no answer, all its tries together
LOOK_AGAIN = 0.1  # seconds between looks for a change, where there are no watches
PAGE_ROWS = 500  # what a processor keeps at hand
PAGE_BYTES = 1_000_000


class Reads(ABC):
    """What can be asked within one `read` or `transact`."""

    @abstractmethod
    def get(self, key: bytes) -> bytes | None: ...

    def get_all(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """As `get` of each, asked for together; `get` then has them at hand."""
        return [self.get(key) for key in keys]

    @abstractmethod
    def range(
        self, begin: bytes, end: bytes, *, limit: int = PAGE_ROWS, reverse: bool = False
    ) -> list[Row]:
        """Rows of begin <= key < end in order, the last ones first with `reverse`.

        At most `limit`, and no more once they hold PAGE_BYTES; none only where there are none.
        """


class Snapshot(Reads):
    """The store at one moment, for the length of one `read`."""

    version: int

    @abstractmethod
    def first_key(self, begin: bytes, end: bytes) -> bytes | None:
        """The first key of begin <= key < end, found without reading what is before it."""

    @abstractmethod
    def below(
        self, begin: bytes, end: bytes, part: bytes, *, limit: int = PAGE_ROWS
    ) -> tuple[list[Row], bytes | None]:
        """Rows of begin <= key < end whose key is NAME/part/… for any NAME; others are not read.

        At most `limit`, fewer once they hold PAGE_BYTES or much had to be passed over; and where
        to go on, if anywhere.
        """

    def sizes(
        self, begin: bytes, end: bytes, *, limit: int = PAGE_ROWS, reverse: bool = False
    ) -> list[tuple[bytes, int]]:
        """Keys as `range` finds them, each with the bytes of its value, which need not be read."""
        rows = self.range(begin, end, limit=limit, reverse=reverse)
        return [(key, len(value)) for key, value in rows]


class Transaction(Reads):
    """Reads and writes of one `transact`; a write is seen by the reads after it."""

    def __init__(self) -> None:
        self._written = 0

    def set(self, key: bytes, value: bytes) -> None:
        """Write a key. Raises LimitReached past MAX_KEY, MAX_VALUE or MAX_TRANSACTION."""
        if len(value) > MAX_VALUE:
            raise LimitReached(
                f"a value of {len(value):,} bytes is too large: {MAX_VALUE:,} is the limit",
                code="store.value_too_large",
            )
        self._count(len(check_key(key)) + len(value))
        self._set(key, value)

    def clear(self, key: bytes) -> None:
        """Remove a key, if it is there. Raises LimitReached past MAX_KEY or MAX_TRANSACTION."""
        self._count(len(check_key(key)))
        self._clear(key)

    @abstractmethod
    def _set(self, key: bytes, value: bytes) -> None: ...

    @abstractmethod
    def _clear(self, key: bytes) -> None: ...

    def _count(self, size: int) -> None:
        self._written += size
        if self._written > MAX_TRANSACTION:
            raise LimitReached(
                f"a transaction wrote more than {MAX_TRANSACTION:,} bytes",
                code="store.transaction_too_large",
                hint="write it in several transactions",
            )


class SessionStore(ABC):
    """An ordered key-value store that several processes use at once; threads may share one.

    Every method raises Unreachable when the store does not answer in bounded time, and Failed
    when it cannot be used.
    """

    @abstractmethod
    def read(self, fn: Callable[[Snapshot], T], at: int | None = None) -> T:
        """What `fn` makes of the store at one moment; `fn` may be called more than once.

        With `at`, a version that an earlier snapshot had, the moment is that one where the store
        still has it, else a newer one.
        """

    @abstractmethod
    def transact(self, fn: Callable[[Transaction], T]) -> T:
        """Run `fn`, and keep what it wrote; durable on return. Nothing is kept when it raises.

        `fn` runs again on a conflict, and also when a commit's result is unknown: then what it
        wrote may be there already. So it writes the same again when it finds its own writes, and
        draws random ids outside of itself.

        Raises Conflict when others keep coming first, LimitReached past MAX_SECONDS.
        """

    def wait_for_change(self, key: bytes, value: bytes | None, patience: float) -> None:
        """Return once a key may have another value than this one, after `patience` s at the latest.

        Where the store has no watches, it is looked at again and again.
        """
        deadline = time.monotonic() + patience
        while self.read(lambda snapshot: snapshot.get(key)) == value:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, LOOK_AGAIN))

    def size(self) -> int | None:
        """About how many bytes its keys and values take, where it can tell at once."""
        return None

    @abstractmethod
    def close(self) -> None: ...


@dataclass(frozen=True)
class Page(Generic[V]):
    """Some rows of a scan, all of one read version: keys, with values or their sizes."""

    rows: list[tuple[bytes, V]]
    version: int


def scan(
    store: SessionStore,
    begin: bytes,
    end: bytes,
    *,
    after: bytes | None = None,
    limit: int | None = None,
    reverse: bool = False,
) -> Iterator[Page[bytes]]:
    """The rows of begin <= key < end by pages, however many there are.

    Each page goes on from the last key of the one before it, in a transaction of its own; pages
    of different versions show the store at different moments. `after` is a key, there or not:
    the scan starts behind it, in the scan's direction.
    """

    def read(snapshot: Snapshot, begin: bytes, end: bytes, count: int) -> list[Row]:
        return snapshot.range(begin, end, limit=count, reverse=reverse)

    return _pages(store, read, begin, end, after, limit, reverse)


def scan_sizes(
    store: SessionStore,
    begin: bytes,
    end: bytes,
    *,
    after: bytes | None = None,
    limit: int | None = None,
    reverse: bool = False,
) -> Iterator[Page[int]]:
    """As `scan`, with the sizes of the values in bytes."""

    def read(snapshot: Snapshot, begin: bytes, end: bytes, count: int) -> list[tuple[bytes, int]]:
        return snapshot.sizes(begin, end, limit=count, reverse=reverse)

    return _pages(store, read, begin, end, after, limit, reverse)


Read = Callable[[Snapshot, bytes, bytes, int], list[tuple[bytes, V]]]


def _pages(
    store: SessionStore,
    read: Read[V],
    begin: bytes,
    end: bytes,
    after: bytes | None,
    limit: int | None,
    reverse: bool,
) -> Iterator[Page[V]]:
    version: int | None = None
    while limit is None or limit > 0:
        if after is not None and reverse:
            end = min(end, after)
        elif after is not None:
            begin = max(begin, after + b"\0")
        if begin >= end:
            return
        count = PAGE_ROWS if limit is None else min(limit, PAGE_ROWS)
        found = store.read(partial(_page, read, begin, end, count), at=version)
        if not found.rows:
            return
        yield found
        version, after = found.version, found.rows[-1][0]
        limit = None if limit is None else limit - len(found.rows)


def _page(read: Read[V], begin: bytes, end: bytes, count: int, snapshot: Snapshot) -> Page[V]:
    return Page(read(snapshot, begin, end, count), snapshot.version)


def check_key(key: bytes) -> bytes:
    """`key` itself, when it can be one.

    Raises LimitReached past MAX_KEY bytes, and UsageError for the store's own ones.
    """
    if len(key) > MAX_KEY:
        raise LimitReached(
            f"a key of {len(key):,} bytes is too large: {MAX_KEY:,} is the limit",
            code="store.key_too_large",
        )
    if key >= END:
        raise UsageError(
            "keys that start with the byte ff are the store's own", code="store.key_reserved"
        )
    return key


def prefix_end(prefix: bytes) -> bytes:
    """The first key behind all those that start with `prefix`."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else END


@contextmanager
def time_limit() -> Iterator[None]:
    """Raise LimitReached at the end of a block that took more than MAX_SECONDS."""
    started = time.monotonic()
    yield
    if time.monotonic() - started > MAX_SECONDS:
        raise too_slow()


def too_slow() -> LimitReached:
    return LimitReached(
        f"a transaction took more than {MAX_SECONDS:g} s: nothing was written",
        code="store.transaction_too_long",
        hint="write it in several transactions",
    )


def too_many_conflicts() -> Conflict:
    return Conflict(
        "the store is busy: others keep writing first, and nothing was written",
        code="store.conflict",
        hint="try again",
        retryable=True,
    )


def open_store(settings: Settings, paths: Paths, patience: float = PATIENCE) -> SessionStore:
    """The store that the settings name, whose calls take `patience` seconds at most.

    Raises Failed when it cannot be used, Unreachable when it does not answer.
    """
    if settings.store == "foundationdb":
        from coditect_cli.stores.foundationdb import FoundationDBStore

        return FoundationDBStore(
            settings.fdb_cluster_file,
            certificate_file=settings.fdb_tls_certificate_file,
            key_file=settings.fdb_tls_key_file,
            ca_file=settings.fdb_tls_ca_file,
            answer_seconds=patience,
        )
    from coditect_cli.stores.sqlite import SQLiteStore

    return SQLiteStore(paths.session_store, patience)
