"""A namespace of a test's own, and a context that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cluster import Cluster

IMAGE = "localhost/workspace:1"
OWNER = "ada@example.com"


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    return cluster.namespace()


@pytest.fixture
def provider(home: Path, cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of a context on Kubernetes."""
    settings = {
        "PROVIDER": "kubernetes",
        "KUBECONFIG": str(cluster.kubeconfig),
        "NAMESPACE": namespace,
        "IMAGE": IMAGE,
        "OWNER": OWNER,
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"CODITECT_{name}", value)
