from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from coditect_cli.errors import (
    Conflict,
    Failed,
    Forbidden,
    GateFailed,
    Interrupted,
    LimitReached,
    Paused,
    RollbackNotVerified,
    TimedOut,
    Unreachable,
    UsageError,
)
from coditect_cli.migrations.engine import Engine
from coditect_cli.migrations.journal import Journal
from coditect_cli.migrations.lock import break_lock, hold
from coditect_cli.migrations.run import Run
from coditect_cli.migrations.step import Action, Facts, Observation, Step, Verdict, World
from coditect_cli.stores.sqlite import SQLiteStore
from coditect_cli.stores.store import SessionStore
from tests.migrations.dying import dying
from tests.migrations.site import Killed, Site, outlast
from tests.migrations.toy import FAIL, HOLD, PASS, Gated, Write, failing, phase, world


@pytest.fixture
def site(store: SessionStore, tmp_path: Path) -> Site:
    folder = tmp_path / "world"
    folder.mkdir()
    return Site(store, folder, world(gate_interval=10.0, hold=60.0))


DONE = {"one": "1", "tests.log": "passed\n", "three": "3", "two": "2"}


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


def test_a_bake_keeps_its_deadline_over_a_kill(site: Site) -> None:
    steps = phase(site.folder, PASS, bake=3600.0)
    began = site.clock.now
    with pytest.raises(Killed):
        site.go(steps, kill_after=next(_numbers(site, steps, "bake.started")))
    site.clock.now = began + 2400
    run = site.go(phase(site.folder, PASS, bake=3600.0))
    assert run.steps["two"].bake_deadline == began + 3600
    assert began + 3600 <= site.clock.now < began + 3602
    begun, resumed = (event.data["until"] for event in site.events() if "bake." in event.type)
    assert begun == resumed  # told again, where a log begins anew


def _numbers(site: Site, steps: Sequence[Step], type: str) -> Iterator[int]:
    """The numbers of events of a type, from a run of the same steps elsewhere."""
    folder = site.folder.parent / "rehearsal"
    folder.mkdir()
    store = SQLiteStore(folder / "state" / "sessions.db")
    rehearsal = Site(store, folder, site.world)
    rehearsal.go(phase(folder))
    yield from (event.number for event in rehearsal.events() if event.type == type)
    store.close()


def test_a_gate_that_fails_rolls_back_and_reads_back(site: Site) -> None:
    (site.folder / "one").write_text("before")
    with pytest.raises(GateFailed, match="90 errors of 900"):
        site.go(phase(site.folder, FAIL))
    assert site.files() == {"one": "before", "tests.log": "passed\n"}
    assert site.state().state == "rolled back"


def test_a_gate_that_fails_during_the_bake_does_not_wait_for_its_end(site: Site) -> None:
    began = site.clock.now
    with pytest.raises(GateFailed):
        site.go(phase(site.folder, FAIL, bake=3600.0))
    assert site.clock.now < began + 60


@pytest.mark.parametrize("times", [1, 1000])
def test_a_gate_that_can_not_look_for_a_while_holds(site: Site, times: int) -> None:
    """An hour's watch was once ended by one look that was too many for the quota."""
    steps = phase(site.folder, PASS, bake=60.0)
    failures = [Unreachable("gcloud: later", retryable=True), TimedOut("gcloud: too slow")] * times
    failures.append(LimitReached("gcloud: the day's quota"))
    gate = steps[2].gate

    def look(world: World, since: float) -> Verdict | None:
        if failures:
            raise failures.pop()
        return gate(world, since)

    steps[2].gate = look  # type: ignore[method-assign]
    if times == 1:
        assert site.go(steps).state == "done"
    else:
        with pytest.raises(Paused, match="it could not look: gcloud"):
            site.go(steps)
        assert "three" not in site.files()


def test_a_gate_that_may_not_look_ends_the_run(site: Site) -> None:
    steps = phase(site.folder)

    def look(world: World, since: float) -> Verdict | None:
        raise Forbidden("no logs for you")

    steps[2].gate = look  # type: ignore[method-assign]
    with pytest.raises(Forbidden, match="no logs for you"):
        site.go(steps)


def test_a_hold_waits_then_pauses_and_never_promotes(site: Site) -> None:
    with pytest.raises(Paused, match="3 sessions of 50") as caught:
        site.go(phase(site.folder, HOLD))
    assert caught.value.exit_code == 12
    assert site.state().state == "held"
    assert "three" not in site.files()
    assert site.types().count("gate.read") == 7  # one at once, then each gate_interval of the hold


def test_a_hold_goes_on_when_there_is_enough(site: Site) -> None:
    assert site.go(phase(site.folder, HOLD, HOLD, PASS)).state == "done"


def test_a_held_run_looks_again_when_it_is_resumed(site: Site) -> None:
    steps = phase(site.folder, HOLD)
    with pytest.raises(Paused):
        site.go(steps)
    assert site.go(phase(site.folder, PASS)).state == "done"


def test_a_held_run_is_approved_or_rejected_by_a_person(site: Site) -> None:
    with pytest.raises(Paused):
        site.go(phase(site.folder, HOLD))
    Journal(site.store, site.run, "boss").append("approved", "two", reason="looks fine")
    assert site.go(phase(site.folder, HOLD)).state == "done"


@pytest.mark.parametrize("found", [HOLD, FAIL])
def test_an_approval_that_comes_while_the_gate_looks_stands_unless_it_fails(
    site: Site, found: Verdict
) -> None:
    steps = phase(site.folder)
    looks = [HOLD, found]

    def look(world: World, since: float) -> Verdict:
        if len(looks) == 1:
            Journal(site.store, site.run, "boss").append("approved", "two", reason="looks fine")
        return looks.pop(0)

    steps[2].gate = look  # type: ignore[method-assign]
    if found is HOLD:
        assert site.go(steps).state == "done"
    else:
        with pytest.raises(GateFailed, match="90 errors of 900"):
            site.go(steps)


def test_a_run_that_is_rejected_between_two_steps_rolls_back(site: Site) -> None:
    steps = phase(site.folder)

    def pausing(world: World) -> None:
        Journal(site.store, site.run, "boss").append("pause.asked")

    steps[1].precondition = pausing  # type: ignore[method-assign]
    with pytest.raises(Paused):
        site.go(steps)
    Journal(site.store, site.run, "boss").append("rejected", reason="not today")
    with pytest.raises(GateFailed, match="rejected by boss: not today"):
        site.go(phase(site.folder))
    assert site.state().state == "rolled back"


def test_a_rejected_run_rolls_back(site: Site) -> None:
    with pytest.raises(Paused):
        site.go(phase(site.folder, HOLD))
    Journal(site.store, site.run, "boss").append("rejected", "two", reason="too late")
    with pytest.raises(GateFailed, match="rejected by boss: too late"):
        site.go(phase(site.folder, HOLD))
    assert site.files() == {"tests.log": "passed\n"}


def test_pause_is_heard_while_it_waits(site: Site) -> None:
    steps = phase(site.folder, PASS, bake=3600.0)

    def pausing(since: float) -> Verdict:
        Journal(site.store, site.run, "boss").append("pause.asked")
        return PASS

    steps[2].gate = lambda world, since: pausing(since)  # type: ignore[method-assign]
    with pytest.raises(Paused):
        site.go(steps)
    assert site.state().state == "paused"
    assert site.go(phase(site.folder, PASS, bake=3600.0)).state == "done"


def test_an_interrupt_stops_at_a_safe_point_and_says_how_to_resume(site: Site) -> None:
    steps = phase(site.folder)
    site.clock.set()
    with pytest.raises(Interrupted) as caught:
        site.go(steps)
    assert f"coditect migrate resume {site.run}" in str(caught.value.hint)
    assert (site.state().state, site.files()) == ("interrupted", {})
    site.clock.clear()
    assert site.go(steps).state == "done"


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
