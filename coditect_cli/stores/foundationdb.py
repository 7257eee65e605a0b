"""A store in a FoundationDB cluster; the binding and its client library load on first use."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from types import ModuleType
from typing import Any, TypeVar

from coditect_cli.errors import CoditectError, Failed, LimitReached, Unreachable, UsageError
from coditect_cli.stores.store import (
    END,
    MAX_SECONDS,
    PAGE_BYTES,
    PAGE_ROWS,
    PATIENCE,
    Reads,
    Row,
    SessionStore,
    Snapshot,
    Transaction,
    prefix_end,
    time_limit,
    too_many_conflicts,
    too_slow,
)

T = TypeVar("T")

API_VERSION = 710

# https://apple.github.io/foundationdb/api-error-codes.html
TOO_OLD = 1007
NOT_COMMITTED = 1020
TIMED_OUT = 1031
MAYBE_COMMITTED = {1021, TIMED_OUT, 1039}  # the result is unknown, also where the cluster changed
TOO_LARGE = {2101: "transaction", 2102: "key", 2103: "value"}
CLUSTER_FILE = {1511, 1513, 1515, 1516, 2104}  # not there, not readable, or not well-formed
TLS_ERROR = 2107

AHEAD = 16  # ranges that are on their way at once
LOOKS_PER_READ = 300  # one after the other: far below 5 s, also over a network


class FoundationDBStore(SessionStore):
    """The cluster that `cluster_file` names, else the client library's default.

    The contract is SessionStore's. One set of TLS files per process: the library reads them
    once. Raises Failed when binding or library are missing, and UsageError for a cluster file
    or TLS file that cannot be read.
    """

    def __init__(
        self,
        cluster_file: str | None,
        *,
        certificate_file: str | None = None,
        key_file: str | None = None,
        ca_file: str | None = None,
        answer_seconds: float = PATIENCE,
    ) -> None:
        for path in (cluster_file, certificate_file, key_file, ca_file):
            if path is not None and not os.access(path, os.R_OK):
                raise UsageError(
                    f"{path} is not there, or cannot be read",
                    code="store.cluster_file" if path == cluster_file else "store.tls_file",
                    hint="coditect context show has the fdb_ settings and where they come from",
                )
        if certificate_file or key_file or ca_file:
            _check_tls(certificate_file, key_file, ca_file)
        self._fdb = fdb = _binding()
        try:
            for option, path in (
                (fdb.options.set_tls_cert_path, certificate_file),
                (fdb.options.set_tls_key_path, key_file),
                (fdb.options.set_tls_ca_path, ca_file),
            ):
                if path is not None:
                    option(path)
            self._database = fdb.open(cluster_file)
            self._database.options.set_transaction_timeout(round(answer_seconds * 1000))
        except fdb.FDBError as error:
            raise _failure(error, None, nothing_kept=True) from error

    def read(self, fn: Callable[[Snapshot], T], at: int | None = None) -> T:
        versions = [] if at is None else [at]  # used once: it may be too old

        def attempt(transaction: Any) -> T:
            if versions:
                transaction.set_read_version(versions.pop())
            return fn(_Snapshot(self._fdb, transaction))

        return self._retry(attempt)

    def transact(self, fn: Callable[[Transaction], T]) -> T:
        maybe_kept = False  # a commit got no answer

        def attempt(transaction: Any) -> T:
            nonlocal maybe_kept
            with time_limit():
                result = fn(_Transaction(self._fdb, transaction))
            try:
                transaction.commit().wait()
            except self._fdb.FDBError as error:
                maybe_kept = maybe_kept or error.code in MAYBE_COMMITTED
                raise
            return result

        return self._retry(attempt, lambda: not maybe_kept)

    def wait_for_change(self, key: bytes, value: bytes | None, patience: float) -> None:
        """By a watch, which the cluster may end early: it only says that it is time to look."""
        deadline = time.monotonic() + patience

        def begin(transaction: Any) -> Any:
            if transaction.get(key).value != value:
                return None
            watch = transaction.watch(key)
            transaction.commit().wait()  # from now on it does not belong to the transaction
            return watch

        watch = self._retry(begin)
        if watch is None:
            return
        changed = threading.Event()
        watch.on_ready(lambda _: changed.set())
        try:
            changed.wait(deadline - time.monotonic())
        finally:
            watch.cancel()

    def size(self) -> int:
        """What the cluster estimates from a sample of its keys."""
        return self._retry(
            lambda transaction: int(transaction.get_estimated_range_size_bytes(b"", END).wait())
        )

    def close(self) -> None:
        """Nothing: the library keeps one connection to a cluster for the whole process."""

    def _retry(
        self, attempt: Callable[[Any], T], nothing_kept: Callable[[], bool] = lambda: True
    ) -> T:
        transaction = self._database.create_transaction()
        cause: Any = None  # of the last retry
        while True:
            started = time.monotonic()
            try:
                return attempt(transaction)
            except self._fdb.FDBError as error:
                took = time.monotonic() - started
                if error.code == TOO_OLD and took > MAX_SECONDS and nothing_kept():
                    raise too_slow() from error
                if error.code != TIMED_OUT:
                    cause = error
                try:
                    # Waits as long as the cluster wishes, and raises what no retry can cure.
                    transaction.on_error(error).wait()
                except self._fdb.FDBError as final:
                    raise _failure(final, cause, nothing_kept()) from final


def _check_tls(certificate: str | None, key: str | None, ca: str | None) -> None:
    """The library says nothing of files that it cannot use, and never connects."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    file = ca
    try:
        if ca is not None:
            context.load_verify_locations(ca)
        if certificate is not None and key is not None:
            file = f"{certificate} with {key}"
            password = os.environ.get("FDB_TLS_PASSWORD", "")  # else it asks for one
            context.load_cert_chain(certificate, key, password)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"FoundationDB's TLS files cannot be used: {file}: {error}",
            code="store.tls_file",
            hint="they are PEM files: a certificate, the key that fits it, the authorities' own",
        ) from error


def _binding() -> ModuleType:
    try:
        import fdb
    except ImportError:
        raise Failed(
            "the Python binding of FoundationDB is not installed",
            code="store.binding_missing",
            hint="pip install 'coditect[foundationdb]'",
        ) from None
    try:
        fdb.api_version(API_VERSION)
    except Exception as error:  # the binding raises this very class
        raise Failed(
            f"FoundationDB's client library cannot be used: {error}",
            code="store.client_missing",
            hint="install foundationdb-clients 7.1 or later, from "
            "https://github.com/apple/foundationdb/releases",
        ) from error
    return fdb  # type: ignore[no-any-return]


def _failure(error: Any, cause: Any, nothing_kept: bool) -> CoditectError:
    """What no retry cured, the last one because of `cause`."""
    words = _words(error)
    if error.code == TIMED_OUT and cause and cause.code == NOT_COMMITTED and nothing_kept:
        return too_many_conflicts()
    if error.code in TOO_LARGE:
        name = TOO_LARGE[error.code]
        return LimitReached(f"FoundationDB: {words}", code=f"store.{name}_too_large")
    if error.code in CLUSTER_FILE:
        return UsageError(
            f"FoundationDB's cluster file cannot be used: {words}",
            code="store.cluster_file",
            hint="set fdb_cluster_file, or FDB_CLUSTER_FILE",
        )
    if error.code == TLS_ERROR:
        return UsageError(
            f"FoundationDB's TLS files cannot be used: {words}", code="store.tls_file"
        )
    if error.code == TIMED_OUT:
        return Unreachable(
            "FoundationDB does not answer"
            + (f" (it last said: {_words(cause)})" if cause else "")
            + ("" if nothing_kept else "; a write may or may not have been kept"),
            code="store.unreachable",
            hint="check that its coordinators can be reached and are of the client library's "
            "version (fdbcli --exec status), and the fdb_tls_ settings where it uses TLS",
            retryable=True,
        )
    return Failed(f"FoundationDB refused: {words} ({error.code})", code="store.failed")


def _words(error: Any) -> str:
    return str(error.description.decode(errors="replace"))


class _Reads(Reads):
    def __init__(self, fdb: ModuleType, reads: Any) -> None:
        self._fdb = fdb
        self._reads = reads

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._reads.get(key).value
        return value

    def get_all(self, keys: Sequence[bytes]) -> list[bytes | None]:
        answers = [self._reads.get(key) for key in keys]
        return [answer.value for answer in answers]

    def range(
        self, begin: bytes, end: bytes, *, limit: int = PAGE_ROWS, reverse: bool = False
    ) -> list[Row]:
        return self._page(self._asked(begin, end, limit, reverse))

    def _asked(self, begin: bytes, end: bytes, limit: int, reverse: bool = False) -> Iterable[Any]:
        """Rows that are on their way from now on."""
        mode = self._fdb.StreamingMode.want_all  # 80 kB an answer; the default begins with 4 kB
        answers: Iterable[Any] = self._reads.get_range(begin, end, limit, reverse, mode)
        return answers

    def _page(self, answers: Iterable[Any]) -> list[Row]:
        """What was asked for, no more once it is PAGE_BYTES."""
        rows: list[Row] = []
        size = 0
        for row in answers:
            rows.append((row.key, row.value))
            size += len(row.key) + len(row.value)
            if size >= PAGE_BYTES:
                break
        return rows


class _Snapshot(_Reads, Snapshot):
    def __init__(self, fdb: ModuleType, transaction: Any) -> None:
        super().__init__(fdb, transaction.snapshot)
        self.version = transaction.get_read_version().wait()

    def first_key(self, begin: bytes, end: bytes) -> bytes | None:
        selector = self._fdb.KeySelector.first_greater_or_equal(begin)
        key: bytes = self._reads.get_key(selector).value
        return key if key < end else None

    def below(
        self, begin: bytes, end: bytes, part: bytes, *, limit: int = PAGE_ROWS
    ) -> tuple[list[Row], bytes | None]:
        position: bytes | None = begin
        rows: list[Row] = []
        for _ in range(0, LOOKS_PER_READ, AHEAD):
            asked: list[
                Iterable[Any]
            ] = []  # while names are found one by one, what is below those before is read
            while position is not None and len(asked) < AHEAD:
                position, answers = self._ask_below(position, end, part, limit)
                asked.append(answers)
            rows += self._page(islice(chain.from_iterable(asked), limit - len(rows)))
            size = sum(len(key) + len(value) for key, value in rows)
            if len(rows) >= limit or size >= PAGE_BYTES:
                return rows, rows[-1][0] + b"\0"
            if position is None:
                break
        return rows, position

    def _ask_below(
        self, begin: bytes, end: bytes, part: bytes, limit: int
    ) -> tuple[bytes | None, Iterable[Any]]:
        """Where the next NAME/ begins, and what is on its way of the first one from `begin` on."""
        key = self.first_key(begin, end)
        if key is None:
            return None, ()
        name, slash, _ = key.partition(b"/")
        if not slash:
            return key + b"\0", ()
        prefix = name + b"/" + part + b"/"
        start, stop = max(begin, prefix), min(end, prefix_end(prefix))
        return prefix_end(name + b"/"), self._asked(start, stop, limit) if start < stop else ()


class _Transaction(_Reads, Transaction):
    def __init__(self, fdb: ModuleType, transaction: Any) -> None:
        super().__init__(fdb, transaction)
        Transaction.__init__(self)

    def _set(self, key: bytes, value: bytes) -> None:
        self._reads.set(key, value)

    def _clear(self, key: bytes) -> None:
        self._reads.clear(key)
