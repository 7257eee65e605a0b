"""A stand-in for a node's kubelet, which needs root and a container runtime.

Scheduler, controllers and volumes are real; this sets the status of the pods that were given to
its node, in the words of the real one, by what their image's name holds: `missing` can't be
pulled, `crash` ends at once, `slow` never gets ready, and each other one runs.
"""

from __future__ import annotations

import json
import threading
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from tests.support.cluster import ApiError, Cluster

NODE = "node1"
RENEW = 10  # seconds; the controller manager gives a node up after 40


class Kubelet:
    """Serves a cluster's pods in a thread, until the API server is gone."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        cluster.request("POST", "/api/v1/nodes", _NODE)
        sizes = {"cpu": "64", "memory": "256Gi", "pods": "1000"}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}
        ready |= {"lastHeartbeatTime": _now(), "lastTransitionTime": _now()}
        status = {"capacity": sizes, "allocatable": sizes, "conditions": [ready]}
        cluster.patch(f"/api/v1/nodes/{NODE}/status", {"status": status})
        lease = {"metadata": {"name": NODE}, "spec": {"holderIdentity": NODE}}
        cluster.request("POST", LEASES, lease)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        path = f"/api/v1/pods?watch=true&fieldSelector=spec.nodeName%3D{NODE}"
        with suppress(OSError, ValueError):  # the cluster has gone
            while True:
                renewed = {"renewTime": _now(), "leaseDurationSeconds": 40}
                self._cluster.patch(f"{LEASES}/{NODE}", {"spec": renewed})
                for line in self._cluster.open(f"{path}&timeoutSeconds={RENEW}"):
                    event = json.loads(line)
                    if event["type"] in ("ADDED", "MODIFIED"):
                        with suppress(ApiError):  # it has gone meanwhile
                            self._serve(event["object"])

    def _serve(self, pod: dict[str, Any]) -> None:
        path = "/api/v1/namespaces/{namespace}/pods/{name}".format(**pod["metadata"])
        if pod["metadata"].get("deletionTimestamp"):
            uid = {"uid": pod["metadata"]["uid"]}
            self._cluster.request("DELETE", path, {"gracePeriodSeconds": 0, "preconditions": uid})
        elif not pod["status"].get("containerStatuses"):
            self._cluster.patch(f"{path}/status", {"status": self._status(pod)})

    def _status(self, pod: dict[str, Any]) -> dict[str, Any]:
        container = pod["spec"]["containers"][0]
        image = container["image"]
        state: dict[str, Any] = {"running": {"startedAt": _now()}}
        self._event(pod, "Normal", "Pulling", f'Pulling image "{image}"')
        if "missing" in image:
            words = f'Failed to pull image "{image}": not found'
            self._event(pod, "Warning", "Failed", words)
            state = {"waiting": {"reason": "ErrImagePull", "message": f"{image}: not found"}}
        elif "crash" in image:
            words = "Back-off restarting failed container workspace"
            self._event(pod, "Warning", "BackOff", words)
            state = {"waiting": {"reason": "CrashLoopBackOff", "message": words}}
        elif "slow" in image:
            state = {"waiting": {"reason": "ContainerCreating"}}
        else:
            self._event(pod, "Normal", "Started", "Started container workspace")
        ready = "running" in state
        conditions = [
            condition
            for condition in pod["status"].get("conditions", [])
            if condition["type"] not in ("Ready", "ContainersReady")
        ]
        for kind in ("Ready", "ContainersReady"):
            conditions.append({"type": kind, "status": str(ready), "lastTransitionTime": _now()})
        return {
            "phase": "Running" if ready else "Pending",
            "startTime": _now(),
            "podIP": "127.0.0.1",
            "conditions": conditions,
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": image,
                    "imageID": "",
                    "ready": ready,
                    "restartCount": 5 if "crash" in image else 0,
                    "state": state,
                    "lastState": {"terminated": {"exitCode": 3}} if "crash" in image else {},
                }
            ],
        }

    def _event(self, pod: dict[str, Any], kind: str, reason: str, message: str) -> None:
        about = {name: pod["metadata"][name] for name in ("name", "namespace", "uid")}
        namespace = about["namespace"]
        event = {
            "metadata": {"name": f"{about['name']}.{uuid.uuid4().hex}"},
            "involvedObject": about | {"kind": "Pod", "apiVersion": "v1"},
            "type": kind,
            "reason": reason,
            "message": message,
            "source": {"component": "kubelet", "host": NODE},
            "firstTimestamp": _now(),
            "lastTimestamp": _now(),
            "count": 1,
        }
        self._cluster.request("POST", f"/api/v1/namespaces/{namespace}/events", event)


LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_NODE = {"metadata": {"name": NODE, "labels": {"cloud.google.com/gke-spot": "true"}}}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
