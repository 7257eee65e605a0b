"""What a cluster says of a workspace: only the fields that we read, for lists of 10,000."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import Struct, convert, field

from coditect_cli.kube import Object
from coditect_cli.workspaces.manifest import OWNER, ROOT, VOLUME
from coditect_cli.workspaces.spec import WorkspaceRecord


class Metadata(Struct):
    name: str
    creationTimestamp: str = ""
    generation: int = 0
    deletionTimestamp: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)


class Requests(Struct):
    requests: dict[str, str] = field(default_factory=dict)


class Container(Struct):
    image: str = ""
    resources: Requests = field(default_factory=Requests)


class PodSpec(Struct):
    containers: list[Container]
    nodeName: str | None = None


class Template(Struct):
    spec: PodSpec


class ClaimSpec(Struct):
    resources: Requests = field(default_factory=Requests)


class ClaimStatus(Struct):
    capacity: dict[str, str] = field(default_factory=dict)


class Claim(Struct):
    metadata: Metadata
    spec: ClaimSpec
    status: ClaimStatus = field(default_factory=ClaimStatus)


class Spec(Struct):
    template: Template
    replicas: int = 1
    volumeClaimTemplates: list[Claim] = field(default_factory=list)


class Status(Struct):
    observedGeneration: int = 0
    replicas: int = 0
    readyReplicas: int = 0


class StatefulSet(Struct):
    metadata: Metadata
    spec: Spec
    status: Status = field(default_factory=Status)


class Pod(Struct):
    metadata: Metadata
    spec: PodSpec


class StatefulSets(Struct):
    """A page of them."""

    metadata: dict[str, Any]
    items: list[StatefulSet]


class Pods(Struct):
    """A page of them."""

    metadata: dict[str, Any]
    items: list[Pod]


class Claims(Struct):
    """A page of them."""

    metadata: dict[str, Any]
    items: list[Claim]


def as_set(found: Object) -> StatefulSet:
    """Of an object, the fields that we read."""
    return convert(found, StatefulSet)


def record(found: StatefulSet, node: str | None = None, size: str | None = None) -> WorkspaceRecord:
    """A workspace as its StatefulSet has it, on a node, with a volume of that size if known."""
    meta, container = found.metadata, found.spec.template.spec.containers[0]
    asked = container.resources.requests
    sizes = [
        claim.spec.resources.requests.get("storage")
        for claim in found.spec.volumeClaimTemplates
        if claim.metadata.name == VOLUME
    ]
    return WorkspaceRecord(
        meta.name,
        meta.annotations.get(OWNER) or meta.labels.get("user-id", ""),
        meta.creationTimestamp,
        "running" if found.spec.replicas else "stopped",
        Path(ROOT),
        status(found),
        node,
        container.image,
        asked.get("cpu"),
        asked.get("memory"),
        size or next(iter(sizes), None),
    )


def node(pod: Object | None) -> str | None:
    """Where a pod is."""
    name: str | None = (pod or {}).get("spec", {}).get("nodeName")
    return name


def status(found: StatefulSet) -> str:
    """running, starting, stopped, stopping or deleting."""
    if found.metadata.deletionTimestamp:
        return "deleting"
    seen = found.status.observedGeneration >= found.metadata.generation
    if found.spec.replicas:
        return "running" if seen and found.status.readyReplicas else "starting"
    return "stopped" if seen and not found.status.replicas else "stopping"
