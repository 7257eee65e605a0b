"""The one loop that runs the steps of a migration; the one that takes them back is in way_back.py.

Each event is durable before what follows it: a run that is killed after any of them goes on from
there. What is under way is observed again, never trusted; what is done is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from coditect_cli.errors import (
    CoditectError,
    Conflict,
    Failed,
    Interrupted,
    LimitReached,
    Paused,
    TimedOut,
)
from coditect_cli.migrations.run import StepRun
from coditect_cli.migrations.sent import one_digest
from coditect_cli.migrations.step import Facts, Step, Verdict
from coditect_cli.migrations.way_back import WayBack
from coditect_cli.sessions.session import NANOSECONDS, format_time

T = TypeVar("T")
TICK = 1.0  # seconds between looks at the journal for what others ask


class _TurnBackError(Exception):
    """Raised inside the loop when the run is to be rolled back."""

    def __init__(self, cause: str, reason: str) -> None:
        super().__init__(reason)
        self.cause = cause
        self.reason = reason


class Engine(WayBack):
    """Runs one run, or takes it back."""

    def start(self, phase: str, **about: Any) -> None:
        """Begin the run; `about` goes into its first event. Raises as go_on does.

        Nothing begins, and nothing is in the journal, where it is known that a step will fail, or
        it is stopped meanwhile.
        """
        world, names = self._world, [step.name for step in self._steps]
        for step in self._steps:
            reason = step.needs(world)
            if reason is None and step is self._steps[0]:
                reason = step.precondition(world)
            if self._stop.is_set():
                raise Interrupted("stopped before anything was done")
            if reason is not None:
                raise Failed(f"{step.title}: {reason}", code="migrate.precondition")
        self._append(
            "run.started",
            phase=phase,
            target=world.target.as_dict(),
            settings=world.settings.as_dict(),
            steps=names,
            files=self._files(),
            **about,
        )
        self.go_on()

    def resume(self, changes: Facts | None = None) -> None:
        """Go on with a run that was begun; `changes` of its settings are kept in the journal.

        Files that a step still has to send and that are not what they were are told, and sent: who
        resumes may have mended them. Raises Conflict when it is over, and as go_on does.
        """
        if self.run.is_over:
            raise Conflict(f"{self.run.id} is {self.run.state}", code="migrate.over")
        files = {} if self.run.rollback_cause else self._files()
        known = self.run.files  # of an earlier release's run, none
        moved = {name: one for name, one in files.items() if one != known.get(name)}
        others = ", ".join(name for name in moved if name in known)
        told = {"reason": f"other files than before for {others}"} if others else {}
        self._append("run.resumed", settings=dict(changes or {}), files=moved, **told)
        self.go_on()

    def go_on(self) -> None:
        """Run what is left of the run, forwards or backwards.

        Raises GateFailed, RollbackNotVerified, Paused, Interrupted, and what a step failed with.
        """
        if self.run.rollback_cause:
            self._undo()
            return
        try:
            for step in self._steps:
                if self._is_ahead(step):
                    self._safe_point()
                    self._step(step)
            self._append("run.done")
        except _TurnBackError as turn:
            self.roll_back(turn.cause, turn.reason)

    def _is_ahead(self, step: Step) -> bool:
        record = self.run.steps.get(step.name)  # of a run that has yet to start there is none
        return record is None or record.status not in ("done", "already so")

    def _files(self) -> dict[str, str]:
        """A digest of all that a step sends, for each that has yet to send something."""
        ahead = [step for step in self._steps if self._is_ahead(step)]
        sent = {step.name: step.sends(self._world) for step in ahead}
        return {name: one_digest(files) for name, files in sent.items() if files}

    def _step(self, step: Step) -> None:
        record = self.run.steps[step.name]
        if not (record.status == "running" and record.acted) and not self._act(step, record):
            return
        if step.bake:
            self._bake(step, record)
        self._pass_gate(step, record)
        self._append("step.done", step.name, detail=record.detail)

    def _act(self, step: Step, record: StepRun) -> bool:
        """Bring it about. False: there was nothing to do, and nothing is left to wait for."""
        begun = replace(self._world, before=record.before or {})
        reason = self._try(step, lambda: self._moved_before(step) or step.precondition(begun))
        if reason is not None:
            raise self._fail(step, Failed(reason, code="migrate.precondition"))
        seen = self._try(step, lambda: step.observe(self._world))
        is_done = seen is not None and seen.is_done
        facts = dict(seen.facts) if seen is not None else {}
        detail = seen.detail if seen is not None else ""
        if is_done and record.before is None and not step.bake:
            self._append("step.skipped", step.name, detail=detail, outputs=facts)
            return False
        if step.confirm is not None and not is_done:
            self._ask(step, step.confirm)
        whole = seen.whole if seen is not None else {}
        self._append("step.started", step.name, whole=whole, before=facts, detail=detail)
        if not is_done:
            here = replace(self._world, before=record.before or {})
            for action in self._try(step, lambda: step.actions(here)):
                self._safe_point()
                self._perform(step, action)
            seen = self._try(step, lambda: step.observe(self._world))
            facts = dict(seen.facts) if seen is not None else {}
            if seen is not None and not seen.is_done:
                message = f"it was done, but reading back shows: {seen.detail}"
                raise self._fail(step, Failed(message, code="migrate.not_so"))
        detail = seen.detail if seen is not None else ""
        self._append("step.acted", step.name, detail=detail, outputs=facts)
        return True

    def _moved_before(self, step: Step) -> str | None:
        """Why what was watched last is not what this step would move on from."""
        if not step.moves:
            return None
        before = self._steps[: self._steps.index(step)]
        watched = [one for one in before if one.watch(self._world) is not None]
        return watched[-1].moved(self._world) if watched else None

    def _ask(self, step: Step, name: str) -> None:
        try:
            if self._confirm is None:
                raise Paused(f"{step.title}: nobody was asked")
            self._confirm(f"Next: {step.title}. There is no way back.", name)
        except CoditectError as refusal:
            self._append("run.paused", reason=f"{step.name}: {refusal.message}")
            raise Paused(
                f"{step.title}: not confirmed, so not done",
                hint=f"coditect migrate resume {self._named} --confirm {name}",
            ) from refusal

    def _bake(self, step: Step, record: StepRun) -> None:
        if record.bake_deadline is None:
            now = self._clock()
            deadline = now + step.bake
            until = format_time(int(deadline * NANOSECONDS))
            self._append("bake.started", step.name, since=now, deadline=deadline, until=until)
        elif record.bake_deadline > self._clock():
            until = format_time(int(record.bake_deadline * NANOSECONDS))
            self._append("bake.resumed", step.name, until=until)
        interval = float(self._world.settings.gate_interval)
        while (left := (record.bake_deadline or 0) - self._clock()) > 0:
            self._wait(min(left, interval))
            if left > interval:
                self._look_for_failure(step, record)

    def _look_for_failure(self, step: Step, record: StepRun) -> None:
        """A gate that fails already need not be waited for."""
        since = record.bake_started or 0.0
        verdict = self._verdict(step, since)
        if verdict is not None and verdict.decision == "fail":
            self._append(
                "gate.read", step.name, decision="fail", reason=verdict.reason,
                numbers=dict(verdict.numbers),
            )  # fmt: skip
            raise _TurnBackError("gate", f"{step.name}: {verdict.reason}")

    def _verdict(self, step: Step, since: float) -> Verdict | None:
        """What the gate says; it holds while it can't look for a reason that may pass."""
        try:
            verdict = step.gate(self._world, since)
            if verdict is None or verdict.decision != "pass":
                return verdict
            reason = step.moved(self._world)
            return Verdict("hold", reason, verdict.numbers) if reason else verdict
        except CoditectError as error:
            if not (error.retryable or isinstance(error, LimitReached | TimedOut)):
                raise self._fail(step, error) from error
            return Verdict("hold", f"it could not look: {error.message}")

    def _pass_gate(self, step: Step, record: StepRun) -> None:
        since = record.bake_started or self._clock()
        while record.gate not in ("pass", "approved"):
            if record.gate == "fail":
                raise _TurnBackError("gate", f"{step.name}: {record.detail}")
            verdict = self._verdict(step, since)
            if verdict is None:
                return
            self._append(
                "gate.read", step.name, decision=verdict.decision, reason=verdict.reason,
                numbers=dict(verdict.numbers),
            )  # fmt: skip
            if record.gate == "hold":
                self._hold(step, record, verdict.reason)

    def _hold(self, step: Step, record: StepRun, reason: str) -> None:
        if record.hold_deadline is None:
            deadline = self._clock() + self._world.settings.hold
            until = format_time(int(deadline * NANOSECONDS))
            self._append("hold.started", step.name, deadline=deadline, until=until)
        left = (record.hold_deadline or 0) - self._clock()
        if left <= 0:
            self._append("run.held", reason=f"{step.name}: {reason}")
            raise Paused(
                f"{step.title}: not enough to decide on: {reason}",
                code="migrate.held",
                hint=f"coditect migrate resume {self._named} looks again; "
                f"coditect migrate approve {self._named} --reason TEXT, or reject, decides",
            )
        self._wait(min(left, self._world.settings.gate_interval), lambda: record.gate == "approved")

    def _try(self, step: Step, look: Callable[[], T]) -> T:
        try:
            return look()
        except CoditectError as error:
            raise self._fail(step, error) from error

    def _wait(self, seconds: float, is_over: Callable[[], bool] = lambda: False) -> None:
        deadline = self._clock() + seconds
        while (left := deadline - self._clock()) > 0 and not is_over():
            self._stop.wait(min(left, TICK))
            self._safe_point()

    def _safe_point(self) -> None:
        """Do what was asked meanwhile: nothing is under way here."""
        self._look()
        self._stop_if_asked()
        if self.run.pause_asked:
            self._append("run.paused", reason="asked to")
            raise Paused(
                f"{self.run.id} is paused", hint=f"coditect migrate resume {self._named} goes on"
            )
        if self.run.rejected is not None:
            raise _TurnBackError("rejected", self.run.rejected)
