"""What can be wrong with the sessions in a store. It reads, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from coditect_cli.errors import CoditectError, UsageError
from coditect_cli.sessions.ids import id_text, id_words
from coditect_cli.sessions.layer import OUTPUT, STATE, SessionLayer, sessions_prefix
from coditect_cli.sessions.leases import LEASES, OWN, read_lease
from coditect_cli.sessions.session import NANOSECONDS, SessionOutput, SessionState, format_time
from coditect_cli.stores.store import MAX_VALUE, Page, SessionStore, Snapshot, prefix_end, scan
from coditect_cli.workspaces.spec import check_session_id, check_workspace_id

CLOCK_TOLERANCE = 300 * NANOSECONDS
NAMELESS = b"/"  # how keys begin that have no workspace id
LONGEST_LEASE = 30 * NANOSECONDS + CLOCK_TOLERANCE

Watch = Callable[[Iterable[Page[bytes]]], Iterable[Page[bytes]]]


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


@dataclass(frozen=True)
class _Window(Page[bytes]):
    """Outputs and states of some sessions of a workspace."""

    outputs: _Rows
    states: _Rows


def check_sessions(store: SessionStore, now: int, watch: Watch = iter) -> Iterator[Finding]:
    """Every finding, as it is found; `now` is nanoseconds since 1970. Memory stays constant.

    `watch` sees every page that is read.
    """
    for window in watch(_all_windows(store)):
        if isinstance(window, _Window):
            outputs, states = window.outputs, window.states
            for session_id in sorted(outputs.keys() | states.keys()):
                yield from _check_pair(outputs.get(session_id), states.get(session_id), now)
        else:
            for key, value in window.rows:
                if key.startswith(OWN):
                    yield from _check_own(key, value, now)
                elif key.split(b"/")[1] in (STATE.encode(), OUTPUT.encode()):
                    yield Finding(key, "fail", "wrong-ids", "its key names no workspace")


def _all_windows(store: SessionStore) -> Iterator[Page[bytes]]:
    for workspace_id in SessionLayer(store).workspaces():
        yield from _windows(store, workspace_id)
    for prefix in (OWN, NAMELESS):
        yield from scan(store, prefix, prefix_end(prefix))


def _windows(store: SessionStore, workspace_id: str) -> Iterator[_Window]:
    """Outputs and states of a workspace, by session id, some ids at a time.

    What a window holds is of one moment, so that no half of a session is missing in it that was
    only written or deleted meanwhile.
    """
    prefixes = [sessions_prefix(kind, workspace_id) for kind in (OUTPUT, STATE)]
    begin, version = b"", None

    def window(snapshot: Snapshot) -> tuple[_Window, bytes | None]:
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
        rows = [(row.key, row.value) for some in kept for row in some.values()]
        return _Window(rows, snapshot.version, *kept), end

    following: bytes | None = begin
    while following is not None:
        begin = following
        found, following = store.read(window, at=version)
        version = found.version
        yield found


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
    for noun, check, id in (
        ("workspace", check_workspace_id, row.key.partition(b"/")[0]),
        ("session", check_session_id, row.session_id),
    ):
        try:
            check(id_text(id))
        except UsageError:
            why = f"it can only be looked at: {id_words(id_text(id))} is not a {noun} id of ours"
            yield Finding(row.key, "warn", "foreign-ids", why)
            break
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


def _check_own(key: bytes, value: bytes, now: int) -> Iterator[Finding]:
    """A lease must be one, for it may stand in the way; of the rest it is enough to be JSON."""
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        yield Finding(key, "fail", "unparsable", "it is not JSON")
        return
    if not key.startswith(LEASES):
        return
    try:
        lease = read_lease(value, *map(id_text, key.removeprefix(LEASES).split(b"/", 1)))
    except TypeError:
        yield Finding(key, "fail", "wrong-ids", "its key does not name a session")
    except CoditectError:
        yield Finding(key, "fail", "unparsable", "it is no lease: nobody can attach to its session")
    else:
        if lease.holder and lease.expires_at > now + LONGEST_LEASE:
            when = format_time(lease.expires_at)
            yield Finding(key, "warn", "lease", f"it keeps others from its session until {when}")


def _check_size(row: _Row) -> Iterator[Finding]:
    if len(row.value) > MAX_VALUE:
        yield Finding(
            row.key, "fail", "oversize", f"{len(row.value):,} bytes; {MAX_VALUE:,} is the limit"
        )


def _key_of(workspace_id: str, kind: str, session_id: str) -> bytes:
    return f"{workspace_id}/{kind}/{session_id}".encode(errors="replace")
