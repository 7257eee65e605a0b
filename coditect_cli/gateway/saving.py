"""Keeps each terminal's record in the store as it changes, and gives records back.

The store is used in a thread of its own: a terminal never waits for it. A session that cannot be
saved goes on, and is tried again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from coditect_cli.errors import CoditectError, NotFound, Unreachable
from coditect_cli.gateway.capture import Capture
from coditect_cli.gateway.hook import MOST
from coditect_cli.gateway.saved import Saved
from coditect_cli.gateway.session import nanoseconds
from coditect_cli.gateway.terminal import Terminal
from coditect_cli.protocol.messages import Read, Rows
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.sessions.leases import Lease
from coditect_cli.sessions.lines import ansi
from coditect_cli.sessions.session import NANOSECONDS, SessionOutput, SessionState
from coditect_cli.settings import Settings
from coditect_cli.stores.store import Row

log = logging.getLogger("coditect.saving")
T = TypeVar("T")

DELAY = 0.5  # seconds from a change to its save, which takes in what came after it
RETRY = 2.0  # seconds
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
        self._open_layer = open_layer
        self._settings = settings
        self._place = place
        self._lost = lost
        self._layer: SessionLayer | None = None
        self._thread = ThreadPoolExecutor(1, "saving")
        self._watched: dict[str, Watched] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._failing = False
        self._silence: tuple[float, Unreachable] | None = None  # until when, and what it raised
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

        def take() -> tuple[Lease, SessionState | None, SessionOutput | None]:
            lease = self._acquire(workspace, id)
            return lease, *self._the_layer().load(workspace, id)

        while not terminal.closed:
            try:
                watched.lease, state, output = await self._in_thread(take)
                break
            except CoditectError as error:
                self._failed(watched, error)
                await asyncio.sleep(RETRY)
        else:
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
        def write() -> None:
            layer, ids = self._the_layer(), (state.workspace_id, state.id)
            if watched.lease is None:
                watched.lease = self._acquire(*ids)
                if watched.ended and layer.load(*ids)[0] is None:  # it was deleted since
                    layer.delete(*ids, watched.lease)
                    return
            layer.save(state, output, watched.lease)
            if state.ended_at:
                layer.release(watched.lease)
                watched.lease, watched.ended = None, True  # what is written yet, takes another one

        watched.writes += 1
        watched.newest = state
        while True:
            try:
                await self._in_thread(write)
                self._failing = False
                break
            except CoditectError as error:
                self._failed(watched, error)
                if not self._tried_again(watched, state, error):
                    break
            await asyncio.sleep(RETRY)
        watched.writes -= 1

    def _tried_again(self, watched: Watched, state: SessionState, error: CoditectError) -> bool:
        """Whether a state that was not saved is one to go on with: the last one of a terminal."""
        now = self._watched.get(state.id)
        if error.code in ("session.lease_lost", "session.leased"):
            self._watched.pop(state.id, None)
            self._lost(watched.terminal)
            return False
        if now is watched:
            self.change(watched.terminal, RETRY)  # with what is new by then
        return now is None and watched.newest is state and error.retryable

    async def save_all(self, *, for_good: bool) -> None:
        """Save everything that is new, and wait until it is written.

        When this is `for_good`, the leases go back, so that another bridge need not wait.
        """
        for watched in list(self._watched.values()):
            self.save_now(watched.terminal)
        while self._under_way:
            await asyncio.wait(self._under_way)
        if for_good:
            leases = [one.lease for one in self._watched.values() if one.lease is not None]
            self._watched.clear()  # what changes from now on is nobody's to save
            with suppress(CoditectError):
                await self._in_thread(lambda: self._say_farewell(leases))

    def _say_farewell(self, leases: list[Lease]) -> None:
        self._the_layer().release(*leases)
        self._the_layer().close()
        self._layer = None

    async def renew(self) -> None:
        """Hold the leases, also of sessions in which nothing happens."""
        while True:
            await asyncio.sleep(RENEWAL)
            leases = [one.lease for one in self._watched.values() if one.lease is not None]

            def renew(leases: list[Lease] = leases) -> None:
                self._the_layer().renew(leases, now=time.time_ns(), ttl=TTL)

            with suppress(CoditectError):
                await self._in_thread(renew)

    # --- reading ---

    async def newest(self, workspace: str) -> list[str]:
        """The sessions to restore, the latest first: neither live nor ended by themselves.

        Raises the store's errors.
        """
        live = set(self._watched)
        return await self._in_thread(lambda: self._the_layer().newest(workspace, live))

    async def take(self, workspace: str, id: str) -> Saved:
        """A saved session, to be restored here. Raises NotFound, Conflict, the store's errors."""

        def take() -> Saved:
            layer = self._the_layer()
            if layer.load(workspace, id)[0] is None:
                raise NotFound(
                    f"no session {id} in workspace {workspace}",
                    code="session.not_found",
                    hint=f"coditect session list {workspace} shows them; "
                    f"coditect attach {workspace} --new makes one",
                )
            lease = self._acquire(workspace, id)
            state, output = layer.load(workspace, id)
            if state is None:
                raise NotFound(f"session {id} was just deleted", code="session.not_found")
            return Saved(state, output, lease)

        return await self._in_thread(take)

    async def rows(self, workspace: str, asked: Read) -> Rows:
        """What is saved in these ranges of keys. Raises Forbidden, the store's errors."""

        def read() -> Rows:
            ranges = [(b64decode(begin), b64decode(end)) for begin, end in asked.ranges]
            version, found = self._the_layer().rows(workspace, ranges, asked.limit)
            return Rows(version, tuple(tuple(map(_as_text, rows)) for rows in found))

        return await self._in_thread(read)

    # --- the store's thread ---

    def _acquire(self, workspace: str, id: str) -> Lease:
        return self._the_layer().acquire(
            workspace,
            id,
            self.holder,
            now=time.time_ns(),
            ttl=TTL,
            instead_of=f"{self._place}#",
        )

    def _the_layer(self) -> SessionLayer:
        if self._layer is None:
            self._layer = self._open_layer()
        return self._layer

    async def _in_thread(self, fn: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._asked, fn)

    def _asked(self, fn: Callable[[], T]) -> T:
        """What `fn` gets of the store. One wait for a store that is silent does for all in turn."""
        if self._silence is not None and time.monotonic() < self._silence[0]:
            raise self._silence[1].with_traceback(None)
        try:
            return fn()
        except Unreachable as error:
            self._silence = time.monotonic() + RETRY, error
            raise

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _failed(self, watched: Watched, error: CoditectError) -> None:
        if not self._failing:
            log.warning("not_saved id=%s code=%s why=%s", watched.terminal.id, error.code, error)
        self._failing = error.code not in ("session.lease_lost", "session.leased")


def _as_text(row: Row) -> tuple[str, str]:
    key, value = row
    return b64encode(key).decode(), b64encode(value).decode()
