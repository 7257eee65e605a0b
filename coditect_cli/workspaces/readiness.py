"""Waiting for a workspace on Kubernetes, by watches alone."""

from __future__ import annotations

import time

from coditect_cli.errors import CoditectError, Interrupted, TimedOut
from coditect_cli.kube import Kube, Object
from coditect_cli.kube_watch import Source, Watches
from coditect_cli.workspaces import volume
from coditect_cli.workspaces.backend import LOOK, Condition, Tell, not_found
from coditect_cli.workspaces.manifest import claim_name
from coditect_cli.workspaces.observed import as_set, node, record
from coditect_cli.workspaces.scene import Scene
from coditect_cli.workspaces.spec import WorkspaceRecord

TICK = 0.5  # seconds; what may pass by itself is looked at again


def wait(
    kube: Kube, id: str, condition: Condition, limit: float, tell: Tell
) -> WorkspaceRecord | None:
    """The workspace once it is so, within `limit` seconds; tells what happens meanwhile.

    Raises NotFound when there is no workspace (and none is waited to be gone), TimedOut,
    Interrupted, and at once what no waiting cures: Failed, LimitReached.
    """
    scene, began = Scene(id, kube.namespace), time.monotonic()
    try:
        _follow(kube, scene, condition, began, limit, tell)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted; workspace {id} is not {condition} yet{_where(scene, condition)}",
            hint=_look(scene, kube.namespace),
        ) from None
    if condition == "running":
        tell(f"{time.monotonic() - began:6.1f} s  pod {id}-0 is ready")
    found, claim = scene.objects["set"], scene.objects.get("claim")
    if found is None:
        return None
    return record(as_set(found), node(scene.objects["pod"]), volume.size(claim))


def _follow(
    kube: Kube, scene: Scene, condition: Condition, began: float, limit: float, tell: Tell
) -> None:
    told = set[str]()
    sources = _sources(kube.namespace, scene.id, events=condition == "running")
    looked_at = [key for key in sources if not key.startswith("events")]

    def timed(words: str) -> None:
        tell(f"{time.monotonic() - began:6.1f} s  {words}")

    with Watches(kube, sources, timed) as watches:
        while not _holds(scene, condition):
            left = began + limit - time.monotonic()
            if left <= 0 and (scene.is_known(*looked_at) or left < -LOOK):
                raise _timed_out(scene, kube.namespace, condition, limit, watches.problem)
            change = watches.next(min(left, TICK) if left > 0 else TICK)
            news = [_words(event) for event in (scene.apply(change) if change else ())]
            for words in news:
                if words not in told:  # an Event that comes again says nothing new
                    timed(words)
                    told.add(words)
            if condition == "running" and (problem := scene.hopeless()):
                raise problem


def _sources(namespace: str, id: str, *, events: bool) -> dict[str, Source]:
    core = f"/api/v1/namespaces/{namespace}"
    sets = f"/apis/apps/v1/namespaces/{namespace}/statefulsets"
    ours: dict[str, object] = {"labelSelector": "app=workspace"}
    sources = {
        "set": Source(sets, ours | {"fieldSelector": f"metadata.name={id}"}),
        "pod": Source(f"{core}/pods", {"fieldSelector": f"metadata.name={id}-0"}),
    }
    if events:
        claim = claim_name(id)
        sources["claim"] = Source(
            f"{core}/persistentvolumeclaims", {"fieldSelector": f"metadata.name={claim}"}
        )
        for name in (id, f"{id}-0", claim):
            about: dict[str, object] = {"fieldSelector": f"involvedObject.name={name}"}
            sources[f"events of {name}"] = Source(f"{core}/events", about)
    return sources


def _holds(scene: Scene, condition: Condition) -> bool:
    if not scene.is_known("set", "pod"):
        return False
    found = scene.objects["set"]
    if condition == "deleted":
        return found is None
    if found is None:
        raise not_found(scene.id)
    if record(as_set(found)).status != condition:
        return False
    if condition == "running":
        return scene.is_ready() and scene.is_known("claim")  # which has the size
    return scene.objects["pod"] is None


def _words(event: Object) -> str:
    about, message = event["involvedObject"], " ".join(str(event.get("message", "")).split())
    return f"{about.get('kind', '').lower()} {about.get('name', '')}: {message}"


def _timed_out(
    scene: Scene, namespace: str, condition: Condition, limit: float, problem: CoditectError | None
) -> TimedOut:
    where = _where(scene, condition)
    if problem is not None:
        where += f", when it was last heard of: {problem.message}"
    return TimedOut(
        f"workspace {scene.id} is not {condition} after {limit:g} s{where}",
        code="workspace.timeout",
        hint=_look(scene, namespace),
        retryable=True,
    )


def _where(scene: Scene, condition: Condition) -> str:
    return f": {scene.summary()}" if condition == "running" else ""


def _look(scene: Scene, namespace: str) -> str:
    return (
        "nothing was undone, and it may still come; to look: coditect workspace show "
        f"{scene.id}, kubectl describe pod {scene.id}-0 -n {namespace}"
    )
