from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coditect_cli.migrations import programs
from coditect_cli.migrations.journal import Journal, new_run_id, run_ids
from coditect_cli.migrations.lock import hold
from coditect_cli.paths import Paths
from coditect_cli.stores.sqlite import SQLiteStore
from tests.conftest import RunCli
from tests.migrations.quick import DIGEST, Programs
from tests.support.cloud import PROJECT, Cloud

GATEWAY = "websocket-gateway"
OLD, NEW = f"{GATEWAY}-00001-abc", f"{GATEWAY}-00002-abc"
RENEWED = f"{GATEWAY}-00003-abc"  # what the way back makes, as the old one was


class Desk:
    """A release engineer's machine: the command line, and the cloud behind it."""

    def __init__(self, run_cli: RunCli, folder: Path, paths: Paths) -> None:
        self.run_cli, self.paths = run_cli, paths
        self.cloud = Cloud()
        self.programs = Programs(self.cloud)
        folder.mkdir()
        (folder / "Dockerfile").touch()
        self.flags = [
            f"--source={folder}", "--tests=true", "--probe=true", "--bake=0", "--hold=0",
            "--min-requests=5", "--min-sessions=2",
        ]  # fmt: skip

    def run(self, *args: str) -> tuple[int, str, str]:
        return self.run_cli("migrate", *args)

    def phase1(self, *args: str) -> tuple[int, str, str]:
        return self.run("phase1", *self.flags, *args)

    def held(self) -> str:
        """A run that a gate holds: nothing was logged."""
        code, _, err = self.phase1()
        assert (code, "0 new sessions of 2" in err) == (12, True), err
        return str(self.document("status")["items"][-1]["id"])

    def document(self, *args: str) -> Any:
        code, out, err = self.run(*args, "-o", "json")
        assert code == 0, err
        return json.loads(out)

    @property
    def traffic(self) -> dict[str, int]:
        return self.cloud.run.percents(GATEWAY)


@pytest.fixture
def desk(
    run_cli: RunCli, tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    monkeypatch.delenv("CLOUDSDK_CORE_PROJECT", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    desk = Desk(run_cli, tmp_path / "source", paths)
    monkeypatch.setattr(programs, "run", desk.programs.run)
    monkeypatch.setattr(programs, "run_json", desk.programs.run_json)
    desk.cloud.run.deploy(GATEWAY, "old@sha256:" + "a" * 64)
    yield desk
    desk.cloud.server.close()


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


def test_a_setting_may_change_when_a_run_goes_on_if_nothing_done_depends_on_it(desk: Desk) -> None:
    for revision in (OLD, NEW):
        desk.cloud.logs.serve(GATEWAY, revision, requests=3, errors=0, sessions=1)
    for entry in desk.cloud.logs.entries:
        entry["timestamp"] = "2126-01-01T00:00:00Z"
    code, _, err = desk.phase1()
    assert (code, "1 new sessions of 2; 3 requests of 5" in err) == (12, True), err
    for pair in ("region=europe-west1", "old_metrics=http://h/", "min_requests", "hold=x"):
        code, _, err = desk.run("resume", "--set", pair)
        assert code == 2, err
    assert "min_requests" in err or "hold is not" in err
    code, _, err = desk.run("resume", "--set", "min_requests=3", "--set", "min_sessions=1")
    assert code == 0, err
    run = desk.document("status")["items"][-1]["id"]
    journal = desk.document("status", run, "--journal")["items"]
    (resumed,) = (event for event in journal if event["type"] == "run.resumed")
    assert resumed["data"]["settings"] == {"min_requests": 3, "min_sessions": 1}


def test_a_whole_run_and_its_status(desk: Desk) -> None:
    for revision in (OLD, NEW):
        desk.cloud.logs.serve(GATEWAY, revision, requests=20, errors=0, sessions=5)
    for entry in desk.cloud.logs.entries:
        entry["timestamp"] = "2126-01-01T00:00:00Z"
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


def test_a_run_in_another_store_is_found_with_the_same_flag(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was begun with --store, and nothing but a setting could find it again."""
    monkeypatch.setenv("CODITECT_MIGRATE_STORE", "foundationdb")
    there = ("--store", "sqlite")
    code, _, err = desk.phase1(*there)
    assert code == 12, err
    (hint,) = (line for line in err.splitlines() if line.startswith("hint: "))
    run = desk.document("status", *there)["items"][0]["id"]
    assert f"coditect migrate resume {run} --store sqlite looks again" in hint
    for args, expected in (
        (("status", run), 0),
        (("lock", "show"), 3),
        (("pause",), 6),
        (("resume",), 12),
        (("approve", "--reason", "x"), 0),
        (("reject", "--reason", "x"), 0),
        (("rollback",), 0),
    ):
        code, _, err = desk.run(*args, *there)
        assert code == expected, (args, err)
    code, _, err = desk.run("status", "--store", "elsewhere")
    assert (code, "foundationdb" in err) == (2, True)


def test_the_journal_of_the_newest_run_is_shown_also_when_it_is_over(desk: Desk) -> None:
    desk.held()
    assert desk.run("rollback")[0] == 0
    assert desk.document("status", "--journal")["items"][-1]["type"] == "rollback.done"


def test_a_way_back_that_goes_on_is_one(desk: Desk) -> None:
    back = {"cause": "asked", "reason": "support complains", "to": None}
    run = _begun(desk, "rollback.started", **back)
    store = SQLiteStore(desk.paths.session_store)
    with hold(store, run, "me"):
        Journal(store, run, "me").append("run.resumed", settings={})
        assert desk.document("status", run)["state"] == "rolling back"
    store.close()


def test_what_the_way_back_needs_is_kept_and_not_shown(desk: Desk) -> None:
    """A ConfigMap that phase 2 changes was once printed whole, with the secrets in it."""
    variables = [{"name": "API_TOKEN", "value": "s3cr3t"}, {"name": "MODE", "value": "fast"}]
    whole = {"changed": {"a": {"data": {"DB_PASSWORD": "s3cr3t"}, "env": variables}}}
    run = _begun(desk)
    store = SQLiteStore(desk.paths.session_store)
    Journal(store, run, "me").append("step.started", "a", 1, whole=whole, before={}, detail="")
    kept = Journal(store, run, "").new_events()[-1].data["whole"]
    store.close()
    assert kept == whole
    for form in ("json", "ndjson", "yaml", "table"):
        code, out, _ = desk.run("status", run, "--journal", "-o", form)
        assert (code, "s3cr3t" in out, "fast" in out) == (0, False, True)


def test_a_saved_plan_runs_only_while_it_holds(desk: Desk, tmp_path: Path) -> None:
    file = str(tmp_path / "plan.json")
    assert desk.phase1("--plan-file", file)[0] == 0
    assert desk.programs.ran == []
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


def test_a_held_run_is_decided_by_a_person(desk: Desk) -> None:
    run = desk.held()
    assert desk.traffic == {OLD: 90, NEW: 10}
    assert desk.run("status", "--wait-for", "paused")[0] == 0
    assert desk.run("status", "--wait-for", "done")[0] == 12
    code, _, err = desk.phase1()
    assert (code, f"coditect migrate resume {run}" in err) == (6, True)
    assert desk.run("approve")[0] == 2
    assert desk.run("approve", "--reason", "quiet night")[0] == 0
    assert desk.run("approve", "--reason", "quiet night")[0] == 6
    assert desk.run("resume", run)[0] == 0
    assert desk.traffic == {NEW: 100}


def test_a_rejected_run_goes_back(desk: Desk) -> None:
    desk.held()
    code, out, _ = desk.run("reject", "--reason", "support complains")
    assert (code, "acts on it" in out) == (0, True)
    code, _, err = desk.run("resume")
    assert (code, "support complains" in err) == (10, True)
    assert desk.traffic == {RENEWED: 100}


def test_rollback_to_a_step_and_on_again(desk: Desk) -> None:
    run = desk.held()
    assert desk.run("rollback", "--to", "nothing")[0] == 6
    code, out, _ = desk.run("rollback", "--to", "probe-staging")
    assert (code, out) == (0, f"{run} is paused\n")
    assert desk.traffic == {RENEWED: 100}
    assert desk.run("resume")[0] == 12
    assert desk.traffic[RENEWED] == 90


def test_only_one_runs_at_a_time(desk: Desk) -> None:
    run = desk.held()
    store = SQLiteStore(desk.paths.session_store)
    with hold(store, run, "colleague@elsewhere"):
        for args in (("resume",), ("rollback",), ("phase1", *desk.flags, "--new-run")):
            code, _, err = desk.run(*args)
            assert (code, "colleague@elsewhere" in err) == (6, True)
        shown = desk.document("lock", "show")
        assert (shown["run"], shown["held"]) == (run, True)
        assert desk.run("lock", "break")[0] == 2
        assert desk.run("lock", "break", "--confirm", "another")[0] == 2
        assert desk.run("lock", "break", "--confirm", run)[0] == 0
        assert desk.run("lock", "show")[0] == 3
    assert desk.run("resume")[0] == 12
    assert "lock.broken" in [event.type for event in Journal(store, run, "").new_events()]
    store.close()


def test_a_lock_whose_holder_began_no_run_leaves_none_when_it_is_broken(desk: Desk) -> None:
    store = SQLiteStore(desk.paths.session_store)
    run = new_run_id("phase1", time.time_ns())
    with hold(store, run, "colleague@elsewhere"):
        assert desk.run("lock", "break", "--confirm", run)[0] == 0
    store.close()
    assert desk.document("status")["items"] == []
    for args in (["resume"], ["resume", run], ["status", "--wait-for", "done"]):
        assert desk.run(*args)[0] == 3, args


def test_a_run_that_was_paused_between_two_steps_is_rejected(desk: Desk) -> None:
    run = _begun(desk, "run.paused")
    assert desk.run("approve", "--reason", "x")[0] == 6
    code, out, err = desk.run("reject", "--reason", "not today")
    assert (code, f"{run} is rejected" in out) == (0, True), err
    events = desk.document("status", run, "--journal")["items"]
    assert events[-1]["type"] == "rejected"


def test_what_rolls_back_does_not_pause(desk: Desk) -> None:
    back = {"cause": "asked", "reason": "support complains", "to": None}
    run = _begun(desk, "rollback.started", **back)
    store = SQLiteStore(desk.paths.session_store)
    with hold(store, run, "me"):
        code, _, err = desk.run("pause")
    store.close()
    assert (code, "is rolling back: support complains" in err) == (6, True)


def _begun(desk: Desk, *types: str, **data: Any) -> str:
    """A run that began, and then this."""
    store = SQLiteStore(desk.paths.session_store)
    id = new_run_id("phase1", time.time_ns())
    journal = Journal(store, id, "me")
    journal.append("run.started", phase="phase1", settings={}, target={}, steps=["a"])
    for type in types:
        journal.append(type, **data)
    store.close()
    return id


def test_a_run_whose_process_is_gone_is_interrupted(desk: Desk) -> None:
    id = _begun(desk)
    assert desk.document("status", id)["state"] == "interrupted"
    assert desk.run("pause")[0] == 6
    assert desk.run("status", "--wait-for", "done")[0] == 8


def test_pause_stops_a_run_that_waits(desk: Desk) -> None:
    desk.flags[-4:-2] = ["--bake=1h", "--hold=0"]
    outcome: list[tuple[int, str, str]] = []
    thread = threading.Thread(target=lambda: outcome.append(desk.phase1()))
    thread.start()
    while not outcome and "bake" not in json.dumps(_events(desk)):
        time.sleep(0.05)
    code, _, err = desk.run("status", "--wait-for", "rollout", "--timeout", "10ms")
    assert (code, "not rollout" in err) == (124, True)
    assert desk.run("pause")[0] == 0
    thread.join()
    assert (outcome[0][0], "is paused" in outcome[0][2]) == (12, True)
    assert desk.document("status")["items"][0]["state"] == "paused"


def _events(desk: Desk) -> list[Any]:
    if not desk.paths.session_store.exists():
        return []
    store = SQLiteStore(desk.paths.session_store)
    try:
        return [
            [event.type, event.step]
            for id in run_ids(store)
            for event in Journal(store, id, "").new_events()
            if event.type == "bake.started"
        ]
    finally:
        store.close()


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
        entry = {"name": "here", "context": {"cluster": kubeconfig}}
        document = {"current-context": "here", "contexts": [entry]}
        Path(os.environ["KUBECONFIG"]).write_text(json.dumps(document))
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
    code, _, err = desk.phase1(flag)
    assert (code, said in err) == (2, True), err
    assert desk.programs.ran == []
    assert not desk.paths.session_store.exists()


def test_the_settings_of_a_run_are_those_that_it_began_with(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.held()
    monkeypatch.setenv("CODITECT_MIGRATE_SERVICE", "another-service")
    desk.run("approve", "--reason", "fine")
    assert desk.run("resume")[0] == 0
    assert desk.traffic == {NEW: 100}
    assert desk.cloud.run.image(NEW).endswith(DIGEST)


def test_another_context_does_not_resume_it(desk: Desk) -> None:
    desk.held()
    desk.run_cli("context", "set", "far", "store=sqlite")
    code, _, err = desk.run("resume", "--context", "far")
    assert (code, "--context local" in err) == (6, True)


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
