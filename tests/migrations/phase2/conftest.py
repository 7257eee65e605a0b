"""A control plane of their own for these tests: a cluster with anybody's volumes is not removed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster, ControlPlane, assets, control_plane
from tests.support.kubelet import Kubelet


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    assets()
    with control_plane(ControlPlane(tmp_path_factory.mktemp("plane") / "cluster")) as running:
        Kubelet(running)
        yield running
