"""Cloud Monitoring's dashboards: https://cloud.google.com/monitoring/api/ref_v3/rest"""

from __future__ import annotations

import re
from typing import Any

from tests.support.cloud.server import Request, Route

ALL = r"/v1/projects/([^/]+)/dashboards"


class Dashboards:
    """The project's dashboards."""

    def __init__(self) -> None:
        self.dashboards: list[dict[str, Any]] = []

    def routes(self) -> list[Route]:
        return [
            ("GET", ALL, lambda *_: {"dashboards": self.dashboards}),
            ("POST", ALL, self.create),
            ("DELETE", ALL + r"/([^/]+)", self.delete),
        ]

    def create(self, request: Request, match: re.Match[str]) -> Any:
        name = f"projects/{match[1]}/dashboards/d{len(self.dashboards) + 1}"
        self.dashboards.append({**request.body, "name": name, "etag": "e1"})
        return self.dashboards[-1]

    def delete(self, request: Request, match: re.Match[str]) -> Any:
        name = f"projects/{match[1]}/dashboards/{match[2]}"
        self.dashboards = [one for one in self.dashboards if one["name"] != name]
        return {}
