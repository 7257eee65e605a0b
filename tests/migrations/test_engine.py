"""Runs of a toy migration: their steps, a kill after each line, what stops them."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from coditect_cli.errors import (
    Conflict,
    Failed,
    GateFailed,
    LimitReached,
    Paused,
)
from coditect_cli.migrations.engine import Engine
from coditect_cli.migrations.journal import Journal
from coditect_cli.migrations.lock import break_lock, hold
from coditect_cli.migrations.run import Run
from coditect_cli.migrations.step import Facts, Observation, Step, World
from tests.migrations.dying import dying
from tests.migrations.site import Site, outlast
from tests.migrations.toy import DONE, FAIL, HOLD, PASS, Write, failing, phase, world


def test_a_run_does_its_steps_in_order_and_says_so_before_and_after(site: Site) -> None:
    run = site.go(phase(site.folder))
    assert (run.state, site.files()) == ("done", DONE)
    assert site.types()[:9] == [
        "run.started", "step.started", "action.started", "action.done", "step.acted", "step.done",
        "step.started", "action.started", "action.done",
    ]  # fmt: skip
    assert site.types()[-3:] == ["step.acted", "step.done", "run.done"]
    assert run.outputs["one_content"] == "1"
    assert [step.status for step in run.steps.values()] == ["done"] * 4


def test_what_is_already_so_is_left_alone_and_never_undone(site: Site) -> None:
    (site.folder / "one").write_text("1")
    run = site.go(phase(site.folder))
    assert run.steps["one"].status == "already so"
    with hold(site.store, site.run, "me") as lock:
        site.engine(lock, phase(site.folder)).roll_back("asked", "to see")
    assert site.files() == {"one": "1", "tests.log": "passed\n"}
    assert site.state().state == "rolled back"


def test_a_failed_step_ends_the_run_and_resume_goes_on_there(site: Site) -> None:
    steps = phase(site.folder)
    steps[1] = failing(steps[1])
    with pytest.raises(Failed, match="Write one: the disk is on fire") as caught:
        site.go(steps)
    assert caught.value.code == "toy.fire"
    assert f"coditect migrate resume {site.run}" in str(caught.value.hint)
    assert site.state().state == "failed"
    run = site.go(steps)
    assert (run.state, site.files()) == ("done", DONE)
    assert run.steps["one"].attempt == 2
    begun = [event for event in site.events() if event.type == "action.started"]
    assert [(event.step, event.attempt) for event in begun if event.step == "one"] == [
        ("one", 1), ("one", 2), ("one", 2),
    ]  # fmt: skip
    assert {event.run for event in begun} == {site.run}


def test_reading_back_something_else_is_a_failure(site: Site) -> None:
    class Deaf(Write):
        def actions(self, world: object) -> list[object]:  # type: ignore[override]
            return []

    with pytest.raises(Failed, match="reading back shows: one is None") as caught:
        site.go([Deaf(site.folder, "one", "1")])
    assert caught.value.code == "migrate.not_so"


def test_a_precondition_ends_the_run_with_its_reason(site: Site) -> None:
    step = Write(site.folder, "one", "1", precondition=lambda world: "no disk")
    with pytest.raises(Failed, match="no disk"):
        site.go([step])
    assert site.files() == {}


LINES = 36


@pytest.mark.parametrize("outcome", ["pass", "fail"])
@pytest.mark.parametrize("line", range(1, LINES))
def test_killed_after_any_line_and_resumed_it_ends_as_if_it_had_not_been(
    site: Site, line: int, outcome: str
) -> None:
    verdict = PASS if outcome == "pass" else FAIL

    (site.folder / "one").write_text("before")
    run = outlast(site, line, lambda: phase(site.folder, verdict))
    files = site.files()
    assert set(files.pop("tests.log").splitlines()) == {"passed"}
    if outcome == "pass":
        assert (run.state, files) == ("done", {"one": "1", "two": "2", "three": "3"})
    else:
        assert (run.state, files) == ("rolled back", {"one": "before"})


def test_there_are_no_more_lines_than_are_killed_after(site: Site) -> None:
    site.go(phase(site.folder))
    assert len(site.events()) < LINES


@pytest.mark.slow
def test_killed_by_the_system_after_any_line_the_next_process_brings_it_to_its_end(
    tmp_path: Path,
) -> None:
    for line in itertools.count(1):
        site = dying(tmp_path / str(line))
        argv = (sys.executable, "-m", "tests.migrations.dying", site.folder.parent, site.run, line)
        done = subprocess.run([*map(str, argv)], check=False, capture_output=True, text=True)
        if done.returncode != -signal.SIGKILL:
            break
        assert len(site.events()) == line
        with suppress(GateFailed):
            site.go(phase(site.folder, FAIL))
        assert site.state().state == "rolled back", line
        assert list(site.files()) == ["tests.log"], line
        site.store.close()
    assert "GateFailed" in done.stderr  # it came to its end: there are no more lines
    assert line == len(site.events()) + 1
    site.store.close()


def test_other_files_than_the_run_began_with_are_told_when_it_goes_on(site: Site) -> None:
    sent = {"tests": "of tests", "one": "of one", "two": "of two", "three": "of three"}

    def go() -> Run:
        steps = phase(site.folder, *verdicts)
        for step in steps:
            step.sends = lambda _, name=step.name: {"a file": sent[name]}  # type: ignore
        return site.go(steps)

    verdicts = [HOLD]
    with pytest.raises(Paused):
        go()
    sent |= {"one": "sent already", "three": "mended"}
    for _ in range(2):  # it is told once
        with pytest.raises(Paused):
            go()
    verdicts = [PASS]
    assert go().state == "done"
    resumed = [event.data for event in site.events() if event.type == "run.resumed"]
    assert [data.get("reason") for data in resumed] == [
        "other files than before for three", None, None
    ]  # fmt: skip


def test_files_that_the_first_journal_says_nothing_of_are_not_called_others(site: Site) -> None:
    """So it is with a run that an earlier release began."""

    def go(sent: dict[str, str]) -> Run:
        steps = phase(site.folder, HOLD)
        for step in steps:
            step.sends = lambda _: sent  # type: ignore
        return site.go(steps)

    for sent in ({}, {"a file": "its digest"}, {"a file": "another"}):
        with pytest.raises(Paused):
            go(sent)
    resumed = [event.data for event in site.events() if event.type == "run.resumed"]
    assert [data.get("reason") for data in resumed] == [
        None, "other files than before for two, three"
    ]  # fmt: skip


def test_what_no_journal_can_keep_stops_it_before_anything_is_changed(site: Site) -> None:
    class Large(Write):
        def observe(self, world: World) -> Observation:
            seen = super().observe(world)
            return replace(seen, whole={"changed": "x" * 11_000_000})

    with pytest.raises(LimitReached):
        site.go([Large(site.folder, "one", "1")])
    assert (site.files(), site.types()) == ({}, ["run.started"])


def test_what_is_destroyed_is_confirmed_by_name(site: Site) -> None:
    steps: list[Step] = [Write(site.folder, "one", "1", confirm="the-cluster")]
    with pytest.raises(Paused) as caught:
        site.go(steps)
    assert "--confirm the-cluster" in str(caught.value.hint)
    assert site.files() == {}
    asked = []
    with hold(site.store, site.run, "me") as lock:
        engine = Engine(
            Journal(site.store, site.run, "me", lock),
            steps,
            world(),
            confirm=lambda question, name: asked.append(name),
        )
        engine.go_on()
    assert asked == ["the-cluster"]
    assert site.files() == {"one": "1"}


def test_a_run_that_lost_its_lock_does_nothing_more(site: Site) -> None:
    steps = phase(site.folder)

    def stolen(world: object) -> list[object]:
        break_lock(site.store)
        return made(world)  # type: ignore[arg-type,return-value]

    made = steps[1].actions
    steps[1].actions = stolen  # type: ignore[assignment,method-assign]
    with pytest.raises(Conflict) as caught:
        site.go(steps)
    assert caught.value.code == "migrate.lock_lost"
    assert "one" not in site.files()
    assert site.types()[-1] == "step.started"


def test_outputs_reach_later_steps_through_the_journal(site: Site) -> None:
    seen = []

    class Last(Write):
        def inverse(self, world: object, before: Facts) -> list[object]:  # type: ignore[override]
            return []

        def precondition(self, world: object) -> str | None:  # type: ignore[override]
            seen.append(world.output("one_content"))  # type: ignore[attr-defined]
            return None

    site.go([Write(site.folder, "one", "1"), Last(site.folder, "two", "2")])
    assert seen == ["1"]
