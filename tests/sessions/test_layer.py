from __future__ import annotations

import json
from dataclasses import replace

import pytest

from coditect_cli.errors import CoditectError, Conflict, Failed, UsageError
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.stores import store as stores
from coditect_cli.stores.store import SessionStore, Transaction, scan
from tests.sessions.test_session import output, state

SECOND = 1_000_000_000


@pytest.fixture
def layer(store: SessionStore) -> SessionLayer:
    return SessionLayer(store)


def keys(store: SessionStore) -> list[bytes]:
    return [key for page in scan(store, b"", stores.END) for key, _ in page.rows]


def write(store: SessionStore, rows: dict[bytes, bytes]) -> None:
    def put(transaction: Transaction) -> None:
        for key, value in rows.items():
            transaction.set(key, value)

    store.transact(put)


def test_a_session_is_kept_below_the_keys_of_the_record(
    store: SessionStore, layer: SessionLayer
) -> None:
    layer.save(state(), output(["$ ls"]))
    assert keys(store) == [b"demo/terminal_output/s1", b"demo/terminal_sessions/s1"]
    assert layer.load("demo", "s1") == (state(), output(["$ ls"]))
    assert layer.load("demo", "s2") == (None, None)


def test_a_state_alone_leaves_the_output_as_it_was(layer: SessionLayer) -> None:
    layer.save(state(), output(["$ ls"]))
    layer.save(state(last_active=5))
    assert layer.load("demo", "s1") == (state(last_active=5), output(["$ ls"]))


def test_fields_that_others_added_are_kept(store: SessionStore, layer: SessionLayer) -> None:
    theirs = {**json.loads(state().encode()), "theme": {"dark": True}, "history_trimmed": 7}
    write(store, {b"demo/terminal_sessions/s1": json.dumps(theirs).encode()})
    layer.save(state(shell_type="zsh"))
    kept = layer.load("demo", "s1")[0]
    assert kept == state(shell_type="zsh", unknown={"theme": {"dark": True}})


def test_an_unreadable_record_is_told_and_can_be_written_again(
    store: SessionStore, layer: SessionLayer
) -> None:
    write(store, {b"demo/terminal_sessions/s1": b"not JSON"})
    with pytest.raises(Failed) as caught:
        layer.load("demo", "s1")
    assert caught.value.code == "session.unreadable"
    layer.save(state())
    assert layer.load("demo", "s1")[0] == state()


def test_sessions_are_listed_for_their_workspace_only(layer: SessionLayer) -> None:
    for workspace_id in ("demo", "demo-2", "demo2", "dem"):
        for id in ("b", "a"):
            layer.save(state(workspace_id=workspace_id, id=id))
    assert list(layer.ids("demo")) == ["a", "b"]
    assert [(s.workspace_id, s.id) for s in layer.states("demo")] == [("demo", "a"), ("demo", "b")]
    assert list(layer.ids("nobody")) == []


def test_workspaces_are_found_by_skipping(
    store: SessionStore, layer: SessionLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coditect_cli.sessions.layer.LOOKS_PER_READ", 2)
    names = ["a", "demo", "demo-2", "demo2", "z"]
    for name in names:
        for n in range(5):
            layer.save(state(workspace_id=name, id=f"s{n}"))
        layer.acquire(name, "s0", "bridge", now=0, ttl=SECOND)
    others = [b"_coditect/journal/1", b"demo", b"demo1/other/1", b"m", b"q/", b"/x", b"\xfe/y"]
    others += [b"\x02tuple\x00", b"\x15\x01/1", b"\xfe\x01\x14"]
    write(store, dict.fromkeys(others, b""))
    write(store, {b"half/aaa/1": b"", b"half/terminal_output/s1": b""})
    assert sorted(layer.workspaces()) == sorted([*names, "half"])


def test_one_transaction_looks_at_few_keys_also_of_other_programs(
    store: SessionStore, layer: SessionLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coditect_cli.sessions.layer.LOOKS_PER_READ", 100)
    write(store, {b"user%d/profile" % n: b"" for n in range(1_000)})
    reads = []
    read = store.read
    monkeypatch.setattr(store, "read", lambda fn: reads.append(fn) or read(fn))
    assert list(layer.workspaces()) == []
    assert len(reads) > 10


def test_delete_removes_state_output_and_lease(store: SessionStore, layer: SessionLayer) -> None:
    layer.save(state(), output([]))
    layer.save(state(id="s2"))
    lease = layer.acquire("demo", "s1", "bridge", now=0, ttl=SECOND)
    assert layer.delete("demo", "s1")
    assert not layer.delete("demo", "s1")
    assert keys(store) == [b"demo/terminal_sessions/s2"]
    with pytest.raises(Conflict) as caught:
        layer.save(state(), lease=lease)  # the bridge that still runs it must not bring it back
    assert caught.value.code == "session.lease_lost"


def test_what_is_damaged_or_held_is_no_hindrance_to_deleting_the_old(
    store: SessionStore, layer: SessionLayer
) -> None:
    for id in ("s1", "s2", "s3", "s4"):
        layer.save(state(id=id))
    write(store, {b"_coditect/leases/demo/s1": b"[]", b"demo/terminal_sessions/s2": b"junk"})
    layer.acquire("demo", "s3", "bridge", now=5, ttl=5)
    ids = [("demo", id) for id in ("s1", "s2", "s3", "s4", "")]
    assert layer.delete_older(ids, before=9, now=9) == {3}


def test_only_one_holder_at_a_time(layer: SessionLayer) -> None:
    first = layer.acquire("demo", "s1", "first", now=0, ttl=10 * SECOND)
    with pytest.raises(Conflict) as caught:
        layer.acquire("demo", "s1", "second", now=9 * SECOND, ttl=SECOND)
    assert (caught.value.code, caught.value.retryable) == ("session.leased", True)
    assert layer.acquire("demo", "s2", "second", now=0, ttl=SECOND).token == 1
    layer.renew([first], now=9 * SECOND, ttl=10 * SECOND)
    with pytest.raises(Conflict):
        layer.acquire("demo", "s1", "second", now=18 * SECOND, ttl=SECOND)
    second = layer.acquire("demo", "s1", "second", now=19 * SECOND, ttl=SECOND)
    assert (second.holder, second.token) == ("second", 2)


def test_the_same_holder_gets_its_lease_again(layer: SessionLayer) -> None:
    """A commit whose result is unknown is repeated, and finds its own lease."""
    first = layer.acquire("demo", "s1", "first", now=0, ttl=SECOND)
    assert layer.acquire("demo", "s1", "first", now=1, ttl=SECOND) == first._replace(
        expires_at=SECOND + 1
    )


def test_a_stale_owner_writes_nothing(layer: SessionLayer) -> None:
    stale = layer.acquire("demo", "s1", "first", now=0, ttl=SECOND)
    layer.save(state(), output([]), lease=stale)
    layer.acquire("demo", "s1", "second", now=SECOND, ttl=SECOND)
    refused = [
        lambda: layer.save(state(shell_type="stale"), output(["stale"]), lease=stale),
        lambda: layer.delete("demo", "s1", lease=stale),
    ]
    for act in refused:
        with pytest.raises(Conflict) as caught:
            act()
        assert caught.value.code == "session.lease_lost"
    layer.renew([stale], now=2 * SECOND, ttl=100 * SECOND)
    assert layer.acquire("demo", "s1", "third", now=3 * SECOND, ttl=SECOND).token == 3
    assert layer.load("demo", "s1") == (state(), output([]))


def test_a_holder_that_is_known_to_be_gone_is_not_waited_for(layer: SessionLayer) -> None:
    layer.acquire("demo", "s1", "here#1", now=0, ttl=100 * SECOND)
    with pytest.raises(Conflict):
        layer.acquire("demo", "s1", "there#1", now=1, ttl=SECOND, instead_of="there#")
    after = layer.acquire("demo", "s1", "here#2", now=1, ttl=SECOND, instead_of="here#")
    assert after.token == 2


def test_the_newest_are_found_among_those_that_did_not_end(
    store: SessionStore, layer: SessionLayer
) -> None:
    layer.save(state(id="a", last_active=3))
    layer.save(state(id="b", last_active=2))
    layer.save(state(id="c", last_active=9, ended_at=9))
    layer.save(state(id="d", last_active=8))
    odd = "x" * 129  # an id that attaching would refuse
    write(store, {f"demo/terminal_sessions/{odd}".encode(): state(id=odd, last_active=9).encode()})
    assert layer.newest("demo", {"d"}) == ["a", "b"]
    assert layer.newest("demo", {"a", "b", "d"}) == []
    assert layer.newest("other", set()) == []


def test_a_lease_that_ran_out_is_good_until_somebody_takes_it(layer: SessionLayer) -> None:
    lease = layer.acquire("demo", "s1", "first", now=0, ttl=1)
    layer.save(state(), lease=lease)
    layer.renew([lease], now=5 * SECOND, ttl=SECOND)
    layer.save(state(), lease=lease)


def test_a_lease_is_for_its_own_session(layer: SessionLayer) -> None:
    lease = layer.acquire("demo", "s1", "first", now=0, ttl=SECOND)
    with pytest.raises(Conflict):
        layer.save(state(id="s2"), lease=lease)


def test_a_released_lease_can_be_taken_at_once_and_its_token_is_never_used_again(
    layer: SessionLayer,
) -> None:
    first = layer.acquire("demo", "s1", "first", now=0, ttl=SECOND)
    layer.release(first)
    second = layer.acquire("demo", "s1", "second", now=0, ttl=SECOND)
    assert second.token == 2
    layer.release(first)  # too late: it is another one's now
    layer.save(state(), lease=second)
    with pytest.raises(Conflict):
        layer.save(state(), lease=first)


def test_a_damaged_lease_is_told(store: SessionStore, layer: SessionLayer) -> None:
    write(store, {b"_coditect/leases/demo/s1": b"{}"})
    with pytest.raises(Failed) as caught:
        layer.acquire("demo", "s1", "first", now=0, ttl=SECOND)
    assert caught.value.code == "session.lease_unreadable"


BAD = ["", "a/b", "../x", "a\x00b", "a\nb", "/", "\ud800"]


@pytest.mark.parametrize("bad", BAD)
def test_an_id_that_could_forge_a_key_is_refused(
    store: SessionStore, layer: SessionLayer, bad: str
) -> None:
    attempts = [
        lambda: layer.load(bad, "s1"),
        lambda: layer.load("demo", bad),
        lambda: layer.delete(bad, "s1"),
        lambda: layer.delete("demo", bad),
        lambda: list(layer.ids(bad)),
        lambda: list(layer.states(bad)),
        lambda: layer.save(state(id=bad)),
        lambda: layer.save(state(workspace_id=bad)),
        lambda: layer.save(state(), replace(output([]), session_id=bad)),
        lambda: layer.acquire(bad, "s1", "first", now=0, ttl=SECOND),
        lambda: layer.acquire("demo", bad, "first", now=0, ttl=SECOND),
    ]
    for attempt in attempts:
        with pytest.raises(UsageError) as caught:
            attempt()
        assert caught.value.code in ("session.invalid_id", "workspace.invalid_id")
    assert keys(store) == []


def test_ids_that_this_program_does_not_make_are_readable_and_not_writable(
    store: SessionStore, layer: SessionLayer
) -> None:
    foreign = state(workspace_id="User_1", id="s.1")
    write(store, {b"User_1/terminal_sessions/s.1": foreign.encode()})
    assert layer.load("User_1", "s.1") == (foreign, None)
    assert list(layer.workspaces()) == ["User_1"]
    with pytest.raises(CoditectError):
        layer.save(foreign)
    assert layer.delete("User_1", "s.1")
