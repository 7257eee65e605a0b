"""Workspaces on a real node as a platform has them: manifests applied, keys made, a gateway up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from coditect_cli import tokens
from coditect_cli.signing import PrivateKey
from tests.support.cluster import MANIFESTS, Cluster, control_plane
from tests.support.gateway import until
from tests.support.images import archive, name_of
from tests.support.node import ADDRESS, PATIENCE, Node
from tests.test_signing import key_set, private_key

NAMESPACE = "coditect"
OWNER = "ada@example.com"


class Platform:
    """A cluster with one node, the platform's key, and the edge gateway's address."""

    def __init__(self, node: Node, cluster: Cluster, folder: Path) -> None:
        self.node = node
        self.cluster = cluster
        self.folder = folder
        self.key = private_key(folder)
        self.gateway = ""

    def install(self) -> None:
        """What docs/kubernetes.md tells an operator to do, with images of this machine."""
        self.cluster.kubectl("apply", "-f", str(MANIFESTS / "base" / "namespace.yaml"))
        for name in ("workspace-service", "gateway-role"):
            self.cluster.kubectl("apply", "-f", str(MANIFESTS / "base" / f"{name}.yaml"))
        keys = self.folder / "jwks.json"
        keys.write_bytes(key_set(self.key))
        create = ("-n", NAMESPACE, "create")
        self.cluster.kubectl(*create, "configmap", "gateway-keys", f"--from-file={keys}")
        self.cluster.kubectl(
            *create, "secret", "generic", "fdb-cluster", "--from-literal=fdb.cluster=secret-of-it"
        )
        deployment = self.deployment()
        self.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(deployment))
        self.gateway = until(self._gateway_address, "a ready gateway", PATIENCE)

    def deployment(self) -> Any:
        """The gateway's Deployment, told the API's address: here is no service proxy."""
        path = MANIFESTS / "base" / "gateway-deployment.yaml"
        deployment = yaml.safe_load(path.read_text())
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        container |= {"image": name_of("gateway"), "imagePullPolicy": "Never"}
        port = self.cluster.url.rpartition(":")[2]
        container["env"] += [
            {"name": "KUBERNETES_SERVICE_HOST", "value": ADDRESS},
            {"name": "KUBERNETES_SERVICE_PORT", "value": port},
        ]
        return deployment

    def _gateway_address(self) -> str | None:
        pods = self.pods("app=gateway")
        for pod in pods:
            conditions = pod["status"].get("conditions", [])
            if any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
                return f"ws://{pod['status']['podIP']}:8080"
        return None

    def pods(self, selector: str) -> list[dict[str, Any]]:
        path = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector={selector}"
        items: list[dict[str, Any]] = self.cluster.request("GET", path)["items"]
        return items

    def pod(self, workspace: str) -> dict[str, Any] | None:
        """A workspace's pod."""
        return next(iter(self.pods(f"workspace-id={workspace}")), None)

    def volume(self, workspace: str) -> Path:
        """Where this machine has a workspace's volume."""
        volumes = self.cluster.request("GET", "/api/v1/persistentvolumes")["items"]
        claim = f"workspace-storage-{workspace}-0"
        (path,) = (
            volume["spec"]["hostPath"]["path"]
            for volume in volumes
            if volume["spec"]["claimRef"]["name"] == claim
        )
        return Path(path)

    def environ(self, home: Path) -> dict[str, str]:
        """What a user's commands are configured with: a token command, as a platform gives it."""
        key = self.folder / "EdDSA.pem"
        issue = f"{sys.executable} -m coditect_cli token issue --user {OWNER} --key-file {key}"
        command = f"sh -c '{issue} --workspace $CODITECT_WORKSPACE_ID'"
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "CODITECT_HOME": str(home),
            "CODITECT_PROVIDER": "kubernetes",
            "CODITECT_KUBECONFIG": str(self.cluster.kubeconfig),
            "CODITECT_NAMESPACE": NAMESPACE,
            "CODITECT_IMAGE": name_of("workspace"),
            "CODITECT_CPU": "100m",
            "CODITECT_MEMORY": "128Mi",
            "CODITECT_STORAGE": "64Mi",
            "CODITECT_OWNER": OWNER,
            "CODITECT_GATEWAY_URL": self.gateway,
            "CODITECT_TOKEN_COMMAND": command,
        }

    def token(self, workspace: str, key: PrivateKey | None = None) -> str:
        return tokens.issue(
            key or self.key, workspace_id=workspace, user_id=OWNER, ttl=60, now=time.time()
        )


class Commands:
    """Runs `coditect` as that user would, and finds what it prints."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = environ

    def __call__(self, *args: str, stdin: bytes | None = None, status: int | None = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "coditect_cli", *args],
            check=False,
            env=self.environ,
            input=stdin,
            capture_output=True,
            timeout=PATIENCE,
        )
        said = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        assert status is None or done.returncode == status, (done.returncode, *said)
        return said[0]


@contextmanager
def running_platform(folder: Path) -> Iterator[Platform]:
    """A platform with its files below `folder`; needs root, and skips where a part is missing."""
    node = Node(folder / "node")
    images = archive(folder / "images")
    with control_plane(node) as cluster:
        node.load(images)
        (folder / "platform").mkdir()
        platform = Platform(node, cluster, folder / "platform")
        platform.install()
        yield platform
