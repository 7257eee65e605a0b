"""Workspaces of a cluster: a StatefulSet with one pod, and its volume, for each."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from coditect_cli.errors import CoditectError, Conflict, Interrupted, NotFound, UsageError
from coditect_cli.kube import Kube, Object
from coditect_cli.kube_watch import Source, Watches
from coditect_cli.settings import Settings
from coditect_cli.workspaces import readiness, volume
from coditect_cli.workspaces.backend import Condition, Item, Tell, exists, not_found, silent
from coditect_cli.workspaces.manifest import OWNER, REQUEST, build, claim_name, user_label
from coditect_cli.workspaces.observed import (
    Claims,
    Pods,
    StatefulSet,
    StatefulSets,
    as_set,
    node,
    record,
    status,
)
from coditect_cli.workspaces.spec import Desired, WorkspaceRecord, check_workspace_id

OURS = "app=workspace"
EVENTS_SHOWN = 10


class _Around(NamedTuple):
    """What other objects have of workspaces: nodes by pods' names, sizes by claims'."""

    nodes: dict[str, str | None]
    sizes: dict[str, str | None]


_NOTHING = _Around({}, {})


class KubernetesWorkspaces:
    """The workspaces of one namespace; a `WorkspaceBackend`.

    `insisted` names the settings that a volume which was kept must have, to be taken over.
    """

    def __init__(self, kube: Kube, settings: Settings, insisted: Collection[str] = ()) -> None:
        self._kube = kube
        self._settings = settings
        self._insisted = insisted
        core = f"/api/v1/namespaces/{kube.namespace}"
        self._sets = f"/apis/apps/v1/namespaces/{kube.namespace}/statefulsets"
        self._claims = f"{core}/persistentvolumeclaims"
        self._pods = f"{core}/pods"
        self._events = f"{core}/events"

    def create(self, id: str, owner: str, tell: Tell = silent) -> WorkspaceRecord:
        claim, stateful_set = build(check_workspace_id(id), owner, self._settings)
        kept = self._claim(id, owner, claim)
        differing = kept and self._take_over(id, kept, claim, stateful_set)
        made = kept is None
        try:
            found = self._create_set(id, stateful_set)
        except CoditectError as error:
            if error.code != "workspace.exists" or made:
                error.hint = _with_volume(error.hint, id, made)
            raise
        except KeyboardInterrupt:
            hint = f"coditect workspace show {id} says whether it is there"
            raise Interrupted(
                f"interrupted while workspace {id} was being made",
                hint=_with_volume(hint, id, made),
            ) from None
        if differing:
            tell(
                f"warning: the volume that an earlier workspace {id} left is taken over as it is: "
                + ", ".join(differing.values())
            )
        return record(as_set(found))

    def dry_run(self, id: str, owner: str) -> list[Object]:
        """What `create` would send, after the cluster has looked at it and changed nothing.

        Raises what `create` would.
        """
        claim, stateful_set = build(check_workspace_id(id), owner, self._settings)
        kept = self._claim(id, owner, claim, dryRun="All")
        if kept is not None:
            self._take_over(id, kept, claim, stateful_set)
        self._create_set(id, copy.deepcopy(stateful_set), dryRun="All")
        return [claim, stateful_set]

    def get(self, id: str) -> WorkspaceRecord:
        found, claim = as_set(self._find(id)), self._kept(id)
        return record(found, node(self._pod(id)), volume.size(claim))

    def details(self, id: str) -> Item:
        found, pod, claim = self._find(id), self._pod(id), self._kept(id)
        conditions = (pod or {}).get("status", {}).get("conditions", [])
        return {
            "desired": "running" if found["spec"]["replicas"] else "stopped",
            "pod": pod and pod["metadata"]["name"],
            "conditions": [
                {name: condition.get(name) for name in ("type", "status", "reason", "message")}
                for condition in conditions
            ],
            "volume": claim and volume.described(id, claim),
            "events": self._last_events(id),
        }

    def ids(self, owner: str | None = None) -> list[str]:
        pages = self._kube.pages(self._sets, StatefulSets, **_selecting(None, owner))
        return [found.metadata.name for page in pages for found in page.items]

    def pages(
        self, selector: str | None, tell: Tell, *, whole: bool, owner: str | None = None
    ) -> Iterator[list[Item]]:
        for _, items in self._pages(_selecting(selector, owner), whole):
            yield items

    def watch(
        self, selector: str | None, tell: Tell, *, whole: bool, owner: str | None = None
    ) -> Iterator[list[Item]]:
        version, there = "", set[str]()
        selecting = _selecting(selector, owner)
        for found, items in self._pages(selecting, whole):
            version = version or found
            there |= {str(item["id"]) for item in items}
            yield items
        source = Source(self._sets, selecting, version, pick=as_set)
        with Watches(self._kube, {"set": source}, tell) as watches:
            while True:
                if (change := watches.next()) is None:
                    continue
                if change.kind == "LIST":  # some may have gone unseen
                    around = self._around(OURS) if whole else _NOTHING
                    now = {one.metadata.name for one in change.object["items"]}
                    gone = [_deleted(id) for id in sorted(there - now)]
                    there = now
                    yield _items(change.object["items"], around) + gone
                else:
                    yield [self._changed(change.kind, change.object, whole)]
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
        return f"its volume {claim_name(id)} ({volume.size(claim)}) with all files"

    def delete(self, id: str, purge: bool = False) -> None:
        claim = self._kept(check_workspace_id(id)) if purge else None
        try:
            found = self._find(id)
        except NotFound:
            if claim is None:
                raise
        else:
            self._remove(f"{self._sets}/{id}", found, propagationPolicy="Foreground")
        if claim is None:
            return
        left = f"workspace {id} is deleted, and its volume {claim_name(id)}"
        try:
            self._remove(f"{self._claims}/{claim_name(id)}", claim)
        except CoditectError as error:
            error.hint = f"{left} is not; {error.hint or 'try again'}"
            raise
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted: {left} may be left", hint="try again") from None

    def wait(
        self, id: str, condition: Condition, limit: float, tell: Tell
    ) -> WorkspaceRecord | None:
        return readiness.wait(self._kube, check_workspace_id(id), condition, limit, tell)

    def _claim(self, id: str, owner: str, claim: Object, **query: object) -> Object | None:
        """Make the volume claim; else the one that is there already, which is of this owner."""
        try:
            self._kube.create(self._claims, claim, **query)
        except Conflict:
            pass
        else:
            return None
        kept = self._kube.get(f"{self._claims}/{claim_name(id)}")
        if kept["metadata"].get("annotations", {}).get(OWNER) != owner:
            try:
                found = self._find(id)
            except NotFound:
                raise Conflict(
                    f"the volume that an earlier workspace {id} left belongs to somebody else",
                    code="workspace.volume_foreign",
                    hint="choose another id; its owner can take it over, or remove it with "
                    f"coditect workspace delete {id} --purge",
                ) from None
            raise exists(id, _unwell(found))
        if kept["metadata"].get("deletionTimestamp"):
            raise Conflict(
                f"the volume of workspace {id} is just being removed",
                code="workspace.deleting",
                hint="try again in a moment",
                retryable=True,
            )
        return kept

    def _take_over(
        self, id: str, kept: Object, wanted: Object, stateful_set: Object
    ) -> dict[str, str]:
        """Let a new workspace say what its volume is; how that differs from what is wanted.

        Raises Conflict where it may not.
        """
        found = volume.differences(kept, wanted)
        if refused := {name: found[name] for name in found if name in self._insisted}:
            try:
                self._find(id)
            except NotFound:
                raise volume.refusal(id, self._kube.namespace, refused, wanted, kept) from None
        volume.take_over(stateful_set, kept)
        return found

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
                code="workspace.name_taken",
                hint="choose another id",
            )
        raise exists(id, _unwell(found))

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

    def _pages(self, selecting: dict[str, object], whole: bool) -> Iterator[tuple[str, list[Item]]]:
        """Each page's version, and its items."""
        is_all = selecting == _selecting(None)
        around = self._around(OURS) if whole and is_all else _NOTHING
        for page in self._kube.pages(self._sets, StatefulSets, **selecting):
            if whole and not is_all and page.items:
                names = ",".join(found.metadata.name for found in page.items)
                around = self._around(f"{OURS},workspace-id in ({names})")
            yield page.metadata["resourceVersion"], _items(page.items, around)

    def _around(self, selector: str) -> _Around:
        pods = self._kube.pages(self._pods, Pods, labelSelector=selector)
        claims = self._kube.pages(self._claims, Claims, labelSelector=selector)
        return _Around(
            {pod.metadata.name: pod.spec.nodeName for page in pods for pod in page.items},
            {
                claim.metadata.name: claim.status.capacity.get("storage")
                for page in claims
                for claim in page.items
            },
        )

    def _changed(self, kind: str, found: StatefulSet, whole: bool) -> Item:
        """A workspace as a watch tells it: one that only left the selector is there still."""
        if kind != "DELETED":
            return self._item(found, whole)
        try:
            return self._item(as_set(self._find(found.metadata.name)), whole)
        except NotFound:
            return self._item(found, whole) | {"status": "deleted"}

    def _item(self, found: StatefulSet, whole: bool) -> Item:
        if not whole:
            return record(found).as_dict()
        id = found.metadata.name
        claim = self._kept(id)
        return record(found, node(self._pod(id)), volume.size(claim)).as_dict()

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


def _items(found: list[StatefulSet], around: _Around) -> list[Item]:
    items = []
    for one in found:
        id = one.metadata.name
        on, size = around.nodes.get(f"{id}-0"), around.sizes.get(claim_name(id))
        items.append(record(one, on, size).as_dict())
    return items


def _unwell(found: Object) -> str:
    """How a workspace is that is there already; nothing where it runs."""
    state = status(as_set(found))
    return "" if state == "running" else f"it is {state}"


def _with_volume(hint: str | None, id: str, made: bool) -> str:
    """A hint, and that there is a volume."""
    since = "was made and is kept" if made else "was there before, and is kept"
    return (
        f"{hint or ''}\nits volume {claim_name(id)} {since}: create again uses it, "
        f"coditect workspace delete {id} --purge removes it"
    ).strip()


def _deleted(id: str) -> Item:
    """A workspace that went while nobody watched."""
    nothing = WorkspaceRecord(id, "", "", "stopped", Path())
    return dict.fromkeys(nothing.as_dict()) | {"id": id, "status": "deleted"}


def _selecting(selector: str | None, owner: str | None = None) -> dict[str, object]:
    if selector and not selector.isprintable():
        raise UsageError("--selector is not a line of text")
    whose = None if owner is None else f"user-id={user_label(owner)}"
    return {"labelSelector": ",".join(filter(None, (OURS, whose, selector)))}
