from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.commands.desk import NEW, RENEWED, Desk
from tests.support.cloud import PROJECT


def test_a_whole_run_and_its_status(desk: Desk) -> None:
    desk.serve(requests=20, sessions=5)
    code, out, err = desk.phase1()
    assert code == 0, err
    assert out.endswith(" is done\n")
    assert f"project   {PROJECT} (gcloud config)" in err
    assert "canary: gcloud run deploy" in err
    assert desk.traffic == {NEW: 100}
    (run,) = desk.document("status")["items"]
    assert (run["phase"], run["state"]) == ("phase1", "done")
    assert [step["status"] for step in run["steps"]] == ["done"] * 7
    events = desk.document("status", run["id"], "--journal")["items"]
    assert (events[0]["type"], events[-1]["type"]) == ("run.started", "run.done")
    assert events[0]["data"]["settings"]["secret_name"] == "fdb-cluster"
    assert desk.run("status", "--wait-for", "done", run["id"])[0] == 0
    assert desk.run("status", "--wait-for", "canary", run["id"])[0] == 0
    assert desk.run("status", "--wait-for", "done")[0] == 0  # it may be over before one looks
    assert desk.run("resume", run["id"])[0] == 6
    assert desk.run("resume")[0] == 3
    assert desk.run("rollback", run["id"])[0] == 0
    assert desk.traffic == {RENEWED: 100}
    assert desk.run("rollback", run["id"])[0] == 6


def test_ndjson_is_the_journal_and_ends_with_the_result(desk: Desk) -> None:
    code, out, err = desk.phase1("-o", "ndjson")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 12
    assert [line["type"] for line in lines[:2]] == ["run.started", "step.started"]
    assert lines[-1]["type"] == "result"
    assert (lines[-1]["state"], lines[-1]["error"]["exitCode"]) == ("held", 12)
    assert json.loads(err.splitlines()[-1])["error"]["code"] == "migrate.held"


def results(out: str) -> list[Any]:
    return [line for line in map(json.loads, out.splitlines()) if line["type"] == "result"]


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("--canary-percent=0",), "settings.invalid"),
        (("--project=other-project",), "migrate.target"),
        (("--from-plan=/nowhere",), "migrate.plan"),
        (("--source=/nowhere",), "migrate.precondition"),
    ],
)
def test_ndjson_ends_with_a_result_also_where_no_run_began(
    desk: Desk, args: tuple[str, ...], code: str
) -> None:
    status, out, err = desk.phase1("-o", "ndjson", *args)
    (result,) = results(out)
    assert (result["id"], result["phase"], result["state"]) == (None, "phase1", None)
    assert result["error"]["exitCode"] == status
    assert result["error"] == json.loads(err.splitlines()[-1])["error"]
    assert out.count("\n") == 1


def test_ndjson_ends_with_one_result_whatever_is_refused_later(desk: Desk) -> None:
    for args in (["resume"], ["rollback", "phase1-20260131T120000-0a1b2c"]):
        status, out, _ = desk.run(*args, "-o", "ndjson")
        assert (status, len(results(out))) == (3, 1)
    desk.held()
    status, out, _ = desk.phase1("-o", "ndjson")
    assert (status, results(out)[0]["error"]["code"]) == (6, "migrate.unfinished")
    status, out, _ = desk.run("resume", "-o", "ndjson")
    assert (status, len(results(out))) == (12, 1)
    assert json.loads(out.splitlines()[-1])["state"] == "held"


def test_ndjson_ends_with_a_result_also_after_a_second_interrupt(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = desk.programs._answer

    def impatient(argv: list[str]) -> str:
        if argv[:2] == ["docker", "build"]:
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)
        return answer(argv)

    monkeypatch.setattr(desk.programs, "_answer", impatient)
    status, out, _ = desk.phase1("-o", "ndjson")
    last = json.loads(out.splitlines()[-1])
    assert (status, last["type"], last["error"]["exitCode"]) == (130, "result", 130)
    assert (last["state"], last["step"]) == ("interrupted", "push-image")


EXEC = {"apiVersion": "client.authentication.k8s.io/v1", "command": "/nowhere"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_a_session_stops_a_run_at_a_safe_point(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """A terminal that was closed once killed the run, and gcloud in the middle of a change."""
    answer = desk.programs._answer

    def ended_before(argv: list[str]) -> str:
        if argv[:2] == ["docker", "version"]:  # as each step is asked for what it needs
            signal.raise_signal(number)
        return answer(argv)

    monkeypatch.setattr(desk.programs, "_answer", ended_before)
    status, _, err = desk.phase1()
    assert (status, "stopped before anything was done" in err) == (130, True)
    assert desk.document("status")["items"] == []

    def ended(argv: list[str]) -> str:
        if argv[:2] == ["docker", "build"]:
            signal.raise_signal(number)
        return answer(argv)

    monkeypatch.setattr(desk.programs, "_answer", ended)
    assert desk.phase1()[0] == 130
    journal = desk.document("status", "--journal")["items"]
    assert [one["type"] for one in journal[-2:]] == ["action.done", "run.interrupted"]


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        ((), 6),
        (("--cluster=theirs",), 6),  # in another region
        (("--cluster=theirs", "--cluster-region=europe-west1"), 8),  # it lacks a file, no more
    ],
)
def test_the_chosen_context_leads_to_the_cluster_that_is_made(
    desk: Desk, tmp_path: Path, flags: tuple[str, ...], status: int
) -> None:
    """One cluster was made, and all was put into another one."""
    theirs = f"gke_{PROJECT}_europe-west1_theirs"
    kubeconfig = {
        "contexts": [{"name": "ops", "context": {"cluster": theirs, "user": "u"}}],
        "clusters": [{"name": theirs, "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"exec": EXEC}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    asked = ["phase2", "--kube-context=ops", f"--cluster-file={tmp_path}/none", *flags]
    code, _, err = desk.run(*asked)
    assert (code, "--kube-context leads to theirs in europe-west1" in err) == (status, status == 6)
    disagreement = desk.document(*asked, "--plan")["disagreement"]
    assert (disagreement is None) == (status != 6)
    assert desk.programs.ran == []


def test_phase2_begins_with_no_token_that_names_no_user(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was found out when the cluster had been made, and all was in it."""
    plugin = tmp_path / "bin" / "gke-gcloud-auth-plugin"
    plugin.parent.mkdir()
    plugin.touch(0o755)
    monkeypatch.setenv("PATH", f"{plugin.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("CODITECT_TOKEN", "x")
    file = tmp_path / "fdb.cluster"
    file.write_text("description:id@10.0.0.1:4500")
    status, _, err = desk.run("phase2", "--cluster-file", str(file))
    assert (status, "it has no user_id" in err) == (4, True), err
    assert desk.programs.ran == []
    assert desk.document("status")["items"] == []


def write_kubeconfig(file: Path, cluster: str) -> None:
    entry = {"name": "here", "context": {"cluster": cluster}}
    file.write_text(json.dumps({"current-context": "here", "contexts": [entry]}))


def test_a_contexts_own_kubeconfig_is_gclouds_too(desk: Desk, tmp_path: Path) -> None:
    write_kubeconfig(Path(os.environ["KUBECONFIG"]), "another")
    write_kubeconfig(tmp_path / "own", "its-own")
    assert desk.run_cli("context", "set", "local", f"kubeconfig={tmp_path / 'own'}")[0] == 0
    document = desk.document("phase2", "--cluster-file=none", "--plan")
    assert document["target"]["cluster"] == "its-own"
    assert os.environ["KUBECONFIG"] == str(tmp_path / "own")  # what programs get


@pytest.mark.parametrize(
    ("context", "kubeconfig", "said"),
    [
        ("other-project", None, "gcloud's is acme-dev"),
        (None, "gke_other-project_us-central1_coditect-cluster", "is in other-project"),
    ],
)
def test_targets_that_disagree_stop_it(
    desk: Desk, context: str | None, kubeconfig: str | None, said: str
) -> None:
    if context is not None:
        assert desk.run_cli("context", "set", "local", f"migrate.project={context}")[0] == 0
    if kubeconfig is not None:
        write_kubeconfig(Path(os.environ["KUBECONFIG"]), kubeconfig)
    code, out, err = desk.phase1()
    assert (code, out, said in err) == (6, "", True)
    assert desk.programs.ran == []
    assert said in desk.document("phase1", *desk.flags, "--plan")["disagreement"]


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--canary-percent=0", "percentage"),
        ("--project=-x", "project"),
        ("--service=../x", "name"),
        ("--region=us central", "name"),
        ("--bake=soon", "duration"),
        ("--image=gcr.io/x:tag", "with no tag"),
        ("--tests=run --token=abcdefgh", "looks like a secret"),
    ],
)
def test_a_bad_value_is_refused_before_anything(desk: Desk, flag: str, said: str) -> None:
    for more in ([], ["--plan"]):
        code, out, err = desk.phase1(flag, *more)
        assert (code, out, said in err) == (2, "", True), err
    assert desk.programs.ran == []
    assert not desk.paths.session_store.exists()


def test_the_probe_finds_a_service_by_the_settings_of_the_context(desk: Desk) -> None:
    """The script looked for names of its own, in gcloud's project."""
    desk.run_cli("context", "set", "local", "migrate.staging_service=elsewhere")
    code, _, err = desk.run_cli("gateway", "probe", "--service", "staging")
    assert (code, "there is no service elsewhere in us-central1" in err) == (3, True), err
    desk.cloud.run.address = "http://127.0.0.1:1"
    desk.cloud.run.deploy("elsewhere", "gateway@sha256:" + "a" * 64)
    code, _, err = desk.run_cli("gateway", "probe", "--service", "staging")
    assert (code, "ws://127.0.0.1:1/ws" in err) == (9, True), err
    code, _, err = desk.run_cli("gateway", "probe", "--service", "staging", "--url", "ws://x/")
    assert (code, "give only one" in err) == (2, True)
