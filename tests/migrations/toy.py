"""A migration of files in a folder: each step makes one, keeps what was there, and can go back.

The world of these tests. What a real phase does to Cloud Run and Kubernetes is tested in its own
folder; here the engine is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from coditect_cli.errors import Failed
from coditect_cli.kube import Kube
from coditect_cli.migrations.settings import MigrateSettings
from coditect_cli.migrations.step import Action, Facts, Observation, Step, Verdict, World
from coditect_cli.migrations.target import Target

TARGET = Target("local", "ops@example.com", "acme-prod", "test", "acme-prod", "us-central1", None)


def world(**settings: Any) -> World:
    return World(MigrateSettings(project="acme-prod", **settings), TARGET, no_cluster, any_user)


def no_cluster() -> Kube:
    raise AssertionError("these steps know no cluster")


def any_user(workspace_id: str) -> str:
    """Whom the token is for, where nobody looks at it."""
    return "user"


class Write(Step):
    """Writes `content` into a file in two actions, the second of which makes it so."""

    expected = 1.0

    def __init__(self, folder: Path, name: str, content: str, **attributes: Any) -> None:
        self.name = name
        self.title = f"Write {name}"
        self._path = folder / name
        self._content = content
        for attribute, value in attributes.items():
            setattr(self, attribute, value)

    def observe(self, world: World) -> Observation:
        found = self._path.read_text() if self._path.exists() else None
        return Observation(found == self._content, f"{self.name} is {found!r}", {"found": found})

    def actions(self, world: World) -> Sequence[Action]:
        part = self._path.with_suffix(".part")

        def prepare() -> Facts:
            part.write_text(self._content)
            return {f"{self.name}_part": part.name}

        def finish() -> Facts:
            if part.exists():
                part.rename(self._path)
            return {f"{self.name}_content": self._content}

        return [
            Action(prepare, argv=("write", str(part), self._content)),
            Action(finish, call=f"rename {part.name} to {self._path.name}"),
        ]

    def inverse(self, world: World, before: Facts) -> Sequence[Action]:
        def put_back() -> Facts:
            if before.get("found") is None:
                self._path.unlink(missing_ok=True)
            else:
                self._path.write_text(before["found"])
            return {}

        return [Action(put_back, call=f"put {self.name} back")]

    def restored(self, world: World, before: Facts) -> str | None:
        found = self.observe(world)
        return None if found.facts["found"] == before.get("found") else found.detail


class Gated(Write):
    """A step that bakes, then asks `verdicts` in turn; the last one is repeated."""

    def __init__(
        self, folder: Path, name: str, content: str, bake: float, verdicts: Sequence[Verdict]
    ) -> None:
        super().__init__(folder, name, content, bake=bake)
        self.verdicts = list(verdicts)
        self.asked: list[float] = []

    def gate(self, world: World, since: float) -> Verdict:
        self.asked.append(since)
        return self.verdicts.pop(0) if len(self.verdicts) > 1 else self.verdicts[0]


class Tested(Step):
    """What only the journal knows: that something was run, and passed."""

    name = "tests"
    title = "Run the tests"
    expected = 1.0
    no_inverse = "it changed nothing"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def actions(self, world: World) -> Sequence[Action]:
        def passed() -> Facts:
            with open(self._folder / "tests.log", "a") as file:
                file.write("passed\n")
            return {"tests": "passed"}

        return [Action(passed, argv=("run", "tests"))]


def failing(step: Step, error: Callable[[], Exception] | None = None) -> Step:
    """The same step, whose first action fails once."""
    made = step.actions
    failures = [error or (lambda: Failed("the disk is on fire", code="toy.fire"))]

    def actions(world: World) -> Sequence[Action]:
        first, *rest = made(world)

        def perform() -> Facts:
            if failures:
                raise failures.pop()()
            return first.perform()

        return [Action(perform, first.argv, first.call), *rest]

    step.actions = actions  # type: ignore[method-assign]
    return step


PASS = Verdict("pass", "0 errors of 900", {"errors": 0})
FAIL = Verdict("fail", "90 errors of 900", {"errors": 90})
HOLD = Verdict("hold", "3 sessions of 50", {"sessions": 3})


DONE = {"one": "1", "tests.log": "passed\n", "three": "3", "two": "2"}  # what it leaves


def phase(folder: Path, *verdicts: Verdict, bake: float = 1.0) -> list[Step]:
    return [
        Tested(folder),
        Write(folder, "one", "1"),
        Gated(folder, "two", "2", bake, verdicts or [PASS]),
        Write(folder, "three", "3"),
    ]
