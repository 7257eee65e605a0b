"""What a wait concludes from what it sees, without a cluster: the cases that are hard to stage."""

from __future__ import annotations

from typing import Any

import pytest

from coditect_cli.kube_watch import Change
from coditect_cli.workspaces import scene
from coditect_cli.workspaces.scene import Scene

SET: dict[str, Any] = {"metadata": {"uid": "s", "generation": 1}, "spec": {"replicas": 1}}


def pod(*conditions: dict[str, str], **metadata: object) -> dict[str, Any]:
    owners = [{"uid": "s"}]
    return {
        "metadata": {"uid": "p", "ownerReferences": owners, **metadata},
        "status": {"conditions": list(conditions)},
    }


def event(reason: str, uid: str, message: str, count: int = 1) -> dict[str, Any]:
    return {
        "metadata": {"uid": f"e-{reason}"},
        "involvedObject": {"uid": uid},
        "reason": reason,
        "message": message,
        "count": count,
    }


def seen(**objects: dict[str, Any]) -> Scene:
    found = Scene("demo", "team")
    for key, value in objects.items():
        found.apply(Change(key, "LIST", {"items": [value]}))
    return found


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}


def test_a_pod_that_is_ending_or_another_ones_is_not_ready() -> None:
    ready = {"type": "Ready", "status": "True"}
    assert seen(set=SET, pod=pod(ready)).is_ready()
    assert not seen(set=SET, pod=pod(ready, deletionTimestamp="now")).is_ready()
    assert not seen(set=SET, pod=pod(ready, ownerReferences=[{"uid": "old"}])).is_ready()


def test_an_old_quota_is_no_reason_and_a_new_one_is() -> None:
    started_again = {**SET, "metadata": {"uid": "s", "generation": 3}}
    words = "exceeded quota: q"
    found = seen(set=started_again)
    found.apply(Change("events", "LIST", {"items": [event("FailedCreate", "s", words)]}))
    assert found.hopeless() is None
    found.apply(Change("events", "MODIFIED", event("FailedCreate", "s", words, count=2)))
    error = found.hopeless()
    assert error is not None
    assert error.code == "kube.quota"


def test_no_node_is_hopeless_after_a_moment_and_not_while_one_is_added(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(scene.time, "monotonic", lambda: now)
    alone, scaled, in_vain = (seen(set=SET, pod=pod(UNSCHEDULABLE)) for _ in range(3))
    in_vain.apply(Change("events", "ADDED", event("NotTriggerScaleUp", "p", "1 max reached")))
    for each in (alone, scaled, in_vain):
        assert each.hopeless() is None
    now = scene.SETTLE
    assert [each.hopeless() is None for each in (alone, scaled, in_vain)] == [True, True, False]
    scaled.apply(Change("events", "ADDED", event("TriggeredScaleUp", "p", "1 node")))
    now = scene.SCALER
    error = alone.hopeless()
    assert error is not None
    assert error.code == "workspace.unschedulable"
    assert scaled.hopeless() is None


def test_events_of_an_earlier_workspace_are_not_told() -> None:
    made = {"metadata": SET["metadata"] | {"creationTimestamp": "2026-01-02T00:00:00Z"}}
    before = event("Killing", "p", "Stopping") | {"lastTimestamp": "2026-01-01T23:59:59Z"}
    since = event("Started", "p", "Started") | {"eventTime": "2026-01-02T00:00:00.123456Z"}
    found = seen()
    assert found.apply(Change("events", "LIST", {"items": [before, since]})) == []
    assert found.apply(Change("set", "LIST", {"items": [made]})) == [since]
    assert found.apply(Change("set", "MODIFIED", made)) == []


def test_how_a_workspace_that_runs_was_started_is_not_told() -> None:
    found = seen(set=SET | {"status": {"readyReplicas": 1}})
    started = event("Started", "p", "Started")
    assert found.apply(Change("events", "LIST", {"items": [started]})) == []
    ended = event("Killing", "p", "Stopping")
    assert found.apply(Change("events", "ADDED", ended)) == [ended]


def test_a_start_that_was_seen_is_told_also_where_its_events_come_last() -> None:
    found = seen(set=SET)
    found.apply(Change("set", "MODIFIED", SET | {"status": {"readyReplicas": 1}}))
    started = event("Started", "p", "Started")
    assert found.apply(Change("events", "LIST", {"items": [started]})) == [started]


def test_an_event_is_new_once() -> None:
    found = seen(set=SET)
    started = event("Started", "p", "Started")
    assert found.apply(Change("events", "ADDED", started)) == [started]
    assert found.apply(Change("events", "LIST", {"items": [started]})) == []


def test_the_event_with_the_reason_is_quoted_not_the_one_that_repeats_it() -> None:
    state = {"waiting": {"reason": "ErrImagePull", "message": "short"}}
    pulling = pod()
    pulling["status"]["containerStatuses"] = [{"state": state}]
    found = seen(set=SET, pod=pulling)
    why = event("Failed", "p", 'Failed to pull image "x": refused')
    again = event("Failed", "p", "Error: ErrImagePull")
    again["metadata"] = {"uid": "e-again"}
    found.apply(Change("events", "ADDED", again))
    error = found.hopeless()
    assert error is not None
    assert error.message.endswith("ErrImagePull: short")
    found.apply(Change("events", "ADDED", why))
    error = found.hopeless()
    assert error is not None
    assert "Failed to pull image" in error.message
