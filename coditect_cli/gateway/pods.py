"""Which workspaces there are and where their pods are, as watches tell: no call per attach."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from coditect_cli.errors import CoditectError, Unreachable
from coditect_cli.kube import Kube, Object
from coditect_cli.kube_watch import Change, Source, Watches
from coditect_cli.workspaces.backend import not_found, stopped

log = logging.getLogger("coditect.pods")

PORT = 8080
PORT_NAME = "websocket"
OWNER = "coditect.dev/owner"
SELECTOR = "app=workspace"
PAUSE = 10.0  # seconds after a watch that was refused


@dataclass(frozen=True)
class Pod:
    """A workspace's pod that has an address; `uid` tells it from its successor."""

    workspace: str
    owner: str
    uid: str
    host: str
    port: int


@dataclass(frozen=True)
class Known:
    """A workspace, as its StatefulSet has it; `runs` says whether it is to."""

    id: str
    owner: str
    runs: bool


@dataclass(frozen=True)
class Seen:
    """A pod of the cluster, and what it is to clients: None where they can't be sent there."""

    uid: str
    pod: Pod | None


class Pods:
    """The workspaces of one namespace and their pods, kept up to date by a thread of its own.

    `on_gone` is called in that thread, with the uid of a pod that is no longer there.
    """

    def __init__(self, kube: Kube, on_gone: Callable[[str], None]) -> None:
        self._kube = kube
        self._on_gone = on_gone
        self._known: dict[str, Known] = {}
        self._pods: dict[str, Pod] = {}  # those to connect to, by workspace
        self._there: set[str] = set()  # the uids of all, also of those that are ending
        self._listed: set[str] = set()
        self.ready = threading.Event()  # every workspace and pod is known

    def __len__(self) -> int:
        return len(self._pods)

    def owner(self, workspace: str) -> str:
        """Whose the workspace is. Raises NotFound, Unreachable while not all are known."""
        if found := self._known.get(workspace) or self._pods.get(workspace):
            return found.owner
        self._check_ready()
        raise not_found(workspace)

    def find(self, workspace: str) -> Pod:
        """The workspace's pod.

        Raises NotFound, Conflict where it is stopped, Unreachable, which may be over soon.
        """
        known, pod = self._known.get(workspace), self._pods.get(workspace)
        if known is not None and not known.runs:
            raise stopped(workspace)
        if pod is not None:
            return pod
        self._check_ready()
        if known is None:
            raise not_found(workspace)
        raise Unreachable(
            f"workspace {workspace} has no pod that runs",
            code="workspace.not_running",
            hint=f"coditect workspace show {workspace} says why",
            retryable=True,
        )

    def _check_ready(self) -> None:
        if not self.ready.is_set():
            raise Unreachable(
                "this gateway does not know the workspaces yet",
                code="gateway.not_ready",
                hint="try again in a moment",
                retryable=True,
            )

    def start(self) -> None:
        """Watch until the process ends."""
        threading.Thread(target=self._run, name="pods", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                with Watches(self._kube, sources(self._kube.namespace)) as watches:
                    while change := watches.next():
                        self._apply(change)
            except CoditectError as error:
                log.error("watch_refused code=%s why=%s", error.code, error)
            except Exception:
                log.exception("watch_failed")
            time.sleep(PAUSE)

    def _apply(self, change: Change) -> None:
        (self._apply_pods if change.key == "pods" else self._apply_sets)(change)
        if change.kind == "LIST":
            self._listed.add(change.key)
            log.info("listed what=%s count=%d", change.key, len(change.object["items"]))
            if self._listed == {"pods", "sets"}:
                self.ready.set()

    def _apply_sets(self, change: Change) -> None:
        if change.kind == "LIST":
            self._known = {one.id: one for one in change.object["items"]}
        elif change.kind == "DELETED":
            self._known.pop(change.object.id, None)
        else:
            self._known[change.object.id] = change.object

    def _apply_pods(self, change: Change) -> None:
        if change.kind == "DELETED":
            self._forget(change.object.uid)
        elif change.kind == "LIST":
            seen = change.object["items"]
            for uid in self._there - {one.uid for one in seen}:
                self._forget(uid)
            for one in seen:
                self._learn(one)
        else:
            self._learn(change.object)

    def _learn(self, seen: Seen) -> None:
        """Take a pod as it is now."""
        self._there.add(seen.uid)
        pod = seen.pod
        if pod is None:
            self._leave_out(seen.uid)
            return
        known = self._pods.get(pod.workspace)
        if known == pod:
            return
        self._pods[pod.workspace] = pod
        log.info("pod workspace=%s host=%s", pod.workspace, pod.host)
        if known is not None and known.uid == pod.uid:
            self._on_gone(pod.uid)  # the same pod at another address

    def _forget(self, uid: str) -> None:
        self._leave_out(uid)
        self._there.discard(uid)
        self._on_gone(uid)

    def _leave_out(self, uid: str) -> None:
        """Send nobody to this pod any more."""
        for workspace in [one.workspace for one in self._pods.values() if one.uid == uid]:
            del self._pods[workspace]
            log.info("pod_ends workspace=%s", workspace)


def sources(namespace: str) -> dict[str, Source]:
    """What is watched."""
    query: dict[str, object] = {"labelSelector": SELECTOR}
    space = f"namespaces/{namespace}"
    return {
        "pods": Source(f"/api/v1/{space}/pods", query, pick=_seen),
        "sets": Source(f"/apis/apps/v1/{space}/statefulsets", query, pick=_known),
    }


def _known(item: Object) -> Known:
    metadata = item["metadata"]
    runs = bool(item["spec"].get("replicas", 1))
    return Known(metadata["name"], _owner(metadata) or "", runs)


def _seen(item: Object) -> Seen:
    return Seen(item["metadata"]["uid"], _pod(item))


def _pod(item: Object) -> Pod | None:
    """The pod of a workspace's StatefulSet, where it runs and is not about to end."""
    metadata, status = item["metadata"], item["status"]
    workspace, owner = metadata["labels"].get("workspace-id"), _owner(metadata)
    is_ours = owner and metadata["name"] == f"{workspace}-0"
    runs = status.get("phase") == "Running" and "deletionTimestamp" not in metadata
    if not (is_ours and runs and status.get("podIP")):
        return None
    ports = [
        port["containerPort"]
        for container in item["spec"]["containers"]
        for port in container.get("ports", ())
        if port.get("name") == PORT_NAME
    ]
    return Pod(workspace, owner, metadata["uid"], status["podIP"], (ports or [PORT])[0])


def _owner(metadata: Object) -> str:
    annotations = metadata.get("annotations", {})
    return str(annotations.get(OWNER) or metadata["labels"].get("user-id", ""))
