"""The old cluster goes only when it was seen that nobody is on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from coditect_cli.errors import Failed
from coditect_cli.migrations import gke
from coditect_cli.migrations.cutover import tear_down
from coditect_cli.migrations.cutover.tear_down import TearDown, live_sessions
from tests.migrations.cutover.conftest import CLUSTER, NAME, NEW, OLD, ZONE, Cutover

PAGE = "http://10.0.0.7:8080/metrics"


@pytest.fixture
def done(site: Cutover) -> Iterator[Cutover]:
    """Cloud Run has all traffic, and whoever was on the old cluster has left."""
    site.cloud.dns.zones[ZONE][NAME, "A"] |= {
        "routingPolicy": {
            "wrr": {"items": [{"weight": 100, "rrdatas": [NEW]}, {"weight": 0, "rrdatas": [OLD]}]}
        }
    }
    site.clients()
    yield site


def test_an_idle_cluster_may_go(done: Cutover) -> None:
    assert TearDown(CLUSTER).precondition(done.world) is None


def test_not_before_cloud_run_has_all_traffic(site: Cutover) -> None:
    site.clients()
    reason = TearDown(CLUSTER).precondition(site.world)
    assert reason == "Cloud Run must have all traffic, and has 0 %"


def test_not_while_a_session_that_started_has_not_ended(done: Cutover) -> None:
    done.cloud.logs.serve_cluster(CLUSTER, requests=0, errors=0, sessions=5)
    reason = TearDown(CLUSTER).precondition(done.world)
    assert reason == f"5 sessions of {CLUSTER} have started and not ended"


def test_how_old_a_live_session_can_be_is_a_setting(done: Cutover) -> None:
    labels = {"cluster_name": CLUSTER, "location": "us-central1"}
    line = "2026-01-02 03:04:05,678 coditect.gateway INFO session_started id=old w"
    ten_days = 10 * 86_400.0
    resource = {"type": "k8s_container", "labels": labels}
    done.cloud.logs.add(resource, ago=ten_days, textPayload=line)
    assert TearDown(CLUSTER).precondition(done.world) is None
    settings = replace(done.world.settings, look_back=2 * ten_days)
    reason = TearDown(CLUSTER).precondition(replace(done.world, settings=settings))
    assert reason == f"1 sessions of {CLUSTER} have started and not ended"


def test_not_while_nothing_tells(done: Cutover) -> None:
    done.cloud.logs.entries.clear()
    reason = TearDown(CLUSTER).precondition(done.world)
    assert "nothing tells" in str(reason)
    assert "--old-metrics" in str(reason)


def test_not_while_the_log_was_not_read_to_its_end(
    done: Cutover, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tear_down, "MOST_ENTRIES", 6)
    reason = TearDown(CLUSTER).precondition(done.world)
    assert "it logged 6 lines or more in 7 days" in str(reason)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"coditect_sessions": 0.0, "coditect_connections": 0.0}, None),
        ({"coditect_sessions": 3.0}, f"{PAGE} tells coditect_sessions 3"),
        ({"up": 1.0}, f"{PAGE} tells neither coditect_sessions nor coditect_connections"),
    ],
)
def test_the_gateways_own_page_decides_too(
    done: Cutover, monkeypatch: pytest.MonkeyPatch, told: dict[str, float], reason: str | None
) -> None:
    monkeypatch.setattr(tear_down, "read_metrics", lambda url: told)
    world = Cutover(done.store, done.folder, done.cloud, old_metrics=(PAGE,)).world
    done.cloud.dns.zones[ZONE][NAME, "A"]["rrdatas"] = [NEW]
    done.cloud.logs.entries.clear()
    assert TearDown(CLUSTER).precondition(world) == reason


def test_a_session_that_started_after_the_question_stops_it(done: Cutover) -> None:
    """Between the precondition and the typed name may be days."""
    step = TearDown(CLUSTER)
    assert step.precondition(done.world) is None
    [action] = step.actions(done.world)
    done.cloud.logs.serve_cluster(CLUSTER, requests=0, errors=0, sessions=5)
    with pytest.raises(Failed, match="have started and not ended"):
        action.perform()
    assert CLUSTER in done.cloud.clusters.clusters


def test_a_cluster_that_is_gone_needs_no_more(site: Cutover) -> None:
    site.cloud.clusters.clusters.clear()
    step = TearDown(CLUSTER)
    assert step.precondition(site.world) is None
    assert step.observe(site.world).is_done


def test_a_cluster_that_is_being_deleted_is_waited_for(
    done: Cutover, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GKE refuses to delete it once more, and its gateways' pages may not answer any more."""
    settings = replace(done.world.settings, old_metrics=("http://127.0.0.1:1/metrics",))
    world = replace(done.world, settings=settings)
    step = TearDown(CLUSTER)
    done.cloud.clusters.clusters[CLUSTER]["status"] = "STOPPING"
    assert step.precondition(world) is None
    monkeypatch.setattr(gke.time, "sleep", lambda _: done.cloud.clusters.clusters.clear())
    for action in step.actions(world):
        action.perform()
    assert step.observe(world).is_done


@pytest.mark.parametrize(
    ("events", "live"),
    [
        ([], 0),
        (["session_started id=a workspace=w"], 1),
        (["session_started id=a workspace=w", "session_ended id=a status=0"], 0),
        (["session_ended id=b status=0", "session_started id=a workspace=w"], 1),
        (["joined workspace=w", "joined workspace=w", "left workspace=w"], 1),
        (["left workspace=w"], 0),
        (["session_started id=a", "session_ended id=a", "session_started id=a"], 1),
        (["left workspace=w", "joined workspace=w"], 1),  # its own start is too old to be seen
        (["left workspace=v", "joined workspace=w"], 1),
        (["joined workspace=w", "left workspace=v"], 1),
        (["refused code=x"], 0),
    ],
)
def test_who_lives_is_counted_from_the_lines(events: list[str], live: int) -> None:
    entries: list[dict[str, Any]] = [
        {
            "timestamp": f"2026-01-02T03:04:05{fraction}Z",
            "textPayload": f"2026-01-02 03:04:05,678 coditect.gateway INFO {event}",
        }
        for event, fraction in zip(events, ("", ".1", ".15"), strict=False)
    ]
    assert live_sessions(entries) == live
    assert live_sessions(reversed(entries)) == live  # as gcloud gives them: the newest first
