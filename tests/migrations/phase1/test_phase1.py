from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from coditect_cli.errors import (
    CoditectError,
    Failed,
    Forbidden,
    GateFailed,
    NotAuthenticated,
    Paused,
    RollbackNotVerified,
    Unreachable,
)
from coditect_cli.migrations import programs
from coditect_cli.migrations.cloud_run import CloudRun
from coditect_cli.migrations.lock import hold
from coditect_cli.migrations.plan import make_plan
from coditect_cli.stores.sqlite import SQLiteStore
from tests.migrations.far import killed_at, store_in
from tests.migrations.phase1 import rehearsal
from tests.migrations.phase1.rehearsal import (
    GATEWAY,
    NEW,
    OLD,
    OLD_IMAGE,
    RENEWED,
    STAGING,
    Rehearsal,
)
from tests.migrations.quick import DIGEST, Programs
from tests.migrations.site import outlast
from tests.support.cloud import PROJECT, Cloud

LINES = 60


@contextmanager
def on_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Programs]:
    """A cloud where the old image serves, and the programs that change it."""
    cloud = Cloud()
    ran = Programs(cloud)
    monkeypatch.setattr(programs, "run", ran.run)
    monkeypatch.setattr(programs, "run_json", ran.run_json)
    assert cloud.run.deploy(GATEWAY, OLD_IMAGE) == OLD
    try:
        yield ran
    finally:
        cloud.server.close()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rehearsal]:
    folder = tmp_path / "source"
    folder.mkdir()
    store = SQLiteStore(tmp_path / "state" / "sessions.db")
    with closing(store), on_stage(monkeypatch) as ran:
        yield Rehearsal(store, folder, ran.cloud, ran)


def test_it_goes_to_staging_then_to_a_share_then_to_all(site: Rehearsal) -> None:
    site.serve(OLD)
    site.serve(NEW)
    run = site.go(site.steps())
    assert run.state == "done"
    assert site.traffic == {NEW: 100}
    assert site.cloud.run.image(NEW) == f"gcr.io/{PROJECT}/{GATEWAY}@{DIGEST}"
    assert site.programs.ran == [
        "true",
        f"docker build -t gcr.io/{PROJECT}/{GATEWAY}:pty-fix",
        f"docker push gcr.io/{PROJECT}/{GATEWAY}:pty-fix",
        f"gcloud run deploy {STAGING}",
        site.programs.ran[4],
        f"gcloud run deploy {GATEWAY}",
        "gcloud run services update-traffic",
        "gcloud run services update-traffic",
    ]
    assert "gateway" in site.programs.ran[4]


@pytest.mark.parametrize("outcome", ["pass", "fail"])
@pytest.mark.parametrize("line", range(1, LINES))
def test_killed_after_any_line_and_resumed_it_ends_in_the_same_state(
    site: Rehearsal, line: int, outcome: str
) -> None:
    site.serve(OLD)
    site.serve(NEW, errors=20 if outcome == "fail" else 0)
    run = outlast(site, line, site.steps)
    made = {OLD, NEW, f"{STAGING}-00001-abc"}
    if outcome == "pass":
        assert (run.state, site.traffic) == ("done", {NEW: 100})
    else:
        assert (run.state, site.is_as_before) == ("rolled back", True)
        made.add(RENEWED)
    assert set(site.cloud.run.revisions) == made


@pytest.mark.parametrize("outcome", ["pass", "fail"])
def test_there_are_no_more_lines_than_are_killed_after(site: Rehearsal, outcome: str) -> None:
    site.serve(OLD)
    site.serve(NEW, errors=20 if outcome == "fail" else 0)
    with suppress(GateFailed):
        site.go(site.steps())
    assert len(site.events()) < LINES


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_by_the_system_after_any_line_the_next_process_brings_it_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line of the way there and back, by SIGKILL of the process that wrote it."""
    for line in itertools.count(1):
        folder = tmp_path / str(line)
        (folder / "source").mkdir(parents=True)
        with closing(store_in(folder)) as store, on_stage(monkeypatch) as ran:
            site = Rehearsal(store, folder / "source", ran.cloud, ran)
            site.serve(OLD)
            site.serve(NEW, errors=20)
            if not killed_at(rehearsal.__name__, site.run, ran, folder, line):
                lines = len(site.events())
                break
            assert len(site.events()) == line
            with suppress(GateFailed):
                site.go(site.steps())
            assert (site.state().state, site.is_as_before) == ("rolled back", True), line
    assert line == lines + 1 > 50  # it came to its end: there are no more lines


def test_errors_on_the_new_revision_give_the_old_one_all_traffic_again(site: Rehearsal) -> None:
    site.serve(OLD)
    site.serve(NEW, errors=20)
    with pytest.raises(GateFailed) as caught:
        site.go(site.steps())
    assert caught.value.exit_code == 10
    assert site.is_as_before
    undone = [event.data for event in site.events() if event.type == "undo.action.started"]
    assert f"--to-revisions={OLD}=100" in undone[0]["argv"]  # traffic first


def test_the_way_back_gives_back_a_tag_that_was_anothers_and_pins_what_was_pinned(
    site: Rehearsal,
) -> None:
    """The tag once stayed on what was undone, and traffic that followed the newest was pinned."""
    site.programs.run(CloudRun(PROJECT, "us-central1").percents_argv(GATEWAY, {OLD: 100}))
    site.programs.run(CloudRun(PROJECT, "us-central1").tag_argv(GATEWAY, "pty-fix", OLD))
    site.serve(OLD)
    site.serve(NEW, errors=20)
    with pytest.raises(GateFailed):
        site.go(site.steps())
    service = CloudRun(PROJECT, "us-central1").describe(GATEWAY)
    assert service is not None
    assert (service.percents, service.follows_latest) == ({OLD: 100}, False)
    target = service.tagged("pty-fix")
    assert target is not None
    assert target.revision == OLD
    assert RENEWED not in site.cloud.run.revisions


def test_a_newest_revision_that_is_not_as_before_is_not_followed_and_told(
    site: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.serve(OLD)
    site.serve(NEW, errors=20)
    renew = site.programs._renew
    monkeypatch.setattr(site.programs, "_renew", lambda name, image: renew(name, "another"))
    with pytest.raises(RollbackNotVerified, match=f"not to the newest, which is {RENEWED}"):
        site.go(site.steps())
    assert site.traffic == {OLD: 100}


def test_errors_on_both_are_not_the_new_ones_fault(site: Rehearsal) -> None:
    site.serve(OLD, errors=10)
    site.serve(NEW, errors=10)
    assert site.go(site.steps()).state == "done"


def test_a_quiet_night_holds_at_the_share(site: Rehearsal) -> None:
    site.serve(OLD)
    with pytest.raises(Paused) as caught:
        site.go(site.steps())
    assert caught.value.exit_code == 12
    assert site.traffic == {OLD: 90, NEW: 10}


def test_the_first_deployment_ever_gets_all_and_its_way_back_is_to_remove_it(
    site: Rehearsal,
) -> None:
    site.cloud.run.services.clear()
    site.cloud.run.revisions.clear()
    plan = make_plan("phase1", site.steps(), site.world, "nobody")
    canary = next(step for step in plan["steps"] if step["name"] == "canary")
    assert "there is no service" in canary["now"]
    assert len(canary["actions"]) == 1
    assert "--no-traffic" not in canary["actions"][0]["argv"]
    assert canary["inverse"][0]["argv"][:4] == ["gcloud", "run", "services", "delete"]
    site.serve(OLD, errors=20)
    with pytest.raises(GateFailed):
        site.go(site.steps())
    assert GATEWAY not in site.cloud.run.services


def test_a_service_in_which_nothing_serves_is_a_first_deployment_too(site: Rehearsal) -> None:
    """Its only revision failed to start, so there is none to keep traffic on, or to go back to."""
    site.cloud.run.services.clear()
    site.cloud.run.revisions.clear()
    site.cloud.run.broken.add("old@")
    site.cloud.run.deploy(GATEWAY, OLD_IMAGE)
    plan = make_plan("phase1", site.steps(), site.world, "nobody")
    canary, rollout = plan["steps"][4], plan["steps"][-1]
    assert "nothing serves yet" in canary["now"]
    assert len(canary["actions"]) == 1 and "--no-traffic" not in canary["actions"][0]["argv"]
    assert not rollout["inverse"]
    made = f"{GATEWAY}-00002-abc"
    site.serve(made)
    assert site.go(site.steps()).state == "done"
    assert site.traffic == {made: 100}
    with hold(site.store, site.run, "me") as lock, pytest.raises(RollbackNotVerified) as caught:
        site.engine(lock, site.steps()).roll_back("asked", "to see")
    assert "nothing had any" in caught.value.message


@pytest.mark.parametrize("line", range(1, LINES, 3))
def test_the_first_deployment_ever_outlasts_a_kill(site: Rehearsal, line: int) -> None:
    site.cloud.run.services.clear()
    site.cloud.run.revisions.clear()
    site.serve(OLD)
    assert outlast(site, line, site.steps).state == "done"
    assert site.traffic == {OLD: 100}


def test_a_share_that_somebody_gave_it_already_is_kept_by_the_way_back(site: Rehearsal) -> None:
    site.serve(OLD)
    site.serve(NEW)
    site.go(site.steps())
    with hold(site.store, site.run, "me") as lock:
        site.engine(lock, site.steps()).roll_back("asked", "again", "canary")
    assert site.traffic == {OLD: 90, NEW: 10}


def test_a_revision_that_never_becomes_ready_gets_no_traffic(site: Rehearsal) -> None:
    site.cloud.run.broken.add(DIGEST)
    with pytest.raises(Failed):
        site.go(site.steps())
    assert site.traffic == {OLD: 100}


def test_somebody_elses_deployment_meanwhile_stops_the_rollout(site: Rehearsal) -> None:
    site.serve(OLD)
    with pytest.raises(Paused):
        site.go(site.steps())
    flags = {"--image": "other@sha256:" + "c" * 64, "--tag": "other", "--no-traffic": ""}
    site.programs._deploy(GATEWAY, flags)
    site.serve(NEW)
    with pytest.raises(Failed, match="somebody deployed meanwhile"):
        site.go(site.steps())
    assert site.traffic[OLD] == 90


def test_what_somebody_took_the_traffic_from_is_not_promoted(site: Rehearsal) -> None:
    site.serve(OLD)
    with pytest.raises(Paused):
        site.go(site.steps())
    site.programs._shift(GATEWAY, {"--to-revisions": f"{OLD}=100"})
    site.serve(NEW)
    with pytest.raises(Paused, match="somebody moved the traffic"):
        site.go(site.steps())
    assert site.traffic == {OLD: 100}


def test_a_way_back_that_the_cloud_ignores_is_told_apart(
    site: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.serve(OLD)
    site.serve(NEW, errors=20)
    shift = site.programs._shift

    def ignored(name: str, flags: dict[str, str]) -> None:
        if "--to-tags" in flags:
            shift(name, flags)

    monkeypatch.setattr(site.programs, "_shift", ignored)
    with pytest.raises(RollbackNotVerified, match="and was that of no revision") as caught:
        site.go(site.steps())
    assert caught.value.exit_code == 11


def test_without_a_dockerfile_nothing_is_built(site: Rehearsal) -> None:
    (site.folder / "Dockerfile").unlink()
    with pytest.raises(Failed, match="--source"):
        site.go(site.steps())
    assert (site.programs.ran, site.events()) == ([], [])


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["docker", "version"], Unreachable("Cannot connect to the Docker daemon")),
        (["gcloud", "run", "services", "describe", STAGING], NotAuthenticated("log in first")),
        (["gcloud", "logging", "read"], Forbidden("no logs for you")),
    ],
)
def test_what_a_later_step_lacks_is_told_before_the_first_one(
    site: Rehearsal, monkeypatch: pytest.MonkeyPatch, words: list[str], error: CoditectError
) -> None:
    """The bridge was once tested and an image built before it was seen that there was no login."""
    answer = site.programs._answer

    def refusing(argv: list[str]) -> str:
        if argv[: len(words)] == words:
            raise error
        return answer(argv)

    monkeypatch.setattr(site.programs, "_answer", refusing)
    with pytest.raises(type(error)):
        site.go(site.steps())
    assert (site.programs.ran, site.events()) == ([], [])
