"""The cutover, killed after each line of its journal, and resumed."""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path

import pytest

from coditect_cli.errors import GateFailed
from coditect_cli.migrations.cloud_run import CloudRun
from tests.migrations.cutover import dying
from tests.migrations.cutover.conftest import (
    CLUSTER,
    GATEWAY,
    NEW,
    OLD,
    REVISION,
    Cutover,
    confirming,
)
from tests.migrations.cutover.quick import CutoverPrograms
from tests.migrations.far import killed_at, store_in
from tests.migrations.site import outlast
from tests.support.cloud import PROJECT

LINES = 46


@pytest.mark.parametrize("outcome", ["pass", "fail"])
@pytest.mark.parametrize("line", range(1, LINES))
def test_killed_after_any_line_and_resumed_it_ends_in_the_same_state(
    short: Cutover, monkeypatch: pytest.MonkeyPatch, line: int, outcome: str
) -> None:
    short.clients(errors=20 if outcome == "fail" else 0)
    confirming(short, monkeypatch)
    run = outlast(short, line, short.steps)
    if outcome == "pass":
        assert (run.state, short.weights) == ("done", {NEW: 100, OLD: 0})
        assert CLUSTER not in short.cloud.clusters.clusters
    else:
        assert (run.state, short.weights) == ("rolled back", {OLD: 1})
        assert CLUSTER in short.cloud.clusters.clusters
    assert len(short.cloud.dashboards.dashboards) == (outcome == "pass")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("line", range(1, LINES))
def test_killed_by_the_system_the_next_process_brings_it_to_its_end(
    quick: CutoverPrograms, tmp_path: Path, line: int
) -> None:
    with closing(store_in(tmp_path)) as store:
        site = dying.make(store, tmp_path, quick.cloud)
        site.clients()
        if killed_at(dying.__name__, site.run, quick, tmp_path, line):
            assert len(site.events()) == line
            site.go(site.steps())
        else:
            assert len(site.events()) < line  # it came to its end before
        assert site.state().state == "done"
        assert site.weights == {NEW: 100, OLD: 0}
        assert CLUSTER not in site.cloud.clusters.clusters


@pytest.mark.parametrize("line", range(1, 10))
def test_a_service_whose_traffic_is_pinned_is_scaled_also_when_killed(
    short: Cutover, quick: CutoverPrograms, line: int
) -> None:
    quick.run(CloudRun(PROJECT, "us-central1").percents_argv(GATEWAY, {REVISION: 100}))
    assert outlast(short, line, lambda: short.steps()[:1]).state == "done"
    newest = short.cloud.run.services[GATEWAY]["status"]["latestReadyRevisionName"]
    assert newest != REVISION
    assert short.cloud.run.percents(GATEWAY) == {newest: 100}


@pytest.mark.parametrize("errors", [0, 20])
def test_there_are_no_more_lines_than_are_killed_after(
    short: Cutover, monkeypatch: pytest.MonkeyPatch, errors: int
) -> None:
    short.clients(errors=errors)
    confirming(short, monkeypatch)
    with suppress(GateFailed):
        short.go(short.steps())
    assert len(short.events()) < LINES
