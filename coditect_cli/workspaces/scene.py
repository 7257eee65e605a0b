"""What the watches show of one workspace, and what follows from it."""

from __future__ import annotations

import time
from typing import Any

from coditect_cli.errors import CoditectError, Failed, LimitReached
from coditect_cli.kube import Object
from coditect_cli.kube_errors import LIMIT, WEBHOOK
from coditect_cli.kube_watch import Change
from coditect_cli.workspaces.manifest import claim_name

# Reasons of a waiting container, of
# https://github.com/kubernetes/kubernetes/blob/v1.34.0/pkg/kubelet/images/types.go and
# https://github.com/kubernetes/kubernetes/blob/v1.34.0/pkg/kubelet/kuberuntime/kuberuntime_container.go
IMAGE_REASONS = (
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RegistryUnavailable",
)
START_REASONS = (
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
)
WAITING = IMAGE_REASONS + START_REASONS
SETTLE = 3.0  # seconds that a scheduler or a volume controller may need to see what was just made
SCALER = 12.0  # seconds in which an autoscaler, which looks every 10 s, says what it will do


class Scene:
    """The StatefulSet, pod and claim of a workspace as they are now (None: not there), and Events.

    Built from Changes with the keys set, pod, claim, and those that begin with events.
    """

    def __init__(self, id: str, namespace: str) -> None:
        self.id = id
        self.namespace = namespace
        self.objects: dict[str, Object | None] = {}
        self._events: dict[str, Object] = {}
        self._old: dict[str, int] = {}  # counts of the events that were there before
        self._listed: set[str] = set()
        self._early: list[Change] = []  # of Events, before the StatefulSet was looked at
        self._ran = False  # whether it was ready when it was first looked at
        self._since: dict[str, float] = {}  # when we first saw something that may pass

    def apply(self, change: Change) -> list[Object]:
        """Take a change in; the Events that are new by it."""
        if not change.key.startswith("events"):
            items = change.object.get("items", []) if change.kind == "LIST" else [change.object]
            gone = change.kind == "DELETED" or not items
            if change.key == "set" and not gone and not self.is_known("set"):
                self._ran = bool(items[0].get("status", {}).get("readyReplicas"))
            self.objects[change.key] = None if gone else items[0]
            early, self._early = (self._early, []) if change.key == "set" else ([], self._early)
            return [event for one in early for event in self._apply_events(one)]
        if not self.is_known("set"):  # which says what is of an earlier start
            self._early.append(change)
            return []
        return self._apply_events(change)

    def _apply_events(self, change: Change) -> list[Object]:
        if change.kind == "DELETED":
            return []
        first = change.kind == "LIST" and change.key not in self._listed
        self._listed.add(change.key)
        items = change.object.get("items", []) if change.kind == "LIST" else [change.object]
        if first:
            self._old |= {
                event["metadata"]["uid"]: _count(event) for event in items if self._is_old(event)
            }
        new = [event for event in items if self._is_new(event)]
        self._events |= {event["metadata"]["uid"]: event for event in new}
        return new

    def is_known(self, *keys: str) -> bool:
        """Whether these were looked at."""
        return all(key in self.objects for key in keys)

    def is_ready(self) -> bool:
        """Whether the pod serves, and is there to stay."""
        pod, owner = self.objects.get("pod"), self.objects.get("set")
        if not pod or not owner or pod["metadata"].get("deletionTimestamp"):
            return False
        owners = [each["uid"] for each in pod["metadata"].get("ownerReferences", [])]
        return owner["metadata"]["uid"] in owners and _condition(pod, "Ready") == ("True", "", "")

    def hopeless(self) -> CoditectError | None:
        """Why the workspace will not run, however long one waits; None while it may."""
        return self._container() or self._refused() or self._unscheduled() or self._unbound()

    def summary(self) -> str:
        """Where things stand, in a few words."""
        pod, claim = self.objects.get("pod"), self.objects.get("claim")
        if not self.is_known("set", "pod"):
            return "how it is was not to be learnt"
        if pod is None:
            return "there is no pod"
        status, reason, message = _condition(pod, "PodScheduled")
        if status == "False":
            return f"the pod is not scheduled: {reason}: {message}"
        if claim and claim.get("status", {}).get("phase") != "Bound":
            return f"volume {claim_name(self.id)} is not bound"
        for container in _containers(pod):
            if waiting := container.get("state", {}).get("waiting"):
                words = [waiting[name] for name in ("reason", "message") if waiting.get(name)]
                return f"the pod waits: {': '.join(words)}"
        return f"the pod is {pod.get('status', {}).get('phase', 'Pending')}, and not ready"

    def _is_old(self, event: Object) -> bool:
        """Whether an Event that is there at first is of a start that is over."""
        metadata = (self.objects.get("set") or {}).get("metadata", {})
        if metadata.get("generation") != 1 or self._ran:
            return True
        return _second(event) < str(metadata.get("creationTimestamp", ""))[:19]

    def _is_new(self, event: Object) -> bool:
        uid = event["metadata"]["uid"]
        return _count(event) > self._old.get(uid, 0) and self._events.get(uid) != event

    def _said(self, key: str, *reasons: str) -> str | None:
        """The newest Event of these reasons about the object that is there now.

        Not one that only says again what the container waits for, as "Error: ErrImagePull".
        """
        uid = (self.objects.get(key) or {}).get("metadata", {}).get("uid")
        found = [
            str(event["message"])
            for event in self._events.values()
            if event["involvedObject"].get("uid") == uid and event["reason"] in reasons
        ]
        telling = [text for text in found if text.removeprefix("Error: ") not in WAITING]
        return telling[-1] if telling else None

    def _container(self) -> CoditectError | None:
        pod = self.objects.get("pod")
        for container in _containers(pod or {}):
            waiting = container.get("state", {}).get("waiting") or {}
            reason, message = waiting.get("reason", ""), waiting.get("message", "")
            if reason in IMAGE_REASONS:
                words = self._said("pod", "Failed", "InspectFailed", "ErrImageNeverPull") or message
                return Failed(
                    f"the image of workspace {self.id} cannot be used: {reason}: {words}",
                    code="workspace.image",
                    hint="check the image's name, and that the nodes may pull it; its image is "
                    "chosen when it is made",
                )
            if reason in START_REASONS:
                ended = container.get("lastState", {}).get("terminated") or {}
                status = f" (exit status {ended['exitCode']})" if "exitCode" in ended else ""
                words = self._said("pod", "BackOff", "Failed") or message
                return Failed(
                    f"workspace {self.id} does not start: {reason}: {words}{status}",
                    code="workspace.crash",
                    hint=f"kubectl logs {self.id}-0 --previous -n {self.namespace} "
                    "says what it printed",
                )
        return None

    def _refused(self) -> CoditectError | None:
        """The controller may not make the pod."""
        words = self._said("set", "FailedCreate")
        if words is None or self.objects.get("pod") is not None:
            return None
        if "exceeded quota" in words:
            return LimitReached(
                f"the namespace's quota does not allow workspace {self.id}: {words}",
                code="kube.quota",
                hint="stop or delete what is not needed, or have the quota raised",
            )
        if LIMIT.search(words):
            return LimitReached(
                f"the namespace's limits do not allow the pod of workspace {self.id}: {words}",
                code="kube.limit",
                hint="its size is chosen when it is made",
            )
        if not ("forbidden" in words or "is invalid" in words or WEBHOOK.search(words)):
            return None
        return Failed(
            f"the cluster refuses the pod of workspace {self.id}: {words}",
            code="workspace.refused",
            hint="the namespace's policies and limits: kubectl describe "
            f"namespace {self.namespace}; kubectl describe limitrange -n {self.namespace}",
        )

    def _unscheduled(self) -> CoditectError | None:
        pod = self.objects.get("pod") or {}
        status, reason, message = _condition(pod, "PodScheduled")
        in_vain = self._said("pod", "NotTriggerScaleUp") is not None
        patience = SETTLE if in_vain else SCALER
        unscheduled = status == "False" and reason == "Unschedulable"
        if not self._lasts("unscheduled", unscheduled, patience):
            return None
        if self._said("pod", "TriggeredScaleUp") and not in_vain:
            return None
        return Failed(
            f"no node takes workspace {self.id}: {message}",
            code="workspace.unschedulable",
            hint="ask for less with --cpu and --memory, or use --no-spot where the cluster has no "
            "Spot nodes; kubectl get nodes shows them",
        )

    def _unbound(self) -> CoditectError | None:
        claim = self.objects.get("claim") or {}
        phase = claim.get("status", {}).get("phase")
        words = self._said("claim", "ProvisioningFailed", "FailedBinding")
        pending = phase == "Pending" and words is not None
        hopeless = self._lasts("unbound", pending) or (pending and "not found" in str(words))
        if not hopeless and phase != "Lost":
            return None
        return Failed(
            f"volume {claim_name(self.id)} of workspace {self.id} can't be bound: "
            f"{words or 'it lost its disk'}",
            code="workspace.volume",
            hint="kubectl get storageclass shows what --storage-class may name; a volume keeps its "
            "class",
        )

    def _lasts(self, what: str, is_so: bool, patience: float = SETTLE) -> bool:
        if not is_so:
            self._since.pop(what, None)
            return False
        return time.monotonic() - self._since.setdefault(what, time.monotonic()) >= patience


def _containers(pod: Object) -> list[Any]:
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def _condition(pod: Object, kind: str) -> tuple[str, str, str]:
    """A pod condition's status, and why it is so."""
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == kind:
            return (
                condition["status"],
                condition.get("reason", ""),
                condition.get("message", ""),
            )
    return ("", "", "")


def _second(event: Object) -> str:
    """When it happened last, as `2026-01-01T00:00:00`."""
    series = (event.get("series") or {}).get("lastObservedTime")
    return str(series or event.get("lastTimestamp") or event.get("eventTime") or "")[:19]


def _count(event: Object) -> int:
    """How often it happened; both forms of https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/."""
    return int((event.get("series") or {}).get("count") or event.get("count") or 1)
