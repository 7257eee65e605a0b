"""Workspaces on a real node as a platform has them: manifests applied, keys made, a gateway up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from coditect_cli import tokens
from coditect_cli.signing import PrivateKey
from tests.support.cluster import MANIFESTS, Cluster, assets, control_plane
from tests.support.gateway import until
from tests.support.images import NAMES, archive, name_of
from tests.support.node import PATIENCE, Node

NAMESPACE = "coditect"
PROJECT = "my-project"
OWNER = "ada@example.com"


def blocks(title: str) -> list[str]:
    """The blocks of a section of docs/kubernetes.md that are to be typed."""
    text = (MANIFESTS.parent / "docs" / "kubernetes.md").read_text()
    section = text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    return section.split("\n```\n")[1::2]


class Platform:
    """A cluster with one node, the platform's key, and the edge gateway's address."""

    def __init__(self, node: Node, cluster: Cluster, folder: Path) -> None:
        self.node = node
        self.cluster = cluster
        self.folder = folder
        self.gateway = ""

    def install(self) -> None:
        """What docs/kubernetes.md tells an operator to do, word for word."""
        for image in NAMES:  # instead of a registry
            self.node.tag(name_of(image), f"gcr.io/{PROJECT}/{image}:v1")
        shutil.copytree(MANIFESTS, self.folder / "manifests")
        (self.folder / "fdb.cluster").write_text("secret-of-it")
        for title in ("2. The keys", "3. The platform"):
            for block in blocks(title):
                self.run(block)
        service = f"/api/v1/namespaces/{NAMESPACE}/services/gateway"
        address = self.cluster.request("GET", service)["spec"]["clusterIP"]
        self.gateway = f"ws://{address}:80/ws"

    @cached_property
    def key(self) -> PrivateKey:
        return PrivateKey.load(self.folder / "platform.pem")

    @cached_property
    def operator(self) -> dict[str, str]:
        """The variables of somebody who has just installed coditect and kubectl."""
        programs = self.folder / "bin"
        programs.mkdir()
        (programs / "kubectl").symlink_to(assets() / "kubectl")
        (programs / "coditect").symlink_to(Path(sys.executable).with_name("coditect"))
        home = str(self.folder / "home")
        return {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": home,
            "CODITECT_HOME": home,
            "KUBECONFIG": str(self.cluster.kubeconfig),
            "PROJECT": PROJECT,
        }

    def run(self, script: str) -> str:
        """Run lines of a shell as the operator, in their folder; what they printed."""
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", script],
            check=False,
            cwd=self.folder,
            env=self.operator,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def pods(self, selector: str) -> list[dict[str, Any]]:
        path = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector={selector}"
        items: list[dict[str, Any]] = self.cluster.request("GET", path)["items"]
        return items

    def gateways(self) -> set[str]:
        """The containers of the gateways that are ready, by their ids."""
        return {
            status["containerID"]
            for pod in self.pods("app=gateway")
            for status in pod["status"].get("containerStatuses", ())
            if status["ready"] and "deletionTimestamp" not in pod["metadata"]
        }

    def await_gateways(self, gone: set[str]) -> None:
        """Wait until as many others serve as these were, also by the Service's address."""

        def replaced() -> bool:
            now = self.gateways()
            return len(now) >= len(gone) and not now & gone

        until(replaced, "other gateways", PATIENCE)
        until(lambda: all(self._serves() for _ in range(10 * len(gone))), "a Service", PATIENCE)

    def _serves(self) -> bool:
        """Whether one of the gateways, whichever the Service chooses, says that it is ready."""
        page = self.page("readyz")
        with suppress(OSError), urllib.request.urlopen(page, timeout=10) as answer:  # noqa: S310
            return bool(answer.status == 200)
        return False

    def page(self, name: str) -> str:
        """The address of one of the gateways' pages."""
        return self.gateway.replace("ws://", "http://").removesuffix("ws") + name

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
        key = self.folder / "platform.pem"
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
            "CODITECT_STORAGE": "1Gi",
            "CODITECT_OWNER": OWNER,
            "CODITECT_GATEWAY_URL": self.gateway,
            "CODITECT_TOKEN_COMMAND": command,
        }

    def token(self, workspace: str, key: PrivateKey | None = None) -> str:
        return tokens.issue(
            key or self.key, workspace_id=workspace, user_id=OWNER, ttl=60, now=time.time()
        )


class Commands:
    """Runs `coditect` as that user would, and finds what it prints; `said` is its last stderr."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = environ
        self.said = ""

    def __call__(self, *args: str, stdin: bytes | None = None, status: int | None = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "coditect_cli", *args],
            check=False,
            env=self.environ,
            input=stdin,
            capture_output=True,
            timeout=PATIENCE,
        )
        out, self.said = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
        assert status is None or done.returncode == status, (done.returncode, out, self.said)
        return out


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
