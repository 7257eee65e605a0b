"""The control plane that the other tests here stand on."""

from __future__ import annotations

from tests.support.cluster import PATIENCE, Cluster
from tests.support.gateway import until


def test_it_runs_controllers_and_scheduler(cluster: Cluster) -> None:
    namespace = cluster.namespace()
    cluster.kubectl("create", "deployment", "demo", "--image=none", "-n", namespace)
    path = f"/api/v1/namespaces/{namespace}/events"

    def refused() -> bool:
        reasons = [event["reason"] for event in cluster.request("GET", path)["items"]]
        return "SuccessfulCreate" in reasons and "FailedScheduling" in reasons

    until(refused, "a pod that no node takes", PATIENCE)
