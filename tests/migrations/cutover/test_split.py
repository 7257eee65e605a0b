"""Shares by DNS and by URL map: read, changed and put back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coditect_cli.errors import Failed, NotFound
from coditect_cli.migrations.cutover.dns import WeightedRecord, read_record
from coditect_cli.migrations.cutover.shift import Shift
from coditect_cli.migrations.cutover.url_map import UrlMap
from coditect_cli.migrations.plan import make_plan
from coditect_cli.migrations.report import plan_text
from coditect_cli.stores.store import SessionStore
from tests.migrations.cutover.conftest import NAME, NEW, OLD, ZONE, Cutover
from tests.migrations.cutover.quick import CutoverPrograms
from tests.support.cloud import Cloud

VIA_MAP = {
    "traffic_via": "url-map",
    "url_map": "lb",
    "new_backend": "new-backend",
    "old_backend": "old-backend",
}


def weighted(*items: tuple[float, list[str]]) -> dict[str, Any]:
    return {
        "name": NAME,
        "ttl": 60,
        "routingPolicy": {
            "wrr": {"items": [{"weight": weight, "rrdatas": data} for weight, data in items]}
        },
    }


@pytest.mark.parametrize(
    ("record", "share", "old"),
    [
        ({"rrdatas": [OLD], "ttl": 300}, 0, [OLD]),
        ({"rrdatas": [OLD, "192.0.2.2"], "ttl": 300}, 0, [OLD, "192.0.2.2"]),
        ({"rrdatas": [NEW], "ttl": 300}, 100, [NEW]),
        (weighted((0.1, [NEW]), (0.9, [OLD])), 10, [OLD]),
        (weighted((100, [NEW]), (0, [OLD])), 100, [OLD]),
        (weighted((1, [OLD])), 0, [OLD]),
    ],
)
def test_a_records_share_is_read(record: dict[str, Any], share: int, old: list[str]) -> None:
    facts = read_record(record, NEW)
    assert (facts["share"], facts["old_data"]) == (share, old)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"name": NAME, "routingPolicy": {"geo": {}}}, "not WRR"),
        (weighted((1, [NEW]), (1, [OLD]), (1, ["192.0.2.3"])), "leads to 2 targets"),
        (weighted((1, [NEW])), "leads to 0 targets"),
    ],
)
def test_a_record_that_is_not_shared_in_two_is_left_alone(
    record: dict[str, Any], message: str
) -> None:
    with pytest.raises(Failed, match=message):
        read_record(record, NEW)


def test_a_share_that_was_passed_already_is_not_taken_back(site: Cutover) -> None:
    site.cloud.dns.zones[ZONE][NAME, "A"] = weighted((50, [NEW]), (50, [OLD]))
    assert Shift(25, 0).observe(site.world).is_done
    assert not Shift(75, 0).observe(site.world).is_done


def test_what_is_missing_is_named_and_the_plan_is_still_there(
    store: SessionStore, tmp_path: Path, quick: CutoverPrograms
) -> None:
    site = Cutover(store, tmp_path, quick.cloud, dns_zone=None, dns_new=None)
    step = Shift(10, 0)
    assert "pass --dns-zone, --dns-new" in str(step.precondition(site.world))
    assert "--zone={dns_zone}" in step.actions(site.world)[0].text
    _, *planned, _ = make_plan("cutover", site.steps(), site.world, "nobody")["steps"]
    shifts = [one for one in planned if one["name"] != "dashboard"]
    assert {one["status"] for one in shifts} == {"unknown"}
    assert all("pass --dns-zone, --dns-new" in one["unobserved"] for one in shifts)


def test_a_record_that_is_not_there_is_told(site: Cutover) -> None:
    site.cloud.dns.zones[ZONE].clear()
    assert "no A record in zone" in str(Shift(10, 0).precondition(site.world))
    with pytest.raises(NotFound):
        WeightedRecord().look(site.world)


def test_a_plan_tells_the_weights_that_a_map_gets(
    store: SessionStore, tmp_path: Path, quick: CutoverPrograms
) -> None:
    """They go by stdin: all shifts of a plan once looked the same."""
    site = Cutover(store, tmp_path, quick.cloud, **VIA_MAP)
    plan = make_plan("cutover", site.steps(), site.world, "nobody")
    shifts = [step for step in plan["steps"] if step["name"].startswith("traffic-")]
    given = [step["actions"][0]["stdin"] for step in shifts]
    assert [text.rpartition("weights ")[2] for text in given] == [
        f"new-backend={share}, old-backend={100 - share}" for share in (10, 25, 50, 75, 100)
    ]
    assert "the default old-backend" in shifts[0]["inverse"][0]["stdin"]
    assert "# stdin: the map as it is, but with the weights new-backend=75" in plan_text(plan)
    site.go(site.steps()[:1])
    Shift(10, 0).actions(site.world)[0].perform()
    plan = make_plan("cutover", site.steps(), site.world, "nobody")
    assert "new-backend=10, old-backend=90" in plan["steps"][3]["inverse"][0]["stdin"]


def test_a_map_that_routes_by_path_is_left_alone(
    store: SessionStore, tmp_path: Path, quick: CutoverPrograms
) -> None:
    site = Cutover(store, tmp_path, quick.cloud, **VIA_MAP)
    quick.cloud.url_maps.maps["lb"]["pathMatchers"] = [{"name": "ws"}]
    assert "by hand" in str(Shift(10, 0).precondition(site.world))
    quick.cloud.url_maps.maps["lb"] |= {"pathMatchers": [], "defaultService": "global/x/third"}
    assert "leads to third too" in str(Shift(10, 0).precondition(site.world))


@pytest.mark.slow
def test_a_map_is_shared_and_put_back_through_gcloud(
    google: Cloud, store: SessionStore, tmp_path: Path
) -> None:
    world = Cutover(store, tmp_path, google, **VIA_MAP).world
    split = UrlMap()
    assert split.missing(world) == []
    google.url_maps.maps["lb"]["description"] = "ours"
    before = split.look(world)
    assert before["share"] == 0
    for action in split.shift(world, 10, before):
        action.perform()
    assert google.url_maps.weights("lb") == {"new-backend": 10, "old-backend": 90}
    assert split.look(world)["share"] == 10
    for action in split.back(world, before):
        action.perform()
    assert split.look(world) == before
    assert google.url_maps.maps["lb"]["description"] == "ours"
