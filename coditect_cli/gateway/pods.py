"""Where each workspace's pod is, as a watch of pods tells it: no call per attach."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from coditect_cli.errors import CoditectError, Unreachable
from coditect_cli.kube import Kube, Object
from coditect_cli.kube_watch import Source, Watches

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


class Pods:
    """The pods of one namespace, kept up to date by a thread of its own.

    `on_gone` is called in that thread, with the uid of a pod that is no longer there.
    """

    def __init__(self, kube: Kube, on_gone: Callable[[str], None]) -> None:
        self._kube = kube
        self._on_gone = on_gone
        self._pods: dict[str, Pod] = {}  # those to connect to, by workspace
        self._there: set[str] = set()  # the uids of all, also of those that are ending
        self.ready = threading.Event()  # every pod is known

    def __len__(self) -> int:
        return len(self._pods)

    def find(self, workspace: str) -> Pod:
        """The workspace's pod. Raises Unreachable, which may be over soon."""
        if pod := self._pods.get(workspace):
            return pod
        if not self.ready.is_set():
            raise Unreachable(
                "this gateway does not know the workspaces yet",
                code="gateway.not_ready",
                hint="try again in a moment",
                retryable=True,
            )
        raise Unreachable(
            f"workspace {workspace} has no pod that runs",
            code="workspace.not_running",
            hint=f"coditect workspace show {workspace} says why; start starts it",
            retryable=True,
        )

    def start(self) -> None:
        """Watch until the process ends."""
        threading.Thread(target=self._run, name="pods", daemon=True).start()

    def _run(self) -> None:
        path = f"/api/v1/namespaces/{self._kube.namespace}/pods"
        while True:
            try:
                source = Source(path, {"labelSelector": SELECTOR})
                with Watches(self._kube, {"pods": source}) as watches:
                    while change := watches.next():
                        self._apply(change.kind, change.object)
            except CoditectError as error:
                log.error("watch_refused code=%s why=%s", error.code, error)
            except Exception:
                log.exception("watch_failed")
            time.sleep(PAUSE)

    def _apply(self, kind: str, found: Object) -> None:
        if kind == "DELETED":
            self._forget(found["metadata"]["uid"])
        elif kind == "LIST":
            for uid in self._there - {item["metadata"]["uid"] for item in found["items"]}:
                self._forget(uid)
            for item in found["items"]:
                self._learn(item)
            self.ready.set()
            log.info("pods_listed count=%d", len(self._pods))
        else:
            self._learn(found)

    def _learn(self, item: Object) -> None:
        """Take a pod as it is now."""
        uid = item["metadata"]["uid"]
        self._there.add(uid)
        pod = _pod(item)
        if pod is None:
            self._leave_out(uid)
            return
        known = self._pods.get(pod.workspace)
        if known == pod:
            return
        self._pods[pod.workspace] = pod
        log.info("pod workspace=%s host=%s", pod.workspace, pod.host)
        if known is not None and known.uid == uid:
            self._on_gone(uid)  # the same pod at another address

    def _forget(self, uid: str) -> None:
        self._leave_out(uid)
        self._there.discard(uid)
        self._on_gone(uid)

    def _leave_out(self, uid: str) -> None:
        """Send nobody to this pod any more."""
        for workspace in [one.workspace for one in self._pods.values() if one.uid == uid]:
            del self._pods[workspace]
            log.info("pod_ends workspace=%s", workspace)


def _pod(item: Object) -> Pod | None:
    """The pod of a workspace's StatefulSet, where it runs and is not about to end."""
    metadata, status = item["metadata"], item["status"]
    workspace = metadata["labels"].get("workspace-id")
    owner = metadata.get("annotations", {}).get(OWNER) or metadata["labels"].get("user-id")
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
