from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coditect_cli.sessions.check import CLOCK_TOLERANCE, check_sessions
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.stores.sqlite import SQLiteStore
from coditect_cli.stores.store import MAX_VALUE, SessionStore
from tests.sessions.test_layer import write
from tests.sessions.test_session import output, state

NOW = 10**18
LEASE = b"_coditect/leases/demo/s1"
STATE, OUTPUT = b"demo/terminal_sessions/s1", b"demo/terminal_output/s1"


def lease(holder: object, expires_at: str) -> bytes:
    return json.dumps({"holder": holder, "token": 1, "expires_at": expires_at}).encode()


def problems(store: SessionStore) -> list[tuple[bytes, str, str]]:
    return [(f.key, f.severity, f.problem) for f in check_sessions(store, NOW)]


def test_whole_sessions_have_no_findings(store: SessionStore) -> None:
    layer = SessionLayer(store)
    for workspace_id in ("demo", "other"):
        for id in ("s1", "s2", "s3"):
            layer.save(state(workspace_id=workspace_id, id=id), replace(output([]), session_id=id))
    layer.acquire("demo", "s1", "bridge", now=0, ttl=1)
    assert problems(store) == []


def test_each_half_without_the_other_is_found(store: SessionStore) -> None:
    layer = SessionLayer(store)
    for id in ("a", "s1", "z"):
        layer.save(state(id=id), replace(output([]), session_id=id))
    write(store, {b"demo/terminal_output/b": replace(output([]), session_id="b").encode()})
    write(store, {b"demo/terminal_output/zz": replace(output([]), session_id="zz").encode()})
    write(store, {b"demo/terminal_sessions/c": state(id="c").encode()})
    assert problems(store) == [
        (b"demo/terminal_output/b", "fail", "orphan-output"),
        (b"demo/terminal_sessions/c", "warn", "no-output"),
        (b"demo/terminal_output/zz", "fail", "orphan-output"),
    ]


def test_ids_that_we_would_not_write_are_told(store: SessionStore) -> None:
    write(
        store,
        {
            b"demo/terminal_sessions/a b": state(id="a b").encode(),
            b"Demo X/terminal_sessions/s1": state(workspace_id="Demo X").encode(),
        },
    )
    found = [one for one in problems(store) if one[2] != "no-output"]
    assert found == [
        (b"Demo X/terminal_sessions/s1", "warn", "foreign-ids"),
        (b"demo/terminal_sessions/a b", "warn", "foreign-ids"),
    ]


@pytest.mark.parametrize(
    ("key", "value", "finding"),
    [
        (STATE, b"junk", ("fail", "unparsable")),
        (OUTPUT, b"{}", ("fail", "unparsable")),
        (STATE, state(id="other").encode(), ("fail", "wrong-ids")),
        (STATE, state(workspace_id="other").encode(), ("fail", "wrong-ids")),
        (OUTPUT, replace(output([]), session_id="other").encode(), ("fail", "wrong-ids")),
        (STATE, state(started_at=5, last_active=4).encode(), ("warn", "clock")),
        (STATE, state(last_active=NOW + CLOCK_TOLERANCE + 1).encode(), ("warn", "clock")),
        (LEASE, b"junk", ("fail", "unparsable")),
        (LEASE, b"[]", ("fail", "unparsable")),
        (
            LEASE,
            b'{"holder":5,"token":1,"expires_at":"2025-01-01T00:00:00Z"}',
            ("fail", "unparsable"),
        ),
        (LEASE, b'{"holder":"b","token":1,"expires_at":"2999-01-01T00:00:00Z"}', ("warn", "lease")),
        (b"_coditect/leases/demo", b"{}", ("fail", "wrong-ids")),
    ],
)
def test_a_wrong_value_is_found(
    store: SessionStore, key: bytes, value: bytes, finding: tuple[str, str]
) -> None:
    SessionLayer(store).save(state(), output([]))
    write(store, {key: value})
    assert problems(store) == [(key, *finding)]


def test_ids_of_any_bytes_are_checked(store: SessionStore) -> None:
    keys = [b"\xf0\x01/terminal_sessions/\xff", b"a\\x41/terminal_sessions/a/b"]
    write(store, dict.fromkeys(keys, b"junk"))
    found = problems(store)
    assert {key for key, _, problem in found if problem == "unparsable"} == set(keys)


def test_a_key_without_a_workspace_is_found_among_others(store: SessionStore) -> None:
    """It was once the end of the whole check."""
    keys = [b"/terminal_sessions/s1", b"/terminal_output/", b"w/terminal_sessions/s1"]
    write(store, {**dict.fromkeys(keys, b"junk"), b"/another/key": b"somebody's"})
    found = [(key, problem) for key, severity, problem in problems(store) if severity == "fail"]
    assert sorted(found) == [
        (b"/terminal_output/", "wrong-ids"),
        (b"/terminal_sessions/s1", "wrong-ids"),
        (b"w/terminal_sessions/s1", "unparsable"),
    ]


def test_an_oversize_value_is_found(tmp_path: Path) -> None:
    """Another program, or a database written by hand, may hold what this one never writes."""
    store = SQLiteStore(tmp_path / "state" / "sessions.db")
    SessionLayer(store).save(state(), output([]))
    value = output([]).encode() + b" " * MAX_VALUE
    store._connection.execute("UPDATE entries SET value = ? WHERE key = ?", (value, OUTPUT))
    assert problems(store) == [(OUTPUT, "fail", "oversize")]
    store.close()


def test_sessions_that_come_and_go_while_the_check_runs_are_whole(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "read", _with_small_pages(store.read))
    layer = SessionLayer(store)
    ids = [f"s{n:02}" for n in range(30)]
    for id in ids[::2]:
        layer.save(state(id=id), replace(output([]), session_id=id))
    write(store, {b"demo/terminal_output/a": b"junk", b"demo/terminal_output/t": b"junk"})
    findings = check_sessions(store, NOW)
    assert next(findings).key == b"demo/terminal_output/a"
    for there, id in enumerate(ids):
        if there % 2:
            layer.save(state(id=id), replace(output([]), session_id=id))
        else:
            layer.delete("demo", id)
    assert {f.key[-2:] for f in findings} <= {b"/a", b"/t"}


@pytest.mark.parametrize("halves", ["sessions", "output", "both"])
def test_every_session_is_looked_at_once_whatever_the_pages_are(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch, halves: str
) -> None:
    monkeypatch.setattr(store, "read", _with_small_pages(store.read))
    keys = {
        f"demo/terminal_{half}/s{n:02}".encode()
        for half in ("sessions", "output")
        for n in range(0, 23, 1 if halves in (half, "both") else 7)
    }
    write(store, dict.fromkeys(keys, b"junk"))
    unparsable = [key for key, _, problem in problems(store) if problem == "unparsable"]
    assert sorted(unparsable) == sorted(keys)


def _with_small_pages(read: Any) -> Any:
    """A store's `read` whose ranges never have more than three rows."""

    def small(fn: Any, at: int | None = None) -> Any:
        def page(snapshot: Any) -> Any:
            whole = snapshot.range
            snapshot.range = lambda begin, end, **options: whole(begin, end, limit=3)
            return fn(snapshot)

        return read(page, at)

    return small
