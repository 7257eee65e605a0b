"""Where a run is: what its journal's events add up to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from coditect_cli.migrations.journal import Event

State = Literal[
    "running", "done", "failed", "interrupted", "paused", "held", "rolling back", "rolled back",
    "not rolled back",
]  # fmt: skip
# "kept" was not undone, because it has no inverse; like "undone" it is done again by a resume.
Status = Literal[
    "waiting", "running", "done", "already so", "failed", "undone", "kept", "not undone",
]  # fmt: skip

# What ends a run's process, and the state it leaves behind.
_STATES: dict[str, State] = {
    "run.started": "running",
    "run.done": "done",
    "run.failed": "failed",
    "run.interrupted": "interrupted",
    "run.paused": "paused",
    "run.held": "held",
    "rollback.started": "rolling back",
    "rollback.done": "rolled back",
    "rollback.failed": "not rolled back",
}
_STATUSES: dict[str, Status] = {
    "step.started": "running",
    "step.skipped": "already so",
    "step.done": "done",
    "step.failed": "failed",
    "undo.done": "undone",
    "undo.kept": "kept",
    "undo.failed": "not undone",
}


@dataclass
class StepRun:
    """What happened to one step; times are RFC 3339, deadlines seconds since 1970."""

    name: str
    status: Status = "waiting"
    attempt: int = 0
    started_at: str | None = None
    ended_at: str | None = None
    before: dict[str, Any] | None = None  # the facts of the first look: what the way back restores
    acted: bool = False  # all its actions are done, in this attempt
    bake_started: float | None = None
    bake_deadline: float | None = None
    hold_deadline: float | None = None
    gate: str | None = None
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "status": self.status,
            "attempt": self.attempt,
            "startedAt": self.started_at,
            "endedAt": self.ended_at,
            "gate": self.gate,
            "detail": self.detail,
        }


@dataclass
class Run:
    """A run, folded from its events; nothing is in it that the journal does not say."""

    id: str
    phase: str = ""
    state: State = "running"
    settings: dict[str, Any] = field(default_factory=dict)
    target: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, StepRun] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)  # by step, a digest of what it sends
    folder: str | None = None  # where it began: its settings and commands may be relative to that
    started_at: str = ""
    updated_at: str = ""
    actor: str = ""
    reason: str = ""
    pause_asked: bool = False
    rejected: str | None = None  # by whom and why
    rollback_to: str | None = None
    rollback_cause: str = ""  # gate, rejected or asked, until it is done
    rollback_reason: str = ""

    @classmethod
    def of(cls, id: str, events: Iterable[Event]) -> Run:
        run = cls(id)
        for event in events:
            run.apply(event)
        return run

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to resume."""
        return self.state in ("done", "rolled back")

    @property
    def current(self) -> StepRun | None:
        """The step that is under way, or was when the run stopped; none of a run that is over."""
        if self.is_over:
            return None
        return next((s for s in self.steps.values() if s.status in ("running", "failed")), None)

    def apply(self, event: Event) -> None:
        """Take one more event into account; one of a type we don't know changes nothing."""
        self.updated_at = event.at
        data = event.data
        if event.type in _STATES:
            self.state = _STATES[event.type]
            self.reason = str(data.get("reason", ""))
        if event.type == "run.started":
            self.phase, self.settings, self.target = data["phase"], data["settings"], data["target"]
            self.steps = {name: StepRun(name) for name in data["steps"]}
            self.files, self.folder = data.get("files", {}), data.get("folder")
            self.started_at, self.actor = event.at, event.actor
        elif event.type == "run.resumed":
            self.state, self.reason = ("rolling back" if self.rollback_cause else "running"), ""
            self.pause_asked = False
            self.settings |= data.get("settings", {})
            self.files |= data.get("files", {})
            if (step := self.current) is not None:
                step.hold_deadline = None
        elif event.type == "pause.asked":
            self.pause_asked = True
        elif event.type == "run.paused":
            self.pause_asked = False
        elif event.type == "rollback.started":
            self.rollback_to, self.rollback_cause = data.get("to"), data["cause"]
            self.rollback_reason = data["reason"]
        elif event.type == "rollback.done":
            self._end_rollback()
        elif event.type == "rejected":
            self.rejected = f"rejected by {event.actor}: {data['reason']}"
        if event.step in self.steps:
            for name in (event.step, *data.get("also", ())):
                self._apply_to_step(self.steps[name], event)

    def _end_rollback(self) -> None:
        """A run that went back to a step may go on; what was so already is then looked at again."""
        self.rollback_cause, self.rejected = "", None
        if self.rollback_to is None:
            return
        self.state = "paused"
        names = list(self.steps)
        for later in names[names.index(self.rollback_to) + 1 :]:
            if self.steps[later].status in ("already so", "failed"):
                self.steps[later].status = "waiting"

    def _apply_to_step(self, step: StepRun, event: Event) -> None:
        data = event.data
        if event.type in _STATUSES:
            step.status = _STATUSES[event.type]
            step.detail = str(data.get("detail", ""))
            step.ended_at = None if step.status == "running" else event.at
        if event.type == "step.started":
            step.attempt += 1
            step.acted = False
            step.started_at = step.started_at or event.at
            if step.before is None:
                step.before = data["before"] | data.get("whole", {})
        elif event.type == "step.acted":
            step.acted, step.detail = True, data["detail"]
        elif event.type == "bake.started":
            step.bake_started, step.bake_deadline = data["since"], data["deadline"]
        elif event.type == "hold.started":
            step.hold_deadline = data["deadline"]
        elif event.type == "gate.read":
            if step.gate != "approved" or data["decision"] == "fail":
                step.gate = data["decision"]  # an approval may have come while it looked
            step.detail = data["reason"]
        elif event.type == "approved":
            step.gate = "approved"
        elif event.type in ("undo.done", "undo.kept"):
            step.before = None
            step.acted = False
            step.gate = step.bake_started = step.bake_deadline = step.hold_deadline = None
        if event.type in ("action.done", "undo.action.done", "step.acted", "step.skipped"):
            self.outputs |= data.get("outputs", {})
