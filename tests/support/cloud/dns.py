"""Cloud DNS' record sets, with weighted round robin.

https://cloud.google.com/dns/docs/reference/rest/v1/resourceRecordSets
"""

from __future__ import annotations

import re
from typing import Any

from tests.support.cloud.server import Refused, Request, Route

ZONE = r"/dns/v1/projects/([^/]+)/managedZones/([^/]+)"


class RecordSets:
    """The record sets of the project's zones, by zone, name and type."""

    def __init__(self) -> None:
        self.zones: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}

    def routes(self) -> list[Route]:
        one = ZONE + r"/rrsets/([^/]+)/([^/]+)"
        return [
            ("GET", ZONE + "/rrsets", self.list),
            ("POST", ZONE + "/rrsets", self.create),
            ("GET", one, lambda _, match: self._zone(match[2])[self._key(match)]),
            ("PATCH", one, self.patch),
        ]

    def add(self, zone: str, name: str, kind: str, data: str, ttl: int = 300) -> None:
        record = {"kind": "dns#resourceRecordSet", "name": name, "type": kind, "ttl": ttl}
        self.zones.setdefault(zone, {})[name, kind] = {**record, "rrdatas": [data]}

    def weights(self, zone: str, name: str, kind: str) -> dict[str, float]:
        """Data to weight, as a test asks for it; a plain record has all the weight."""
        record = self.zones[zone][name, kind]
        items = record.get("routingPolicy", {}).get("wrr", {}).get("items")
        if items is None:
            return {data: 1.0 for data in record["rrdatas"]}
        return {item["rrdatas"][0]: item["weight"] for item in items}

    def list(self, request: Request, match: re.Match[str]) -> Any:
        name, kind = request.query.get("name"), request.query.get("type")
        found = [
            record
            for record in self._zone(match[2]).values()
            if name in (None, record["name"]) and kind in (None, record["type"])
        ]
        return {"kind": "dns#resourceRecordSetsListResponse", "rrsets": found}

    def create(self, request: Request, match: re.Match[str]) -> Any:
        key = request.body["name"], request.body["type"]
        if key in self._zone(match[2]):
            raise Refused(409, f"The resource 'entity.rrset' named '{key[0]} ({key[1]})' exists")
        self._zone(match[2])[key] = request.body
        return request.body

    def patch(self, request: Request, match: re.Match[str]) -> Any:
        """Data and policy exclude each other: who sends the one, takes the other away."""
        zone, key = self._zone(match[2]), self._key(match)
        changed = {**zone[key], **request.body}
        if request.body.get("rrdatas"):
            changed.pop("routingPolicy", None)
        elif request.body.get("routingPolicy"):
            changed.pop("rrdatas", None)
        zone[key] = changed
        return changed

    def _zone(self, name: str) -> dict[tuple[str, str], dict[str, Any]]:
        if name not in self.zones:
            raise Refused(404, f"The 'parameters.managedZone' resource named '{name}' not found.")
        return self.zones[name]

    def _key(self, match: re.Match[str]) -> tuple[str, str]:
        if (match[3], match[4]) not in self._zone(match[2]):
            raise Refused(404, f"The 'parameters.name' resource named '{match[3]}' not found.")
        return match[3], match[4]
