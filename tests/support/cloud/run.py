"""Cloud Run's Admin API v1 (Knative serving), as far as `gcloud run` uses it.

https://cloud.google.com/run/docs/reference/rest/v1/namespaces.services
"""

from __future__ import annotations

import copy
import re
from typing import Any

from tests.support.cloud.server import Refused, Request, Route

NAMESPACE = r"/apis/serving\.knative\.dev/v1/namespaces/([^/]+)"
WHEN = "2026-01-02T03:04:05.000000Z"


class Services:
    """Services and revisions of one project. A revision of an image in `broken` is never ready.

    `address` is where all of them really answer, if anything does.
    """

    def __init__(self) -> None:
        self.services: dict[str, dict[str, Any]] = {}
        self.revisions: dict[str, dict[str, Any]] = {}
        self.broken: set[str] = set()
        self.address: str | None = None

    def routes(self) -> list[Route]:
        one = NAMESPACE + r"/services/([^/]+)"
        return [
            ("GET", NAMESPACE + "/services", lambda *_: {"items": list(self.services.values())}),
            ("POST", NAMESPACE + "/services", self.create),
            ("GET", one, lambda _, match: self._service(match[2])),
            ("PUT", one, self.replace),
            ("DELETE", one, self.delete),
            ("GET", NAMESPACE + "/revisions", self.list_revisions),
            ("GET", NAMESPACE + r"/revisions/([^/]+)", lambda _, match: self._revision(match[2])),
            ("POST", r"/v1/projects/.*:testIamPermissions", lambda request, _: request.body),
        ]

    def deploy(self, name: str, image: str) -> str:
        """What a plain `gcloud run deploy` leaves: a revision that has all traffic, its name."""
        old = self.services.get(name)
        template = {"metadata": {}, "spec": {"containers": [{"image": image}]}}
        asked = {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"template": template},
        }
        return str(self._apply("acme-dev", name, asked, old)["status"]["latestCreatedRevisionName"])

    def percents(self, service: str) -> dict[str, int]:
        """What serves: revision to percent, as a test asks for it."""
        targets = self.services[service]["status"]["traffic"]
        found: dict[str, int] = {}
        for target in targets:
            percent = target.get("percent", 0)
            if percent:
                name = target["revisionName"]
                found[name] = found.get(name, 0) + percent
        return found

    def image(self, revision: str) -> str:
        return str(self.revisions[revision]["spec"]["containers"][0]["image"])

    def create(self, request: Request, match: re.Match[str]) -> Any:
        name = request.body["metadata"]["name"]
        if name in self.services:
            raise Refused(409, f"Resource '{name}' already exists.")
        return self._apply(match[1], name, request.body, None)

    def replace(self, request: Request, match: re.Match[str]) -> Any:
        old = self._service(match[2])
        version = request.body["metadata"].get("resourceVersion")
        if version and version != old["metadata"]["resourceVersion"]:
            raise Refused(
                409, f"Conflict for resource '{match[2]}': version '{version}' is stale.", "ABORTED"
            )
        if request.query.get("dryRun") == "all":
            return old
        return self._apply(match[1], match[2], request.body, old)

    def delete(self, _: Request, match: re.Match[str]) -> Any:
        self._service(match[2])
        del self.services[match[2]]
        return {"apiVersion": "v1", "kind": "Status", "status": "Success"}

    def list_revisions(self, request: Request, match: re.Match[str]) -> Any:
        selector = request.query.get("labelSelector", "")
        wanted = dict(re.findall(r"([\w./-]+)\s*=\s*([\w.-]+)", selector))
        items = [
            one
            for one in self.revisions.values()
            if wanted.items() <= one["metadata"]["labels"].items()
        ]
        return {"apiVersion": "serving.knative.dev/v1", "kind": "RevisionList", "items": items}

    def _service(self, name: str) -> dict[str, Any]:
        if name not in self.services:
            raise Refused(404, f"Resource '{name}' of kind 'SERVICE' does not exist.")
        return self.services[name]

    def _revision(self, name: str) -> dict[str, Any]:
        if name not in self.revisions:
            raise Refused(404, f"Resource '{name}' of kind 'REVISION' does not exist.")
        return self.revisions[name]

    def _apply(
        self, namespace: str, name: str, asked: dict[str, Any], old: dict[str, Any] | None
    ) -> dict[str, Any]:
        generation = old["metadata"]["generation"] + 1 if old else 1
        service = copy.deepcopy(asked)
        service["metadata"] |= {
            "namespace": namespace,
            "generation": generation,
            "resourceVersion": f"AA{generation}",
            "uid": f"uid-{name}",
            "creationTimestamp": WHEN,
        }
        service["spec"].setdefault("traffic", [{"latestRevision": True, "percent": 100}])
        before = old["status"] if old else {}
        created = before.get("latestCreatedRevisionName")
        if old is None or service["spec"]["template"] != old["spec"]["template"]:
            created = self._make_revision(service, generation)
        is_ready = self._is_ready(created)
        ready = created if is_ready else before.get("latestReadyRevisionName")
        service["status"] = {
            "observedGeneration": generation,
            "latestCreatedRevisionName": created,
            **({"latestReadyRevisionName": ready} if ready else {}),
            "conditions": self._conditions(created, ready is not None),
            "url": self._url(name),
            "address": {"url": self._url(name)},
            "traffic": self._traffic(service, ready, before) if ready else [],
        }
        self.services[name] = service
        return service

    def _url(self, host: str) -> str:
        return self.address or f"https://{host}-abcdefghij-uc.a.run.app"

    def _make_revision(self, service: dict[str, Any], generation: int) -> str:
        name = service["metadata"]["name"]
        template = service["spec"]["template"]
        revision = template.get("metadata", {}).get("name") or f"{name}-{generation:05d}-abc"
        if revision in self.revisions:
            raise Refused(409, f"Revision named '{revision}' with different config already exists.")
        image = template["spec"]["containers"][0]["image"]
        is_ready = not any(part in image for part in self.broken)
        state = {"type": "Ready", "status": str(is_ready), "lastTransitionTime": WHEN}
        if not is_ready:
            state |= {"reason": "HealthCheckContainerError", "message": NOT_READY}
        self.revisions[revision] = {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Revision",
            "metadata": {
                "name": revision,
                "namespace": service["metadata"]["namespace"],
                "generation": 1,
                "creationTimestamp": WHEN,
                "labels": {"serving.knative.dev/service": name},
                "annotations": template.get("metadata", {}).get("annotations", {}),
            },
            "spec": copy.deepcopy(template["spec"]),
            "status": {
                "observedGeneration": 1,
                "conditions": [state],
                **({"imageDigest": image} if "@" in image else {}),
            },
        }
        return str(revision)

    def _is_ready(self, revision: str) -> bool:
        condition = self.revisions[revision]["status"]["conditions"][0]
        return bool(condition["status"] == "True")

    def _conditions(self, created: str, has_ready: bool) -> list[dict[str, str]]:
        state = self.revisions[created]["status"]["conditions"][0]
        told = {key: state[key] for key in ("status", "reason", "message") if key in state}
        return [
            {"type": "Ready", "lastTransitionTime": WHEN, **told},
            {"type": "ConfigurationsReady", "lastTransitionTime": WHEN, **told},
            {"type": "RoutesReady", "lastTransitionTime": WHEN, "status": str(has_ready)},
        ]

    def _traffic(
        self, service: dict[str, Any], ready: str, before: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """The traffic asked for, resolved; what there was while a revision of it is not ready."""
        resolved = []
        for target in service["spec"]["traffic"]:
            name = target.get("revisionName") or ready
            if name not in self.revisions:
                raise Refused(400, f"Revision '{name}' is not found.")
            if not self._is_ready(name):
                return list(before.get("traffic", []))
            one = {**target, "revisionName": name}
            if tag := target.get("tag"):
                one["url"] = self._url(f"{tag}---{service['metadata']['name']}")
            resolved.append(one)
        if sum(one.get("percent", 0) for one in resolved) != 100:
            raise Refused(400, "The traffic percents do not add up to 100.")
        return resolved


NOT_READY = (
    "The user-provided container failed to start and listen on the port defined provided by the "
    "PORT=8080 environment variable within the allocated timeout."
)
