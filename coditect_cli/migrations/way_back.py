"""The loop that takes the steps of a run back; and what it shares with the one that runs them.

Each event is durable before what follows it, as in engine.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from coditect_cli.errors import (
    CoditectError,
    Conflict,
    GateFailed,
    Interrupted,
    NotFound,
    RollbackNotVerified,
)
from coditect_cli.migrations.journal import Event, Journal
from coditect_cli.migrations.run import Run
from coditect_cli.migrations.step import Action, Step, World, step_named

Tell = Callable[[Event, Run], None]
Confirm = Callable[[str, str], None]  # question and name; raises when the name isn't typed


class WayBack:
    """Takes back what a run did, whose lock is held. `stop` asks to end at the next safe point.

    `named` is how commands name the run, where its id alone would not be found.
    """

    def __init__(
        self,
        journal: Journal,
        steps: Sequence[Step],
        world: World,
        *,
        tell: Tell = lambda event, run: None,
        confirm: Confirm | None = None,
        stop: threading.Event | None = None,
        named: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.run = Run(journal.run)
        self._journal = journal
        self._steps = steps
        self._tell = tell
        self._confirm = confirm
        self._named = named or journal.run
        self._stop = stop or threading.Event()
        self._clock = clock
        self._world = replace(world, outputs=self.run.outputs)
        with suppress(NotFound):  # a run that has yet to start
            for event in journal.new_events():
                self.run.apply(event)

    def roll_back(self, cause: str, reason: str, to: str | None = None) -> None:
        """Undo, last step first, what this run did; with `to`, only what it did after that step.

        Raises GateFailed when that was done because of a gate, RollbackNotVerified; Conflict
        (migrate.no_way_back) where something is gone that the steps before it need, and
        (migrate.nothing_to_undo) where nothing was done after that step.
        """
        back = self._steps[self._first_undone(to) :]
        if to is not None and all(self.run.steps[step.name].before is None for step in back):
            raise Conflict(f"nothing was done after {to}", code="migrate.nothing_to_undo")
        for step in back:
            record = self.run.steps[step.name]
            if step.confirm is None or record.before is None:
                continue
            if (lost := step.restored(self._world, record.before)) is not None:
                raise Conflict(
                    f"{step.name} has no way back, so nothing before it has: {lost}",
                    code="migrate.no_way_back",
                )
        self._append("rollback.started", cause=cause, reason=reason, to=to)
        self._undo()

    def _first_undone(self, to: str | None) -> int:
        return 0 if to is None else step_named(self._steps, to) + 1

    def _undo(self) -> None:
        steps = self._steps[self._first_undone(self.run.rollback_to) :]
        left = [step for step in steps if self.run.steps[step.name].before is not None]
        problems = []
        while left:
            last = left[-1]
            step, *also = [s for s in left if s is last or (s.moves and s.moves == last.moves)]
            left = [s for s in left if s is not step and s not in also]
            self._stop_if_asked()
            problem = self._undo_step(step, [one.name for one in also])
            if problem is not None:
                problems.append(f"{step.name}: {problem}")
        cause, reason, to = self.run.rollback_cause, self.run.rollback_reason, self.run.rollback_to
        if problems:
            self._append("rollback.failed", reason="; ".join(problems))
            raise RollbackNotVerified(
                f"rolled back, but not everything is as it was: {'; '.join(problems)}",
                hint=f"coditect migrate resume {self._named} tries again",
            )
        self._append("rollback.done", reason=reason, to=to)
        if cause != "asked":
            raise GateFailed(
                f"rolled back, and read back that it is: {reason}",
                hint=f"coditect migrate status {self._named} shows all of it",
            )

    def _undo_step(self, step: Step, also: Sequence[str]) -> str | None:
        """Take one step back, and with it those that moved on from it; what is wrong then."""
        before = self.run.steps[step.name].before or {}
        told = {"also": also, "detail": f"with {', '.join(also)}"} if also else {}
        try:
            actions = step.inverse(self._world, before)
            if not actions:
                self._append("undo.kept", step.name, detail=step.no_inverse or "nothing to undo")
                return None
            self._append("undo.started", step.name, **told)
            for action in actions:
                self._perform(step, action, "undo.")
            problem = step.restored(self._world, before)
        except CoditectError as error:
            if error.code == "migrate.lock_lost":
                raise
            problem = error.message
        if problem is not None:
            self._append("undo.failed", step.name, **{**told, "detail": problem})
        else:
            self._append("undo.done", step.name, **told)
        return problem

    def _perform(self, step: Step, action: Action, undo: str = "") -> None:
        self._append(undo + "action.started", step.name, **action.as_dict())
        started = time.monotonic()
        try:
            outputs = dict(action.perform())
        except CoditectError as error:
            self._append(undo + "action.failed", step.name, error=error.as_dict())
            if undo:
                raise
            raise self._fail(step, error) from error
        seconds = round(time.monotonic() - started, 3)
        self._append(undo + "action.done", step.name, outputs=outputs, seconds=seconds)

    def _fail(self, step: Step, error: CoditectError) -> CoditectError:
        """Journal that the run ends here, and the error to raise."""
        self._append("step.failed", step.name, detail=error.message)
        self._append("run.failed", reason=f"{step.name}: {error.message}")
        ways = (
            f"coditect migrate resume {self._named} goes on, "
            f"coditect migrate rollback {self._named} goes back"
        )
        return type(error)(
            f"{step.title}: {error.message}",
            code=error.code,
            hint=f"{error.hint}; then {ways}" if error.hint else ways,
            retryable=error.retryable,
        )

    def _stop_if_asked(self) -> None:
        if self._stop.is_set():
            self._append("run.interrupted", reason="at a safe point")
            raise Interrupted(
                f"{self.run.id} stopped at a safe point",
                hint=f"coditect migrate resume {self._named} goes on, "
                f"coditect migrate rollback {self._named} goes back",
            )

    def _append(self, type: str, step: str | None = None, **data: Any) -> None:
        attempt = None
        if step is not None:
            attempt = self.run.steps[step].attempt + (type == "step.started")
        self._journal.append(type, step, attempt, **data)
        self._look()

    def _look(self) -> None:
        self._journal.check_lock()
        for event in self._journal.new_events():
            self.run.apply(event)
            self._tell(event, self.run)
