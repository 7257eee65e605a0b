"""Workspaces of a cluster: a StatefulSet with one pod, and its volume, for each."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coditect_cli.errors import CoditectError, Conflict, Interrupted, NotFound, UsageError
from coditect_cli.kube import Kube, Object
from coditect_cli.kube_watch import Source, Watches
from coditect_cli.settings import Settings
from coditect_cli.workspaces import readiness
from coditect_cli.workspaces.backend import Condition, Item, Tell, exists, not_found
from coditect_cli.workspaces.manifest import OWNER, REQUEST, build, claim_name, user_label
from coditect_cli.workspaces.observed import Pods, StatefulSet, StatefulSets, as_set, node, record
from coditect_cli.workspaces.spec import Desired, WorkspaceRecord, check_workspace_id

OURS = "app=workspace"
EVENTS_SHOWN = 10


class KubernetesWorkspaces:
    """The workspaces of one namespace; a `WorkspaceBackend`."""

    def __init__(self, kube: Kube, settings: Settings) -> None:
        self._kube = kube
        self._settings = settings
        core = f"/api/v1/namespaces/{kube.namespace}"
        self._sets = f"/apis/apps/v1/namespaces/{kube.namespace}/statefulsets"
        self._claims = f"{core}/persistentvolumeclaims"
        self._pods = f"{core}/pods"
        self._events = f"{core}/events"

    def create(self, id: str, owner: str) -> WorkspaceRecord:
        claim, stateful_set = build(check_workspace_id(id), owner, self._settings)
        made = self._claim(id, owner, claim)
        try:
            return record(as_set(self._create_set(id, stateful_set)))
        except CoditectError as error:
            error.hint = _with_volume(error.hint, id, made)
            raise
        except KeyboardInterrupt:
            hint = f"coditect workspace show {id} says whether it is there"
            raise Interrupted(
                f"interrupted while workspace {id} was being made",
                hint=_with_volume(hint, id, made),
            ) from None

    def dry_run(self, id: str, owner: str) -> list[Object]:
        """What `create` would send, after the cluster has looked at it and changed nothing.

        Raises what `create` would.
        """
        claim, stateful_set = build(check_workspace_id(id), owner, self._settings)
        self._claim(id, owner, claim, dryRun="All")
        self._create_set(id, copy.deepcopy(stateful_set), dryRun="All")
        return [claim, stateful_set]

    def get(self, id: str) -> WorkspaceRecord:
        return record(as_set(self._find(id)), node(self._pod(id)))

    def details(self, id: str) -> Item:
        found, pod, claim = self._find(id), self._pod(id), self._kept(id)
        status = (pod or {}).get("status", {})
        volume = None
        if claim is not None:
            volume = {
                "name": claim_name(id),
                "phase": claim.get("status", {}).get("phase"),
                "size": claim["spec"]["resources"]["requests"].get("storage"),
                "class": claim["spec"].get("storageClassName"),
            }
        return {
            "desired": "running" if found["spec"]["replicas"] else "stopped",
            "pod": pod and pod["metadata"]["name"],
            "conditions": [
                {name: condition.get(name) for name in ("type", "status", "reason", "message")}
                for condition in status.get("conditions", [])
            ],
            "volume": volume,
            "events": self._last_events(id),
        }

    def ids(self, owner: str | None = None) -> list[str]:
        selecting = _selecting(None if owner is None else f"user-id={user_label(owner)}")
        pages = self._kube.pages(self._sets, StatefulSets, **selecting)
        return [found.metadata.name for page in pages for found in page.items]

    def pages(self, selector: str | None, tell: Tell, *, nodes: bool) -> Iterator[list[Item]]:
        for _, items in self._pages(selector, nodes):
            yield items

    def watch(self, selector: str | None, tell: Tell, *, nodes: bool) -> Iterator[list[Item]]:
        version, there = "", set[str]()
        for found, items in self._pages(selector, nodes):
            version = version or found
            there |= {str(item["id"]) for item in items}
            yield items
        source = Source(self._sets, _selecting(selector), version, pick=as_set)
        with Watches(self._kube, {"set": source}) as watches:
            while True:
                if (change := watches.next()) is None:
                    continue
                if change.kind == "LIST":  # some may have gone unseen
                    on = self._nodes(OURS) if nodes else {}
                    now = {one.metadata.name for one in change.object["items"]}
                    gone = [_deleted(id) for id in sorted(there - now)]
                    there = now
                    yield self._items(change.object["items"], on) + gone
                else:
                    yield [self._item(change.object, nodes) | _end(change.kind)]
                    name = change.object.metadata.name
                    (there.discard if change.kind == "DELETED" else there.add)(name)

    def set_desired(self, id: str, desired: Desired) -> WorkspaceRecord:
        self._find(id)
        replicas = {"spec": {"replicas": int(desired == "running")}}
        try:
            return record(as_set(self._kube.patch(f"{self._sets}/{id}", replicas)))
        except NotFound:
            raise not_found(id) from None

    def purgeable(self, id: str) -> str:
        check_workspace_id(id)
        claim = self._kept(id)
        if claim is None:
            self._find(id)
            return "it has no volume yet"
        size = claim["spec"]["resources"]["requests"].get("storage", "?")
        return f"its volume {claim_name(id)} ({size}) with all files"

    def delete(self, id: str, purge: bool = False) -> None:
        claim = self._kept(check_workspace_id(id)) if purge else None
        try:
            found = self._find(id)
        except NotFound:
            if claim is None:
                raise
        else:
            self._remove(f"{self._sets}/{id}", found, propagationPolicy="Foreground")
        if claim is not None:
            self._remove(f"{self._claims}/{claim_name(id)}", claim)

    def wait(
        self, id: str, condition: Condition, limit: float, tell: Tell
    ) -> WorkspaceRecord | None:
        return readiness.wait(self._kube, check_workspace_id(id), condition, limit, tell)

    def _claim(self, id: str, owner: str, claim: Object, **query: object) -> bool:
        """Make the volume claim, or take over what a delete kept; whether it was made."""
        try:
            self._kube.create(self._claims, claim, **query)
        except Conflict:
            pass
        else:
            return True
        kept = self._kube.get(f"{self._claims}/{claim_name(id)}")
        if kept["metadata"].get("annotations", {}).get(OWNER) != owner:
            try:
                self._find(id)
            except NotFound:
                raise Conflict(
                    f"the volume that an earlier workspace {id} left belongs to somebody else",
                    code="workspace.volume_foreign",
                    hint="choose another id; its owner can take it over, or remove it with "
                    f"coditect workspace delete {id} --purge",
                ) from None
            raise exists(id)
        if kept["metadata"].get("deletionTimestamp"):
            raise Conflict(
                f"the volume of workspace {id} is just being removed",
                code="workspace.deleting",
                hint="try again in a moment",
                retryable=True,
            )
        return False

    def _create_set(self, id: str, stateful_set: Object, **query: object) -> Object:
        """Post it; where an answer got lost, the annotation tells whether it is ours."""
        request = uuid.uuid4().hex
        stateful_set["metadata"]["annotations"][REQUEST] = request
        try:
            return self._kube.create(self._sets, stateful_set, fieldValidation="Strict", **query)
        except Conflict:
            found = self._kube.get(f"{self._sets}/{id}")
        metadata = found["metadata"]
        if metadata.get("annotations", {}).get(REQUEST) == request:
            return found
        if metadata.get("deletionTimestamp"):
            raise Conflict(
                f"workspace {id} is just being deleted",
                code="workspace.deleting",
                hint=f"coditect workspace wait {id} --for deleted, then try again",
                retryable=True,
            )
        if metadata.get("labels", {}).get("app") != "workspace":
            raise Conflict(
                f"the namespace has a StatefulSet {id} that is no workspace",
                code="workspace.exists",
                hint="choose another id",
            )
        raise exists(id)

    def _find(self, id: str) -> Object:
        try:
            found = self._kube.get(f"{self._sets}/{check_workspace_id(id)}")
        except NotFound:
            raise not_found(id) from None
        if found["metadata"].get("labels", {}).get("app") != "workspace":
            raise not_found(id)
        return found

    def _kept(self, id: str) -> Object | None:
        """The volume claim of a workspace of ours."""
        try:
            found = self._kube.get(f"{self._claims}/{claim_name(id)}")
        except NotFound:
            return None
        return found if found["metadata"].get("labels", {}).get("workspace-id") == id else None

    def _pod(self, id: str) -> Object | None:
        items = self._kube.get(self._pods, fieldSelector=f"metadata.name={id}-0")["items"]
        return items[0] if items else None

    def _pages(self, selector: str | None, nodes: bool) -> Iterator[tuple[str, list[Item]]]:
        """Each page's version, and its items."""
        on = self._nodes(OURS) if nodes and not selector else {}
        for page in self._kube.pages(self._sets, StatefulSets, **_selecting(selector)):
            if nodes and selector and page.items:
                names = ",".join(found.metadata.name for found in page.items)
                on = self._nodes(f"{OURS},workspace-id in ({names})")
            yield page.metadata["resourceVersion"], self._items(page.items, on)

    def _nodes(self, selector: str) -> dict[str, str | None]:
        """Where these pods are, by their names."""
        pages = self._kube.pages(self._pods, Pods, labelSelector=selector)
        return {pod.metadata.name: pod.spec.nodeName for page in pages for pod in page.items}

    def _item(self, found: StatefulSet, nodes: bool) -> Item:
        pod = self._pod(found.metadata.name) if nodes else None
        return record(found, node(pod)).as_dict()

    def _items(self, found: list[StatefulSet], on: dict[str, str | None]) -> list[Item]:
        return [record(one, on.get(f"{one.metadata.name}-0")).as_dict() for one in found]

    def _last_events(self, id: str) -> list[Item]:
        events: list[Any] = []
        for name in (id, f"{id}-0", claim_name(id)):
            about = f"involvedObject.name={name}"
            events += self._kube.get(self._events, fieldSelector=about)["items"]
        shown = [
            {
                "time": event.get("lastTimestamp") or event.get("eventTime"),
                "object": "{kind}/{name}".format(**event["involvedObject"]),
                "reason": event.get("reason"),
                "message": event.get("message"),
            }
            for event in events
        ]
        return sorted(shown, key=lambda event: str(event["time"]))[-EVENTS_SHOWN:]

    def _remove(self, path: str, found: Object, **options: object) -> None:
        """Delete exactly this object; one that has gone meanwhile is no error."""
        try:
            uid = found["metadata"]["uid"]
            self._kube.delete(path, preconditions={"uid": uid}, **options)
        except NotFound:
            pass


def _with_volume(hint: str | None, id: str, made: bool) -> str | None:
    """A hint, and that the volume was made."""
    if not made:
        return hint
    return (
        f"{hint or ''}\nits volume {claim_name(id)} was made and is kept: create again uses it, "
        f"coditect workspace delete {id} --purge removes it"
    ).strip()


def _end(kind: str) -> Item:
    return {"status": "deleted"} if kind == "DELETED" else {}


def _deleted(id: str) -> Item:
    """A workspace that went while nobody watched."""
    nothing = WorkspaceRecord(id, "", "", "stopped", Path())
    return dict.fromkeys(nothing.as_dict()) | {"id": id, "status": "deleted"}


def _selecting(selector: str | None) -> dict[str, object]:
    if selector and not selector.isprintable():
        raise UsageError("--selector is not a line of text")
    return {"labelSelector": f"{OURS},{selector}" if selector else OURS}
