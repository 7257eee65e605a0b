"""The way back of a toy migration, whole, to a step, or killed on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from coditect_cli.errors import (
    Conflict,
    GateFailed,
    Paused,
    RollbackNotVerified,
    UsageError,
)
from coditect_cli.migrations.lock import hold
from coditect_cli.migrations.step import Action, Facts, Step, Verdict
from tests.migrations.site import Killed, Site
from tests.migrations.toy import DONE, FAIL, HOLD, Gated, Write, phase


def test_a_roll_back_to_a_step_keeps_it_and_can_be_resumed(site: Site) -> None:
    site.go(phase(site.folder))
    with hold(site.store, site.run, "me") as lock:
        site.engine(lock, phase(site.folder)).roll_back("asked", "again", "one")
    assert site.files() == {"one": "1", "tests.log": "passed\n"}
    assert site.state().state == "paused"
    assert site.go(phase(site.folder)).state == "done"
    assert site.files() == DONE
    with (
        hold(site.store, site.run, "me") as lock,
        pytest.raises(Conflict, match="nothing was done after three"),
    ):
        site.engine(lock, phase(site.folder)).roll_back("asked", "again", "three")
    assert site.state().state == "done"
    with (
        hold(site.store, site.run, "me") as lock,
        pytest.raises(UsageError, match="no step 'four'"),
    ):
        site.engine(lock, phase(site.folder)).roll_back("asked", "again", "four")


def test_after_a_roll_back_to_a_step_what_was_so_already_is_looked_at_again(site: Site) -> None:
    (site.folder / "three").write_text("3")
    site.go(phase(site.folder))
    assert site.state().steps["three"].status == "already so"
    with hold(site.store, site.run, "me") as lock:
        site.engine(lock, phase(site.folder)).roll_back("asked", "again", "one")
    (site.folder / "three").unlink()  # by somebody else
    assert site.go(phase(site.folder)).state == "done"
    assert site.files() == DONE


class Level(Write):
    """One of several steps that write the same file, each from where the last one left it."""

    moves = "level"

    def __init__(self, folder: Path, content: str, ran: list[str]) -> None:
        super().__init__(folder, "level", content)
        self.name, self._ran = f"level-{content}", ran

    def inverse(self, world: object, before: Facts) -> Sequence[Action]:
        self._ran.append(self.name)
        return super().inverse(world, before)  # type: ignore[arg-type]


def levels(site: Site, ran: list[str]) -> list[Step]:
    first, *others = (Level(site.folder, content, ran) for content in "123")
    return [first, Write(site.folder, "aside", "x"), *others]


def test_what_moved_by_steps_goes_back_at_once_and_first_of_all(site: Site) -> None:
    (site.folder / "level").write_text("0")
    ran: list[str] = []
    site.go(levels(site, ran))
    with hold(site.store, site.run, "me") as lock:
        site.engine(lock, levels(site, ran)).roll_back("asked", "to see")
    assert (site.files(), ran) == ({"level": "0"}, ["level-1"])
    undone = [event for event in site.events() if event.type == "undo.done"]
    assert [event.step for event in undone] == ["level-1", "aside"]
    assert {step.status for step in site.state().steps.values()} == {"undone"}


def test_going_back_to_a_step_between_puts_back_what_it_left(site: Site) -> None:
    ran: list[str] = []
    site.go(levels(site, ran))
    with hold(site.store, site.run, "me") as lock:
        site.engine(lock, levels(site, ran)).roll_back("asked", "to see", "level-1")
    assert (site.files(), ran) == ({"level": "1"}, ["level-2"])
    assert site.go(levels(site, ran)).state == "done"
    assert site.files() == {"level": "3", "aside": "x"}


@pytest.mark.parametrize("line", range(1, 11))
def test_a_way_back_that_was_killed_after_any_line_still_ends_where_the_run_began(
    site: Site, line: int
) -> None:
    (site.folder / "level").write_text("0")
    site.go(levels(site, []))
    begun = len(site.events())

    def back(kill_after: int) -> None:
        with hold(site.store, site.run, "me") as lock:
            engine = site.engine(lock, levels(site, []), kill_after)
            if engine.run.rollback_cause:
                engine.resume()
            elif engine.run.state == "done":
                engine.roll_back("asked", "to see")

    with pytest.raises(Killed):
        back(begun + line)
    back(0)
    assert (site.files(), site.state().state) == ({"level": "0"}, "rolled back")


def test_a_gate_is_asked_again_after_a_roll_back_to_a_step_before_it(site: Site) -> None:
    """A gate without anything to undo was once taken for passed, and a held run promoted."""

    class Gate(Gated):
        no_inverse = "it only watches"

        def inverse(self, world: object, before: Facts) -> list[object]:  # type: ignore[override]
            return []

    def steps(verdict: Verdict) -> list[Step]:
        return [Write(site.folder, "one", "1"), Gate(site.folder, "two", "2", 1.0, [verdict])]

    with pytest.raises(Paused):
        site.go(steps(HOLD))
    with hold(site.store, site.run, "me") as lock:
        site.engine(lock, steps(HOLD)).roll_back("asked", "again", "one")
    assert site.state().steps["two"].status == "kept"
    with pytest.raises(Paused):
        site.go(steps(HOLD))


def test_a_roll_back_that_disagrees_is_told_apart_and_undoes_the_rest(site: Site) -> None:
    steps = phase(site.folder, FAIL)
    steps[2].restored = lambda world, before: "two is still there"  # type: ignore[method-assign]
    with pytest.raises(RollbackNotVerified, match="two is still there") as caught:
        site.go(steps)
    assert caught.value.exit_code == 11
    assert site.state().state == "not rolled back"
    assert "one" not in site.files()
    with pytest.raises(GateFailed, match="90 errors of 900"):
        site.go(phase(site.folder, FAIL))
    assert site.state().state == "rolled back"
