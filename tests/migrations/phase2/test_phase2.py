"""Phase 2's steps on a real control plane; gcloud and the canary's commands are stood for."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import yaml

from coditect_cli.errors import (
    CoditectError,
    Conflict,
    Failed,
    NotAuthenticated,
    RollbackNotVerified,
    TimedOut,
)
from coditect_cli.kube import Kube
from coditect_cli.migrations import phase2
from coditect_cli.migrations.phase2.workloads import check_workloads
from coditect_cli.migrations.plan import make_plan
from coditect_cli.migrations.run import Run
from coditect_cli.migrations.settings import MigrateSettings
from coditect_cli.migrations.step import World
from coditect_cli.settings import Settings
from tests.migrations.phase2.conftest import CLUSTER, FILE, Field
from tests.migrations.phase2.dying import TARGET
from tests.migrations.toy import any_user
from tests.support.cloud import PROJECT
from tests.support.gateway import until


def test_it_makes_everything_that_a_workspace_needs(field: Field) -> None:
    run = field.go(field.steps())
    assert run.state == "done"
    assert list(field.cloud.clusters.clusters) == [CLUSTER]
    assert field.secret() == FILE
    service = field.get("/api/v1//services/workspace-service")
    assert service["spec"]["clusterIP"] == "None"
    assert service["metadata"]["managedFields"][0]["manager"] == "coditect"
    assert [words.split()[0] for words in field.programs.ran] == ["gcloud", *["env"] * 4]


def gateway_image(field: Field) -> str:
    pod = field.get("/apis/apps/v1//deployments/gateway")["spec"]["template"]["spec"]
    return str(pod["containers"][0]["image"])


def test_the_gateway_runs_the_projects_image_or_the_one_that_was_chosen(field: Field) -> None:
    field.go(field.steps())
    assert gateway_image(field) == f"gcr.io/{PROJECT}/gateway:latest"
    chosen = "registry.example.com/gateway@sha256:" + "a" * 64
    field.use(field.store, field.folder, gateway_image=chosen)
    field.go(field.steps())
    assert gateway_image(field) == chosen


def test_a_gateway_that_does_not_start_is_named(field: Field) -> None:
    field.use(field.store, field.folder, gateway_image="missing")
    world = replace(field.world, settings=replace(field.world.settings, ready_timeout=0.0))
    for step in phase2.steps(world)[:-1]:
        for action in step.actions(world):
            action.perform()
    words = r"Deployment gateway has 0 of \d pods ready \(ErrImagePull: missing: not found\)"

    def told() -> bool:
        with pytest.raises(TimedOut) as caught:
            check_workloads(world).perform()
        return re.search(words, caught.value.message) is not None

    until(told, "the node to say why")


def test_what_is_there_already_is_left_alone_and_survives_the_way_back(field: Field) -> None:
    field.go(field.steps())
    field.use(field.store, field.folder)
    run = field.go(field.steps())
    statuses = {name: step.status for name, step in run.steps.items()}
    assert set(statuses.values()) == {"already so", "done"}
    assert [name for name, status in statuses.items() if status == "done"] == ["verify"]
    field.roll_back()
    assert field.secret() == FILE
    assert list(field.cloud.clusters.clusters) == [CLUSTER]


def test_a_standard_cluster_of_that_name_is_not_taken_for_it(field: Field) -> None:
    field.cloud.clusters.add(CLUSTER)
    field.cloud.clusters.clusters[CLUSTER]["autopilot"] = {}
    plan = make_plan("phase2", field.steps(), field.world, "nobody")
    assert plan["steps"][0]["status"] == "to do"
    assert "not Autopilot" in plan["steps"][0]["precondition"]
    with pytest.raises(Failed, match="not Autopilot"):
        field.go(field.steps())
    assert not field.is_there


def test_the_way_back_removes_what_the_run_made(field: Field) -> None:
    field.go(field.steps())
    field.roll_back()
    assert not field.is_there
    assert field.cloud.clusters.clusters == {}
    assert field.state().state == "rolled back"


CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}


@pytest.mark.parametrize(
    ("plural", "content"),
    [("persistentvolumeclaims", {"spec": CLAIM}), ("configmaps", {}), ("secrets", {})],
)
def test_the_way_back_stops_at_what_others_keep_there_by_now(
    field: Field, plural: str, content: dict[str, Any]
) -> None:
    field.go(field.steps())
    path = f"/api/v1/namespaces/{field.namespace}/{plural}"
    field.cluster.request("POST", path, {"metadata": {"name": "theirs"}, **content})
    with pytest.raises(RollbackNotVerified, match=r"holds \w+ theirs, .* holds") as caught:
        field.roll_back()
    assert caught.value.exit_code == 11
    assert field.is_there
    assert list(field.cloud.clusters.clusters) == [CLUSTER]


def test_another_cluster_file_is_replaced_only_when_asked_and_can_come_back(
    field: Field,
) -> None:
    field.go(field.steps())
    other = FILE.replace("a1b2c3d4", "ffffffff")
    field.file.write_text(other)
    field.use(field.store, field.folder)
    with pytest.raises(Failed, match="--replace-secret") as caught:
        field.go(field.steps())
    assert "a1b2c3d4" not in caught.value.message
    assert field.events() == []  # no run is in the way of the command that does it
    assert field.secret() == FILE
    field.use(field.store, field.folder, replace_secret=True)
    field.go(field.steps())
    assert field.secret() == other
    assert field.secret("fdb-cluster-previous") == FILE
    field.roll_back()
    assert field.secret() == FILE
    assert field.secret("fdb-cluster-previous") is None


def test_the_cluster_file_is_in_no_journal_and_no_plan(field: Field) -> None:
    field.go(field.steps())
    plan = make_plan("phase2", field.steps(), field.world, "nobody")
    for told in (str(plan), str([event.as_dict() for event in field.events()])):
        assert "a1b2c3d4" not in told


@pytest.mark.parametrize(
    "content", ["", "nothing", "a:b@", "a:b@host", "a:b@h:1\nc:d@h:1", "a:b@h:1;x", "\xff" * 20_000]
)
def test_a_file_that_is_no_cluster_file_is_refused_before_the_cluster(
    field: Field, content: str
) -> None:
    field.file.write_text(content)
    with pytest.raises(Failed, match="cluster file"):
        field.go(field.steps())
    assert (field.cloud.clusters.clusters, field.programs.ran, field.events()) == ({}, [], [])


def test_without_a_token_for_the_canary_nothing_begins(field: Field) -> None:
    def user_of(workspace_id: str) -> str:
        raise NotAuthenticated(f"there is no token for {workspace_id}")

    field.world = replace(field.world, user_of=user_of)
    with pytest.raises(NotAuthenticated, match="migration-canary"):
        field.go(field.steps())
    assert (field.cloud.clusters.clusters, field.programs.ran, field.events()) == ({}, [], [])


def manifests(field: Field, kind: str = "ConfigMap", **data: str) -> None:
    """A folder with one ConfigMap, which the run applies."""
    folder = field.folder / "manifests"
    folder.mkdir(exist_ok=True)
    item = {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": "limits", "namespace": "coditect"},
        "data": data,
    }
    service = phase2.manifests.folder() / "base" / "workspace-service.yaml"
    (folder / "limits.yaml").write_text(yaml.safe_dump(item))
    (folder / "service.yaml").write_text(service.read_text())
    field.use(field.store, field.folder, manifests=str(folder))


def test_fields_that_somebody_else_set_are_shown_one_by_one(field: Field) -> None:
    manifests(field, sessions="10", idle="1h")
    field.go(field.steps())
    path = f"/api/v1/namespaces/{field.namespace}/configmaps/limits"
    field.cluster.patch(path + "?fieldManager=alice", {"data": {"sessions": "99"}})
    manifests(field, sessions="20", idle="2h")
    with pytest.raises(Failed, match=r'\.data\.sessions: conflict with "alice"') as caught:
        field.go(field.steps())
    assert ".data.idle" not in caught.value.message
    assert field.get("/api/v1//configmaps/limits")["data"] == {"sessions": "99", "idle": "1h"}


def test_what_was_changed_is_put_back_as_it_was(field: Field) -> None:
    manifests(field, sessions="10")
    field.go(field.steps())
    manifests(field, sessions="20", idle="1h")
    plan = make_plan("phase2", field.steps(), field.world, "nobody")
    changed = f"0 missing, 1 to change (ConfigMap {field.namespace}/limits)"
    assert plan["steps"][4]["now"].endswith(changed)
    field.go(field.steps())
    assert field.get("/api/v1//configmaps/limits")["data"] == {"sessions": "20", "idle": "1h"}
    field.roll_back()
    assert field.get("/api/v1//configmaps/limits")["data"] == {"sessions": "10"}


LIMITS = "/api/v1//configmaps/limits"


def test_what_comes_back_is_all_of_what_was(field: Field) -> None:
    """Also what looks like a secret, and what is long; but kubectl's copy of it is not kept."""
    said = "--token-file=/run/keys/token " + "0123456789" * 1_000
    manifests(field, flags=said)
    field.go(field.steps())
    path = f"/api/v1/namespaces/{field.namespace}/configmaps/limits"
    note = "kubectl.kubernetes.io/last-applied-configuration"
    field.cluster.patch(path, {"metadata": {"annotations": {note: "{}", "team": "x" * 5_000}}})
    manifests(field, flags="--none")
    field.go(field.steps())
    field.roll_back()
    assert field.get(LIMITS)["data"] == {"flags": said}
    assert field.get(LIMITS)["metadata"]["annotations"] == {note: "{}", "team": "x" * 5_000}
    assert note not in str([event.as_dict() for event in field.events()])


def test_a_way_back_that_changed_nothing_is_told(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests(field, sessions="10")
    field.go(field.steps())
    manifests(field, sessions="20")
    field.go(field.steps())
    monkeypatch.setattr(Kube, "replace", lambda *_: {})
    with pytest.raises(RollbackNotVerified, match=r"ConfigMap \S+/limits is not as it was"):
        field.roll_back()


def test_a_secret_that_differs_is_in_no_journal_and_stays(field: Field) -> None:
    manifests(field, "Secret", key="b25lb25l")
    field.go(field.steps())
    manifests(field, "Secret", key="dHdvdHdv")
    with pytest.raises(Failed, match=r"limits is another one: .*by hand"):
        field.go(field.steps())
    assert field.get("/api/v1//secrets/limits")["data"] == {"key": "b25lb25l"}
    assert "b25lb25l" not in str([event.as_dict() for event in field.events()])


def test_a_kustomization_that_asks_for_more_is_refused(field: Field) -> None:
    manifests(field, sessions="10")
    text = "resources: [limits.yaml]\npatches: []\n"
    (field.folder / "manifests" / "kustomization.yaml").write_text(text)
    with pytest.raises(CoditectError, match="patches") as caught:
        field.go(field.steps())
    assert "kubectl kustomize" in str(caught.value.hint)


def test_a_plan_without_a_cluster_has_every_step_and_says_what_it_could_not_see(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(field.folder / "none"))
    settings = MigrateSettings(project=PROJECT, cluster_file=str(field.file))

    @cache
    def kube() -> Kube:
        return Kube(Settings(kubeconfig=str(field.folder / "none")))

    world = World(settings, TARGET, kube, any_user)
    plan = make_plan("phase2", phase2.steps(world), world, "nobody")
    steps = {step["name"]: step for step in plan["steps"]}
    assert list(steps) == ["cluster", "credentials", "namespace", "secret", "manifests", "verify"]
    assert steps["cluster"]["actions"][0]["argv"][:5] == [
        "gcloud", "container", "clusters", "create-auto", CLUSTER,
    ]  # fmt: skip
    assert steps["namespace"]["unobserved"]
    assert "apply Service coditect/workspace-service" in str(steps["manifests"]["actions"])
    assert "workspace" in steps["verify"]["actions"][1]["argv"]
    assert not field.is_there


def test_the_namespace_is_waited_for_until_it_is_gone(field: Field) -> None:
    field.go(field.steps())
    field.roll_back()
    until(lambda: not field.is_there, "the namespace to be gone")
    run: Run = field.state()
    assert run.steps["namespace"].status == "undone"


def test_a_workspace_that_was_there_is_not_taken_for_the_canary(field: Field) -> None:
    field.go(field.steps()[:-1])
    taken = {**STATEFUL_SET, "metadata": {"name": "migration-canary"}}
    path = f"/apis/apps/v1/namespaces/{field.namespace}/statefulsets"
    field.cluster.request("POST", path, taken)
    field.use(field.store, field.folder)
    field.programs.ran.clear()
    with pytest.raises(Conflict, match="there is a workspace migration-canary"):
        field.go(field.steps())
    field.roll_back()
    assert field.programs.ran == []
    field.cluster.request("DELETE", f"{path}/migration-canary")


def test_what_an_earlier_attempt_made_is_removed_before_the_next(field: Field) -> None:
    """A canary whose image was not found would otherwise be waited for again."""
    made = phase2.steps(field.world)[-1]
    world = replace(field.world, outputs={})
    assert "delete" not in made.actions(world)[0].text
    world.outputs.update(made.actions(world)[0].perform())
    again = made.actions(world)
    assert "workspace delete migration-canary" in again[0].text
    world.outputs.update(again[0].perform())
    assert "delete" not in made.actions(world)[0].text  # it is gone, so nothing is ours


STATEFUL_SET = {
    "metadata": {"name": "demo"},
    "spec": {
        "serviceName": "workspace-service",
        "selector": {"matchLabels": {"app": "workspace"}},
        "template": {
            "metadata": {"labels": {"app": "workspace"}},
            "spec": {"containers": [{"name": "workspace", "image": "runs"}]},
        },
    },
}
SLICE = {
    "metadata": {
        "name": "demo",
        "labels": {"kubernetes.io/service-name": "workspace-service"},
    },
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["10.0.0.9"]}],
}


def test_workloads_that_are_not_ready_are_named(field: Field) -> None:
    field.go(field.steps())
    space = f"namespaces/{field.namespace}"
    field.cluster.request("POST", f"/apis/apps/v1/{space}/statefulsets", STATEFUL_SET)
    world = replace(field.world, settings=replace(field.world.settings, ready_timeout=0.0))
    with pytest.raises(TimedOut, match="StatefulSet demo has 0 of 1 pods ready"):
        check_workloads(world).perform()
    field.cluster.request("POST", f"/apis/discovery.k8s.io/v1/{space}/endpointslices", SLICE)
    assert check_workloads(field.world).perform() == {"workloads": 1}
    field.cluster.request("DELETE", f"/api/v1/{space}/services/workspace-service")
    with pytest.raises(TimedOut, match="there is no Service workspace-service"):
        check_workloads(world).perform()
    field.cluster.request("DELETE", f"/apis/apps/v1/{space}/statefulsets/demo")
