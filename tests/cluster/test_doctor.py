"""`coditect doctor` in a context on Kubernetes: each thing that can be wrong is told by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coditect_cli import doctor_cluster, kube
from coditect_cli.workspaces.manifest import Grant, grants
from tests.cluster.test_rbac import grant
from tests.conftest import RunCli
from tests.support.cluster import Cluster

ROLE = grants("operator-role.yaml")


@pytest.fixture(autouse=True)
def _token(provider: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODITECT_TOKEN", "e30.eyJ1c2VyX2lkIjoiYWRhIn0.e30")  # user_id: ada


def examine(run_cli: RunCli, status: int) -> dict[str, dict[str, Any]]:
    """What the checks found, by their names."""
    code, out, err = run_cli("doctor", "-o", "json")
    assert (code, err) == (status, "")
    return findings(out)


def findings(document: str) -> dict[str, dict[str, Any]]:
    return {item["check"]: item for item in json.loads(document)["items"]}


def test_an_operator_in_a_namespace_that_takes_workspaces(
    run_cli: RunCli, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODITECT_KUBECONFIG", str(grant(cluster, namespace, ROLE)))
    found = examine(run_cli, 0)
    assert {name for name, item in found.items() if item["status"] != "pass"} == {"gateway"}
    assert "no gateway_url is set" in found["gateway"]["message"]
    assert f"{cluster.url} knows user-" in found["cluster"]["message"]
    assert "this user may not see" in found["storage class"]["message"]
    assert "ada" in found["token"]["message"]
    assert not {"socket path", "shell"} & found.keys()  # of this machine's own gateway
    assert cluster.kubectl("get", "pvc,sts", "-n", namespace, "-o", "name") == ""


def test_a_permission_that_is_missing_is_named(
    run_cli: RunCli, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    less = [one for one in ROLE if one != Grant("apps", "statefulsets", "patch")]
    monkeypatch.setenv("CODITECT_KUBECONFIG", str(grant(cluster, namespace, less)))
    found = examine(run_cli, 8)
    assert found["permissions"]["status"] == "fail"
    assert found["permissions"]["message"].endswith(": patch statefulsets")
    assert "--role=workspace-operator" in found["permissions"]["fix"]
    assert found["namespace"]["status"] == "pass"


def test_a_namespace_a_class_and_a_token_that_are_not_there(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"NAMESPACE": "nowhere", "STORAGE_CLASS": "none"}.items():
        monkeypatch.setenv(f"CODITECT_{name}", value)
    for name in ("CODITECT_IMAGE", "CODITECT_TOKEN"):
        monkeypatch.delenv(name)
    found = examine(run_cli, 8)
    assert "no namespace nowhere" in found["namespace"]["message"]
    assert "no storage class none" in found["storage class"]["message"]
    assert "no token" in found["token"]["message"]
    assert found["image"]["status"] == "warn"


def test_foundationdb_without_mutual_tls_is_warned_of(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODITECT_STORE", "foundationdb")
    found = findings(run_cli("doctor", "-o", "json")[1])["fdb tls"]
    assert found["status"] == "warn"
    assert "fdb_tls_key_file" in found["fix"]
    for name in ("CERTIFICATE", "KEY", "CA"):
        monkeypatch.setenv(f"CODITECT_FDB_TLS_{name}_FILE", str(tmp_path / name))
    assert findings(run_cli("doctor", "-o", "json")[1])["fdb tls"]["status"] == "pass"


@pytest.mark.parametrize(
    ("url", "words"),
    [(None, "does not accept these credentials"), ("https://127.0.0.1:1", "does not answer")],
    ids=["unauthorized", "dead"],
)
def test_a_cluster_that_can_not_be_asked_ends_its_checks(
    run_cli: RunCli,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    url: str | None,
    words: str,
) -> None:
    monkeypatch.setattr(kube, "_backoff", lambda attempt: 0.0)
    nobody = cluster.write_kubeconfig("nobody", {"token": "x"}, url)
    monkeypatch.setenv("CODITECT_KUBECONFIG", str(nobody))
    code, out, err = run_cli("doctor", "-o", "json")
    assert (code, "does not answer" in err) == (8, url is not None)  # it takes long
    found = findings(out)
    assert words in found["cluster"]["message"]
    assert "permissions" not in found
    assert found["token"]["status"] == "pass"


def test_a_gateway_that_does_not_answer(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODITECT_GATEWAY_URL", "wss://127.0.0.1:1/ws")
    found = examine(run_cli, 8)["gateway"]
    assert "wss://127.0.0.1:1/ws does not answer" in found["message"]


def test_a_gateway_that_no_token_is_sent_to(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_cluster, "_page", lambda *_: 200)  # it is on another machine
    monkeypatch.setenv("CODITECT_GATEWAY_URL", "ws://10.0.0.1/ws")
    found = examine(run_cli, 0)["gateway"]
    assert (found["status"], "not sent there unencrypted" in found["message"]) == ("warn", True)
