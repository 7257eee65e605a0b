"""What gcloud does to the test cloud in a cutover, done at once; see ../quick.py for why."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from coditect_cli.errors import Conflict, NotFound
from coditect_cli.migrations.programs import Completed
from tests.migrations.quick import Programs
from tests.support.cloud.server import Refused, Request


class CutoverPrograms(Programs):
    """Adds DNS, URL maps, dashboards and clusters."""

    stdin: str | None = None

    def run(self, argv: Sequence[str], **options: object) -> Completed:
        given = options.get("stdin")
        self.stdin = given if isinstance(given, str) else None
        return super().run(argv, **options)

    def _answer(self, argv: list[str]) -> str:
        words = [word for word in argv if not word.startswith("--")]
        flags = [
            (flag, value)
            for flag, _, value in (word.partition("=") for word in argv if word.startswith("--"))
        ]
        found = self._look(words, dict(flags))
        if found is not None:
            return json.dumps(found)
        if not self._change(words, flags):
            return super()._answer(argv)
        self.ran.append(" ".join(words[:4]))
        return "{}"

    def _look(self, words: list[str], one: dict[str, str]) -> Any:
        cloud = self.cloud
        match words:
            case ["gcloud", "dns", "record-sets", "list"]:
                records = cloud.dns.zones.get(one["--zone"], {})
                found = records.get((one["--name"], one["--type"]))
                return [found] if found else []
            case ["gcloud", "monitoring", "dashboards", "list"]:
                return cloud.dashboards.dashboards
            case ["gcloud", "container", "clusters", "describe", name]:
                return self._found(cloud.clusters.clusters, name)
            case ["gcloud", "compute", "url-maps", "describe", name]:
                return self._found(cloud.url_maps.maps, name)
        return None

    def _change(self, words: list[str], flags: list[tuple[str, str]]) -> bool:
        cloud, one = self.cloud, dict(flags)
        match words:
            case ["gcloud", "run", "services", "update", name]:
                self._scale(name, one)
            case ["gcloud", "dns", "record-sets", "update", name]:
                self._record(name, one, [value for flag, value in flags if flag.endswith("-item")])
            case ["gcloud", "monitoring", "dashboards", "create"]:
                place = re.fullmatch("(acme-dev)", "acme-dev")
                assert place is not None
                body = {"displayName": "Coditect gateway on Cloud Run"}
                cloud.dashboards.create(Request("POST", "", {}, body), place)
            case ["gcloud", "monitoring", "dashboards", "delete", name]:
                kept = [one for one in cloud.dashboards.dashboards if one["name"] != name]
                if kept == cloud.dashboards.dashboards:
                    raise NotFound(f"no {name}")
                cloud.dashboards.dashboards = kept
            case ["gcloud", "container", "clusters", "delete", name]:
                self._found(cloud.clusters.clusters, name)
                del cloud.clusters.clusters[name]
            case ["gcloud", "compute", "url-maps", "import", name]:
                self._import(name)
            case _:
                return False
        return True

    def _scale(self, name: str, flags: dict[str, str]) -> None:
        old = self._found(self.cloud.run.services, name)
        notes = {"run.googleapis.com/sessionAffinity": str("--session-affinity" in flags).lower()}
        if flags["--max-instances"] != "default":
            notes["autoscaling.knative.dev/maxScale"] = flags["--max-instances"]
        generation = old["metadata"]["generation"] + 1
        metadata = {"name": f"{name}-{generation:05d}-abc", "annotations": notes}
        template = {"metadata": metadata, "spec": old["spec"]["template"]["spec"]}
        self._write(name, {"template": template, "traffic": old["spec"]["traffic"]}, old)

    def _record(self, name: str, flags: dict[str, str], items: list[str]) -> None:
        body: dict[str, Any] = {"ttl": int(flags["--ttl"])}
        if items:
            parts = [re.fullmatch(r"weight=(\d+),rrdatas=(.+)", item) for item in items]
            body["routingPolicy"] = {
                "wrr": {
                    "items": [
                        {"weight": float(part[1]), "rrdatas": part[2].split(";")}
                        for part in parts
                        if part
                    ]
                }
            }
        else:
            body["rrdatas"] = flags["--rrdatas"].split(",")
        path = f"{flags['--zone']} {name} {flags['--type']}"
        match = re.fullmatch(r"()(\S+) (\S+) (\S+)", path)
        assert match is not None
        self.cloud.dns.patch(Request("PATCH", "", {}, body), match)

    def _import(self, name: str) -> None:
        body = json.loads(self.stdin or "")
        match = re.fullmatch(r"(\S+) (\S+)", f"acme-dev {name}")
        assert match is not None
        kept = ("defaultService", "defaultRouteAction")
        cleared = {key: None for key in kept if key not in body}
        try:
            self.cloud.url_maps.patch(Request("PATCH", "", {}, {**body, **cleared}), match)
        except Refused as refusal:
            raise Conflict(refusal.message) from None
