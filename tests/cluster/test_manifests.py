"""What manifests/ holds, tried on a real API server with strict validation."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import pytest
import yaml

from coditect_cli.workspaces.manifest import folder
from tests.support.cluster import MANIFESTS, Cluster

BASE = MANIFESTS / "base"
GKE = MANIFESTS / "overlays" / "gke"
FILES = sorted(
    file
    for file in MANIFESTS.rglob("*.yaml")
    if file.name not in ("kustomization.yaml", "cloud-run-dashboard.yaml")
)


def objects(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (document["kind"], document["metadata"]["name"]): document
        for document in yaml.safe_load_all(text)
    }


def apply(cluster: Cluster, *args: str, stdin: str | None = None, check: bool = True) -> str:
    """Make, or try to, one process of this run after the other: they share what is there.

    kubectl asks what is there first, and fails where another one has made it meanwhile.
    """
    with open(cluster.folder / "applying", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return cluster.kubectl("apply", *args, stdin=stdin, check=check)


@pytest.fixture(scope="module")
def base(cluster: Cluster) -> dict[tuple[str, str], dict[str, Any]]:
    """The objects of the base, which were really made."""
    apply(cluster, "--validate=strict", "-k", str(BASE))
    return objects(cluster.kubectl("kustomize", str(BASE)))


@pytest.fixture(scope="module")
def gke(cluster: Cluster) -> None:
    """The kinds that GKE adds, with the fields and limits that the controllers' sources have.

    https://github.com/kubernetes/ingress-gce/blob/acbcf5d66dd9d31297a2a52a2d7d83d4c1a94539/pkg/apis/backendconfig/v1/types.go
    (of the parts that we leave alone only the names)
    https://github.com/GoogleCloudPlatform/gke-managed-certs/blob/3498c2a06d023eeedd1f8da125beb62a809ea4c8/deploy/managedcertificates-crd.yaml
    """
    others = ("iap", "cdn", "securityPolicy", "sessionAffinity", "logging")
    others += ("customRequestHeaders", "customResponseHeaders")
    counts = ("checkIntervalSec", "timeoutSec", "healthyThreshold", "unhealthyThreshold", "port")
    check = dict.fromkeys(counts, _NUMBER) | dict.fromkeys(("type", "requestPath"), _TEXT)
    backend = dict.fromkeys(others, _fields({})) | {
        "timeoutSec": _NUMBER,
        "connectionDraining": _fields({"drainingTimeoutSec": _NUMBER}),
        "healthCheck": _fields(check),
    }
    domain = _TEXT | {"maxLength": 63, "pattern": DOMAIN}
    certificate = {"domains": {"type": "array", "maxItems": 100, "items": domain}}
    for group, kind, spec in (
        ("cloud.google.com", "BackendConfig", backend),
        ("networking.gke.io", "ManagedCertificate", certificate),
    ):
        apply(cluster, "-f", "-", stdin=yaml.safe_dump(_definition(group, kind, spec)))
        name = f"crd/{kind.lower()}s.{group}"
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", name)


DOMAIN = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?\.)+[a-z][-a-z0-9]*[a-z0-9]$"
_NUMBER = {"type": "integer", "format": "int64"}
_TEXT = {"type": "string"}


def _fields(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _definition(group: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    schema = {"openAPIV3Schema": _fields({"spec": _fields(spec)})}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    names = {"kind": kind, "plural": plural, "singular": kind.lower()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(MANIFESTS)))
def test_the_api_server_knows_every_field(
    cluster: Cluster, base: object, gke: None, file: Path
) -> None:
    strict = ("--dry-run=server", "--validate=strict", "-f", str(file))
    assert "server dry run" in apply(cluster, *strict)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        (BASE / "namespace.yaml", "labels:", "lables:", 'unknown field "metadata.lables"'),
        (
            GKE / "backend-config.yaml",
            "timeoutSec: 8",
            "timeout: 8",
            'unknown field "spec.timeout"',
        ),
        (GKE / "backend-config.yaml", "86400", "1d", "spec.timeoutSec"),
        (GKE / "managed-certificate.yaml", "gateway.e", "_gateway.e", "spec.domains[0]"),
    ],
    ids=["namespace", "time-out", "a day in words", "domain"],
)
def test_what_is_wrong_in_a_manifest_would_be_found(
    cluster: Cluster, base: object, gke: None, file: Path, old: str, new: str, words: str
) -> None:
    text = file.read_text()
    assert old in text
    strict = ("--dry-run=server", "--validate=strict", "-f", "-")
    assert words in apply(cluster, *strict, stdin=text.replace(old, new), check=False)


def test_the_base_has_every_file_but_the_template(base: object) -> None:
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    others = {"kustomization.yaml", "workspace-statefulset.yaml"}
    assert {*listed, *others} == {file.name for file in BASE.iterdir()}


def test_the_overlay_exposes_the_gateway_for_a_day(
    cluster: Cluster, base: object, gke: None
) -> None:
    apply(cluster, "--validate=strict", "-k", str(GKE))
    found = objects(cluster.kubectl("kustomize", str(GKE)))
    service = found["Service", "gateway"]
    names = yaml.safe_load(service["metadata"]["annotations"]["cloud.google.com/backend-config"])
    assert found["BackendConfig", names["default"]]["spec"]["timeoutSec"] == 86_400
    ingress = found["Ingress", "gateway"]
    certificate = ingress["metadata"]["annotations"]["networking.gke.io/managed-certificates"]
    hosts = [rule["host"] for rule in ingress["spec"]["rules"]]
    assert found["ManagedCertificate", certificate]["spec"]["domains"] == hosts
    paths = ingress["spec"]["rules"][0]["http"]["paths"]
    assert {each["path"] for each in paths} == {"/ws", "/healthz", "/readyz"}
    for each in paths:
        assert each["backend"]["service"] == {"name": "gateway", "port": {"name": "http"}}
    pod = found["Deployment", "gateway"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "40"]
    assert pod["terminationGracePeriodSeconds"] > 70


def test_a_pod_is_entered_by_the_gateway_and_leaves_for_no_api_server(
    base: dict[tuple[str, str], dict[str, Any]],
) -> None:
    template = objects((BASE / "workspace-statefulset.yaml").read_text())[
        "StatefulSet", "workspace"
    ]
    labels = template["spec"]["template"]["metadata"]["labels"]
    gateway = base["Deployment", "gateway"]["spec"]["template"]["metadata"]["labels"]
    ingress = base["NetworkPolicy", "workspace-ingress"]["spec"]
    egress = base["NetworkPolicy", "workspace-egress"]["spec"]
    for policy in (ingress, egress):
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    [rule] = ingress["ingress"]
    [who] = rule["from"]
    assert who["podSelector"]["matchLabels"].items() <= gateway.items()
    assert template["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
    excepted = egress["egress"][1]["to"][0]["ipBlock"]["except"]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(excepted)
    dns = egress["egress"][0]
    for resolver in ("169.254.20.10/32", "169.254.169.254/32"):
        assert {"ipBlock": {"cidr": resolver}} in dns["to"]
    assert {port["port"] for port in dns["ports"]} == {53}


def test_there_are_3_to_20_gateways_and_one_goes_at_a_time(
    base: dict[tuple[str, str], dict[str, Any]],
) -> None:
    scaler = base["HorizontalPodAutoscaler", "gateway"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 20)
    deployment = base["Deployment", "gateway"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    budget = base["PodDisruptionBudget", "gateway"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == deployment["spec"]["selector"]
    assert base["Service", "gateway"]["spec"]["selector"].items() <= (
        deployment["spec"]["template"]["metadata"]["labels"].items()
    )


def test_an_installed_coditect_finds_them() -> None:
    assert (folder() / "base" / "workspace-statefulset.yaml").is_file()
