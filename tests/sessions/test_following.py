from __future__ import annotations

import time

import pytest

from coditect_cli.errors import SessionLost
from coditect_cli.sessions import following
from coditect_cli.sessions.following import follow_record
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.sessions.session import SessionOutput
from coditect_cli.stores.store import SessionStore
from tests.sessions.test_session import state

HOUR = 3600 * 10**9


def screen(lines: list[str], row: int, trimmed: int = 0) -> SessionOutput:
    """An output of a terminal of 4 rows whose cursor is in this one."""
    return SessionOutput("s1", lines, (0, row), (80, 4), trimmed)


def test_each_line_is_seen_once_its_cursor_left_it(store: SessionStore) -> None:
    layer = SessionLayer(store)
    lease = layer.acquire("demo", "s1", "bridge", now=time.time_ns(), ttl=HOUR)
    said: list[str] = []
    layer.save(state(), screen(["old", "1", "2", "$ l", ""], 2))
    lines = follow_record(store, "demo", "s1", said.append)
    assert next(lines) == ["1", "2"]
    layer.save(state(), screen(["old", "1", "2", "$ ls", "3", "$"], 3))
    assert next(lines) == ["$ ls", "3"]
    layer.save(state(), screen(["5", "6", "7", "$"], 3, trimmed=6))
    assert next(lines) == ["5", "6", "7"]
    assert said == ["1 lines were trimmed before they were seen"]
    layer.save(state(), screen(["$ clear", "8", "$", "", ""], 1, trimmed=6))
    assert next(lines) == ["8"]
    layer.save(state(ended_at=5), screen(["$ clear", "8", "$ exit", "bye", ""], 3, trimmed=6))
    layer.release(lease)
    assert next(lines) == ["$ exit", "bye"]
    assert list(lines) == [[]]


def test_a_session_that_nobody_holds_any_more_is_lost(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LEASE_SECONDS", 0.0)
    layer = SessionLayer(store)
    lease = layer.acquire("demo", "s1", "bridge", now=time.time_ns(), ttl=HOUR)
    layer.save(state(), screen(["1", "half a line", "", ""], 1))
    lines = follow_record(store, "demo", "s1", print)
    assert next(lines) == ["1"]
    layer.release(lease)
    assert next(lines) == []
    assert next(lines) == ["half a line"]
    with pytest.raises(SessionLost):
        next(lines)
