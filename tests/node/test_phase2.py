"""Phase 2 from nothing to a workspace that was typed into, and all the way back.

The program, gcloud, the API server and the node are real; Google's cloud is stood for, and so is
gke-gcloud-auth-plugin, which gives whoever uses gcloud's kubeconfig its credentials.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cloud import Cloud, cloud, skip_without_gcloud
from tests.support.cluster import MANIFESTS, ApiError, assets, free_ports
from tests.support.images import name_of
from tests.support.migrating import start_migrate
from tests.support.platform import Platform

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(1200)]

NAMESPACE = "phase2"
CLUSTER = "coditect-cluster"
PATIENCE = 300.0  # seconds
MORE_PODS = "gateway-autoscaler.yaml"  # one gateway is enough here


class Engineer:
    """Somebody with gcloud, the platform's key, and manifests that fit this node."""

    def __init__(self, platform: Platform, folder: Path, google: Cloud) -> None:
        self.platform, self.google = platform, google
        self.home = folder / "home"
        self.manifests = folder / "manifests"
        self.file = folder / "fdb.cluster"
        self.file.write_text("coditect:a1b2c3d4@10.0.0.1:4500\n")
        (self.port,) = free_ports(1)
        self.environ = {
            **platform.environ(self.home),
            **{name: value for name, value in os.environ.items() if name.startswith("CLOUDSDK_")},
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "KUBECONFIG": str(folder / "kubeconfig"),
            "CODITECT_STORAGE": "1Gi",  # limit-range.yaml wants as much
            "CODITECT_GATEWAY_URL": f"ws://127.0.0.1:{self.port}/ws",
        }
        del self.environ["CODITECT_KUBECONFIG"]  # gcloud writes one
        self._install_plugin(folder / "bin")
        self._write_manifests()
        address = platform.cluster.url.removeprefix("https://")
        google.clusters.endpoint = address
        authority = platform.cluster.authority.certificate.read_bytes()
        google.clusters.authority = base64.b64encode(authority).decode()

    def _install_plugin(self, folder: Path) -> None:
        user = yaml.safe_load(self.platform.cluster.kubeconfig.read_text())["users"][0]["user"]
        credential = {
            "apiVersion": "client.authentication.k8s.io/v1beta1",
            "kind": "ExecCredential",
            "status": {
                "clientCertificateData": Path(user["client-certificate"]).read_text(),
                "clientKeyData": Path(user["client-key"]).read_text(),
            },
        }
        folder.mkdir()
        plugin = folder / "gke-gcloud-auth-plugin"
        plugin.touch(0o700)
        plugin.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(credential)}\nEND\n")

    def _write_manifests(self) -> None:
        shutil.copytree(MANIFESTS / "base", self.manifests)
        (self.manifests / MORE_PODS).unlink()
        keys = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "gateway-keys", "namespace": "coditect"},
            "data": {"jwks.json": (self.platform.folder / "jwks.json").read_text()},
        }
        (self.manifests / "keys.yaml").write_text(yaml.safe_dump(keys))
        kustomization = self.manifests / "kustomization.yaml"
        listed = kustomization.read_text().replace(MORE_PODS, "keys.yaml")
        kustomization.write_text(listed)

    def start(self, *args: str) -> subprocess.Popen[str]:
        return start_migrate(self.environ, *args)

    def run(self, *args: str) -> tuple[int, str]:
        """A command's status and what it said."""
        process = self.start(*args)
        out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, out + err

    @contextmanager
    def forwarded_gateway(self) -> Iterator[None]:
        """The gateway on loopback, as docs/kubernetes.md has it."""
        forward = subprocess.Popen(
            [
                *(assets() / "kubectl", "--kubeconfig", self.platform.cluster.kubeconfig),
                *("-n", NAMESPACE, "port-forward", "--pod-running-timeout=2m"),
                *("deployment/gateway", f"{self.port}:8080"),
            ],
            env={"HOME": str(self.home), "PATH": os.environ["PATH"]},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert forward.stdout is not None
            assert "Forwarding from" in forward.stdout.readline()
            yield
        finally:
            forward.terminate()
            forward.communicate(timeout=30)

    def found(self, path: str) -> Any:
        """What is at a path; None where there is nothing."""
        try:
            return self.platform.cluster.request("GET", path)
        except ApiError as error:
            if error.status != 404:
                raise
            return None


@pytest.fixture
def engineer(platform: Platform, tmp_path: Path) -> Iterator[Engineer]:
    skip_without_gcloud()
    (tmp_path / "cloud").mkdir()
    with cloud(tmp_path / "cloud") as google:
        yield Engineer(platform, tmp_path, google)


def test_it_is_killed_and_resumed_and_verified_in_a_real_workspace_and_undone(
    engineer: Engineer,
) -> None:
    process = engineer.start(
        *("phase2", f"--namespace={NAMESPACE}", f"--cluster-file={engineer.file}"),
        *(f"--manifests={engineer.manifests}", f"--workspace-image={name_of('workspace')}"),
        f"--gateway-image={name_of('gateway')}",
        *("-o", "ndjson"),
    )
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["step"] == "verify" and "wait until" in str(event["data"].get("call")):
            break  # the workspace was made
    process.kill()
    _, err = process.communicate(timeout=PATIENCE)
    assert event["type"] == "action.started", err
    workspace = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/migration-canary"
    assert engineer.found(workspace) is not None

    with engineer.forwarded_gateway():
        status, told = engineer.run("resume", "-o", "ndjson")
    assert status == 0, told
    events = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    said = [str(event.get("data", {}).get("outputs", {}).get("said")) for event in events]
    assert any(line.startswith("100 writes: 0 lost, 0 doubled") for line in said)
    assert "written" in said
    assert events[-1]["state"] == "done"
    assert engineer.found(workspace) is None
    assert list(engineer.google.clusters.clusters) == [CLUSTER]

    status, told = engineer.run("rollback", events[-1]["id"])
    assert status == 0, told
    assert engineer.found(f"/api/v1/namespaces/{NAMESPACE}") is None
    assert engineer.google.clusters.clusters == {}
