"""What can be wrong with the sessions in a store. It reads, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import groupby
from typing import Literal, NamedTuple

from coditect_cli.errors import CoditectError
from coditect_cli.sessions.layer import OUTPUT, OWN, STATE, SessionLayer, sessions_prefix
from coditect_cli.sessions.session import NANOSECONDS, SessionOutput, SessionState, format_time
from coditect_cli.stores.store import MAX_VALUE, SessionStore, prefix_end, scan

CLOCK_TOLERANCE = 300 * NANOSECONDS


@dataclass(frozen=True)
class Finding:
    """Something wrong (`fail`) or odd (`warn`) at a key."""

    key: bytes
    severity: Literal["warn", "fail"]
    problem: str
    message: str


class _Row(NamedTuple):
    session_id: bytes
    kind: str
    key: bytes
    value: bytes


def check_sessions(store: SessionStore, now: int) -> Iterator[Finding]:
    """Every finding, as it is found; `now` is nanoseconds since 1970. Memory stays constant."""
    for workspace_id in SessionLayer(store).workspaces():
        yield from _check_workspace(store, workspace_id, now)
    for row in _rows(store, "own", OWN):
        try:
            json.loads(row.value)
        except (ValueError, RecursionError):
            yield Finding(row.key, "fail", "unparsable", "it is not JSON")


def _check_workspace(store: SessionStore, workspace_id: str, now: int) -> Iterator[Finding]:
    prefixes = {kind: sessions_prefix(kind, workspace_id) for kind in (OUTPUT, STATE)}
    rows = merge(*(_rows(store, kind, prefix) for kind, prefix in prefixes.items()), key=_order)
    for session_id, group in groupby(rows, key=lambda row: row.session_id):
        found = list(group)
        for row in found:
            yield from _check_state(row, now) if row.kind == STATE else _check_output(row)
        if len(found) == 1:
            yield from _check_alone(
                store, found[0], {k: p + session_id for k, p in prefixes.items()}
            )


def _check_alone(store: SessionStore, row: _Row, keys: dict[str, bytes]) -> Iterator[Finding]:
    # The two scans may have seen different moments, so the pair is looked at again in one.
    there = store.read(lambda snapshot: {k: snapshot.get(key) for k, key in keys.items()})
    if there[OUTPUT] is not None and there[STATE] is None:
        yield Finding(row.key, "fail", "orphan-output", "there is no state beside it")
    if there[STATE] is not None and there[OUTPUT] is None:
        yield Finding(row.key, "warn", "no-output", "there is no output beside it")


def _check_state(row: _Row, now: int) -> Iterator[Finding]:
    yield from _check_size(row)
    try:
        state = SessionState.decode(row.value)
    except CoditectError as error:
        yield Finding(row.key, "fail", "unparsable", error.message)
        return
    if _key_of(state.workspace_id, STATE, state.id) != row.key:
        yield Finding(row.key, "fail", "wrong-ids", "its ids are not those of its key")
    if state.last_active < state.started_at:
        yield Finding(row.key, "warn", "clock", "it was last active before it started")
    if state.last_active > now + CLOCK_TOLERANCE:
        when = format_time(state.last_active)
        yield Finding(row.key, "warn", "clock", f"it was last active in the future, at {when}")


def _check_output(row: _Row) -> Iterator[Finding]:
    yield from _check_size(row)
    try:
        output = SessionOutput.decode(row.value)
    except CoditectError as error:
        yield Finding(row.key, "fail", "unparsable", error.message)
        return
    if output.session_id.encode(errors="replace") != row.session_id:
        yield Finding(row.key, "fail", "wrong-ids", "its id is not that of its key")


def _check_size(row: _Row) -> Iterator[Finding]:
    if len(row.value) > MAX_VALUE:
        yield Finding(
            row.key, "fail", "oversize", f"{len(row.value):,} bytes; {MAX_VALUE:,} is the limit"
        )


def _key_of(workspace_id: str, kind: str, session_id: str) -> bytes:
    return f"{workspace_id}/{kind}/{session_id}".encode(errors="replace")


def _rows(store: SessionStore, kind: str, prefix: bytes) -> Iterator[_Row]:
    for page in scan(store, prefix, prefix_end(prefix)):
        for key, value in page.rows:
            yield _Row(key.removeprefix(prefix), kind, key, value)


def _order(row: _Row) -> tuple[bytes, str]:
    return row.session_id, row.kind
