"""The control plane that the other tests here stand on."""

from __future__ import annotations

from tests.support.cluster import PATIENCE, Cluster
from tests.support.gateway import until


def test_it_runs_controllers_scheduler_and_a_node(cluster: Cluster) -> None:
    namespace = cluster.namespace()
    cluster.kubectl("create", "deployment", "demo", "--image=none", "-n", namespace)
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/demo"

    def is_available() -> bool:
        return bool(cluster.request("GET", path)["status"].get("availableReplicas"))

    until(is_available, "an available replica", PATIENCE)
