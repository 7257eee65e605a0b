from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coditect_cli.paths import Paths
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.workspaces.local import LocalWorkspaces
from tests.conftest import RunCli
from tests.sessions.test_session import state
from tests.support.gateway import until


def document(output: str) -> dict[str, object]:
    parsed = json.loads(output)
    assert isinstance(parsed, dict)
    return parsed


def error_code(err: str) -> str:
    return str(json.loads(err.splitlines()[-1])["error"]["code"])


def test_a_workspace_from_creation_to_purge(run_cli: RunCli, paths: Paths) -> None:
    assert run_cli("workspace", "create", "demo") == (0, "workspace demo created\n", "")
    file = paths.workspaces / "demo" / "root" / "file"
    file.touch()
    assert run_cli("workspace", "list", "-o", "name") == (0, "demo\n", "")
    assert run_cli("workspace", "stop", "demo")[0] == 0
    assert run_cli("workspace", "wait", "demo", "--for", "stopped")[0] == 0
    assert run_cli("workspace", "start", "demo") == (0, "workspace demo runs\n", "")
    assert run_cli("workspace", "delete", "demo")[0] == 0
    assert run_cli("workspace", "wait", "demo", "--for", "deleted")[0] == 0
    assert file.exists()
    assert run_cli("workspace", "delete", "demo", "--purge", "--confirm", "demo")[0] == 0
    assert not file.exists()


def test_a_damaged_record_hides_no_other_and_can_be_purged(run_cli: RunCli, paths: Paths) -> None:
    for id in ("bad", "good"):
        run_cli("workspace", "create", id)
    (paths.workspaces / "bad" / "workspace.json").write_text("{")
    code, out, err = run_cli("workspace", "list", "-o", "json")
    items = json.loads(out)["items"]
    assert (code, [item["status"] for item in items]) == (0, ["damaged", "running"])
    assert items[0].keys() == items[1].keys()
    assert "record of workspace bad is damaged" in err
    assert run_cli("workspace", "list", "-o", "name")[1] == "bad\ngood\n"
    assert run_cli("workspace", "delete", "bad")[0] == 8
    assert run_cli("workspace", "delete", "bad", "--purge", "--confirm", "bad")[0] == 0
    assert run_cli("workspace", "list", "-o", "name") == (0, "good\n", "")


def test_a_context_of_a_gateway_elsewhere_touches_nothing_here(
    run_cli: RunCli, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_cli("context", "set", "far", "gateway_url=wss://gateway.example.com")
    lines = [("workspace", verb, "demo") for verb in ("create", "show", "start", "stop", "delete")]
    for line in (*lines, ("workspace", "list"), ("up", "demo")):
        code, out, err = run_cli(*line, "--context", "far", "-o", "json")
        assert (code, out, error_code(err)) == (2, "", "context.remote")
    assert not paths.workspaces.exists()
    for url in ("ws://127.0.0.1:1", "ws://[::1]:1", "ws://localhost:1", "ws+unix:/nowhere/s"):
        run_cli("context", "set", "near", f"gateway_url={url}")
        assert run_cli("workspace", "list", "--context", "near")[0] == 0
    monkeypatch.setenv("CODITECT_GATEWAY_URL", "wss://proxy.example.com")
    assert run_cli("workspace", "list", "--context", "far")[0] == 0


def test_an_empty_list_is_a_document_too(run_cli: RunCli) -> None:
    code, out, err = run_cli("workspace", "list", "-o", "json")
    assert (code, err) == (0, "")
    assert document(out) == {"apiVersion": "coditect/v1", "kind": "WorkspaceList", "items": []}


def test_scripts_can_repeat_themselves(run_cli: RunCli) -> None:
    run_cli("workspace", "create", "demo")
    code, out, err = run_cli("workspace", "create", "demo", "-o", "json")
    assert (code, out, error_code(err)) == (6, "", "workspace.exists")
    assert run_cli("workspace", "create", "demo", "--if-not-exists")[0] == 0
    for verb in ("stop", "delete"):
        code, out, err = run_cli("workspace", verb, "none", "-o", "json")
        assert (code, out, error_code(err)) == (3, "", "workspace.not_found")
        code, out, _ = run_cli("workspace", verb, "none", "--ignore-not-found", "-o", "json")
        assert (code, document(out)["status"]) == (0, "deleted")


@pytest.mark.parametrize("verb", ["create", "show", "start", "stop", "delete", "wait"])
def test_each_verb_checks_the_id(run_cli: RunCli, verb: str, home: Path) -> None:
    for id in ("../x", "Ä", "x" * 300):
        code, out, err = run_cli("workspace", verb, id, "-o", "json")
        assert (code, out, error_code(err)) == (2, "", "workspace.invalid_id")
    assert not home.exists()


def test_purge_needs_its_name(run_cli: RunCli, paths: Paths) -> None:
    run_cli("workspace", "create", "demo")
    purge = ("workspace", "delete", "demo", "--purge")
    for args, code in (((), "confirm.needed"), (("--yes",), "confirm.needed")):
        assert error_code(run_cli(*purge, *args, "-o", "json")[2]) == code
    status, _, err = run_cli(*purge, "--confirm", "demo2", "-o", "json")
    assert (status, error_code(err)) == (2, "confirm.mismatch")
    assert run_cli("workspace", "delete", "demo", "--confirm", "demo")[0] == 2
    assert (paths.workspaces / "demo" / "workspace.json").exists()


def test_a_purge_leaves_what_another_gateway_writes(
    run_cli: RunCli, paths: Paths, layer: SessionLayer
) -> None:
    run_cli("workspace", "create", "demo")
    layer.save(state())
    layer.acquire("demo", "s1", "elsewhere:digest#1-2", now=time.time_ns(), ttl=10**12)
    purge = ("workspace", "delete", "demo", "--purge", "--confirm", "demo", "-o", "json")
    status, _, err = run_cli(*purge)
    assert (status, error_code(err)) == (6, "session.leased")
    assert (paths.workspaces / "demo" / "workspace.json").exists()
    assert run_cli(*purge, "--force")[0] == 0
    assert layer.load("demo", "s1") == (None, None)


def test_a_purge_removes_what_is_saved_as_the_workspace_ends(
    run_cli: RunCli, layer: SessionLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_cli("workspace", "create", "demo")
    monkeypatch.setattr(LocalWorkspaces, "wait", lambda *_: layer.save(state()))
    assert run_cli("workspace", "delete", "demo", "--purge", "--confirm", "demo")[0] == 0
    assert layer.load("demo", "s1") == (None, None)


def test_a_wait_that_ends_unmet_is_124(run_cli: RunCli) -> None:
    run_cli("workspace", "create", "demo")
    code, out, err = run_cli(
        "workspace", "wait", "demo", "--for", "stopped", "--timeout", "0s", "-o", "json"
    )
    assert (code, out, error_code(err)) == (124, "", "workspace.timeout")
    assert run_cli("workspace", "wait", "none", "--timeout", "0s")[0] == 3
    assert run_cli("workspace", "wait", "demo", "--timeout", "soon")[0] == 2


def test_a_gateway_elsewhere_that_is_silent_stops_nothing(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_cli("workspace", "create", "demo")
    monkeypatch.setenv("CODITECT_GATEWAY_URL", "ws+unix:/nonexistent/socket")
    assert run_cli("workspace", "stop", "demo")[0] == 9
    assert run_cli("workspace", "delete", "demo")[0] == 9
    assert run_cli("workspace", "wait", "demo", "--timeout", "0s")[0] == 0


def test_stop_ends_what_runs_in_the_gateway(run_cli: RunCli) -> None:
    assert run_cli("up", "demo")[0] == 0
    sleeper = [sys.executable, "-m", "coditect_cli", "exec", "demo", "--", "sh", "-c"]
    with subprocess.Popen(
        [*sleeper, "echo $$; exec sleep 1000"], stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdout is not None
        pid = int(client.stdout.readline())
        shown = document(run_cli("workspace", "show", "demo", "-o", "json")[1])
        assert [session["pid"] for session in shown["sessions"]] == [pid]  # type: ignore[attr-defined]
        code, out, err = run_cli("workspace", "stop", "demo", "-o", "json")
        assert (code, out, error_code(err)) == (6, "", "workspace.in_use")
        assert run_cli("workspace", "delete", "demo")[0] == 6
        os.kill(pid, 0)
        assert run_cli("workspace", "wait", "demo", "--timeout", "0s")[0] == 0
        assert run_cli("workspace", "stop", "demo", "--force")[0] == 0
        until(lambda: not Path(f"/proc/{pid}").exists(), "the program's end")
        assert client.wait() != 0
    assert run_cli("exec", "demo", "--", "true")[0] == 6
    assert run_cli("workspace", "start", "demo")[0] == 0
    assert run_cli("gateway", "stop", "--force")[0] == 0


def test_a_dry_run_here_asks_no_cluster(
    run_cli: RunCli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODITECT_PROVIDER", "kubernetes")
    monkeypatch.setenv("CODITECT_KUBECONFIG", str(home / "none"))
    dry = ("workspace", "create", "demo", "--image", "image:v1", "--dry-run=client", "-o", "name")
    code, _, err = run_cli(*dry)
    assert (code, "--owner USER" in err) == (4, True)
    code, out, _ = run_cli(*dry, "--owner", "ada")
    assert (code, out.splitlines()[-1]) == (0, "statefulset/demo")
