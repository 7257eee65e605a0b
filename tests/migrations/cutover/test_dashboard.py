"""The dashboard shows what the gateways export, and is made once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from coditect_cli.errors import Failed
from coditect_cli.gateway.metrics import EdgeMetrics
from coditect_cli.migrations.cutover.dashboard import MakeDashboard, file_of, title_of
from coditect_cli.stores.store import SessionStore
from tests.migrations.cutover.conftest import Cutover
from tests.migrations.cutover.quick import CutoverPrograms

NOT_SHOWN = {"coditect_build_info", "coditect_start_time_seconds"}


def test_it_shows_what_the_edge_gateways_export(site: Cutover) -> None:
    metrics = EdgeMetrics()
    metrics.refuse("x", 401)
    page = metrics.expose(connections=0, pods=0, version="1")
    exported = set(re.findall(r"^# TYPE (\w+)", page, re.M))
    shown = file_of(site.world).read_text()
    assert set(re.findall(r"\bcoditect_\w+", shown)) == exported - NOT_SHOWN
    [grouped] = re.findall(r"by \((\w+)\) \(rate\(coditect_refused_total", shown)
    assert f'coditect_refused_total{{{grouped}="x"}}' in page


def test_no_tile_lies_on_another(site: Cutover) -> None:
    layout = yaml.safe_load(file_of(site.world).read_text())["mosaicLayout"]
    cells = [
        (x, y)
        for tile in layout["tiles"]
        for x in range(tile.get("xPos", 0), tile.get("xPos", 0) + tile["width"])
        for y in range(tile.get("yPos", 0), tile.get("yPos", 0) + tile["height"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < layout["columns"]


def test_one_that_was_there_is_neither_made_nor_removed(site: Cutover) -> None:
    title = title_of(file_of(site.world))
    site.cloud.dashboards.dashboards.append(
        {"name": "projects/p/dashboards/d", "displayName": title}
    )
    step = MakeDashboard()
    seen = step.observe(site.world)
    assert seen.is_done
    assert step.inverse(site.world, seen.facts) == ()


@pytest.mark.parametrize("text", ["", "[]", "displayName: 1", "a: [", None])
def test_a_file_that_is_no_dashboard_is_an_error(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "d.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(Failed, match=re.escape(str(file))):
        title_of(file)


def test_a_file_of_ones_own_is_taken(
    store: SessionStore, tmp_path: Path, quick: CutoverPrograms
) -> None:
    file = tmp_path / "d.yaml"
    world = Cutover(store, tmp_path, quick.cloud, dashboard=str(file)).world
    assert str(file) in str(MakeDashboard().precondition(world))
    file.write_text("displayName: Ours")
    assert MakeDashboard().precondition(world) is None
    assert f"--config-from-file={file}" in MakeDashboard().actions(world)[0].text
