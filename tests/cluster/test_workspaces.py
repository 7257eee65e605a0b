"""`coditect workspace` on a real control plane: what only Kubernetes has, and how it fails."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pytest
import yaml

from coditect_cli.workspaces.manifest import grants
from tests.cluster.conftest import OWNER
from tests.cluster.test_rbac import grant
from tests.conftest import RunCli
from tests.support.cluster import PATIENCE, Cluster
from tests.support.gateway import until
from tests.workspaces.conformance import document, refusal

pytestmark = pytest.mark.usefixtures("provider")


def sets(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets"
    return list(cluster.request("GET", path)["items"])


def claim_path(namespace: str, id: str) -> str:
    return f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/workspace-storage-{id}-0"


def failure(run_cli: RunCli, *line: str) -> dict[str, Any]:
    """An error's fields."""
    code, out, err = run_cli(*line, "-o", "json")
    assert out == ""
    error = json.loads(err.splitlines()[-1])["error"]
    assert error["exitCode"] == code
    assert isinstance(error, dict)
    return error


def test_the_pod_is_made_as_it_was_asked_for(
    run_cli: RunCli, cluster: Cluster, namespace: str
) -> None:
    sizes = ("--cpu", "1500m", "--memory", "3Gi", "--storage", "7Gi", "--no-spot")
    assert run_cli("workspace", "create", "demo", *sizes)[0] == 0
    pod = cluster.request("GET", f"/api/v1/namespaces/{namespace}/pods/demo-0")
    spec, [container] = pod["spec"], pod["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "1500m", "memory": "3Gi"},
        "limits": {"cpu": "3", "memory": "6Gi"},
    }
    assert "nodeSelector" not in spec
    assert spec["automountServiceAccountToken"] is False
    claim = cluster.request("GET", claim_path(namespace, "demo"))
    assert claim["status"]["capacity"]["storage"] == "7Gi"
    assert claim["metadata"]["annotations"]["coditect.dev/owner"] == OWNER
    assert pod["metadata"]["annotations"]["coditect.dev/owner"] == OWNER
    assert pod["metadata"]["labels"]["user-id"].startswith("sha256.")
    shown = document(run_cli, "workspace", "show", "demo")
    assert (shown["owner"], shown["node"], shown["pod"]) == (OWNER, "node1", "demo-0")
    assert shown["volume"]["phase"] == "Bound"
    assert "Started" in [event["reason"] for event in shown["events"]]
    text = run_cli("workspace", "show", "demo")[1]
    assert "volume      workspace-storage-demo-0 Bound 7Gi standard-rwo\n" in text
    assert "Pod/demo-0: Started: Started container workspace" in text
    assert run_cli("workspace", "list", "-l", "user-id=eve", "-o", "name") == (0, "", "")
    assert run_cli("workspace", "list", "-l", "workspace-id=demo", "-o", "name")[1] == "demo\n"
    assert refusal(run_cli, "workspace", "list", "-l", "a=b=c") == (2, "kube.invalid")


def test_stop_says_when_nobody_can_tell_who_is_attached(run_cli: RunCli) -> None:
    run_cli("workspace", "create", "demo")
    code, _, err = run_cli("workspace", "stop", "demo")
    assert (code, "no gateway_url is set" in err) == (0, True)
    run_cli("workspace", "start", "demo")
    assert run_cli("workspace", "stop", "demo", "--force")[2] == ""


def test_progress_is_told_with_times(run_cli: RunCli) -> None:
    _, _, err = run_cli("workspace", "create", "demo")
    for part in ("waiting for first consumer", "Successfully assigned", "Pulling", "is ready"):
        assert part in err
    assert all(line.split()[1:2] == ["s"] for line in err.splitlines()), err


@pytest.mark.parametrize(
    ("flags", "status", "code", "words"),
    [
        (("--image", "localhost/missing:1"), 8, "workspace.image", "Failed to pull image"),
        (("--image", "localhost/crash:1"), 8, "workspace.crash", "Back-off restarting failed"),
        (("--cpu", "1000"), 8, "workspace.unschedulable", "Insufficient cpu"),
        (("--storage-class", "none"), 8, "workspace.volume", '"none" not found'),
        (
            ("--image", "localhost/slow:1", "--timeout", "2s"),
            124,
            "workspace.timeout",
            "ContainerCreating",
        ),
    ],
    ids=["missing image", "crash loop", "no node", "no storage class", "too slow"],
)
def test_what_cannot_start_says_why(
    run_cli: RunCli,
    cluster: Cluster,
    namespace: str,
    flags: tuple[str, ...],
    status: int,
    code: str,
    words: str,
) -> None:
    error = failure(run_cli, "workspace", "create", "demo", *flags)
    assert (error["exitCode"], error["code"]) == (status, code)
    assert words in error["message"]
    assert [each["metadata"]["name"] for each in sets(cluster, namespace)] == ["demo"]
    if status == 8:
        assert "coditect workspace delete demo" in error["hint"]  # so it says what is there
        assert failure(run_cli, "up", "demo", "--detach")["code"] == code
    else:
        error = failure(run_cli, "up", "demo", "--detach", "--timeout", "1s")
        assert (error["exitCode"], error["code"]) == (124, "workspace.timeout")
        assert "coditect workspace show demo" in error["hint"]
        again = ("create", "demo", "--if-not-exists", "--timeout", "1s")
        assert failure(run_cli, "workspace", *again)["exitCode"] == 124
        assert [each["metadata"]["name"] for each in sets(cluster, namespace)] == ["demo"]


@pytest.mark.parametrize(
    ("hard", "made"), [({"pods": "0"}, 1), ({"persistentvolumeclaims": "0"}, 0)], ids=["pod", "pvc"]
)
def test_a_quota_is_a_limit(
    run_cli: RunCli, cluster: Cluster, namespace: str, hard: dict[str, str], made: int
) -> None:
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    cluster.request("POST", path, {"metadata": {"name": "q"}, "spec": {"hard": hard}})
    until(lambda: "hard" in cluster.request("GET", f"{path}/q")["status"], "a quota", PATIENCE)
    error = failure(run_cli, "workspace", "create", "demo")
    assert (error["exitCode"], error["code"]) == (7, "kube.quota")
    assert "exceeded quota: q" in error["message"]
    assert len(sets(cluster, namespace)) == made


def test_a_limit_range_refuses_too(run_cli: RunCli, cluster: Cluster, namespace: str) -> None:
    limits = {"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}}
    path = f"/api/v1/namespaces/{namespace}/limitranges"
    cluster.request("POST", path, {"metadata": {"name": "l"}, **limits})
    error = failure(run_cli, "workspace", "create", "demo")
    assert (error["exitCode"], error["code"]) == (7, "kube.limit")
    assert "maximum cpu usage per Container is 1" in error["message"]


def test_a_volume_past_the_namespaces_limits_is_a_limit(
    run_cli: RunCli, cluster: Cluster, namespace: str
) -> None:
    limits = {"type": "PersistentVolumeClaim", "max": {"storage": "9Gi"}, "min": {"storage": "1Gi"}}
    path = f"/api/v1/namespaces/{namespace}/limitranges"
    cluster.request("POST", path, {"metadata": {"name": "l"}, "spec": {"limits": [limits]}})
    for size in ("10Gi", "1Mi"):
        error = failure(run_cli, "workspace", "create", "demo", "--storage", size)
        assert (error["exitCode"], error["code"]) == (7, "kube.limit")
        assert "usage per PersistentVolumeClaim" in error["message"]
        assert error["hint"].endswith(f"kubectl describe limitrange -n {namespace}")
    assert sets(cluster, namespace) == []


def test_an_interrupted_wait_says_how_things_are(cluster: Cluster, namespace: str) -> None:
    line = ("-m", "coditect_cli", "workspace", "create", "demo", "--image", "localhost/slow:1")
    with subprocess.Popen([sys.executable, *line], stderr=subprocess.PIPE, text=True) as creating:
        assert creating.stderr is not None
        for told in creating.stderr:
            if "Pulling" in told:
                break
        creating.send_signal(signal.SIGINT)
        said = creating.stderr.read()
    assert creating.returncode == 130
    assert "error: interrupted; workspace demo is not running yet: the pod " in said
    assert "coditect workspace show demo" in said
    assert [each["metadata"]["name"] for each in sets(cluster, namespace)] == ["demo"]


def test_a_kept_volume_is_its_owners_alone(
    run_cli: RunCli, cluster: Cluster, namespace: str
) -> None:
    run_cli("workspace", "create", "demo")
    run_cli("workspace", "delete", "demo")
    uid = cluster.request("GET", claim_path(namespace, "demo"))["metadata"]["uid"]
    stranger = ("workspace", "create", "demo", "--owner", "eve")
    assert refusal(run_cli, *stranger) == (6, "workspace.volume_foreign")
    assert sets(cluster, namespace) == []
    assert run_cli("workspace", "create", "demo")[0] == 0
    assert cluster.request("GET", claim_path(namespace, "demo"))["metadata"]["uid"] == uid
    assert refusal(run_cli, *stranger) == (6, "workspace.exists")


def test_a_kept_volume_stays_what_it_is(
    run_cli: RunCli, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = ("workspace", "create", "demo")
    run_cli(*create, "--storage", "7Gi")
    assert refusal(run_cli, *create, "--storage", "9Gi") == (6, "workspace.exists")
    run_cli("workspace", "delete", "demo")
    error = failure(run_cli, *create, "--storage", "9Gi", "--storage-class", "fast")
    assert (error["exitCode"], error["code"]) == (6, "workspace.volume_differs")
    assert "its size is 7Gi, not 9Gi, its class is standard-rwo, not fast" in error["message"]
    assert "kubectl patch pvc workspace-storage-demo-0" in error["hint"]
    smaller = (*create, "--storage", "5Gi")
    assert "kubectl patch pvc" not in failure(run_cli, *smaller)["hint"]
    assert refusal(run_cli, *smaller, "--dry-run=server") == (6, "workspace.volume_differs")
    assert sets(cluster, namespace) == []
    monkeypatch.setenv("CODITECT_STORAGE", "9Gi")
    code, _, err = run_cli(*create)
    warning = "the volume that an earlier workspace demo left is taken over as it is: "
    assert (code, f"warning: {warning}its size is 7Gi, not 9Gi\n" in err) == (0, True)
    code, _, err = run_cli("up", "demo", "--detach")
    assert warning not in err
    [made] = sets(cluster, namespace)
    [template] = made["spec"]["volumeClaimTemplates"]
    assert template["spec"]["resources"]["requests"]["storage"] == "7Gi"
    run_cli("workspace", "delete", "demo")
    assert run_cli(*create, "--storage", "7168Mi", "--storage-class", "standard-rwo")[0] == 0


def test_the_size_that_is_shown_is_the_volumes_own(
    run_cli: RunCli, cluster: Cluster, namespace: str
) -> None:
    run_cli("workspace", "create", "demo")
    larger = {"status": {"capacity": {"storage": "12Gi"}}}
    cluster.patch(claim_path(namespace, "demo") + "/status", larger)
    shown = document(run_cli, "workspace", "show", "demo")
    assert (shown["storage"], shown["volume"]["size"]) == ("12Gi", "12Gi")
    for selecting in ((), ("-l", "workspace-id=demo")):
        [listed] = document(run_cli, "workspace", "list", *selecting)["items"]
        assert listed["storage"] == "12Gi"
        assert " 12Gi " in run_cli("workspace", "list", "-o", "wide", *selecting)[1]
    run_cli("workspace", "stop", "demo")
    assert document(run_cli, "workspace", "start", "demo")["storage"] == "12Gi"


def test_a_second_create_says_what_the_first_one_left(run_cli: RunCli, namespace: str) -> None:
    create = ("workspace", "create", "demo", "--image", "localhost/missing:1")
    failure(run_cli, *create)
    error = failure(run_cli, *create)
    assert error["message"] == "workspace demo exists already: it is starting"
    assert "coditect workspace show demo" in error["hint"]


def test_what_is_no_workspace_is_let_alone(
    run_cli: RunCli, cluster: Cluster, namespace: str
) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets"
    labels = {"x": "y"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": labels}, "template": pod, "replicas": 0}
    cluster.request("POST", path, {"metadata": {"name": "database"}, "spec": spec})
    assert run_cli("workspace", "list", "-o", "name") == (0, "", "")
    for verb in ("show", "start", "stop", "delete"):
        assert refusal(run_cli, "workspace", verb, "database") == (3, "workspace.not_found")
    for since in ("was made", "was there before,"):
        error = failure(run_cli, "workspace", "create", "database", "--if-not-exists")
        assert (error["exitCode"], error["code"]) == (6, "workspace.name_taken")
        assert f"its volume workspace-storage-database-0 {since} and is kept" in error["hint"]
    purge = ("workspace", "delete", "database", "--purge", "--confirm", "database")
    assert run_cli(*purge)[0] == 0
    assert [each["metadata"]["name"] for each in sets(cluster, namespace)] == ["database"]


def test_a_delete_that_is_refused_leaves_the_workspace_as_it_was(
    run_cli: RunCli, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_cli("workspace", "create", "demo")
    less = [one for one in grants("operator-role.yaml") if one.verb != "delete"]
    with monkeypatch.context() as patched:
        patched.setenv("CODITECT_KUBECONFIG", str(grant(cluster, namespace, less)))
        assert refusal(run_cli, "workspace", "delete", "demo") == (5, "kube.forbidden")
    assert document(run_cli, "workspace", "show", "demo")["status"] == "running"


def test_a_dry_run_is_what_kubectl_accepts_and_makes_nothing(
    run_cli: RunCli, cluster: Cluster, namespace: str
) -> None:
    printed = []
    for where in ("client", "server"):
        line = ("workspace", "create", "demo", "--dry-run", where, "--cpu", "2", "-o")
        code, text, _ = run_cli(*line, "yaml")
        assert code == 0
        apply = ("apply", "--dry-run=server", "--validate=strict", "-f", "-")
        assert "statefulset.apps/demo created" in cluster.kubectl(*apply, stdin=text)
        assert json.loads(run_cli(*line, "json")[1]) == yaml.safe_load(text)
        printed.append(text)
    assert printed[0] == printed[1]
    assert sets(cluster, namespace) == []
    named = "persistentvolumeclaim/workspace-storage-demo-0\nstatefulset/demo\n"
    dry = ("workspace", "create", "demo", "--dry-run", "client")
    assert run_cli(*dry, "-o", "name")[1] == named
    assert run_cli(*dry)[1] == (
        "workspace demo would be created (client dry run); -o yaml shows the objects\n"
    )
    cluster.kubectl("apply", "-f", "-", stdin=printed[0])
    again = ("workspace", "create", "demo")
    assert refusal(run_cli, *again) == (6, "workspace.exists")
    assert refusal(run_cli, *again, "--dry-run=server") == (6, "workspace.exists")
    assert run_cli(*again, "--dry-run=server", "--if-not-exists")[0] == 0


@pytest.mark.parametrize(
    "flags",
    [
        ("--cpu", "two"),
        ("--cpu", "0"),
        ("--memory", "2GiB"),
        ("--storage", "-1"),
        ("--image", "Bad Image"),
        ("--image", "gcr.io/PROJECT_ID/workspace"),
        ("--storage-class", "Fast SSD"),
        ("--owner", "a\nb"),
    ],
    ids=" ".join,
)
def test_bad_values_are_refused_before_anything_is_sent(
    run_cli: RunCli, cluster: Cluster, namespace: str, flags: tuple[str, str]
) -> None:
    error = failure(run_cli, "workspace", "create", "demo", *flags)
    assert error["exitCode"] == 2
    assert cluster.kubectl("get", "pvc,sts", "-n", namespace, "-o", "name") == ""


def test_a_namespace_that_is_not_there(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODITECT_NAMESPACE", "nowhere")
    assert refusal(run_cli, "workspace", "create", "demo") == (3, "kube.namespace_not_found")
    assert refusal(run_cli, "workspace", "show", "demo") == (3, "workspace.not_found")
    assert run_cli("workspace", "list", "-o", "name") == (0, "", "")


def test_watch_goes_on_with_what_changes(
    home: object, cluster: Cluster, namespace: str, run_cli: RunCli
) -> None:
    run_cli("workspace", "create", "a", "--no-wait")
    line = [sys.executable, "-m", "coditect_cli", "workspace", "list", "--watch", "-o", "ndjson"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        found = {"a"}
        try:
            assert json.loads(watch.stdout.readline())["id"] == "a"
            run_cli("workspace", "create", "b", "--no-wait")
            while "b" not in found:
                found.add(json.loads(watch.stdout.readline())["id"])
            run_cli("workspace", "delete", "b")
            while json.loads(watch.stdout.readline())["status"] != "deleted":
                pass
        finally:
            watch.send_signal(signal.SIGINT)
        assert watch.wait(60) == 130
    assert refusal(run_cli, "workspace", "list", "--watch") == (2, "usage")


def test_watch_does_not_take_what_leaves_its_selector_for_deleted(
    home: object, cluster: Cluster, namespace: str, run_cli: RunCli
) -> None:
    run_cli("workspace", "create", "a", "--no-wait")
    path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets/a"

    def label(value: str | None) -> None:
        body = {"metadata": {"labels": {"extra": value}}}
        cluster.request("PATCH", path, body, "application/merge-patch+json")

    label("1")
    line = [sys.executable, "-m", "coditect_cli", "workspace", "list", "--watch", "-o", "ndjson"]
    with subprocess.Popen([*line, "-l", "extra=1"], stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        try:
            assert json.loads(watch.stdout.readline())["id"] == "a"
            label(None)
            assert json.loads(watch.stdout.readline())["status"] != "deleted"
            label("1")
            run_cli("workspace", "delete", "a")
            while json.loads(watch.stdout.readline())["status"] != "deleted":
                pass
        finally:
            watch.send_signal(signal.SIGINT)
