"""The store's suite on a real cluster, where there is one; and its retry loop on scripted errors.

`FDB_CLUSTER_FILE=/etc/foundationdb/fdb.cluster scripts/test -m foundationdb` runs the first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coditect_cli.errors import (
    CoditectError,
    Conflict,
    Failed,
    LimitReached,
    Unreachable,
    UsageError,
)
from coditect_cli.paths import Paths
from coditect_cli.settings import Settings
from coditect_cli.stores import foundationdb
from coditect_cli.stores import store as stores
from coditect_cli.stores.foundationdb import FoundationDBStore
from tests.stores.contract import P_END, Open, P, StoreContract, put
from tests.support.authority import Authority
from tests.support.stores import empty, need_library, shared_cluster_file


@pytest.fixture
def open_store() -> Iterator[Open]:
    cluster_file = shared_cluster_file()

    def open_one() -> FoundationDBStore:
        return FoundationDBStore(cluster_file)

    store = open_one()
    empty(store, P, P_END)
    yield open_one
    empty(store, P, P_END)


@pytest.mark.foundationdb
class TestFoundationDBStore(StoreContract):
    keeps_versions = False  # the cluster's clock drives them

    def test_a_cluster_that_does_not_answer_is_told_in_bounded_time(
        self, tmp_path: Path, paths: Paths
    ) -> None:
        need_library()
        file = tmp_path / "fdb.cluster"
        file.write_text("nobody:here@127.0.0.1:1\n")
        settings = Settings(store="foundationdb", fdb_cluster_file=str(file))
        store = stores.open_store(settings, paths, patience=0.5)
        with pytest.raises(Unreachable) as caught:
            store.read(lambda snapshot: snapshot.get(P))
        assert caught.value.code == "store.unreachable"
        with pytest.raises(Unreachable):
            put(store, (b"a", b"1"))


class FDBError(Exception):
    def __init__(self, code: int) -> None:
        self.code = code
        self.description = b"scripted"


class Scripted:
    """Stands for the binding: what each commit raises is given, and what is called is kept."""

    FDBError = FDBError
    retryable = (1007, 1020, 1021)

    def __init__(self, commits: list[int]) -> None:
        self.commits = commits
        self.waits: list[int] = []  # what waiting before a retry raises; 0 is nothing
        self.calls: list[tuple[Any, ...]] = []
        self.options = SimpleNamespace(
            **{
                f"set_tls_{name}_path": lambda path, name=name: self.calls.append((name, path))
                for name in ("cert", "key", "ca")
            }
        )

    def open(self, cluster_file: str | None) -> Any:
        self.calls.append(("open", cluster_file))
        options = SimpleNamespace(set_transaction_timeout=lambda ms: self.calls.append((ms,)))
        return SimpleNamespace(options=options, create_transaction=lambda: self)

    @property
    def snapshot(self) -> Any:
        return self

    def get_read_version(self) -> Any:
        return SimpleNamespace(wait=lambda: 1)

    def set(self, key: bytes, value: bytes) -> None:
        self.calls.append(("set", key, value))

    def commit(self) -> Any:
        return SimpleNamespace(wait=self._next)

    def on_error(self, error: FDBError) -> Any:
        def wait() -> None:
            if error.code not in self.retryable:
                raise error
            if code := self.waits.pop(0) if self.waits else 0:
                raise FDBError(code)

        return SimpleNamespace(wait=wait)

    def _next(self) -> None:
        if self.commits:
            raise FDBError(self.commits.pop(0))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    binding = Scripted([])
    monkeypatch.setattr(foundationdb, "_binding", lambda: binding)
    return binding


def test_a_conflict_and_an_unknown_result_are_tried_again(scripted: Scripted) -> None:
    store = FoundationDBStore(None, answer_seconds=3)
    scripted.commits = [1020, 1021, 1007]
    put(store, (b"a", b"1"))
    assert scripted.calls == [("open", None), (3000,), *[("set", P + b"a", b"1")] * 4]


@pytest.mark.parametrize(
    ("commits", "waits", "kind", "code"),
    [
        ([1031], [], Unreachable, "store.unreachable"),
        ([1021, 1031], [], Unreachable, "store.unreachable"),
        ([1020], [1031], Conflict, "store.conflict"),
        ([2101], [], LimitReached, "store.transaction_too_large"),
        ([2000], [], Failed, "store.failed"),
    ],
)
def test_what_no_retry_can_cure_has_its_own_error(
    scripted: Scripted, commits: list[int], waits: list[int], kind: type[CoditectError], code: str
) -> None:
    store = FoundationDBStore(None)
    scripted.commits, scripted.waits = commits, waits
    with pytest.raises(kind) as caught:
        put(store, (b"a", b"1"))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("commits", "waits"),
    [([1031], []), ([1020, 1031], []), ([1021], [1031]), ([1021, 1020], [0, 1031])],
)
def test_a_write_that_may_have_been_kept_is_not_told_to_be_lost(
    scripted: Scripted, commits: list[int], waits: list[int]
) -> None:
    store = FoundationDBStore(None)
    scripted.commits, scripted.waits = commits, waits
    with pytest.raises(Unreachable) as caught:
        put(store, (b"a", b"1"))
    assert caught.value.message.endswith("a write may or may not have been kept")


def test_a_read_that_got_no_answer_says_nothing_of_writes(scripted: Scripted) -> None:
    store = FoundationDBStore(None)

    def unanswered(_: object) -> None:
        raise FDBError(1031)

    with pytest.raises(Unreachable) as caught:
        store.read(unanswered)
    assert caught.value.message == "FoundationDB does not answer"


def test_a_transaction_that_was_too_slow_is_not_tried_for_ever(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foundationdb, "MAX_SECONDS", 0.0)
    store = FoundationDBStore(None)
    scripted.commits = [1007]
    with pytest.raises(LimitReached) as caught:
        put(store, (b"a", b"1"))
    assert caught.value.code == "store.transaction_too_long"


def test_tls_files_are_named_before_the_network_starts(scripted: Scripted, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("client", "client")
    cluster = tmp_path / "cluster"
    cluster.touch()
    FoundationDBStore(
        str(cluster),
        certificate_file=str(certificate),
        key_file=str(key),
        ca_file=str(authority.certificate),
    )
    named = [("cert", certificate), ("key", key), ("ca", authority.certificate), ("open", cluster)]
    assert scripted.calls[:4] == [(name, str(file)) for name, file in named]


def test_tls_files_that_cannot_be_used_are_told_at_once(scripted: Scripted, tmp_path: Path) -> None:
    """The library would only never connect."""
    authority = Authority(tmp_path)
    certificate, key = map(str, authority.issue("client", "client"))
    other = str(authority.issue("other", "other")[1])
    junk = tmp_path / "junk"
    junk.write_text("junk")
    for files in (
        {"ca_file": str(junk)},
        {"certificate_file": str(junk), "key_file": key},
        {"certificate_file": certificate, "key_file": other},
    ):
        with pytest.raises(UsageError) as caught:
            FoundationDBStore(None, **files)
        assert caught.value.code == "store.tls_file"
    assert scripted.calls == []


def test_a_missing_binding_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fdb", None)
    with pytest.raises(Failed) as caught:
        FoundationDBStore(None)
    assert caught.value.code == "store.binding_missing"
    assert caught.value.hint == "pip install 'coditect[foundationdb]'"


def test_a_missing_client_library_is_told_with_where_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def api_version(version: int) -> None:
        raise Exception("Unable to locate the FoundationDB API shared library!")

    monkeypatch.setitem(sys.modules, "fdb", SimpleNamespace(api_version=api_version))
    with pytest.raises(Failed) as caught:
        FoundationDBStore(None)
    assert caught.value.code == "store.client_missing"
    assert "releases" in (caught.value.hint or "")
