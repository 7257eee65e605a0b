"""Keeps each terminal's record in the store as it changes, and gives records back.

A session that cannot be saved goes on, and is tried again, also when it has ended.
"""

from __future__ import annotations

import asyncio
import logging
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass

from coditect_cli.errors import CoditectError, Conflict, NotFound
from coditect_cli.gateway.capture import Capture
from coditect_cli.gateway.hook import MOST
from coditect_cli.gateway.not_saved import NotSaved, not_saved
from coditect_cli.gateway.saved import Saved, check_its_id
from coditect_cli.gateway.session import nanoseconds
from coditect_cli.gateway.store_thread import StoreThread
from coditect_cli.gateway.terminal import Terminal
from coditect_cli.protocol.messages import Read, Rows
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.sessions.leases import Lease
from coditect_cli.sessions.lines import ansi
from coditect_cli.sessions.session import NANOSECONDS, SessionOutput, SessionState
from coditect_cli.settings import Settings
from coditect_cli.stores.store import Row

log = logging.getLogger("coditect.saving")

DELAY = 0.5  # seconds from a change to its save, which takes in what came after it
RETRY = 2.0  # seconds
PATIENCE = 7.0  # seconds, a little less than a bridge that ends has
TTL = 30 * NANOSECONDS
RENEWAL = 10.0  # seconds


@dataclass
class Watched:
    """A live terminal whose record is kept."""

    terminal: Terminal
    capture: Capture
    lease: Lease | None
    shell: str  # its record's, which this one may stand in for
    changed: bool = False
    ended: bool = False  # and given back
    writes: int = 0  # under way
    lines_trimmed: int = 0  # before what its screen has
    newest: SessionState | None = None  # of those that were to be written
    timer: asyncio.TimerHandle | None = None


Record = tuple[Watched, SessionState, SessionOutput]


class Saving:
    """`place` names where there can be one gateway at a time, `keeper` this one's keeper.

    `lost` is called with a terminal that belongs to another bridge by now.
    """

    def __init__(
        self,
        open_layer: Callable[[], SessionLayer],
        settings: Settings,
        place: str,
        lost: Callable[[Terminal], None],
    ) -> None:
        self._store = StoreThread(open_layer)
        self._settings = settings
        self._place = place
        self._lost = lost
        self._watched: dict[str, Watched] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._unsaved: dict[str, NotSaved] = {}
        self._answers = True  # as far as somebody waited for it
        self._left: dict[str, Record] = {}  # of terminals that are over
        self.holder = ""

    def set_keeper(self, pid: int, started_at: float) -> None:
        """Say which keeper's sessions these are: its bridges hold the same leases."""
        self.holder = f"{self._place}#{pid}-{started_at}"

    # --- what is kept ---

    def watch(self, terminal: Terminal, saved: Saved | None = None) -> None:
        """Keep a new terminal's record, or a restored one's."""
        self._watch(terminal, saved.lease if saved else None, known=True)
        if saved:
            watched = self._watched[terminal.id]
            watched.capture.take_back(saved.state)
            watched.shell = saved.state.shell_type
            watched.lines_trimmed = saved.output.lines_trimmed if saved.output else 0
        self.change(terminal)

    def adopt(self, terminal: Terminal) -> None:
        """Go on with a terminal of a bridge before this one."""
        watched = self._watch(terminal, None, known=False)
        self._unsaved[terminal.id] = NotSaved(terminal.workspace, terminal.id)
        self._in_background(self._take_in(watched))

    def _watch(self, terminal: Terminal, lease: Lease | None, *, known: bool) -> Watched:
        capture = Capture(
            terminal.pid,
            terminal.words,
            terminal.meta["directory"],
            nanoseconds(terminal.started_at),
            self._settings.secret_names,
            known,
        )
        watched = Watched(terminal, capture, lease, terminal.meta["shell"])
        self._watched[terminal.id] = watched
        terminal.on_change = self.change
        if "hook" in terminal.fds:
            terminal.listen_to_hook(lambda: self._hear(watched))
        return watched

    async def _take_in(self, watched: Watched) -> None:
        terminal = watched.terminal
        workspace, id = terminal.workspace, terminal.id

        def take(layer: SessionLayer) -> tuple[Lease, SessionState | None, SessionOutput | None]:
            lease = self._acquire(layer, workspace, id)
            return lease, *layer.load(workspace, id)

        try:
            watched.lease, state, output = await self._store.ask(take)
        except CoditectError as error:
            if terminal.closed:
                return
            self._failed(watched, error)
            self._soon(lambda: self._in_background(self._take_in(watched)))
            return
        if terminal.closed:
            return
        if state is not None:
            watched.capture.take_back(state)
            watched.shell = state.shell_type
        watched.capture.known = True
        if output is not None:
            watched.lines_trimmed = output.lines_trimmed
            above = output.lines[: -output.screen_size[1]]
            terminal.screen.put_above([ansi(line) for line in above])
        self.change(terminal)

    def _hear(self, watched: Watched) -> None:
        with suppress(BlockingIOError):
            if watched.capture.feed(watched.terminal.read_hook(MOST)):
                self.change(watched.terminal)

    # --- writing ---

    def change(self, terminal: Terminal, delay: float = DELAY) -> None:
        """Something of it is new: save it in `delay` seconds."""
        watched = self._watched.get(terminal.id)
        if watched is not None:
            watched.changed = True
            if watched.timer is None:
                watched.timer = asyncio.get_running_loop().call_later(delay, self._in_time, watched)

    def save_now(self, terminal: Terminal) -> None:
        """Save what is new of it without delay."""
        watched = self._watched.get(terminal.id)
        if watched is None:
            return
        if "hook" in terminal.fds:
            self._hear(watched)  # what it has said may not have been read yet
        if watched.changed or terminal.outcome is not None:
            terminal.catch_up()
            self._save(watched)

    def forget(self, terminal: Terminal) -> None:
        """It is over: save it for the last time, and give it back."""
        watched = self._watched.get(terminal.id)
        if watched is not None:
            watched.changed = True
            self.save_now(terminal)
            del self._watched[terminal.id]
            if not watched.capture.known and terminal.id in self._unsaved:
                self._give_up(self._unsaved.pop(terminal.id))

    def _in_time(self, watched: Watched) -> None:
        watched.timer = None
        if watched.writes:  # the store is slow: what comes meanwhile makes one save
            self.change(watched.terminal)
        else:
            self._save(watched)

    def _save(self, watched: Watched) -> None:
        if watched.timer is not None:
            watched.timer.cancel()
            watched.timer = None
        if watched.capture.known and not watched.terminal.closed:
            watched.changed = False
            self._in_background(self._write(watched, *self._record(watched)))

    def _record(self, watched: Watched) -> tuple[SessionState, SessionOutput]:
        terminal, capture = watched.terminal, watched.capture
        screen = terminal.screen
        state = SessionState(
            terminal.id,
            terminal.workspace,
            capture.started_at,
            nanoseconds(terminal.last_active),
            watched.shell,
            capture.where(),
            dict(capture.variables),
            list(capture.history),
            capture.history_trimmed,
            terminal.meta.get("variablesTrimmed", 0),
            ended_at=time.time_ns() if terminal.ended_itself else 0,
            variables_unset=list(capture.unset),
        )
        lines, cursor = screen.primary()
        if not self._settings.save_screen:
            lines = []
        trimmed = watched.lines_trimmed + screen.dropped
        return state, SessionOutput(terminal.id, lines, cursor, terminal.size, trimmed)

    async def _write(self, watched: Watched, state: SessionState, output: SessionOutput) -> None:
        def write(layer: SessionLayer) -> None:
            ids = state.workspace_id, state.id
            if watched.lease is None:
                watched.lease = self._acquire(layer, *ids)
                if watched.ended and layer.load(*ids)[0] is None:  # it was deleted since
                    layer.delete(*ids, watched.lease)
                    return
            layer.save(state, output, watched.lease)
            if state.ended_at:
                layer.release(watched.lease)
                watched.lease, watched.ended = None, True  # what is written yet, takes another one

        self._unsaved.setdefault(state.id, NotSaved(state.workspace_id, state.id))
        watched.writes += 1
        watched.newest = state
        try:
            await self._store.ask(write)
            self._answers = True
        except CoditectError as error:
            self._failed(watched, error)
            self._try_again((watched, state, output), error)
        else:
            if watched.newest is state:
                self._unsaved.pop(state.id, None)
        finally:
            watched.writes -= 1

    def _failed(self, watched: Watched, error: CoditectError) -> None:
        terminal = watched.terminal
        before = self._unsaved.get(terminal.id)
        if before is None or before.error is None:
            log.warning("not_saved id=%s code=%s why=%s", terminal.id, error.code, error)
        self._unsaved[terminal.id] = NotSaved(terminal.workspace, terminal.id, error)

    def _try_again(self, record: Record, error: CoditectError) -> None:
        """Go on with a state that was not saved if it is the last one of a terminal."""
        watched, state, _ = record
        now = self._watched.get(state.id)
        if error.code in ("session.lease_lost", "session.leased"):
            self._watched.pop(state.id, None)
            del self._unsaved[state.id]
            self._lost(watched.terminal)
        elif now is watched:
            self.change(watched.terminal, RETRY)  # with what is new by then
        elif now is None and watched.newest is state:
            self._left[state.id] = record
            self._soon(lambda: self._save_left(state.id))

    def _save_left(self, id: str) -> None:
        record = self._left.pop(id, None)
        if record is not None:
            self._in_background(self._write(*record))

    # --- what could not be written ---

    def unsaved(self, workspace: str | None = None) -> list[NotSaved]:
        """The sessions of a workspace, or of all, that could not be saved when last tried."""
        of_these = [one for one in self._unsaved.values() if workspace in (None, one.workspace)]
        return [one for one in of_these if one.error is not None or not self._answers]

    async def save(self, workspace: str | None = None) -> list[NotSaved]:
        """Save what is new of a workspace's sessions, or of all; those that could not be saved."""
        for watched in list(self._watched.values()):
            if workspace in (None, watched.terminal.workspace):
                self.save_now(watched.terminal)
        for id in list(self._left):
            self._save_left(id)
        if self._under_way:
            _, waiting = await asyncio.wait(self._under_way, timeout=PATIENCE)
            self._answers = not waiting
        return self.unsaved(workspace)

    async def save_or_refuse(self, workspace: str | None, *, force: bool) -> list[NotSaved]:
        """As `save`. Raises Failed for what could not be saved unless `force` is given."""
        found = await self.save(workspace)
        if found and not force:
            raise not_saved(found)
        return found

    async def end(self, *, for_good: bool) -> None:
        """Save all that is new, and log what that fails for: this process ends.

        When this is `for_good`, the leases go back, so that another bridge need not wait.
        """
        found = await self.save()
        for one in found:
            self._give_up(one)
        if for_good:
            leases = [one.lease for one in self._watched.values() if one.lease is not None]
            self._watched.clear()  # what changes from now on is nobody's to save
            with suppress(CoditectError):
                await self._store.ask(lambda layer: layer.release(*leases))
            await self._store.close()

    def _give_up(self, one: NotSaved) -> None:
        place = f"workspace={one.workspace} id={one.session}"
        log.error("given_up %s code=%s why=%s", place, one.reason.code, one.reason)

    async def renew(self) -> None:
        """Hold the leases, also of sessions in which nothing happens."""
        while True:
            await asyncio.sleep(RENEWAL)
            leases = [one.lease for one in self._watched.values() if one.lease is not None]

            def renew(layer: SessionLayer, leases: list[Lease] = leases) -> None:
                layer.renew(leases, now=time.time_ns(), ttl=TTL)

            with suppress(CoditectError):
                await self._store.ask(renew)

    # --- reading ---

    async def newest(self, workspace: str) -> list[str]:
        """The sessions to restore, the latest first: neither live nor ended by themselves.

        Raises the store's errors.
        """
        live = {id for id, one in self._watched.items() if one.terminal.workspace == workspace}
        return await self._store.ask(lambda layer: layer.newest(workspace, live))

    async def take(self, workspace: str, id: str) -> Saved:
        """A saved session, to be restored here. Raises NotFound, Conflict, the store's errors."""
        is_anothers = id in self._watched  # an id is a workspace's own, but here live none twice

        def take(layer: SessionLayer) -> Saved:
            found, _ = layer.load(workspace, id)
            if found is None:
                raise NotFound(
                    f"no session {id} in workspace {workspace}",
                    code="session.not_found",
                    hint=f"coditect session list {workspace} shows them; "
                    f"coditect attach {workspace} --new makes one",
                )
            check_its_id(found, id)
            if is_anothers:
                text = f"a session of another workspace is live by the id {id}"
                raise Conflict(text, code="session.id_in_use", hint="try again when it has ended")
            lease = self._acquire(layer, workspace, id)
            state, output = layer.load(workspace, id)
            if state is None:
                raise NotFound(f"session {id} was just deleted", code="session.not_found")
            return Saved(state, output, lease)

        return await self._store.ask(take)

    async def rows(self, workspace: str, asked: Read) -> Rows:
        """What is saved in these ranges of keys. Raises Forbidden, the store's errors."""

        def read(layer: SessionLayer) -> Rows:
            ranges = [(b64decode(begin), b64decode(end)) for begin, end in asked.ranges]
            version, found = layer.rows(workspace, ranges, asked.limit)
            return Rows(version, tuple(tuple(map(_as_text, rows)) for rows in found))

        return await self._store.ask(read)

    def _acquire(self, layer: SessionLayer, workspace: str, id: str) -> Lease:
        return layer.acquire(
            workspace,
            id,
            self.holder,
            now=time.time_ns(),
            ttl=TTL,
            instead_of=f"{self._place}#",
        )

    def _soon(self, do: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(RETRY, do)

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)


def _as_text(row: Row) -> tuple[str, str]:
    key, value = row
    return b64encode(key).decode(), b64encode(value).decode()
