"""`coditect migrate PHASE --plan`, --plan-file and --from-plan."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from coditect_cli.migrations import driving, programs
from tests.commands.desk import GATEWAY, OLD, Desk
from tests.support.cloud import PROJECT

RUN, RUN_JSON = programs.run, programs.run_json  # what the desk has a stand-in for


def test_a_plan_shows_each_step_and_touches_nothing(desk: Desk) -> None:
    document = desk.document("phase1", *desk.flags, "--plan")
    assert document["kind"] == "MigrationPlan"
    names = [step["name"] for step in document["steps"]]
    assert names == [
        "test-bridge", "push-image", "deploy-staging", "probe-staging", "canary", "bake", "rollout",
    ]  # fmt: skip
    canary = document["steps"][4]
    assert canary["status"] == "to do"
    assert canary["actions"][1]["argv"][:5] == [
        "gcloud", "run", "services", "update-traffic", GATEWAY,
    ]  # fmt: skip
    assert f"--to-revisions={OLD}=100" in canary["inverse"][0]["argv"]
    assert document["target"]["project"] == PROJECT
    assert document["target"]["projectSource"] == "gcloud config"
    assert desk.programs.ran == []
    assert not desk.paths.session_store.exists()
    code, out, _ = desk.phase1("--plan")
    assert (code, "$ gcloud run services update-traffic" in out) == (0, True)


def test_a_plan_says_whom_its_lock_keeps_out(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FDB_CLUSTER_FILE", "/etc/shared.cluster")
    for store, who in (("sqlite", "this user"), ("foundationdb", "FoundationDB of /etc/shared")):
        _, out, _ = desk.phase1("--plan", "--store", store)
        assert who in next(line for line in out.splitlines() if "excludes" in line)


def test_a_plan_that_cannot_look_still_has_every_step(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coditect_cli.errors import NotAuthenticated

    def refuse(*args: object, **kwargs: object) -> None:
        raise NotAuthenticated("you have no active account selected")

    monkeypatch.setattr(programs, "run_json", refuse)
    steps = desk.document("phase1", *desk.flags, "--plan")["steps"]
    assert len(steps) == 7
    assert steps[4]["status"] == "unknown"
    assert steps[4]["unobserved"] == "you have no active account selected"
    assert steps[4]["actions"]
    code, out, _ = desk.phase1("--project", PROJECT)
    assert (code, out) == (4, "")


def test_a_plan_without_a_network_asks_gcloud_once(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gcloud = tmp_path / "bin" / "gcloud"
    gcloud.parent.mkdir()
    gcloud.write_text(
        f"#!/bin/sh\necho $1 >> {tmp_path}/asked\n[ $1 = config ] && exec echo '{{}}'\n"
        "echo 'ERROR: gcloud crashed (ProxyError): Unable to connect to proxy' >&2; exit 1\n"
    )
    gcloud.chmod(0o755)
    monkeypatch.setattr(programs, "run", RUN)
    monkeypatch.setattr(programs, "run_json", RUN_JSON)
    monkeypatch.setenv("PATH", f"{gcloud.parent}:{os.environ['PATH']}")
    document = desk.document("phase1", *desk.flags, "--docker=true", "--project=acme-dev", "--plan")
    looked = [step for step in document["steps"] if step["unobserved"] is not None]
    assert len(looked) >= 3
    assert all("Unable to connect to proxy" in step["unobserved"] for step in looked)
    assert (tmp_path / "asked").read_text().split() == ["config", "run"]


def test_a_plan_does_not_wait_at_each_look_for_a_cluster_that_does_not_answer(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig = {
        "contexts": [{"name": "ops", "context": {"cluster": "theirs"}}],
        "clusters": [{"name": "theirs", "cluster": {"server": "https://127.0.0.1:1"}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    monkeypatch.setattr(driving, "PATIENCE", 0.1)
    code, out, err = desk.run("phase2", "--kube-context=ops", "--plan", "-o", "json")
    assert (code, "trying again" in err) == (0, False), err
    steps = json.loads(out)["steps"]
    for step in steps[2:5]:
        assert "not done in time: the cluster at https://127.0.0.1:1" in step["unobserved"]
        assert step["actions"]


def test_a_saved_plan_runs_only_while_it_holds(desk: Desk, tmp_path: Path) -> None:
    file = str(tmp_path / "plan.json")
    assert desk.phase1("--plan-file", file)[0] == 0
    assert desk.programs.ran == []
    code, _, err = desk.phase1("--plan-file", str(tmp_path / "no" / "plan.json"))
    assert (code, f"there is no folder {tmp_path / 'no'}" in err) == (8, True)
    for asked in (["--plan"], ["--plan-file", f"{file}2"]):  # this once began a run
        assert desk.phase1("--from-plan", file, *asked)[0] == 2
    assert (desk.programs.ran, Path(f"{file}2").exists()) == ([], False)
    code, _, err = desk.phase1("--from-plan", file, "--canary-percent", "50")
    assert (code, "canary_percent: 10 is now 50" in err) == (6, True)
    desk.cloud.run.deploy(GATEWAY, "newer@sha256:" + "d" * 64)
    code, _, err = desk.phase1("--from-plan", file)
    assert (code, "step canary: its way back changed" in err) == (6, True)
    assert desk.programs.ran == []
    assert desk.phase1("--plan-file", file)[0] == 0
    assert desk.phase1("--from-plan", file)[0] == 12
    for content in ("", "{}", "[1]", '{"steps": [1]}', '{"steps": 7}'):
        Path(file).write_text(content)
        assert desk.phase1("--from-plan", file)[0] == 2, content


def test_a_saved_plan_is_run_with_the_flags_that_it_was_made_with(
    desk: Desk, tmp_path: Path
) -> None:
    """They had to be given once more, each of them, to the letter."""
    file = str(tmp_path / "plan.json")
    desk.serve(requests=20, sessions=5)
    assert desk.phase1("--canary-percent=50", "--plan-file", file)[0] == 0
    code, _, err = desk.run("phase1", "--from-plan", file, "--canary-percent=10")
    assert (code, "canary_percent: 50 is now 10" in err) == (6, True)
    code, _, err = desk.run("phase1", "--from-plan", file)
    assert code == 0, err
    assert "--to-tags=pty-fix=50" in err
    plan = json.loads(Path(file).read_text())
    Path(file).write_text(json.dumps({**plan, "flags": {"bake": 0}}))
    assert desk.run("phase1", "--from-plan", file)[0] == 2


def test_a_saved_plan_does_not_outlive_a_change_of_what_it_sends(
    desk: Desk, tmp_path: Path
) -> None:
    """The plan of an image was once run with another source than the one that was looked at."""
    source = tmp_path / "source"
    for name in ("a.py", "b.py"):
        (source / name).write_text("1")
    file = str(source / "plan.json")  # it is in the folder, and no part of what was planned
    assert desk.phase1("--plan-file", file)[0] == 0
    assert (source / "plan.json").exists()
    (source / "a.py").write_text("2")
    (source / "b.py").unlink()
    (source / "c.py").touch()
    code, _, err = desk.phase1("--from-plan", file)
    assert code == 6
    for moved in ("a.py changed", "b.py is gone", "c.py is new"):
        assert f"{source}/{moved}" in err
    assert desk.programs.ran == []
    assert desk.phase1("--plan-file", file)[0] == 0
    assert desk.phase1("--from-plan", file)[0] == 12


def test_a_plan_shows_what_a_gate_looks_at_and_by_what_it_decides(desk: Desk) -> None:
    bake = desk.document("phase1", *desk.flags, "--plan")["steps"][5]
    assert bake["gate"]["actions"][0]["argv"][:3] == ["gcloud", "logging", "read"]
    assert (bake["gate"]["minSessions"], bake["gate"]["maxErrorIncrease"]) == (2, 0.01)
    _, out, _ = desk.phase1("--plan")
    assert "   $ gcloud logging read '(resource.type=" in out
    assert "passes from 2 new sessions and 5 requests on, fails at a rate" in out
    assert "more than 1.00% above" in out


def test_each_step_of_a_plan_has_its_expected_time(desk: Desk) -> None:
    desk.programs.run(["gcloud", "run", "deploy", f"{GATEWAY}-staging", "--image=x", "--tag=t"])
    _, out, _ = desk.phase1("--plan")
    heads = [line for line in out.splitlines() if line[:1].isdigit()]
    assert len(heads) == 7
    assert all(" takes about " in line for line in heads)


def test_a_plan_without_a_project_says_so_and_shows_what_it_could_not_look_at(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "run_json", lambda *_, **__: {})
    document = desk.document("phase1", *desk.flags, "--plan")
    assert {step["unobserved"] for step in document["steps"]} == {"there is no project to look at"}
    assert document["target"]["project"] is None
    for phase in ("phase1", "phase2", "cutover"):
        code, out, _ = desk.run(phase, "--plan")
        assert (code, "None" in out) == (0, False)
        assert "project   not known" in out
        assert "A run would stop: there is no project" in out
        assert "--project={project}" in out


def test_a_plan_opens_with_the_regions_of_clusters_that_are_elsewhere(desk: Desk) -> None:
    for phase, flag, said in (
        ("phase2", "--cluster-region", "us-central1, the cluster in europe-west1"),
        ("cutover", "--old-cluster-region", "us-central1, the old cluster in europe-west1"),
    ):
        _, out, _ = desk.run(phase, "--plan", flag, "europe-west1")
        assert f"  region    {said}\n" in out
        assert "--region=europe-west1" in out
    _, out, _ = desk.phase1("--plan")
    assert "  region    us-central1\n" in out
