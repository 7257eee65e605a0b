from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coditect_cli.sessions.check import CLOCK_TOLERANCE, check_sessions
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.stores.sqlite import SQLiteStore
from coditect_cli.stores.store import MAX_VALUE, SessionStore
from tests.sessions.test_layer import write
from tests.sessions.test_session import output, state

NOW = 10**18
STATE, OUTPUT = b"demo/terminal_sessions/s1", b"demo/terminal_output/s1"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SessionStore]:
    store = SQLiteStore(tmp_path / "state" / "sessions.db")
    yield store
    store.close()


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
        (b"_coditect/leases/demo/s1", b"junk", ("fail", "unparsable")),
    ],
)
def test_a_wrong_value_is_found(
    store: SessionStore, key: bytes, value: bytes, finding: tuple[str, str]
) -> None:
    SessionLayer(store).save(state(), output([]))
    write(store, {key: value})
    assert problems(store) == [(key, *finding)]


def test_an_oversize_value_is_found(store: SessionStore) -> None:
    """Another program, or a database written by hand, may hold what this one never writes."""
    SessionLayer(store).save(state(), output([]))
    assert isinstance(store, SQLiteStore)
    value = output([]).encode() + b" " * MAX_VALUE
    store._connection.execute("UPDATE entries SET value = ? WHERE key = ?", (value, OUTPUT))
    assert problems(store) == [(OUTPUT, "fail", "oversize")]


def test_a_session_that_comes_while_the_check_runs_is_no_orphan(store: SessionStore) -> None:
    layer = SessionLayer(store)
    write(store, {OUTPUT: b"junk"})
    findings = check_sessions(store, NOW)
    assert next(findings).problem == "unparsable"
    layer.save(state(), output([]))  # between the scans and the second look
    assert list(findings) == []
