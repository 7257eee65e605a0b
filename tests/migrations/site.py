"""A run with a clock of its own, killed where a test says, and resumed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from coditect_cli.errors import GateFailed, NotFound
from coditect_cli.migrations.engine import Engine
from coditect_cli.migrations.journal import Event, Journal, new_run_id
from coditect_cli.migrations.lock import HeldLock, hold
from coditect_cli.migrations.run import Run
from coditect_cli.migrations.step import Step, World
from coditect_cli.stores.store import SessionStore


class Clock(threading.Event):
    """Time that only passes while the engine waits: the event it waits on is the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000.0

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0.0
        return self.is_set()


class Killed(BaseException):
    """The process is gone: nothing below runs any more but `finally`."""


class Site:
    """A store, a world that a migration changes, and the clock; `folder` is a toy's world."""

    def __init__(self, store: SessionStore, folder: Path, world: World) -> None:
        self.store = store
        self.folder = folder
        self.world = world
        self.clock = Clock()
        self.run = new_run_id("toy", 0)
        self.seen: list[Event] = []

    def steps(self) -> Sequence[Step]:
        """The steps of its migration."""
        raise NotImplementedError

    def engine(self, lock: HeldLock, steps: Sequence[Step], kill_after: int = 0) -> Engine:
        def tell(event: Event, run: Run) -> None:
            self.seen.append(event)
            if kill_after and event.number == kill_after:
                self.die()

        return Engine(
            Journal(self.store, self.run, "me", lock),
            steps,
            self.world,
            tell=tell,
            stop=self.clock,
            clock=lambda: self.clock.now,
        )

    def die(self) -> None:
        raise Killed

    def go(self, steps: Sequence[Step], *, kill_after: int = 0) -> Run:
        with hold(self.store, self.run, "me") as lock:
            is_new = not self.events()
            engine = self.engine(lock, steps, kill_after)
            if is_new:
                engine.start("toy")
            elif not engine.run.is_over:
                engine.resume()
            return engine.run

    def events(self) -> list[Event]:
        try:
            return Journal(self.store, self.run, "").new_events()
        except NotFound:
            return []

    def types(self) -> list[str]:
        return [event.type for event in self.events()]

    def state(self) -> Run:
        return Run.of(self.run, self.events())

    def files(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in sorted(self.folder.iterdir())}


def outlast(site: Site, line: int, steps: Callable[[], Sequence[Step]]) -> Run:
    """The run after it was killed at that line of its journal, if it got there, and resumed.

    `steps` makes them anew, as another process does.
    """

    def go(kill_after: int) -> Run:
        try:
            return site.go(steps(), kill_after=kill_after)
        except GateFailed:
            return site.state()

    try:
        return go(line)
    except Killed:
        assert len(site.events()) == line
        return go(0)
