"""scripts/bench runs to its end and prints every row; what it measures is not judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parent.parent / "scripts" / "benchmark"

ROWS = [
    "python -c pass",
    "coditect --version",
    "coditect --help",
    "coditect workspace list",
    "up to first prompt, no gateway yet",
    "up to first prompt, gateway runs",
    "echo p50: bare PTY",
    "echo p99: coditect attach",
    "bulk: coditect attach",
    "bulk: our socket",
    "Ctrl-C in a flood: coditect attach",
    "redraw after 4 MB",
    "resume after kill -9 of the bridge",
    "attach after kill -9 of it all, others: worst",
]


STORE_ROWS = [
    "bare SQLite cursor, 2,000 sessions",
    "decoding of their JSON what a listing shows",
    "session list --all -o ndjson, decoding apart",
    "session list --all -o ndjson: memory",
    "keys ls -o ndjson",
    "keys du",
    "session list ID",
    "session list ID, asking a gateway",
    "20 distinct workspaces",
    "one durable save",
    "one restore",
]


def run(tmp_path: Path, *args: str) -> str:
    return subprocess.run(
        [sys.executable, str(BENCHMARK), *args, "--quick"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.slow
def test_a_quick_run_prints_every_row_and_leaves_nothing(home: Path, tmp_path: Path) -> None:
    report = json.loads(run(tmp_path, "--json"))
    rows = {row["what"]: row for row in report["rows"]}
    for name in ROWS:
        row = rows[name]
        assert row["value"] > 0
        assert set(row) == {"what", "value", "unit", "ratio", "than", "goal", "met"}
    assert rows["python -c pass"]["ratio"] == 1
    assert not list(tmp_path.glob("coditect-bench-*"))


def test_a_quick_run_on_the_store_prints_every_row_and_leaves_nothing(
    home: Path, tmp_path: Path
) -> None:
    report = json.loads(run(tmp_path, "store", "--json"))
    rows = {row["what"] for row in report["rows"]}
    assert rows.issuperset(STORE_ROWS)
    assert not list(tmp_path.glob("coditect-bench-*"))
