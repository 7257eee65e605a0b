from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from coditect_cli.errors import (
    Conflict,
    Failed,
    GateFailed,
    Interrupted,
    Paused,
    RollbackNotVerified,
)
from coditect_cli.migrations.engine import Engine
from coditect_cli.migrations.journal import Event, Journal, new_run_id
from coditect_cli.migrations.lock import HeldLock, break_lock, hold
from coditect_cli.migrations.run import Run
from coditect_cli.migrations.step import Facts, Step, Verdict
from coditect_cli.stores.sqlite import SQLiteStore
from coditect_cli.stores.store import SessionStore
from tests.migrations.toy import FAIL, HOLD, PASS, TARGET, Write, failing, phase, world


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
    """A store, a folder that a migration changes, and the clock."""

    def __init__(self, store: SessionStore, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self.clock = Clock()
        self.run = new_run_id("toy", 0)
        self.seen: list[Event] = []

    def start(self, lock: HeldLock, steps: Sequence[Step]) -> None:
        Journal(self.store, self.run, "me", lock).append(
            "run.started",
            phase="toy",
            target=TARGET.as_dict(),
            settings={},
            steps=[step.name for step in steps],
        )

    def engine(self, lock: HeldLock, steps: Sequence[Step], kill_after: int = 0) -> Engine:
        def tell(event: Event, run: Run) -> None:
            self.seen.append(event)
            if kill_after and event.number == kill_after:
                raise Killed

        return Engine(
            Journal(self.store, self.run, "me", lock),
            steps,
            world(gate_interval=10.0, hold=60.0),
            tell=tell,
            stop=self.clock,
            clock=lambda: self.clock.now,
        )

    def go(self, steps: Sequence[Step], *, kill_after: int = 0) -> Run:
        with hold(self.store, self.run, "me") as lock:
            if not self.events():
                self.start(lock, steps)
            elif not kill_after:
                Journal(self.store, self.run, "me", lock).append("run.resumed")
            engine = self.engine(lock, steps, kill_after)
            engine.go_on()
            return engine.run

    def events(self) -> list[Event]:
        try:
            return Journal(self.store, self.run, "").new_events()
        except Exception:
            return []

    def types(self) -> list[str]:
        return [event.type for event in self.events()]

    def state(self) -> Run:
        return Run.of(self.run, self.events())

    def files(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in sorted(self.folder.iterdir())}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "world"
    folder.mkdir()
    store = SQLiteStore(tmp_path / "state" / "sessions.db")
    yield Site(store, folder)
    store.close()


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

    def outlast(kill_after: int) -> Run:
        try:
            return site.go(phase(site.folder, verdict), kill_after=kill_after)
        except GateFailed:
            return site.state()

    (site.folder / "one").write_text("before")
    try:
        outlast(line)
    except Killed:
        assert len(site.events()) == line
        outlast(0)
    run = site.state()
    files = site.files()
    assert set(files.pop("tests.log").splitlines()) == {"passed"}
    if outcome == "pass":
        assert (run.state, files) == ("done", {"one": "1", "two": "2", "three": "3"})
    else:
        assert (run.state, files) == ("rolled back", {"one": "before"})


def test_there_are_no_more_lines_than_are_killed_after(site: Site) -> None:
    site.go(phase(site.folder))
    assert len(site.events()) < LINES


def test_a_bake_keeps_its_deadline_over_a_kill(site: Site) -> None:
    steps = phase(site.folder, PASS, bake=3600.0)
    began = site.clock.now
    with pytest.raises(Killed):
        site.go(steps, kill_after=next(_numbers(site, steps, "bake.started")))
    site.clock.now = began + 2400
    run = site.go(phase(site.folder, PASS, bake=3600.0))
    assert run.steps["two"].bake_deadline == began + 3600
    assert began + 3600 <= site.clock.now < began + 3602


def _numbers(site: Site, steps: Sequence[Step], type: str) -> Iterator[int]:
    """The numbers of events of a type, from a run of the same steps elsewhere."""
    folder = site.folder.parent / "rehearsal"
    folder.mkdir()
    store = SQLiteStore(folder / "state" / "sessions.db")
    rehearsal = Site(store, folder)
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
        pytest.raises(Conflict, match="no step 'four'"),
    ):
        site.engine(lock, phase(site.folder)).roll_back("asked", "again", "four")


def test_a_roll_back_that_disagrees_is_told_apart_and_undoes_the_rest(site: Site) -> None:
    steps = phase(site.folder, FAIL)
    steps[2].restored = lambda world, before: "two is still there"  # type: ignore[method-assign]
    with pytest.raises(RollbackNotVerified, match="two is still there") as caught:
        site.go(steps)
    assert caught.value.exit_code == 11
    assert site.state().state == "not rolled back"
    assert "one" not in site.files()
    with pytest.raises(GateFailed):
        site.go(phase(site.folder, FAIL))
    assert site.state().state == "rolled back"


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
