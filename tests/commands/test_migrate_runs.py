from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from coditect_cli.migrations.journal import Journal, new_run_id, run_ids
from coditect_cli.migrations.lock import hold
from coditect_cli.stores.sqlite import SQLiteStore
from tests.commands.desk import NEW, OLD, RENEWED, Desk
from tests.migrations.quick import DIGEST


def test_a_setting_may_change_when_a_run_goes_on_if_nothing_done_depends_on_it(desk: Desk) -> None:
    desk.serve(requests=3, sessions=1)
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


def test_a_held_run_is_decided_by_a_person(desk: Desk) -> None:
    run = desk.held()
    assert desk.traffic == {OLD: 90, NEW: 10}
    assert desk.run("status", "--wait-for", "paused")[0] == 0
    assert desk.run("status", "--wait-for", "done")[0] == 12
    code, _, err = desk.phase1()
    assert (code, f"coditect migrate resume {run}" in err) == (6, True)
    assert desk.run("approve")[0] == 2
    code, _, err = desk.run("approve", "--reason", " ")
    assert (code, "--reason is empty" in err) == (2, True)
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
    assert desk.run("rollback", "--to", "nothing")[0] == 2
    code, out, _ = desk.run("rollback", "--to", "probe-staging")
    assert (code, out) == (0, f"{run} is paused\n")
    assert desk.traffic == {RENEWED: 100}
    assert desk.run("resume")[0] == 12
    assert desk.traffic[RENEWED] == 90


def test_a_run_goes_on_in_the_folder_where_it_began(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another folder's Dockerfile was once built, and rolled out, by a resume in that folder."""
    began, other = tmp_path / "source", tmp_path / "other"
    other.mkdir()
    (other / "Dockerfile").write_text("FROM another\n")
    monkeypatch.chdir(began)
    desk.flags[0] = "--source=."
    run = desk.held()
    assert desk.run("rollback", "--to", "test-bridge")[0] == 0
    monkeypatch.chdir(other)
    code, _, err = desk.run("resume")
    assert (code, f"folder    {began}, where it began" in err) == (12, True), err
    assert "other files than before" not in err
    assert (Path.cwd(), desk.run("rollback", "--to", "test-bridge")[0]) == (began, 0)

    monkeypatch.chdir(other)
    code, _, err = desk.run("resume", "--set", "source=.")
    assert (code, "other files than before for push-image" in err) == (12, True), err
    began.rename(tmp_path / "moved")
    monkeypatch.chdir(other)
    code, _, err = desk.run("resume")
    assert (code, f"folder    this one: {began}, where it began, can't be entered" in err) == (
        12,
        True,
    ), err
    assert desk.document("status", run)["state"] == "held"


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


def test_the_settings_of_a_run_are_those_that_it_began_with(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.held()
    monkeypatch.setenv("CODITECT_MIGRATE_SERVICE", "another-service")
    desk.run("approve", "--reason", "fine")
    assert desk.run("resume")[0] == 0
    assert desk.traffic == {NEW: 100}
    assert desk.cloud.run.image(NEW).endswith(DIGEST)


def test_a_hint_names_the_context_that_was_chosen(desk: Desk) -> None:
    assert desk.run_cli("context", "set", "prod", "migrate.bake=0s")[0] == 0
    code, _, err = desk.phase1("--context", "prod")
    run = desk.document("status")["items"][0]["id"]
    assert (code, f"coditect migrate resume {run} --context prod looks again" in err) == (12, True)
    _, out, _ = desk.run("approve", run, "--context", "prod", "--reason", "x")
    assert f"coditect migrate resume {run} --context prod acts on it" in out
    code, _, err = desk.run("resume", run, "--context", "prod")
    assert code == 0, err


def test_another_context_does_not_resume_it(desk: Desk) -> None:
    desk.held()
    desk.run_cli("context", "set", "far", "store=sqlite")
    code, _, err = desk.run("resume", "--context", "far")
    assert (code, "--context local" in err) == (6, True)
