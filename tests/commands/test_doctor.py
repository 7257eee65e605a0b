from __future__ import annotations

import json
import os

from coditect_cli.paths import Paths
from tests.conftest import RunCli
from tests.support.terminal import Terminal


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


def test_a_store_that_cannot_be_used_is_found(run_cli: RunCli, paths: Paths) -> None:
    paths.session_store.parent.mkdir(parents=True, mode=0o700)
    paths.session_store.write_bytes(b"not a database, but a text of some length" * 100)
    code, out, _ = run_cli("doctor", "-o", "json")
    found = next(item for item in json.loads(out)["items"] if item["check"] == "store")
    assert (code, found["status"]) == (8, "fail")
    assert "is damaged" in found["message"]


def test_on_a_terminal_a_fix_stands_below_what_it_is_for(run_cli: RunCli, paths: Paths) -> None:
    run_cli("token", "issue", "--workspace", "demo")
    paths.key_file.chmod(0o644)
    with Terminal(["doctor"], dict(os.environ)) as terminal:
        assert terminal.wait() == 8
        lines = bytes(terminal.seen).decode().splitlines()
    assert lines[0].split() == ["CHECK", "STATUS", "FOUND"]
    (fix,) = (line for line in lines if line.strip().startswith("fix: if nobody did, run:"))
    assert fix.startswith(" " * lines[0].index("FOUND"))
    assert all(len(line) <= 80 for line in lines if str(paths.config.parent) not in line)
