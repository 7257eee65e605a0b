"""What a step of a migration is: the engine knows no more of it than this."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from coditect_cli.errors import NotFound, UsageError

if TYPE_CHECKING:
    from coditect_cli.kube import Kube
    from coditect_cli.migrations.settings import MigrateSettings
    from coditect_cli.migrations.target import Target

SAID = 400  # characters of a program's output that are kept

Facts = Mapping[str, Any]  # JSON values; they end up in the journal, with secrets redacted


@dataclass(frozen=True)
class World:
    """What a step may look at: the frozen settings, where they point, what steps found before.

    `kube` opens the cluster that is migrated to; `user_of` tells whom the token for a
    workspace there is for, and raises NotAuthenticated, Forbidden.
    `before` are the facts of this step's own first look; empty where it can't look yet.
    """

    settings: MigrateSettings
    target: Target
    kube: Callable[[], Kube]
    user_of: Callable[[str], str]
    outputs: dict[str, Any] = field(default_factory=dict)
    before: Facts = field(default_factory=dict)

    @property
    def project(self) -> str:
        """The project's id; in a plan that knows of none, `{project}`."""
        return self.target.project or "{project}"

    def output(self, name: str) -> str:
        """What an earlier step left under `name`; in a plan, before that step ran, `{name}`."""
        return str(self.outputs.get(name, f"{{{name}}}"))


@dataclass(frozen=True)
class Action:
    """One thing that a step does: `argv` is the program it runs, else `call` names the API call.

    `stdin` is in words what the program reads there. `perform` does it and returns outputs for
    later steps. A run that was killed performs its last action again, so that must be harmless.
    """

    perform: Callable[[], Facts]
    argv: tuple[str, ...] | None = None
    call: str | None = None
    stdin: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """What it is in a plan and in the journal."""
        if self.argv is None:
            return {"call": self.call}
        given = {} if self.stdin is None else {"stdin": self.stdin}
        return {"argv": list(self.argv), **given}

    @property
    def text(self) -> str:
        """A line that can be pasted into a shell, or the call in words."""
        return action_text(self.as_dict())


def action_text(action: Facts) -> str:
    """An action of a plan or a journal in one line, which a shell takes where it has an argv."""
    if "argv" not in action:
        return str(action["call"])
    given = f"  # stdin: {action['stdin']}" if "stdin" in action else ""
    return shlex.join(action["argv"]) + given


def program(argv: Sequence[str], *, timeout: float) -> Action:
    """Run one of the user's programs; what it says goes to the journal."""

    def perform() -> Facts:
        from coditect_cli.migrations import programs

        done = programs.run(argv, timeout=timeout)
        return {"said": (done.stdout.strip() or done.stderr.strip())[-SAID:]}

    return Action(perform, argv=tuple(argv))


def removal(argv: Sequence[str], *, timeout: float) -> Action:
    """Run one of the user's programs that removes something; what is gone already is fine."""

    def perform() -> Facts:
        from coditect_cli.migrations import programs

        try:
            programs.run(argv, timeout=timeout)
        except NotFound:
            return {"deleted": False}
        return {"deleted": True}

    return Action(perform, argv=tuple(argv))


@dataclass(frozen=True)
class Observation:
    """Whether what a step is for is already so, in words, and the facts that show it.

    The facts of the first look are what the way back restores; those of the last one are what
    later steps find in `World.outputs`. `whole` is for the way back too, and it alone is kept as
    it is, to the last character: nothing secret may be in it.
    """

    is_done: bool
    detail: str
    facts: Facts = field(default_factory=dict)
    whole: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What a gate decided, why, and the numbers it decided on."""

    decision: Literal["pass", "fail", "hold"]
    reason: str
    numbers: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class Watch:
    """How a gate comes to decide: the command lines that it looks with, what else it reads, and
    by which settings. What isn't known before it looks is a name in braces.
    """

    looks: Sequence[Sequence[str]]
    pages: Sequence[str]
    thresholds: Facts

    def as_dict(self) -> dict[str, Any]:
        """The gate in a plan."""
        looks = [{"argv": list(argv)} for argv in self.looks]
        pages = [{"call": f"read {page}"} for page in self.pages]
        return {"actions": [*looks, *pages], **self.thresholds}


class Step(ABC):
    """One step of a phase. Methods may be called in any order, also long after the last one.

    They raise the errors of programs.py and kube.py; NotAuthenticated and Unreachable in a plan
    mean "could not be observed", in a run they end it.
    """

    name: str  # as `--to NAME` takes it: lower case and dashes
    title: str  # one line for people
    expected: float  # seconds the actions take, without `bake`
    bake: float = 0.0  # seconds to wait after the actions, before the gate
    no_inverse: str | None = None  # why nothing is undone, where `inverse` is empty
    # What it moves on from where a step before it left it: of several, the first one's inverse
    # puts it back whole, so it alone is run. Each of them has one.
    moves: str | None = None
    confirm: str | None = None  # the name that must be typed before the actions

    def needs(self, world: World) -> str | None:
        """Why the run can't come to its end, as far as that is known before its first action.

        Asked of every step before a run begins, so that nothing is half done for it. Looks only.
        """
        return None

    def precondition(self, world: World) -> str | None:
        """Why the step can't run now; None when it can. Looks, changes nothing.

        Asked again where a run goes on: what the first attempt did half is no reason then.
        """
        return None

    def observe(self, world: World) -> Observation | None:
        """Whether it is already so. None: nothing in the world shows it, only the journal."""
        return None

    @abstractmethod
    def actions(self, world: World) -> Sequence[Action]:
        """What to do, in order. Makes the list, performs nothing; also called for plans."""

    def inverse(self, world: World, before: Facts) -> Sequence[Action]:
        """What puts back what the first look found (`before`); also called for plans."""
        return ()

    def restored(self, world: World, before: Facts) -> str | None:
        """What is not as it was before. None when all is.

        Asked after the inverse; of a step without one that asked for a name, before what came
        before it is undone.
        """
        seen = self.observe(world)
        return f"still so: {seen.detail}" if seen is not None and seen.is_done else None

    def sends(self, world: World) -> Mapping[str, str]:
        """The files whose content the actions send, each with what tells one content apart."""
        return {}

    def watch(self, world: World) -> Watch | None:
        """What the gate will look at, for a plan. None: no gate."""
        return None

    def gate(self, world: World, since: float) -> Verdict | None:
        """The decision about what happened since then (seconds since 1970). None: no gate."""
        return None

    def moved(self, world: World) -> str | None:
        """Why what the gate watches is no longer as the actions left it; None when it is.

        Asked before the gate passes, and before a step moves on from there.
        """
        return None


def moved_meanwhile(found: str) -> str:
    """What `Step.moved` says of traffic that is elsewhere than it was watched."""
    return f"{found}: somebody moved the traffic meanwhile; put it back, or roll the run back"


def step_named(steps: Sequence[Step], name: str) -> int:
    """The index of a step. Raises UsageError (migrate.no_step) naming those there are."""
    for index, step in enumerate(steps):
        if step.name == name:
            return index
    raise UsageError(
        f"there is no step {name!r}",
        code="migrate.no_step",
        hint="steps are " + ", ".join(step.name for step in steps),
    )
