"""An API server that fails: what is safe is tried again, and each error is its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from coditect_cli import kube, kube_watch
from coditect_cli.errors import CoditectError
from coditect_cli.settings import Settings
from coditect_cli.workspaces import backend
from coditect_cli.workspaces.kubernetes import KubernetesWorkspaces
from tests.conftest import RunCli
from tests.support.chaos import Chaos, Fault, chaos_before
from tests.support.cluster import PATIENCE, Cluster
from tests.support.gateway import until
from tests.workspaces.conformance import document, refusal


@pytest.fixture
def chaos(cluster: Cluster, provider: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chaos]:
    with chaos_before(cluster) as running:
        monkeypatch.setenv("CODITECT_KUBECONFIG", str(running.kubeconfig(cluster)))
        yield running


SETS, CLAIMS = "/statefulsets", "/persistentvolumeclaims"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(f"POST .*{SETS}", status=429, headers={"Retry-After": "1"}),
        Fault(f"POST .*{SETS}", times=2, status=500),
        Fault(f"POST .*{SETS}", status=503),
        Fault(f"POST .*{SETS}", forward=True),
        Fault(f"POST .*{CLAIMS}", forward=True),
        Fault(f"POST .*{CLAIMS}", status=504),
        Fault("GET .*watch=true", times=6, status=410),
        Fault("GET .*/pods.*watch=true", line={"type": "ERROR", "object": {"code": 410}}),
        Fault("GET .*watch=true", times=6),
        Fault("GET .*watch=true", times=3, line={"type": "BOOKMARK", "object": {}}),
        Fault("GET .*watch=true", times=6, status=500),
        Fault("GET .*fieldSelector", times=6, status=429),
    ],
    ids=[
        *("busy", "server error", "unavailable", "lost answer", "lost answer for the volume"),
        *("gateway time-out", "watches expired", "a watch expires later", "cut watches"),
        *("watches garbled", "watches fail", "lists are refused"),
    ],
)
def test_create_goes_through(
    run_cli: RunCli, chaos: Chaos, cluster: Cluster, namespace: str, fault: Fault
) -> None:
    fault = Fault(**vars(fault))
    chaos.faults = [fault]
    assert document(run_cli, "workspace", "create", "demo")["status"] == "running"
    assert fault.times == 0
    path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets"
    assert len(cluster.request("GET", path)["items"]) == 1


def test_a_create_that_waits_asks_for_nothing_that_it_was_told(
    run_cli: RunCli, chaos: Chaos, cluster: Cluster
) -> None:
    shown = document(run_cli, "workspace", "create", "demo")
    assert (shown["status"], shown["node"]) == ("running", "node1")
    kinds = [request.split("?")[0].split(" ")[0] for request in chaos.requests]
    watched = [request for request in chaos.requests if "watch=true" in request]
    lists = [request for request in chaos.requests if "limit=" in request]
    assert kinds.count("POST") == 2
    assert len(chaos.requests) == 2 + len(watched) + len(lists)


def test_a_create_that_never_gets_through_ends_in_time(
    run_cli: RunCli, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "LOOK", 1.0)
    chaos.faults = [Fault("POST .*", times=9, status=429, headers={"Retry-After": "2"})]
    code, _, err = run_cli("workspace", "create", "demo", "--timeout", "1s")
    assert (code, "not done in time" in err) == (124, True)
    assert chaos.faults[0].times == 8  # it would have been asked to wait longer than there was


def test_a_wait_that_heard_nothing_more_says_so(run_cli: RunCli, chaos: Chaos) -> None:
    chaos.faults = [Fault("GET .*watch=true", times=999, status=500)]
    line = ("workspace", "create", "demo", "--image", "localhost/slow:1", "--timeout", "4s")
    code, _, err = run_cli(*line)
    assert (code, "when it was last heard of" in err) == (124, True)
    assert err.count("not heard of the cluster") == 1


def test_a_purge_that_ends_at_the_volume_says_so(run_cli: RunCli, chaos: Chaos) -> None:
    run_cli("workspace", "create", "demo")
    chaos.faults = [Fault(f"DELETE .*{CLAIMS}", times=1, status=403)]
    purge = ("workspace", "delete", "demo", "--force", "--purge", "--confirm", "demo")
    code, _, err = run_cli(*purge)
    assert (code, "demo is deleted, and its volume workspace-storage-demo-0 is not" in err) == (
        5, True
    )  # fmt: skip
    assert run_cli(*purge)[0] == 0


def said_when_interrupted(chaos: Chaos, *words: str) -> str:
    """What a command says that is interrupted as soon as it meets the fault."""
    line = [sys.executable, "-m", "coditect_cli", *words]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: chaos.faults[0].times < 99, "a request that meets the fault", PATIENCE)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    return said


def test_a_purge_that_is_interrupted_at_the_volume_says_so(run_cli: RunCli, chaos: Chaos) -> None:
    run_cli("workspace", "create", "demo")
    chaos.faults = [Fault(f"DELETE .*{CLAIMS}", times=99, delay=300)]
    purge = ("workspace", "delete", "demo", "--force", "--purge", "--confirm", "demo")
    said = said_when_interrupted(chaos, *purge)
    assert "demo is deleted, and its volume workspace-storage-demo-0 may be left" in said
    chaos.faults = []
    assert run_cli(*purge)[0] == 0


def test_retry_after_is_waited_for(
    run_cli: RunCli, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    chaos.faults = [Fault("GET", status=429, headers={"Retry-After": "7"})]
    assert run_cli("workspace", "list")[0] == 0
    assert pauses == [7.0]
    chaos.faults = [Fault("GET", status=429, headers={"Retry-After": "3600"})]
    assert run_cli("workspace", "list")[0] == 0
    assert pauses == [7.0, kube.LONGEST_PAUSE]


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault("", times=99, status=429), 7, "kube.busy"),
        (Fault("", times=99, status=500), 9, "kube.server_error"),
        (Fault("", times=99, status=401), 4, "kube.unauthorized"),
        (Fault("", times=99, status=403), 5, "kube.forbidden"),
        (Fault("", times=99), 9, "kube.unreachable"),
        (Fault("", times=99, delay=2.0), 9, "kube.timeout"),
        (Fault("", times=99, status=302), 8, "kube.unexpected"),
        (Fault("", times=99, line=[]), 9, "kube.unreachable"),
    ],
    ids=["429", "500", "401", "403", "cut", "too slow", "redirect", "no object"],
)
def test_each_failure_is_its_own_error(
    run_cli: RunCli,
    chaos: Chaos,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    status: int,
    code: str,
) -> None:
    monkeypatch.setattr(kube, "_backoff", lambda attempt: 0.0)
    monkeypatch.setattr(kube, "READ", 0.5)
    chaos.faults = [Fault(**vars(fault))]
    for line in (("list",), ("create", "demo"), ("show", "demo"), ("wait", "demo")):
        assert refusal(run_cli, "workspace", *line) == (status, code)


def test_what_took_long_is_told_at_once(
    run_cli: RunCli, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube, "READ", 0.5)
    chaos.faults = [Fault("GET", delay=2.0)]
    code, _, err = run_cli("workspace", "list")
    assert (code, err.count("did not answer in time")) == (0, 1)
    chaos.faults = [Fault("GET", status=500)]
    assert run_cli("workspace", "list")[2] == ""


def test_a_conflict_of_writers_is_tried_again(run_cli: RunCli, chaos: Chaos) -> None:
    run_cli("workspace", "create", "demo")
    chaos.faults = [Fault("PATCH", status=409, reason="Conflict")]
    assert run_cli("workspace", "stop", "demo")[0] == 0
    chaos.faults = [Fault("PATCH", forward=True), Fault("DELETE", forward=True)]
    assert run_cli("workspace", "start", "demo")[0] == 0
    assert run_cli("workspace", "delete", "demo")[0] == 0


def test_a_create_that_fails_midway_says_what_exists_and_can_be_repeated(
    run_cli: RunCli, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube, "_backoff", lambda attempt: 0.0)
    chaos.faults = [Fault(f"POST .*{SETS}", times=99, status=500)]
    code, out, err = run_cli("workspace", "create", "demo", "-o", "json")
    assert (code, out) == (9, "")
    hint = json.loads(err.splitlines()[-1])["error"]["hint"]
    assert "its volume workspace-storage-demo-0 was made and is kept" in hint
    assert refusal(run_cli, "workspace", "show", "demo") == (3, "workspace.not_found")
    chaos.faults = []
    assert run_cli("workspace", "create", "demo")[0] == 0


def test_a_create_that_is_interrupted_midway_says_what_exists(chaos: Chaos) -> None:
    chaos.faults = [Fault(f"POST .*{SETS}", times=99, delay=300)]
    said = said_when_interrupted(chaos, "workspace", "create", "demo")
    assert "interrupted while workspace demo was being made" in said
    assert "its volume workspace-storage-demo-0 was made and is kept" in said


def test_a_list_goes_on_when_its_next_page_is_gone(
    run_cli: RunCli, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    for id in ("a", "b", "c"):
        run_cli("workspace", "create", id, "--no-wait")
    monkeypatch.setattr(kube, "PAGE", 1)
    assert run_cli("workspace", "list", "-o", "name") == (0, "a\nb\nc\n", "")
    pages = [request for request in chaos.requests if "continue=" in request]
    assert len(pages) == 2


def test_the_next_page_comes_while_one_is_used(
    chaos: Chaos, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for name in ("one", "two", "three"):
        cluster.request("POST", path, {"metadata": {"name": name}})
    monkeypatch.setattr(kube, "PAGE", 1)
    settings = Settings(kubeconfig=str(chaos.kubeconfig(cluster)), namespace=namespace)
    pages = kube.Kube(settings).pages(path, kube_watch.Objects)
    next(pages)
    until(lambda: "continue=" in chaos.requests[-1], "a request for the next page", PATIENCE)
    chaos.faults = [Fault("continue=", status=403)]
    next(pages)
    with pytest.raises(CoditectError) as caught:
        next(pages)
    assert caught.value.code == "kube.forbidden"


def test_a_watch_of_the_list_survives(chaos: Chaos, cluster: Cluster, namespace: str) -> None:
    settings = Settings(
        provider="kubernetes", kubeconfig=str(chaos.kubeconfig(cluster)), namespace=namespace
    )
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    chaos.faults = [Fault("watch=true", times=2), Fault("watch=true", status=410)]
    seen: set[str] = set()
    with kube_watch.Watches(kube.Kube(settings), {"maps": kube_watch.Source(path)}) as watches:

        def sees(name: str) -> bool:
            change = watches.next(0.1)
            if change is not None:
                items = change.object["items"] if change.kind == "LIST" else [change.object]
                seen.update(item["metadata"]["name"] for item in items)
            return name in seen

        for name in ("one", "two"):
            cluster.request("POST", path, {"metadata": {"name": name}})
            until(lambda name=name: sees(name), f"configmap {name}", PATIENCE)  # type: ignore[misc]


def test_what_breaks_in_a_watch_is_raised_where_its_changes_are_awaited(
    cluster: Cluster, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"  # the namespace has one
    settings = Settings(kubeconfig=str(cluster.kubeconfig), namespace=namespace)
    source = kube_watch.Source(path, pick=lambda found: found["none"])
    watches = kube_watch.Watches(kube.Kube(settings), {"maps": source})
    with watches, pytest.raises(KeyError):
        watches.next(PATIENCE)


def test_a_watch_of_workspaces_that_expired_tells_what_went_meanwhile(
    run_cli: RunCli, chaos: Chaos, cluster: Cluster, namespace: str
) -> None:
    for id in ("a", "b"):
        run_cli("workspace", "create", id, "--no-wait")
    settings = Settings(
        provider="kubernetes", kubeconfig=str(chaos.kubeconfig(cluster)), namespace=namespace
    )
    workspaces = KubernetesWorkspaces(kube.Kube(settings), settings)
    watch = workspaces.watch(None, lambda _: None, whole=True)
    assert [item["id"] for item in next(watch)] == ["a", "b"]
    path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets/b"
    cluster.request("DELETE", path, {"propagationPolicy": "Background"})
    chaos.faults = [Fault("watch=true", status=410)]
    found = {item["id"]: item for item in next(watch)}
    assert (found["b"]["status"], found["b"].keys()) == ("deleted", found["a"].keys())
    watch.close()


def test_a_dead_server_and_a_wrong_certificate(
    run_cli: RunCli, cluster: Cluster, provider: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube, "_backoff", lambda attempt: 0.0)
    nobody = cluster.write_kubeconfig("dead", {"token": "x"}, "https://127.0.0.1:1")
    monkeypatch.setenv("CODITECT_KUBECONFIG", str(nobody))
    assert refusal(run_cli, "workspace", "list") == (9, "kube.unreachable")
    assert run_cli("workspace", "wait", "demo")[2].count("trying again") == 1  # of six watches
    other = cluster.write_kubeconfig("other", {"token": "x"}, cluster.url)
    text = other.read_text()
    authority = next(line for line in text.splitlines() if "certificate-authority-data" in line)
    other.write_text(text.replace(authority, "    tls-server-name: example.com"))
    monkeypatch.setenv("CODITECT_KUBECONFIG", str(other))
    assert refusal(run_cli, "workspace", "list") == (9, "kube.tls")


def test_what_the_server_finds_invalid_is_told_field_by_field(
    cluster: Cluster, namespace: str
) -> None:
    settings = Settings(kubeconfig=str(cluster.kubeconfig), namespace=namespace)
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    with pytest.raises(CoditectError) as caught:
        kube.Kube(settings).create(path, {"metadata": {"name": "A b"}, "data": {"a b": "x"}})
    assert (caught.value.exit_code, caught.value.code) == (2, "kube.invalid")
    assert "\n  metadata.name: " in caught.value.message
    assert "\n  data[a b]: " in caught.value.message
