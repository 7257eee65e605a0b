"""Compute Engine's global URL maps: https://cloud.google.com/compute/docs/reference/rest/v1/urlMaps"""

from __future__ import annotations

import base64
import re
from typing import Any

from tests.support.cloud.server import Refused, Request, Route

GLOBAL = r"/compute/v1/projects/([^/]+)/global"


class UrlMaps:
    """The project's URL maps; a change needs the fingerprint of what it changes."""

    def __init__(self) -> None:
        self.maps: dict[str, dict[str, Any]] = {}
        self.operations: dict[str, dict[str, Any]] = {}

    def routes(self) -> list[Route]:
        one = GLOBAL + r"/urlMaps/([^/]+)"
        operation = GLOBAL + r"/operations/([^/]+)"
        return [
            ("GET", one, lambda _, match: self._map(match[2])),
            ("PATCH", one, self.patch),
            ("GET", operation, lambda _, match: self.operations[match[2]]),
            ("POST", operation + "/wait", lambda _, match: self.operations[match[2]]),
        ]

    def add(self, name: str, project: str, backend: str) -> None:
        place = f"https://www.googleapis.com/compute/v1/projects/{project}/global"
        self.maps[name] = {
            "kind": "compute#urlMap",
            "id": "4711",
            "name": name,
            "selfLink": f"{place}/urlMaps/{name}",
            "defaultService": f"{place}/backendServices/{backend}",
            "fingerprint": "AAAAAAAAAAE=",
        }

    def weights(self, name: str) -> dict[str, int]:
        """Backend service to weight, as a test asks for it."""
        found = self.maps[name]
        weighted = found.get("defaultRouteAction", {}).get("weightedBackendServices")
        if weighted is None:
            return {found["defaultService"].rsplit("/", 1)[-1]: 100}
        return {one["backendService"].rsplit("/", 1)[-1]: one["weight"] for one in weighted}

    def patch(self, request: Request, match: re.Match[str]) -> Any:
        old = self._map(match[2])
        if request.body.get("fingerprint") != old["fingerprint"]:
            raise Refused(412, "Invalid fingerprint.")
        # gcloud lists what its file lacks as null: those are cleared.
        changed = {**old, **request.body}
        number = len(self.operations) + 2
        changed["fingerprint"] = base64.b64encode(number.to_bytes(8, "big")).decode()
        self.maps[match[2]] = {key: value for key, value in changed.items() if value is not None}
        name = f"operation-{number}"
        place = f"https://www.googleapis.com/compute/v1/projects/{match[1]}/global"
        self.operations[name] = {
            "kind": "compute#operation",
            "name": name,
            "operationType": "patch",
            "status": "DONE",
            "progress": 100,
            "selfLink": f"{place}/operations/{name}",
            "targetLink": f"{place}/urlMaps/{match[2]}",
        }
        return self.operations[name]

    def _map(self, name: str) -> dict[str, Any]:
        if name not in self.maps:
            raise Refused(404, f"The resource 'urlMaps/{name}' was not found")
        return self.maps[name]
