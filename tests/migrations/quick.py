"""What gcloud and docker do to the test cloud, done at once.

A kill after each line of a phase is a hundred runs, and gcloud takes two seconds to start. So here
its few commands change the same cloud without it; that gcloud does just this is what
phase1/test_whole.py and tests/migrations/test_cloud_run.py are for.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from typing import Any

from coditect_cli.errors import NotFound
from coditect_cli.migrations.programs import Completed
from tests.support.cloud import PROJECT, Cloud
from tests.support.cloud.server import Request

DIGEST = "sha256:" + "b" * 64


class Programs:
    """Stands for programs.run and programs.run_json; `ran` has the words of what changed things."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.ran: list[str] = []

    def run(self, argv: Sequence[str], **_: object) -> Completed:
        return Completed(tuple(argv), self._answer(list(argv)), "")

    def run_json(self, argv: Sequence[str], **_: object) -> Any:
        return json.loads(self._answer(list(argv)))

    def _answer(self, argv: list[str]) -> str:
        words = [word for word in argv if not word.startswith("--")]
        flags = dict(word.partition("=")[::2] for word in argv if word.startswith("--"))
        seen = self._seen(words, flags)
        if seen is not None:
            return seen
        self.ran.append(" ".join(words[:4]))
        self._do(words, flags)
        return f"pty-fix: digest: {DIGEST} size: 528\n" if words[:2] == ["docker", "push"] else "{}"

    def _seen(self, words: list[str], flags: dict[str, str]) -> str | None:
        match words:
            case ["gcloud", "config", "list"]:
                return json.dumps({"core": {"account": "ops@example.com", "project": PROJECT}})
            case ["gcloud", "run", "services", "describe", name]:
                return json.dumps(self._found(self.cloud.run.services, name))
            case ["gcloud", "run", "revisions", "describe", name]:
                return json.dumps(self._found(self.cloud.run.revisions, name))
            case ["gcloud", "container", "clusters", "describe", name]:
                return json.dumps(self._found(self.cloud.clusters.clusters, name))
            case ["gcloud", "logging", "read", filter_]:
                body = {
                    "filter": filter_,
                    "pageSize": flags["--limit"],
                    "orderBy": "timestamp desc",
                }
                request = Request("POST", "/v2/entries:list", {}, body)
                return json.dumps(self.cloud.logs.list(request, None)["entries"])
            case ["docker", "push"] | ["docker", "version"]:  # the first is its --help
                return ""
        return None

    def _do(self, words: list[str], flags: dict[str, str]) -> None:
        match words:
            case ["gcloud", "run", "deploy", name]:
                self._deploy(name, flags)
            case ["gcloud", "run", "services", "update-traffic", name]:
                self._shift(name, flags)
            case ["gcloud", "run", "services", "update", name]:
                self._renew(name, flags["--image"])
            case ["gcloud", "run", "services", "delete", name]:
                self._found(self.cloud.run.services, name)
                del self.cloud.run.services[name]
            case ["gcloud", "container", "clusters", "create-auto", name]:
                self.cloud.clusters.add(name)
            case ["gcloud", "container", "clusters", "delete", name]:
                del self.cloud.clusters.clusters[name]

    def _found(self, items: dict[str, Any], name: str) -> Any:
        if name not in items:
            raise NotFound(f"Cannot find [{name}]", code="program.not_found")
        return items[name]

    def _deploy(self, name: str, flags: dict[str, str]) -> None:
        run = self.cloud.run
        old, tag = run.services.get(name), flags["--tag"]
        count = sum(revision.startswith(name + "-0") for revision in run.revisions)
        revision = f"{name}-{count + 1:05d}-abc"
        traffic = copy.deepcopy(old["spec"]["traffic"]) if old else None
        if traffic is None:
            traffic = [{"latestRevision": True, "percent": 100}]
        if old is not None and "--no-traffic" in flags:
            for target in traffic:
                if target.pop("latestRevision", None):
                    target["revisionName"] = old["status"]["latestReadyRevisionName"]
        traffic = [target for target in traffic if target.get("tag") != tag or "percent" in target]
        for target in traffic:
            if target.get("tag") == tag:
                del target["tag"]
        traffic.append({"revisionName": revision, "tag": tag})
        template = {
            "metadata": {"name": revision},
            "spec": {"containers": [{"image": flags["--image"]}]},
        }
        self._write(name, {"template": template, "traffic": traffic}, old)

    def _shift(self, name: str, flags: dict[str, str]) -> None:
        old = self._found(self.cloud.run.services, name)
        tags = [
            {"revisionName": target["revisionName"], "tag": target["tag"]}
            for target in old["status"]["traffic"]
            if "tag" in target
        ]
        percents: dict[str, int]
        if "--remove-tags" in flags or "--update-tags" in flags:
            self._retag(name, flags, old)
            return
        if "--to-latest" in flags:
            traffic = [{"latestRevision": True, "percent": 100}, *tags]
        else:
            if "--to-tags" in flags:
                tag, _, text = flags["--to-tags"].partition("=")
                revision = next(one["revisionName"] for one in tags if one["tag"] == tag)
                share = int(text)
                others = self.cloud.run.percents(name)
                others.pop(revision, None)
                whole = sum(others.values())
                percents = {one: p * (100 - share) // whole for one, p in others.items()}
                percents[revision] = 100 - sum(percents.values())
            else:
                parts = re.findall(r"([\w-]+)=(\d+)", flags["--to-revisions"])
                percents = {revision: int(percent) for revision, percent in parts}
            traffic = [{"revisionName": one, "percent": p} for one, p in percents.items()] + tags
        self._write(name, {"template": old["spec"]["template"], "traffic": traffic}, old)

    def _retag(self, name: str, flags: dict[str, str], old: Any) -> None:
        tag, _, revision = flags.get("--update-tags", flags.get("--remove-tags", "")).partition("=")
        traffic = copy.deepcopy(old["spec"]["traffic"])
        for target in traffic:
            if target.get("tag") == tag:
                del target["tag"]
        traffic = [target for target in traffic if "percent" in target or "tag" in target]
        if revision:
            traffic.append({"revisionName": revision, "tag": tag})
        self._write(name, {"template": old["spec"]["template"], "traffic": traffic}, old)

    def _renew(self, name: str, image: str) -> None:
        old = self._found(self.cloud.run.services, name)
        count = sum(revision.startswith(name + "-0") for revision in self.cloud.run.revisions)
        template = {
            "metadata": {"name": f"{name}-{count + 1:05d}-abc"},
            "spec": {"containers": [{"image": image}]},
        }
        self._write(name, {"template": template, "traffic": old["spec"]["traffic"]}, old)

    def _write(self, name: str, spec: dict[str, Any], old: Any) -> None:
        body = {"metadata": {"name": name}, "spec": spec}
        path = "/apis/serving.knative.dev/v1/namespaces/([^/]+)/services/([^/]+)"
        match = re.fullmatch(
            path, f"/apis/serving.knative.dev/v1/namespaces/{PROJECT}/services/{name}"
        )
        assert match is not None
        if old is None:
            self.cloud.run.create(Request("POST", "", {}, body), match)
        else:
            self.cloud.run.replace(Request("PUT", "", {}, body), match)
