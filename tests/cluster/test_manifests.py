"""What manifests/ holds, tried on a real API server with strict validation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cluster import MANIFESTS, Cluster

KINDS_OF_GKE = ("BackendConfig", "FrontendConfig", "ManagedCertificate")
FILES = sorted(
    file
    for file in MANIFESTS.rglob("*.yaml")
    if file.name not in ("kustomization.yaml", "cloud-run-dashboard.yaml")
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(MANIFESTS)))
def test_the_api_server_knows_every_field(cluster: Cluster, file: Path) -> None:
    cluster.kubectl("apply", "-f", str(MANIFESTS / "base" / "namespace.yaml"))
    if any(f"kind: {kind}" in file.read_text() for kind in KINDS_OF_GKE):
        pytest.xfail("its kinds are defined by GKE alone")
    strict = ("apply", "--dry-run=server", "--validate=strict", "-f", str(file))
    assert "server dry run" in cluster.kubectl(*strict)


def test_a_misspelt_field_would_be_found(cluster: Cluster) -> None:
    text = (MANIFESTS / "base" / "namespace.yaml").read_text().replace("labels:", "lables:")
    answer = cluster.kubectl(
        "apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text, check=False
    )
    assert 'unknown field "metadata.lables"' in answer
