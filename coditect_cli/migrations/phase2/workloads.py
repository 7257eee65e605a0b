"""Whether what is in the namespace works: StatefulSets, Deployments, volumes, the Service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from coditect_cli.errors import TimedOut
from coditect_cli.migrations.step import Action, Facts, World

SERVICE = "workspace-service"
FIRST, LONGEST = 0.1, 2.0  # seconds between looks: twice as many each time


def check_workloads(world: World) -> Action:
    """Wait until everything in the namespace is as it should be. It raises TimedOut."""
    timeout, where = world.settings.ready_timeout, world.settings.namespace

    def check() -> Facts:
        deadline = time.monotonic() + timeout
        pause = FIRST
        while missing := list(_missing(world)):
            if time.monotonic() >= deadline:
                raise TimedOut(
                    f"not ready after {timeout:g} s: {'; '.join(missing[:5])}",
                    code="migrate.not_ready",
                    hint=f"kubectl get statefulsets,deployments,pvc,events -n {where}",
                )
            time.sleep(pause)
            pause = min(2 * pause, LONGEST)
        return {"workloads": len(_items(world, "apps/v1", "statefulsets"))}

    what = (
        f"wait until StatefulSets and Deployments of {where} are ready, volumes bound, "
        f"{SERVICE} has endpoints"
    )
    return Action(check, call=what)


def _missing(world: World) -> Iterator[str]:
    """What is not as it should be yet."""
    wanted_pods = 0
    for kind in ("StatefulSet", "Deployment"):
        for item in _items(world, "apps/v1", f"{kind.lower()}s"):
            wanted, ready = item["spec"].get("replicas", 1), item["status"].get("readyReplicas", 0)
            wanted_pods += wanted if kind == "StatefulSet" else 0
            if ready < wanted:
                why = _why_not_ready(world, item["spec"]["selector"]["matchLabels"])
                yield f"{kind} {item['metadata']['name']} has {ready} of {wanted} pods ready{why}"
    for claim in _items(world, "v1", "persistentvolumeclaims"):
        if claim["status"].get("phase") != "Bound":
            name, phase = claim["metadata"]["name"], claim["status"].get("phase")
            yield f"volume claim {name} is {phase}"
    services = [item["metadata"]["name"] for item in _items(world, "v1", "services")]
    if SERVICE not in services:
        yield f"there is no Service {SERVICE}"
    elif wanted_pods and not _addresses(world):
        yield f"Service {SERVICE} has no endpoints"


def _why_not_ready(world: World, labels: dict[str, str]) -> str:
    """What the containers of pods with these labels wait for, in the node's words; or nothing."""
    for pod in _items(world, "v1", "pods"):
        if labels.items() <= (pod["metadata"].get("labels") or {}).items():
            for container in pod["status"].get("containerStatuses") or ():
                if waiting := container["state"].get("waiting"):
                    words = (waiting.get("reason"), waiting.get("message"))
                    return f" ({': '.join(filter(None, words))})"
    return ""


def _addresses(world: World) -> int:
    slices = _items(world, "discovery.k8s.io/v1", "endpointslices")
    label = "kubernetes.io/service-name"
    return sum(
        len(endpoint.get("addresses") or ())
        for one in slices
        if (one["metadata"].get("labels") or {}).get(label) == SERVICE
        for endpoint in one.get("endpoints") or ()
    )


def _items(world: World, version: str, kind: str) -> list[dict[str, Any]]:
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    found = world.kube().get(f"{root}/namespaces/{world.settings.namespace}/{kind}")
    return list(found["items"])
