"""A control plane of their own for these tests: a cluster with anybody's volumes is not removed."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coditect_cli.migrations import programs
from coditect_cli.stores.sqlite import SQLiteStore
from coditect_cli.stores.store import SessionStore
from tests.migrations.phase2.dying import Phase2
from tests.migrations.quick import Programs
from tests.support.cloud import Cloud
from tests.support.cluster import ApiError, Cluster, ControlPlane, assets, control_plane
from tests.support.kubelet import Kubelet

FILE = "coditect:a1b2c3d4@10.0.0.1:4500,10.0.0.2:4500:tls\n"
CLUSTER = "coditect-cluster"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    assets()
    with control_plane(ControlPlane(tmp_path_factory.mktemp("plane") / "cluster")) as running:
        Kubelet(running)
        yield running


class Field(Phase2):
    """A namespace's worth of the control plane, and what phase 2 makes there."""

    def __init__(
        self, store: SessionStore, folder: Path, cluster: Cluster, cloud: Cloud, ran: Programs
    ) -> None:
        self.cluster, self.cloud, self.programs = cluster, cloud, ran
        self.move(folder)
        super().__init__(store, folder)

    def move(self, folder: Path) -> None:
        """Let what is begun next be in a namespace of its own."""
        folder.mkdir(exist_ok=True)
        (folder / "namespace").write_text(f"phase2-{uuid.uuid4().hex[:8]}")
        (folder / "fdb.cluster").write_text(FILE)

    def use(self, store: SessionStore, folder: Path, **settings: Any) -> None:
        """Begin another run there, with these settings."""
        super().__init__(store, folder, **settings)

    def get(self, path: str) -> Any:
        """What is at a path below the namespace's; None when there is nothing."""
        root, _, rest = path.rpartition("//")
        try:
            return self.cluster.request("GET", f"{root}/namespaces/{self.namespace}/{rest}")
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def secret(self, name: str = "fdb-cluster") -> str | None:
        found = self.get(f"/api/v1//secrets/{name}")
        return None if found is None else base64.b64decode(found["data"]["fdb.cluster"]).decode()

    @property
    def is_there(self) -> bool:
        try:
            found = self.cluster.request("GET", f"/api/v1/namespaces/{self.namespace}")
        except ApiError:
            return False
        return bool(found["status"]["phase"] == "Active")

    def remove(self) -> None:
        """Let nothing be there, nor a cluster."""
        if self.is_there:
            self.cluster.request("DELETE", f"/api/v1/namespaces/{self.namespace}")
        self.cloud.clusters.clusters.clear()


@pytest.fixture
def field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> Iterator[Field]:
    cloud = Cloud()
    ran = Programs(cloud)
    monkeypatch.setattr(programs, "run", ran.run)
    monkeypatch.setattr(programs, "run_json", ran.run_json)
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    store = SQLiteStore(tmp_path / "state" / "sessions.db")
    found = Field(store, tmp_path, cluster, cloud, ran)
    yield found
    store.close()
    cloud.server.close()
    found.remove()
