from __future__ import annotations

from typing import Any

import pytest
from msgspec import to_builtins

from coditect_cli.sessions import listing as listings
from coditect_cli.sessions.ids import id_bytes
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.sessions.listing import Listing, leased, state_pages
from coditect_cli.stores.store import SessionStore
from tests.sessions.test_session import output, state

KEYS = [("a", "s1"), ("a", "s2"), ("a-b", "s1"), ("a0", "s1"), ("b", "s1"), ("b", "s3")]


@pytest.fixture
def store(store: SessionStore) -> SessionStore:
    for workspace_id, id in KEYS:
        record = state(id=id, workspace_id=workspace_id, started_at=0, last_active=10**9)
        SessionLayer(store).save(record)

    def others(transaction: Any) -> None:
        for key in (b"a/terminal_output/zz", b"a/x", b"b/zzz", b"lone", b"_coditect/leases/a/s1"):
            transaction.set(key, b"{}")

    store.transact(others)
    return store


def shown(store: SessionStore, **options: Any) -> list[tuple[str, str]]:
    items = items_of(Listing(store, options.pop("live", {}), **options))
    return [(item["workspace"], item["session"]) for item in items]


def items_of(listing: Listing) -> list[dict[str, Any]]:
    """The items as they are printed."""
    items: list[dict[str, Any]] = to_builtins(
        [item for page in listing.pages(iter) for item in page]
    )
    return items


def live(*keys: tuple[str, str]) -> dict[tuple[str, str], dict[str, Any]]:
    fields = {"kind": "terminal", "shell": "zsh", "clients": 2}
    times = {"startedAt": "2025-01-01T00:00:00Z", "lastActive": "2025-01-02T00:00:00Z"}
    return {key: {**fields, **times} for key in keys}


# Workspaces in the order of their keys: "a-b/" comes before "a/".
ORDERED = [("a-b", "s1"), ("a", "s1"), ("a", "s2"), ("a0", "s1"), ("b", "s1"), ("b", "s3")]


@pytest.mark.parametrize("rows", [1, 2, 3, 1000])
def test_every_state_comes_once_and_in_order_whatever_the_page(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(listings, "PAGE_ROWS", rows)
    monkeypatch.setattr(listings, "LOOKS_PER_READ", rows)
    assert shown(store) == ORDERED
    assert shown(store, workspaces=["b", "a-b", "nosuch", "a"]) == [
        key for key in ORDERED if key[0] != "a0"
    ]
    assert shown(store, workspaces=[]) == []
    for at, key in enumerate(ORDERED):
        assert shown(store, after=key) == ORDERED[at + 1 :]
        assert shown(store, after=key, workspaces=["a", "b"]) == [
            other for other in ORDERED[at + 1 :] if other[0] in ("a", "b")
        ]
        assert shown(store, limit=at + 1) == ORDERED[: at + 1]


def test_live_sessions_stand_among_the_saved_ones(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = live(("a", "s0"), ("a", "s1"), ("a-a", "s9"), ("b", "s9"), ("c", "s1"))
    expected = sorted({*KEYS, *running}, key=lambda key: (key[0] + "/", key[1]))
    for rows in (1, 2, 1000):
        monkeypatch.setattr(listings, "PAGE_ROWS", rows)
        assert shown(store, live=running) == expected
        assert shown(store, live=running, workspaces=["c", "a"]) == [
            key for key in expected if key[0] in ("a", "c")
        ]
        assert (
            shown(store, live=running, after=("a", "s0")) == expected[expected.index(("a", "s1")) :]
        )
        assert shown(store, live=running, active=True) == [
            key for key in expected if key in running
        ]
    found = items_of(Listing(store, running))
    items = {f"{item['workspace']}/{item['session']}": item for item in found}
    both, only = items["a/s1"], items["a/s0"]
    assert (both["state"], both["directory"], both["clients"]) == ("live", "/srv", 2)
    assert (both["startedAt"], both["lastActive"]) == (
        "1970-01-01T00:00:00Z",
        "2025-01-02T00:00:00Z",
    )
    assert (only["state"], only["directory"], only["shell"]) == ("live", None, "zsh")
    assert items["b/s1"]["state"] == "saved"
    assert set(both) == set(only) == set(items["b/s1"])


def test_without_a_store_the_live_ones_are_listed() -> None:
    assert [item["session"] for item in items_of(Listing(None, live(("a", "s1"))))] == ["s1"]


def test_without_a_gateway_the_leases_say_which_sessions_are_live(store: SessionStore) -> None:
    layer = SessionLayer(store)
    layer.acquire("a", "s2", "bridge", now=0, ttl=10)
    layer.acquire("b", "s3", "bridge", now=0, ttl=5)
    layer.release(layer.acquire("b", "s1", "bridge", now=0, ttl=10))
    layer.acquire("b", "new", "bridge", now=0, ttl=10)
    held = leased(store, None, 7)
    assert sorted(held) == [("a", "s2"), ("b", "new")]
    assert sorted(leased(store, "a", 7)) == [("a", "s2")]
    assert sorted(leased(store, "b", 4)) == [("b", "new"), ("b", "s3")]
    items = items_of(Listing(store, held))
    assert [(i["workspace"], i["session"]) for i in items if i["state"] == "live"] == sorted(held)
    both = next(item for item in items if item["session"] == "s2")
    assert (both["shell"], both["lastActive"]) == ("bash", "1970-01-01T00:00:01Z")
    assert both["clients"] is None


def test_sessions_last_active_before_a_time(store: SessionStore) -> None:
    record = state(id="s2", workspace_id="b", last_active=5 * 10**9)
    SessionLayer(store).save(record)
    assert shown(store, workspaces=["b"], before=2 * 10**9) == [("b", "s1"), ("b", "s3")]
    assert shown(store, workspaces=["b"], before=10**9) == []
    assert shown(store, workspaces=["b"], before=5 * 10**9 + 1) == [
        ("b", id) for id in ("s1", "s2", "s3")
    ]


def test_a_session_that_its_user_ended_is_listed_so(store: SessionStore) -> None:
    SessionLayer(store).save(state(id="s2", workspace_id="b", ended_at=10**9))
    SessionLayer(store).save(state(id="s4", workspace_id="b", ended_at=1, started_at=-(10**18)))
    items = items_of(Listing(store, {}, workspaces=["b"]))
    assert [item["state"] for item in items] == ["saved", "ended", "saved", "ended"]


def test_next_is_told_only_where_there_is_more(store: SessionStore) -> None:
    for limit, following in ((1, ORDERED[0]), (5, ORDERED[4]), (6, None), (9, None)):
        listing = Listing(store, {}, limit=limit)
        assert len(items_of(listing)) == min(limit, 6)
        assert listing.next == following


@pytest.mark.parametrize(
    "value",
    [
        b"junk",
        b"\xff",
        b"[]",
        b"{}",
        state(id="s2").encode().replace(b'"bash"', b"7"),
        state(id="s2").encode().replace(b"1970-01-01T00:00:00Z", b"yesterday"),
        state(id="s2", ended_at=1).encode().replace(b"1970-01-01T00:00:00.000000001Z", b"later"),
        b"[" * 100_000,
    ],
)
def test_a_record_that_cannot_be_read_is_marked_and_hides_no_other(
    store: SessionStore, value: bytes
) -> None:
    store.transact(lambda transaction: transaction.set(b"b/terminal_sessions/s2", value[:99_999]))
    listing = Listing(store, {}, workspaces=["b"])
    items = items_of(listing)
    assert [item["state"] for item in items] == ["saved", "unreadable", "saved"]
    assert items[1]["directory"] is None
    assert items[1]["problem"]
    assert listing.unreadable == 1
    assert shown(store, workspaces=["b"], before=10**18) == [("b", "s1"), ("b", "s3")]


@pytest.mark.parametrize(
    ("written", "listed"),
    [
        (b"2025-01-01T01:00:00.1234567891+01:00", "2025-01-01T00:00:00.123456789Z"),
        (b"2025-01-01 00:00:00z", "2025-01-01T00:00:00Z"),
        (b"2025-01-01T00:00:00.120Z", "2025-01-01T00:00:00.120Z"),
    ],
)
def test_times_are_read_in_every_form(store: SessionStore, written: bytes, listed: str) -> None:
    value = state(id="s2", workspace_id="b").encode().replace(b"1970-01-01T00:00:00Z", written)
    store.transact(lambda transaction: transaction.set(b"b/terminal_sessions/s2", value))
    items = items_of(Listing(store, {}, workspaces=["b"]))
    assert [i["startedAt"] for i in items if i["session"] == "s2"] == [listed]


def test_a_time_that_is_none_is_told_where_it_counts(store: SessionStore) -> None:
    value = (
        state(id="s2").encode().replace(b"1970-01-01T00:00:00.0000", b"2025-13-45T99:99:99.0000")
    )
    store.transact(lambda transaction: transaction.set(b"b/terminal_sessions/s2", value))
    listing = Listing(store, {}, workspaces=["b"], before=10**18)
    assert [i["session"] for i in items_of(listing)] == ["s1", "s3"]
    assert listing.unreadable == 1


def test_what_serde_writes_for_none_is_none(store: SessionStore) -> None:
    value = state(id="s2", workspace_id="b", unknown={"ended_at": None}).encode()
    store.transact(lambda transaction: transaction.set(b"b/terminal_sessions/s2", value))
    items = items_of(Listing(store, {}, workspaces=["b"]))
    assert [item["state"] for item in items] == ["saved"] * 3


ODD = [b"a\\x01", b"a\x01", b"a/b", b"\xff\xfe", b"\xc3\xbc y", b"\xef\xbf\xbd", b"-rf", b"z z"]


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_ids_of_any_bytes_are_listed_as_they_can_be_typed(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(listings, "PAGE_ROWS", rows)
    value, ids = state(last_active=10**9).encode(), sorted(ODD)
    keys = [b"c\xff/terminal_sessions/" + id for id in ids]
    store.transact(lambda transaction: [transaction.set(key, value) for key in keys])
    found = shown(store)[len(ORDERED) :]
    assert [(id_bytes(name), id_bytes(id)) for name, id in found] == [(b"c\xff", id) for id in ids]
    for at, key in enumerate(found):
        assert shown(store, after=key) == found[at + 1 :]
    running = live(("c", "zz"), ("d", "s1"), ("a", "s1"))
    assert shown(store, live=running)[len(ORDERED) :] == [("c", "zz"), *found, ("d", "s1")]
    assert SessionLayer(store).delete_older(found, 1 << 62, 0) == set(range(len(found)))


def test_half_a_surrogate_pair_is_read_as_json_has_it(store: SessionStore) -> None:
    value = state(id="s2", workspace_id="b").encode().replace(b'"/srv"', b'"/\\ud800"')
    store.transact(lambda transaction: transaction.set(b"b/terminal_sessions/s2", value))
    items = items_of(Listing(store, {}, workspaces=["b"]))
    assert items[1]["directory"] == "/\ud800"


def test_a_listing_reads_no_output(store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(20):
        record = state(id=f"s{n}", workspace_id="big")
        screen = output(["x" * 1000])
        SessionLayer(store).save(record, type(screen)(record.id, screen.lines, (0, 0), (80, 24)))
    read: list[bytes] = []
    snapshots = store.read(type)
    read_below = snapshots.below

    def watched(*args: Any, **kwargs: Any) -> Any:
        rows, position = read_below(*args, **kwargs)
        read.extend(key for key, _ in rows)
        return rows, position

    monkeypatch.setattr(snapshots, "below", watched)
    monkeypatch.delattr(snapshots, "range")
    assert sum(len(page.rows) for page in state_pages(store)) == len(ORDERED) + 20
    assert all(b"/terminal_sessions/" in key for key in read)
