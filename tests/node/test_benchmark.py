"""`scripts/bench cluster` adds every row; what it measures is not judged here."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.support.platform import NAMESPACE, Platform

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(1200)]

ROWS = {
    "create: kubectl apply, kubectl wait",
    "create: coditect workspace create",
    "echo p50: coditect attach: edge and pod",
    "echo p50: kubectl exec -it",
    "kubectl get sts, 20 workspaces",
    "coditect workspace list, 20 workspaces",
    "coditect workspace list: memory",
}


def test_a_quick_run_adds_every_row(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts" / "benchmark"))
    cluster = importlib.import_module("cluster")
    table = importlib.import_module("table").Table()
    try:
        cluster.Bench(platform, tmp_path, table, cluster.QUICK).run()
    finally:
        for kind, api in (("statefulsets", "apis/apps/v1"), ("persistentvolumeclaims", "api/v1")):
            platform.cluster.request("DELETE", f"/{api}/namespaces/{NAMESPACE}/{kind}")
    assert {row["what"] for row in table.rows} >= ROWS
    assert all(row["value"] > 0 for row in table.rows)
