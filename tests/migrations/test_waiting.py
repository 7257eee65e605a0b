"""What a toy migration waits for: bakes, gates that hold, people."""

from __future__ import annotations

from contextlib import closing

import pytest

from coditect_cli.errors import (
    Forbidden,
    GateFailed,
    Interrupted,
    LimitReached,
    Paused,
    TimedOut,
    Unreachable,
)
from coditect_cli.migrations.journal import Journal
from coditect_cli.migrations.step import Verdict, World
from coditect_cli.stores.sqlite import SQLiteStore
from tests.migrations.site import Killed, Site
from tests.migrations.toy import FAIL, HOLD, PASS, phase


def test_a_bake_keeps_its_deadline_over_a_kill(site: Site) -> None:
    steps = phase(site.folder, PASS, bake=3600.0)
    began = site.clock.now
    with pytest.raises(Killed):
        site.go(steps, kill_after=_number(site, "bake.started"))
    site.clock.now = began + 2400
    run = site.go(phase(site.folder, PASS, bake=3600.0))
    assert run.steps["two"].bake_deadline == began + 3600
    assert began + 3600 <= site.clock.now < began + 3602
    begun, resumed = (event.data["until"] for event in site.events() if "bake." in event.type)
    assert begun == resumed  # told again, where a log begins anew


def test_a_bake_that_is_over_is_not_told_again(site: Site) -> None:
    steps = phase(site.folder, PASS, bake=3600.0)
    with pytest.raises(Killed):
        site.go(steps, kill_after=_number(site, "bake.started"))
    site.clock.now += 3601
    site.go(phase(site.folder, PASS, bake=3600.0))
    assert [name for name in site.types() if "bake." in name] == ["bake.started"]


def _number(site: Site, type: str) -> int:
    """The number of the first event of a type, from a run of the same steps elsewhere."""
    folder = site.folder.parent / "rehearsal"
    folder.mkdir()
    with closing(SQLiteStore(folder / "state" / "sessions.db")) as store:
        rehearsal = Site(store, folder, site.world)
        rehearsal.go(phase(folder))
        return next(event.number for event in rehearsal.events() if event.type == type)


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
    site.clock.set()
    with pytest.raises(Interrupted, match="before anything was done"):
        site.go(phase(site.folder))
    assert site.events() == []
    site.clock.clear()

    steps = phase(site.folder)
    steps[0].observe = lambda world: site.clock.set()  # type: ignore[method-assign]
    with pytest.raises(Interrupted) as caught:
        site.go(steps)
    assert f"coditect migrate resume {site.run}" in str(caught.value.hint)
    assert (site.state().state, site.files()) == ("interrupted", {})
    site.clock.clear()
    assert site.go(phase(site.folder)).state == "done"
