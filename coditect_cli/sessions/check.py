"""What can be wrong with the sessions in a store. It reads, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from coditect_cli.errors import CoditectError
from coditect_cli.sessions.layer import OUTPUT, OWN, STATE, SessionLayer, sessions_prefix
from coditect_cli.sessions.session import NANOSECONDS, SessionOutput, SessionState, format_time
from coditect_cli.stores.store import MAX_VALUE, SessionStore, Snapshot, prefix_end, scan

CLOCK_TOLERANCE = 300 * NANOSECONDS


@dataclass(frozen=True)
class Finding:
    """Something wrong (`fail`) or odd (`warn`) at a key."""

    key: bytes
    severity: Literal["warn", "fail"]
    problem: str
    message: str


class _Row(NamedTuple):
    key: bytes
    session_id: bytes
    value: bytes


_Rows = dict[bytes, _Row]


def check_sessions(store: SessionStore, now: int) -> Iterator[Finding]:
    """Every finding, as it is found; `now` is nanoseconds since 1970. Memory stays constant."""
    for workspace_id in SessionLayer(store).workspaces():
        for outputs, states in _windows(store, workspace_id):
            for session_id in sorted(outputs.keys() | states.keys()):
                yield from _check_pair(outputs.get(session_id), states.get(session_id), now)
    for page in scan(store, OWN, prefix_end(OWN)):
        for key, value in page.rows:
            try:
                json.loads(value)
            except (ValueError, RecursionError):
                yield Finding(key, "fail", "unparsable", "it is not JSON")


def _windows(store: SessionStore, workspace_id: str) -> Iterator[tuple[_Rows, _Rows]]:
    """Outputs and states of a workspace, by session id, some ids at a time.

    What a window holds is of one moment, so that no half of a session is missing in it that was
    only written or deleted meanwhile.
    """
    prefixes = [sessions_prefix(kind, workspace_id) for kind in (OUTPUT, STATE)]
    begin = b""

    def window(snapshot: Snapshot) -> tuple[list[_Rows], bytes | None]:
        end, found = None, []
        for prefix in prefixes:
            stop = prefix_end(prefix) if end is None else prefix + end
            rows = snapshot.range(prefix + begin, stop)
            found.append([_Row(key, key.removeprefix(prefix), value) for key, value in rows])
            # The page may not be the last: what lies behind it is left for the next window.
            if rows and snapshot.first_key(rows[-1][0] + b"\0", stop) is not None:
                end = found[-1][-1].session_id + b"\0"
        kept = [
            {row.session_id: row for row in rows if not end or row.session_id < end}
            for rows in found
        ]
        return kept, end

    following: bytes | None = begin
    while following is not None:
        begin = following
        (outputs, states), following = store.read(window)
        yield outputs, states


def _check_pair(output: _Row | None, state: _Row | None, now: int) -> Iterator[Finding]:
    if output is not None:
        yield from _check_output(output)
    if state is not None:
        yield from _check_state(state, now)
    if output is not None and state is None:
        yield Finding(output.key, "fail", "orphan-output", "there is no state beside it")
    if state is not None and output is None:
        yield Finding(state.key, "warn", "no-output", "there is no output beside it")


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
