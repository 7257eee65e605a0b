"""GKE's API v1 as far as `gcloud container clusters` uses it.

https://cloud.google.com/kubernetes-engine/docs/reference/rest/v1/projects.locations.clusters
"""

from __future__ import annotations

import base64
import re
from typing import Any

from tests.support.cloud.server import Refused, Request, Route

PLACE = r"/v1/projects/([^/]+)/locations/([^/]+)"
# What gcloud needs to write a kubeconfig; a test with a control plane sets its own.
NO_AUTHORITY = base64.b64encode(b"no certificate").decode()


class Clusters:
    """Clusters of one project. With `late_error`, the operation that comes next fails when polled.

    `endpoint` (HOST or HOST:PORT) and `authority` (PEM, base64) are where new clusters answer.
    """

    def __init__(self) -> None:
        self.clusters: dict[str, dict[str, Any]] = {}
        self.operations: dict[str, dict[str, Any]] = {}
        self.late_error: str | None = None
        self.endpoint = "192.0.2.10"
        self.authority = NO_AUTHORITY

    def routes(self) -> list[Route]:
        one = PLACE + r"/clusters/([^/]+)"
        return [
            ("GET", PLACE + "/clusters", lambda *_: {"clusters": list(self.clusters.values())}),
            ("POST", PLACE + "/clusters", self.create),
            ("GET", one, self.describe),
            ("DELETE", one, self.delete),
            ("GET", PLACE + r"/operations/([^/]+)", self.operation),
        ]

    def add(self, name: str, location: str = "us-central1") -> None:
        self.clusters[name] = {
            "name": name,
            "location": location,
            "zone": location,
            "status": "RUNNING",
            "endpoint": self.endpoint,
            "masterAuth": {"clusterCaCertificate": self.authority},
            "autopilot": {"enabled": True},
            "currentMasterVersion": "1.32.4-gke.1000",
            "currentNodeVersion": "1.32.4-gke.1000",
            "currentNodeCount": 3,
        }

    def describe(self, request: Request, match: re.Match[str]) -> Any:
        """The cluster; what is done to it goes on, whoever asked for that."""
        found = dict(self._cluster(match[3]))
        for operation in self.operations.values():
            if operation["targetLink"].endswith(f"/clusters/{match[3]}"):
                self._go_on(operation)
        return found

    def create(self, request: Request, match: re.Match[str]) -> Any:
        name = request.body["cluster"]["name"]
        if name in self.clusters:
            raise Refused(
                409, f"Already exists: projects/{match[1]}/locations/{match[2]}/clusters/{name}."
            )
        self.add(name, match[2])
        self.clusters[name]["status"] = "PROVISIONING"
        return self._operate("CREATE_CLUSTER", match, name)

    def delete(self, request: Request, match: re.Match[str]) -> Any:
        cluster = self._cluster(match[3])
        if cluster["status"] in ("PROVISIONING", "STOPPING"):
            doing = "deleting" if cluster["status"] == "STOPPING" else "creating"
            message = f"Operation operation-1 is currently {doing} cluster {match[3]}. Please wait "
            raise Refused(400, message + "and try again once it is done.", "FAILED_PRECONDITION")
        cluster["status"] = "STOPPING"
        return self._operate("DELETE_CLUSTER", match, match[3])

    def operation(self, request: Request, match: re.Match[str]) -> Any:
        """Answers RUNNING once, then that it is done: gcloud polls as it does with the real one."""
        operation = self.operations[match[3]]
        self._go_on(operation)
        return operation

    def _go_on(self, operation: dict[str, Any]) -> None:
        if operation["status"] == "PENDING":
            operation["status"] = "RUNNING"
        elif operation["status"] == "RUNNING":
            operation["status"] = "DONE"
            name = operation["targetLink"].rsplit("/", 1)[-1]
            if self.late_error is not None:
                operation["statusMessage"] = self.late_error
                operation["error"] = {"code": 13, "message": self.late_error}
                self.clusters[name]["status"] = "ERROR"
                self.late_error = None
            elif operation["operationType"] == "DELETE_CLUSTER":
                del self.clusters[name]
            else:
                self.clusters[name]["status"] = "RUNNING"

    def _cluster(self, name: str) -> dict[str, Any]:
        if name not in self.clusters:
            raise Refused(404, f"Not found: clusters/{name}.")
        return self.clusters[name]

    def _operate(self, kind: str, match: re.Match[str], cluster: str) -> dict[str, Any]:
        name = f"operation-{len(self.operations) + 1}"
        place = f"https://container.googleapis.com/v1/projects/{match[1]}/locations/{match[2]}"
        self.operations[name] = {
            "name": name,
            "zone": match[2],
            "location": match[2],
            "operationType": kind,
            "status": "PENDING",
            "selfLink": f"{place}/operations/{name}",
            "targetLink": f"{place}/clusters/{cluster}",
        }
        return self.operations[name]
