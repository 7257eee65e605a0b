from __future__ import annotations

import json

from coditect_cli.paths import Paths
from tests.conftest import RunCli


def test_all_is_well(run_cli: RunCli) -> None:
    code, out, err = run_cli("doctor", "-o", "json")
    document = json.loads(out)
    assert (code, err, document["ok"]) == (0, "", True)
    assert all(set(item) == {"check", "status", "message", "fix"} for item in document["items"])


def test_a_failed_check_ends_8_with_the_whole_report(run_cli: RunCli, paths: Paths) -> None:
    run_cli("token", "issue", "--workspace", "demo")
    paths.key_file.chmod(0o644)
    code, out, err = run_cli("doctor", "-o", "json")
    document = json.loads(out)
    assert (code, err, document["ok"]) == (8, "", False)
    table = run_cli("doctor")[1]
    assert f"chmod 600 {paths.key_file}" in table
    assert len(table.splitlines()) == len(document["items"]) + 1
