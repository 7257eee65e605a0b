"""What every store holds to; a store's own test module inherits it and gives it the store."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coditect_cli.errors import LimitReached, UsageError
from coditect_cli.stores import store as stores
from coditect_cli.stores.store import (
    Reads,
    SessionStore,
    Snapshot,
    Transaction,
    prefix_end,
    scan,
    scan_sizes,
)

# Every key of the suite is below it: a shared store keeps its others, and runs do not meet.
P = b"coditect-test/%d/" % os.getpid()
P_END = prefix_end(P)
NEVER = 60.0  # seconds; a test that waits so long has failed
Open = Callable[[], SessionStore]
NAME = P[:-1].replace(b"/", b"-")  # what names of the suite start with: no key is below P then
NAMES = st.sampled_from([NAME + name for name in (b"a", b"a-b", b"a\xff", b"b")])
RESTS = st.sampled_from(
    [b"", b"/", b"/o/1", b"/p", b"/p/", b"/p/1", b"/p/1/2", b"/p/\xff", b"/p0", b"/q/1", b"/pp/p/1"]
)


def put(store: SessionStore, *rows: tuple[bytes, bytes]) -> None:
    def write(transaction: Transaction) -> None:
        for key, value in rows:
            transaction.set(P + key, value)

    store.transact(write)


def write(store: SessionStore, key: bytes, value: bytes | None) -> None:
    if value is None:
        store.transact(lambda transaction: transaction.clear(P + key))
    else:
        put(store, (key, value))


def rows_of(store: SessionStore) -> list[tuple[bytes, bytes]]:
    rows = [row for page in scan(store, P, P_END) for row in page.rows]
    return [(key.removeprefix(P), value) for key, value in rows]


class StoreContract:
    """`open_store` opens one more handle to the same store, which is empty below P."""

    @pytest.fixture
    def store(self, open_store: Open) -> SessionStore:
        return open_store()

    def test_a_key_that_was_never_set_is_none(self, store: SessionStore) -> None:
        assert store.read(lambda snapshot: snapshot.get(P + b"a")) is None
        assert store.transact(lambda transaction: transaction.get(P + b"a")) is None

    def test_what_is_set_is_read_by_everybody_and_cleared_for_everybody(
        self, store: SessionStore, open_store: Open
    ) -> None:
        put(store, (b"a", b"1"), (b"empty", b""))
        other = open_store()
        assert other.read(lambda snapshot: snapshot.get(P + b"a")) == b"1"
        assert other.read(lambda snapshot: snapshot.get(P + b"empty")) == b""
        keys = [P + b"empty", P + b"never there", P + b"a"]
        assert other.read(lambda snapshot: snapshot.get_all(keys)) == [b"", None, b"1"]
        other.transact(lambda transaction: transaction.clear(P + b"a"))
        other.transact(lambda transaction: transaction.clear(P + b"never there"))
        assert rows_of(store) == [(b"empty", b"")]

    @pytest.mark.parametrize(("before", "after"), [(None, b"1"), (b"1", b"2"), (b"1", None)])
    def test_who_waits_for_a_change_is_woken_by_it(
        self, store: SessionStore, open_store: Open, before: bytes | None, after: bytes | None
    ) -> None:
        write(store, b"a", before)
        other, woken = open_store(), threading.Event()

        def wait() -> None:
            other.wait_for_change(P + b"a", before, NEVER)
            woken.set()

        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        put(store, (b"b", b"another key"))
        write(store, b"a", after)
        assert woken.wait(NEVER / 2)
        waiting.join()

    def test_a_change_before_the_wait_is_not_missed(self, store: SessionStore) -> None:
        put(store, (b"a", b"2"))
        store.wait_for_change(P + b"a", b"1", NEVER)
        store.wait_for_change(P + b"a", None, NEVER)
        store.wait_for_change(P + b"b", b"1", NEVER)

    def test_a_wait_for_what_does_not_change_ends(self, store: SessionStore) -> None:
        put(store, (b"a", b"1"))
        store.wait_for_change(P + b"a", b"1", 0.05)
        store.wait_for_change(P + b"b", None, 0)

    def test_a_transaction_reads_its_own_writes(self, store: SessionStore) -> None:
        put(store, (b"a", b"1"), (b"b", b"2"))

        def change(transaction: Transaction) -> list[tuple[bytes, bytes]]:
            transaction.set(P + b"c", b"3")
            transaction.clear(P + b"a")
            assert transaction.get(P + b"c") == b"3"
            assert transaction.get(P + b"a") is None
            return transaction.range(P, P_END)

        assert store.transact(change) == [(P + b"b", b"2"), (P + b"c", b"3")]

    def test_a_transaction_that_raises_keeps_nothing(self, store: SessionStore) -> None:
        def fail(transaction: Transaction) -> None:
            transaction.set(P + b"a", b"1")
            raise KeyError

        with pytest.raises(KeyError):
            store.transact(fail)
        assert rows_of(store) == []
        put(store, (b"b", b"2"))
        assert rows_of(store) == [(b"b", b"2")]

    @settings(
        max_examples=20,
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,  # each store inherits it
        ],
    )
    @given(
        keys=st.sets(st.binary(min_size=1, max_size=6), max_size=12),
        begin=st.binary(max_size=6),
        end=st.binary(max_size=6),
        limit=st.integers(1, 5),
        reverse=st.booleans(),
    )
    def test_a_range_is_what_sorting_the_bytes_gives(
        self,
        store: SessionStore,
        keys: set[bytes],
        begin: bytes,
        end: bytes,
        limit: int,
        reverse: bool,
    ) -> None:
        def replace(transaction: Transaction) -> None:
            for key, _ in transaction.range(P, P_END):
                transaction.clear(key)
            for key in keys:
                transaction.set(P + key, key)

        store.transact(replace)
        begin, end = sorted((P + begin, P + end))
        expected = sorted((P + key for key in keys if begin <= P + key < end), reverse=reverse)

        def found(view: Reads) -> list[bytes]:
            return [key for key, _ in view.range(begin, end, limit=limit, reverse=reverse)]

        assert store.read(found) == expected[:limit]
        assert store.transact(found) == expected[:limit]
        first = store.read(lambda snapshot: snapshot.first_key(begin, end))
        assert first == min(expected, default=None)
        scanned = scan(store, begin, end, limit=limit, reverse=reverse)
        assert [key for page in scanned for key, _ in page.rows] == expected[:limit]
        sizes = scan_sizes(store, begin, end, limit=limit, reverse=reverse)
        assert [row for page in sizes for row in page.rows] == [
            (key, len(key) - len(P)) for key in expected[:limit]
        ]

    @given(
        st.sets(st.builds(bytes.__add__, NAMES, RESTS), max_size=12),
        st.one_of(NAMES, st.builds(bytes.__add__, NAMES, RESTS)),
        st.integers(1, 5),
    )
    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    def test_what_is_below_a_part_of_every_name_comes_once_and_in_order(
        self, store: SessionStore, keys: set[bytes], begin: bytes, limit: int
    ) -> None:
        def write(transaction: Transaction) -> None:
            for key in keys:
                transaction.set(key, key[len(NAME) :])

        store.transact(write)
        try:
            found, position = [], begin
            while position is not None:
                rows, position = store.read(
                    lambda snapshot, at=position: snapshot.below(
                        at, prefix_end(NAME), b"p", limit=limit
                    )
                )
                assert len(rows) <= limit
                found += rows
        finally:
            store.transact(lambda transaction: [transaction.clear(key) for key in keys])
        wanted = sorted(key for key in keys if key >= begin and key.split(b"/")[1:2] == [b"p"])
        assert found == [(key, key[len(NAME) :]) for key in wanted if key.count(b"/") > 1]

    def test_large_values_below_a_part_come_in_smaller_pages(self, store: SessionStore) -> None:
        keys = [NAME + b"%d/p/%d" % (n // 5, n % 5) for n in range(30)]
        try:
            for key in keys:
                store.transact(lambda transaction, key=key: transaction.set(key, b"v" * 90_000))
            found: list[bytes] = []
            position: bytes | None = NAME
            while position is not None:
                rows, position = store.read(
                    lambda snapshot, at=position: snapshot.below(at, prefix_end(NAME), b"p")
                )
                assert len(rows) <= 24  # two pages' bytes
                found += [key for key, _ in rows]
        finally:
            store.transact(lambda transaction: [transaction.clear(key) for key in keys])
        assert found == keys

    @pytest.mark.parametrize("reverse", [False, True])
    def test_a_scan_pages_by_last_key(
        self, store: SessionStore, reverse: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stores, "PAGE_ROWS", 3)
        rows = [(bytes([n]), b"v") for n in range(8)]
        put(store, *rows)
        pages = list(scan(store, P, P_END, reverse=reverse))
        assert [len(page.rows) for page in pages] == [3, 3, 2]
        found = [key for page in pages for key, _ in page.rows]
        assert found == sorted((P + key for key, _ in rows), reverse=reverse)
        assert len({page.version for page in pages}) == 1 or not self.keeps_versions

    keeps_versions = True  # whether a version stays the same as long as nobody writes

    def test_a_scan_goes_on_behind_a_key_that_is_gone(self, store: SessionStore) -> None:
        put(store, (b"a", b""), (b"c", b""))
        forward = list(scan(store, P, P_END, after=P + b"b"))
        backward = list(scan(store, P, P_END, after=P + b"b", reverse=True))
        assert [page.rows for page in forward] == [[(P + b"c", b"")]]
        assert [page.rows for page in backward] == [[(P + b"a", b"")]]
        assert list(scan(store, P, P_END, after=P_END)) == []

    def test_large_values_come_in_smaller_pages_and_all_of_them(self, store: SessionStore) -> None:
        for n in range(15):
            put(store, (bytes([n]), bytes([n]) * stores.MAX_VALUE))
        pages = list(scan(store, P, P_END))
        assert len(pages) > 1
        assert [value[0] for page in pages for _, value in page.rows] == list(range(15))

    def test_a_snapshot_does_not_see_what_is_written_meanwhile(
        self, store: SessionStore, open_store: Open
    ) -> None:
        put(store, (b"a", b"old"))
        writer = open_store()

        def look(snapshot: Snapshot) -> tuple[bytes | None, bytes | None]:
            before = snapshot.get(P + b"a")
            put(writer, (b"a", b"new"))
            return before, snapshot.get(P + b"a")

        assert store.read(look) == (b"old", b"old")
        assert store.read(lambda snapshot: snapshot.get(P + b"a")) == b"new"

    def test_the_version_grows_when_something_is_written(self, store: SessionStore) -> None:
        before = store.read(lambda snapshot: snapshot.version)
        put(store, (b"a", b"1"))
        after = store.read(lambda snapshot: snapshot.version)
        assert after > before
        # A version that was is no error, whether the store can still show it or not.
        assert store.read(lambda snapshot: snapshot.version, at=before) >= before

    def test_increments_of_several_at_once_are_all_counted(
        self, store: SessionStore, open_store: Open
    ) -> None:
        put(store, (b"n", b"0"))

        def increment(transaction: Transaction) -> None:
            transaction.set(P + b"n", b"%d" % (int(transaction.get(P + b"n") or b"0") + 1))

        def work(own: SessionStore) -> None:
            for _ in range(25):
                own.transact(increment)

        threads = [threading.Thread(target=work, args=(open_store(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert rows_of(store) == [(b"n", b"100")]

    def test_two_that_read_the_same_rows_do_not_both_act_on_them(
        self, store: SessionStore, open_store: Open
    ) -> None:
        barrier = threading.Barrier(2)

        def claim(own: SessionStore, name: bytes) -> None:
            def once(transaction: Transaction) -> None:
                if not transaction.range(P + b"claims/", P + b"claims0"):
                    transaction.set(P + b"claims/" + name, b"")

            barrier.wait()
            own.transact(once)

        threads = [
            threading.Thread(target=claim, args=(open_store(), name)) for name in (b"a", b"b")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(rows_of(store)) == 1

    def test_the_largest_key_and_value_are_kept(self, store: SessionStore) -> None:
        key, value = b"k" * (stores.MAX_KEY - len(P)), b"v" * stores.MAX_VALUE
        put(store, (key, value))
        assert rows_of(store) == [(key, value)]

    @pytest.mark.parametrize(
        ("key", "value", "code"),
        [
            (b"k" * (stores.MAX_KEY - len(P) + 1), b"", "store.key_too_large"),
            (b"k", b"v" * (stores.MAX_VALUE + 1), "store.value_too_large"),
        ],
    )
    def test_what_is_too_large_is_refused(
        self, store: SessionStore, key: bytes, value: bytes, code: str
    ) -> None:
        with pytest.raises(LimitReached) as caught:
            put(store, (b"first", b"1"), (key, value))
        assert caught.value.code == code
        assert rows_of(store) == []

    def test_a_transaction_of_more_than_10_mb_is_refused(self, store: SessionStore) -> None:
        with pytest.raises(LimitReached) as caught:
            put(store, *((b"%03d" % n, b"v" * stores.MAX_VALUE) for n in range(101)))
        assert caught.value.code == "store.transaction_too_large"
        assert rows_of(store) == []

    def test_a_transaction_that_takes_too_long_keeps_nothing(
        self, store: SessionStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stores, "MAX_SECONDS", 0.0)
        with pytest.raises(LimitReached) as caught:
            put(store, (b"a", b"1"))
        assert caught.value.code == "store.transaction_too_long"
        assert rows_of(store) == []

    def test_the_stores_own_keys_are_refused(self, store: SessionStore) -> None:
        with pytest.raises(UsageError) as caught:
            store.transact(lambda transaction: transaction.set(b"\xff/status", b""))
        assert caught.value.code == "store.key_reserved"
