"""Which session a client means, and how a saved one comes back."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict

from coditect_cli.errors import CoditectError, Conflict, Failed, NotFound
from coditect_cli.gateway.bridge import Bridge
from coditect_cli.gateway.saved import Saved
from coditect_cli.gateway.terminal import Terminal
from coditect_cli.workspaces.spec import WorkspaceRecord, check_session_id

log = logging.getLogger("coditect.restoring")

NEW = "new"
MOST_NAMED = 3  # sessions that were passed over


class Restoring:
    """One for a bridge: two clients that mean the same session get the same one."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._opening: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def live(self, record: WorkspaceRecord, session: str) -> Terminal:
        """A session whose program runs. Raises NotFound, Conflict."""
        return _terminal(self._bridge.find(record.id, session))

    async def open(
        self,
        record: WorkspaceRecord,
        user: str,
        client: str,
        size: tuple[int, int],
        term: str,
        session: str | None,
        *,
        resumes: bool = False,
    ) -> tuple[Terminal, bool]:
        """The terminal that a client asks for, and whether it was just started for it.

        Without `session` the newest live one, else the newest saved one, else a new one, which
        says so where the store can't be asked; NEW is always a new one; a session's id that one,
        restored where it is not live. A client that `resumes` does not want one back that has
        ended by itself. Raises NotFound, Conflict, LimitReached, Failed.
        """
        bridge = self._bridge
        if session is not None and self._is_live(record, session):
            return self.live(record, session), False
        async with self._opening[record.id]:
            made = await bridge.made_by(record.id, client)
            if made is not None and session in (None, NEW, made.id):
                return _terminal(made), False
            saved, notice = None, None
            if session is None:
                await bridge.settled(record.id)
                running = [one for one in bridge.live(record.id) if one.kind == "terminal"]
                if running:
                    return _terminal(running[0]), False
                saved, notice = await self._newest(record.id)
            elif self._is_live(record, session):
                return self.live(record, session), False
            elif session != NEW:
                saved = await bridge.saving.take(record.id, check_session_id(session))
                if resumes and saved.state.ended_at:
                    raise NotFound(f"session {session} has ended", code="session.not_found")
            started = await bridge.start_terminal(record, user, client, size, term, saved, notice)
            return _terminal(started), True

    def _is_live(self, record: WorkspaceRecord, session: str) -> bool:
        found = self._bridge.sessions.get(session)
        return found is not None and found.workspace == record.id

    async def _newest(self, workspace: str) -> tuple[Saved | None, str | None]:
        """The session used last of those that can be taken, and what to tell of the others."""
        saving, passed = self._bridge.saving, list[str]()
        try:
            for id in await saving.newest(workspace):
                try:
                    return await saving.take(workspace, id), _passed_over(passed)
                except (Conflict, Failed, NotFound) as error:
                    log.warning("passed_over workspace=%s id=%s code=%s", workspace, id, error.code)
                    passed.append(f"session {id} is not restored: {error.message}")
        except CoditectError as error:
            log.warning("not_looked_up workspace=%s code=%s", workspace, error.code)
            return None, f"saved sessions could not be looked up: {error.message}"
        return None, _passed_over(passed)


def _passed_over(passed: list[str]) -> str | None:
    more = len(passed) - MOST_NAMED
    return "; ".join(passed[:MOST_NAMED] + [f"and {more} more"] * (more > 0)) or None


def _terminal(session: object) -> Terminal:
    if not isinstance(session, Terminal) or session.kind != "terminal":
        raise Conflict("that session is an exec, not a terminal", code="session.kind")
    return session
