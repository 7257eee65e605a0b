"""The lines of a session that somebody else saves, as its record in the store grows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from coditect_cli.errors import SessionLost
from coditect_cli.sessions.ids import id_bytes
from coditect_cli.sessions.layer import OUTPUT, SessionLayer, sessions_prefix
from coditect_cli.sessions.leases import get_lease
from coditect_cli.sessions.session import SessionOutput
from coditect_cli.stores.store import SessionStore, Snapshot

LEASE_SECONDS = 5.0  # between looks at whether anybody holds the session, when nothing changes


def follow_record(
    store: SessionStore, workspace_id: str, session_id: str, say: Callable[[str], None]
) -> Iterator[list[str]]:
    """The screen above its cursor, then each line that its cursor has left, until the session ends.

    What is drawn and wiped between two saves is not seen; `say` tells of lines that the record
    had no place for. Raises SessionLost once nobody holds the session and it has not ended.
    """
    key = sessions_prefix(OUTPUT, workspace_id) + id_bytes(session_id)
    lines = _Lines(say)

    def look(snapshot: Snapshot) -> tuple[bytes | None, bool]:
        lease = get_lease(snapshot, workspace_id, session_id)
        return snapshot.get(key), bool(lease and lease.holder and lease.expires_at > time.time_ns())

    while True:
        value, is_held = store.read(look)
        output = None if value is None else SessionOutput.decode(value)
        if output is not None:
            yield lines.new(output)
        if not is_held:
            break
        store.wait_for_change(key, value, LEASE_SECONDS)
    state, _ = SessionLayer(store).load(workspace_id, session_id)
    if output is not None:
        yield lines.rest(output)
    if state is not None and not state.ended_at:
        raise SessionLost(f"nobody holds session {session_id} of workspace {workspace_id} any more")


class _Lines:
    """Which lines of an output are new. They are counted with those that were trimmed."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._shown: int | None = None

    def new(self, output: SessionOutput) -> list[str]:
        first, screen, cursor = _places(output)
        if self._shown is None or cursor < self._shown:  # it was wiped, and began anew
            begin = screen
        else:
            begin = max(first, self._shown)
            if begin > self._shown:
                self._say(f"{begin - self._shown:,} lines were trimmed before they were seen")
        self._shown = cursor
        return output.lines[begin - first : cursor - first]

    def rest(self, output: SessionOutput) -> list[str]:
        """What is left once nothing comes any more, without the blank lines at the end."""
        _, _, cursor = _places(output)
        left = output.lines[cursor - output.lines_trimmed :]
        while left and not left[-1]:
            left.pop()
        return left


def _places(output: SessionOutput) -> tuple[int, int, int]:
    """The numbers of the first line, of the screen's first, and of the one with the cursor."""
    first, (_, rows), (_, row) = output.lines_trimmed, output.screen_size, output.cursor_position
    screen = max(0, len(output.lines) - rows)
    return first, first + screen, first + min(screen + row, len(output.lines))
