"""The cutover as a whole: in the test cloud without gcloud, and once through it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coditect_cli.errors import Conflict, Failed, GateFailed, Paused, RollbackNotVerified
from coditect_cli.migrations import programs
from coditect_cli.migrations.cloud_run import CloudRun
from coditect_cli.migrations.lock import hold
from coditect_cli.migrations.plan import make_plan
from coditect_cli.stores.store import SessionStore
from tests.migrations.cutover.conftest import (
    CLUSTER,
    GATEWAY,
    NAME,
    NEW,
    OLD,
    REVISION,
    ZONE,
    Cutover,
    confirming,
)
from tests.migrations.cutover.quick import CutoverPrograms
from tests.migrations.site import Killed
from tests.support.cloud import PROJECT, Cloud

UPDATE = "gcloud dns record-sets update"


def test_the_steps_are_the_records_and_each_share_is_watched(site: Cutover) -> None:
    plan = make_plan("cutover", site.steps(), site.world, "nobody")
    assert [(step["name"], step["bakeSeconds"]) for step in plan["steps"]] == [
        ("scale", 0),
        ("traffic-10", 5),
        ("dashboard", 0),
        ("traffic-25", 5),
        ("traffic-50", 5),
        ("traffic-75", 5),
        ("traffic-100", 5),
        ("tear-down", 0),
    ]
    assert plan["steps"][-1]["confirm"] == CLUSTER
    assert plan["steps"][-1]["noInverse"] == "a deleted cluster can't be brought back"
    assert all(step["actions"] for step in plan["steps"])


def test_no_run_begins_that_does_not_know_what_shares_the_traffic(
    site: Cutover, quick: CutoverPrograms
) -> None:
    """A run that had failed at its first look was in the way of the command with its flags."""
    site.world = replace(site.world, settings=replace(site.world.settings, dns_new=None))
    with pytest.raises(Failed, match="--dns-new"):
        site.go(site.steps())
    site.cloud.run.services.clear()
    site.world = replace(site.world, settings=replace(site.world.settings, dns_new=NEW))
    with pytest.raises(Failed, match="coditect migrate phase1 makes it"):
        site.go(site.steps())
    assert (quick.ran, site.events()) == ([], [])


def test_a_run_that_goes_on_asks_again_what_shares_the_traffic(
    site: Cutover, quick: CutoverPrograms
) -> None:
    """The service was given a new revision before it was seen that the record is gone."""
    with pytest.raises(Killed):
        site.go(site.steps(), kill_after=1)
    site.cloud.dns.zones[ZONE].clear()
    with pytest.raises(Failed, match="no A record"):
        site.go(site.steps())
    assert quick.ran == []


def test_all_traffic_goes_over_and_the_old_cluster_goes(
    site: Cutover, quick: CutoverPrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.clients()
    asked = confirming(site, monkeypatch)
    run = site.go(site.steps())
    assert run.state == "done"
    assert site.weights == {NEW: 100, OLD: 0}
    assert asked == [CLUSTER]
    assert CLUSTER not in site.cloud.clusters.clusters
    assert len(site.cloud.dashboards.dashboards) == 1
    assert quick.ran == [
        "gcloud run services update",
        "gcloud run services update-traffic",
        UPDATE,
        "gcloud monitoring dashboards create",
        UPDATE,
        UPDATE,
        UPDATE,
        UPDATE,
        "gcloud container clusters delete",
    ]
    again = Cutover.steps(site)
    assert [step.observe(site.world).is_done for step in again] == [True] * len(again)


def test_nothing_is_changed_before_it_is_known_what_shares_the_traffic(
    site: Cutover, quick: CutoverPrograms
) -> None:
    site.cloud.dns.zones[ZONE].clear()
    with pytest.raises(Failed, match="no A record"):
        site.go(site.steps())
    assert quick.ran == []


def test_a_dashboard_that_is_none_is_told_before_anything_is_changed(
    store: SessionStore, tmp_path: Path, quick: CutoverPrograms
) -> None:
    site = Cutover(store, tmp_path, quick.cloud, dashboard=str(tmp_path / "none.yaml"))
    with pytest.raises(Failed, match=r"Make the dashboard: cannot read .*none\.yaml"):
        site.go(site.steps())
    assert (quick.ran, site.events()) == ([], [])


def test_the_old_cluster_may_be_in_another_region(
    store: SessionStore, tmp_path: Path, quick: CutoverPrograms
) -> None:
    site = Cutover(store, tmp_path, quick.cloud, old_cluster_region="europe-west1")
    plan = make_plan("cutover", site.steps(), site.world, "nobody")
    last = plan["steps"][-1]["actions"][0]["argv"]
    first = plan["steps"][0]["actions"][0]["argv"]
    assert "--region=europe-west1" in last
    assert "--region=us-central1" in first
    (new, old) = plan["steps"][1]["gate"]["actions"]
    assert 'location="us-central1"' in new["argv"][3]
    assert 'location="europe-west1"' in old["argv"][3]


def test_nobody_confirmed_so_the_cluster_stays_and_the_run_is_paused(site: Cutover) -> None:
    site.clients()
    with pytest.raises(Paused) as caught:
        site.go(site.steps())
    assert caught.value.exit_code == 12
    assert f"--confirm {CLUSTER}" in str(caught.value.hint)
    assert CLUSTER in site.cloud.clusters.clusters
    assert site.weights == {NEW: 100, OLD: 0}


def test_errors_on_cloud_run_give_the_old_cluster_all_traffic_again(site: Cutover) -> None:
    before = dict(site.cloud.dns.zones[ZONE][NAME, "A"])
    site.clients(errors=10)
    with pytest.raises(GateFailed) as caught:
        site.go(site.steps())
    assert caught.value.exit_code == 10
    assert site.cloud.dns.zones[ZONE][NAME, "A"] == before


@pytest.mark.parametrize("is_pinned", [False, True])
def test_after_the_way_back_the_service_is_as_it_was_and_another_cutover_can_begin(
    site: Cutover, quick: CutoverPrograms, is_pinned: bool
) -> None:
    run = CloudRun(PROJECT, "us-central1")
    if is_pinned:
        quick.run(run.percents_argv(GATEWAY, {REVISION: 100}))
    site.clients(errors=10)
    with pytest.raises(GateFailed):
        site.go(site.steps())
    service = run.describe(GATEWAY)
    assert service is not None
    assert (service.max_instances, service.session_affinity) == (None, False)
    assert service.follows_latest is not is_pinned
    assert (service.percents == {REVISION: 100}) is is_pinned
    assert site.steps()[0].precondition(site.world) is None


def test_what_somebody_deployed_meanwhile_gets_no_traffic_by_the_way_back(
    site: Cutover, quick: CutoverPrograms
) -> None:
    scale = site.steps()[0]
    before = scale.observe(site.world).facts
    for action in scale.actions(site.world):
        action.perform()
    other = site.cloud.run.deploy(GATEWAY, "gateway@sha256:" + "f" * 64)
    for action in scale.inverse(site.world, before):
        action.perform()
    assert site.cloud.run.percents(GATEWAY) == {REVISION: 100}
    assert f"the newest is {GATEWAY}" in str(scale.restored(site.world, before))
    assert "rollout under way" in str(scale.precondition(site.world))
    assert other in site.cloud.run.revisions


def test_errors_that_only_the_gateway_logs_are_counted(site: Cutover) -> None:
    """On Cloud Run its lines have no severity of their own."""
    site.clients()
    labels = {"service_name": GATEWAY, "revision_name": REVISION, "location": "us-central1"}
    for number in range(10):
        line = f"2026-01-02 03:04:05,678 coditect.gateway ERROR failed n={number}"
        site.cloud.logs.add({"type": "cloud_run_revision", "labels": labels}, textPayload=line)
    with pytest.raises(GateFailed, match="10 of 20 requests"):
        site.go(site.steps())


def test_a_record_that_was_weighted_before_is_weighted_again(site: Cutover) -> None:
    record = site.cloud.dns.zones[ZONE][NAME, "A"]
    del record["rrdatas"]
    items = [{"weight": 5, "rrdatas": [NEW]}, {"weight": 95, "rrdatas": [OLD]}]
    record["routingPolicy"] = {"wrr": {"items": items}}
    site.clients(errors=10)
    with pytest.raises(GateFailed):
        site.go(site.steps())
    assert site.weights == {NEW: 5, OLD: 95}
    assert site.cloud.dns.zones[ZONE][NAME, "A"]["ttl"] == 300


def test_a_failure_at_a_later_share_goes_back_all_the_way(
    site: Cutover, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.clients()
    record = site.cloud.dns.zones[ZONE]
    before = dict(record[NAME, "A"])
    patch = site.cloud.dns.patch

    def spoiled(request: object, match: object) -> object:
        answer = patch(request, match)  # type: ignore[arg-type]
        if site.weights.get(NEW) == 50:
            site.clients(errors=20)
        return answer

    monkeypatch.setattr(site.cloud.dns, "patch", spoiled)
    with pytest.raises(GateFailed, match="traffic-50"):
        site.go(site.steps())
    assert record[NAME, "A"] == before
    assert site.cloud.dashboards.dashboards == []
    assert CLUSTER in site.cloud.clusters.clusters


def test_the_way_back_is_one_shift_however_many_were_made(
    site: Cutover, quick: CutoverPrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dict(site.cloud.dns.zones[ZONE][NAME, "A"])
    site.clients()
    with pytest.raises(Paused):
        site.go(site.steps())  # nobody confirms the tear-down
    quick.ran.clear()
    with hold(site.store, site.run, "me") as lock:
        site.engine(lock, site.steps()).roll_back("asked", "to see")
    assert site.cloud.dns.zones[ZONE][NAME, "A"] == before
    # The shares, then the record's own form; the rest may take its time.
    assert quick.ran[:2] == [UPDATE, UPDATE]
    assert UPDATE not in quick.ran[2:]


def test_traffic_does_not_go_back_to_a_cluster_that_is_gone(
    site: Cutover, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.clients()
    confirming(site, monkeypatch)
    site.go(site.steps())
    with (
        hold(site.store, site.run, "me") as lock,
        pytest.raises(Conflict, match="there is no cluster websocket-gateway-cluster") as caught,
    ):
        site.engine(lock, site.steps()).roll_back("asked", "to see")
    assert caught.value.code == "migrate.no_way_back"
    assert site.weights == {NEW: 100, OLD: 0}
    assert site.state().state == "done"


def test_errors_on_both_sides_are_not_cloud_runs_fault(site: Cutover) -> None:
    site.clients(errors=5, old_errors=5)
    assert site.go(site.steps()[:2]).state == "done"
    assert site.weights == {NEW: 10, OLD: 90}


def test_too_few_clients_hold_and_never_shift_on(site: Cutover) -> None:
    site.clients(requests=4)
    with pytest.raises(Paused, match="4 requests of 5") as caught:
        site.go(site.steps())
    assert caught.value.exit_code == 12
    assert site.weights == {NEW: 10, OLD: 90}


def test_a_record_that_somebody_put_back_is_not_shifted_on(site: Cutover) -> None:
    site.clients(requests=4)
    with pytest.raises(Paused):
        site.go(site.steps())
    site.cloud.dns.add(ZONE, NAME, "A", OLD)
    site.clients()
    with pytest.raises(Paused, match="somebody moved the traffic"):
        site.go(site.steps())
    assert site.weights.keys() == {OLD}


def test_a_cluster_that_is_elsewhere_is_not_taken_for_torn_down(
    site: Cutover, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ("gcloud", "container", "clusters", "describe", CLUSTER)
    said = (
        "ERROR: (gcloud.container.clusters.describe) ResponseError: code=404, message=Not found\n"
        f"Could not find [{CLUSTER}] in [us-central1].\nDid you mean [{CLUSTER}] in [us-east1]?"
    )

    def run_json(*_: Any, **__: Any) -> Any:
        raise programs.failure(argv, 1, said)

    monkeypatch.setattr(programs, "run_json", run_json)
    with pytest.raises(Failed, match="us-east1") as caught:
        site.steps()[-1].needs(site.world)
    assert "--old-cluster-region" in str(caught.value.hint)


def test_a_way_back_that_the_record_does_not_show_is_told(
    site: Cutover, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.clients(errors=10)
    patch = site.cloud.dns.patch
    calls = []

    def once(request: object, match: object) -> object:
        calls.append(request)
        return patch(request, match) if len(calls) == 1 else {}  # type: ignore[arg-type]

    monkeypatch.setattr(site.cloud.dns, "patch", once)
    with pytest.raises(RollbackNotVerified, match="Cloud Run has 10 %, and had 0 %") as caught:
        site.go(site.steps())
    assert caught.value.exit_code == 11


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_through_gcloud(
    google: Cloud, store: SessionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Cutover(store, tmp_path, google, shifts=(100,), gate_interval=600.0)
    site.clients()
    asked = confirming(site, monkeypatch)
    assert site.go(site.steps()).state == "done"
    assert asked == [CLUSTER]
    assert site.weights == {NEW: 100, OLD: 0}
    assert google.clusters.clusters == {}
    assert len(google.dashboards.dashboards) == 1
    assert google.run.percents(GATEWAY) != {f"{GATEWAY}-00001-abc": 100}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_through_gcloud_and_back(google: Cloud, store: SessionStore, tmp_path: Path) -> None:
    site = Cutover(store, tmp_path, google, gate_interval=600.0)
    before = dict(google.dns.zones[ZONE][NAME, "A"])
    site.clients(errors=10)
    with pytest.raises(GateFailed, match="10 of 20 requests"):
        site.go(site.steps()[1:2])
    assert google.dns.zones[ZONE][NAME, "A"] == before
