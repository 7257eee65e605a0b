"""Phase 2, step 2: the namespace of workspaces."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from coditect_cli.errors import Conflict, NotFound, TimedOut
from coditect_cli.migrations.phase2.objects import MANAGED, exists
from coditect_cli.migrations.step import Action, Facts, Observation, Step, World

POLL = 1.0
_KEPT = {
    "StatefulSet": "/apis/apps/v1/statefulsets",
    "PersistentVolumeClaim": "/api/v1/persistentvolumeclaims",
    "Deployment": "/apis/apps/v1/deployments",
    "ConfigMap": "/api/v1/configmaps",
    "Secret": "/api/v1/secrets",
}
_EVERYWHERE = ("kube-root-ca.crt", "istio-ca-root-cert")  # put into each namespace
_OF_ACCOUNT = "kubernetes.io/service-account-token"


class MakeNamespace(Step):
    name = "namespace"
    title = "Make the namespace"
    expected = 2.0

    def observe(self, world: World) -> Observation:
        name = world.settings.namespace
        found = exists(world.kube(), f"/api/v1/namespaces/{name}")
        words = "there is a" if found else "there is no"
        return Observation(found, f"{words} namespace {name}", {"exists": found})

    def actions(self, world: World) -> Sequence[Action]:
        name = world.settings.namespace
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": dict(MANAGED)},
        }

        def make() -> Facts:
            with suppress(Conflict):  # an attempt whose answer was lost made it
                world.kube().create("/api/v1/namespaces", body)
            return {}

        return [Action(make, call=f"create Namespace {name}")]

    def inverse(self, world: World, before: Facts) -> Sequence[Action]:
        name = world.settings.namespace
        path = f"/api/v1/namespaces/{name}"

        def remove() -> Facts:
            kube = world.kube()
            _check_empty(world)
            try:
                kube.delete(path)
            except NotFound:
                return {}
            patience = world.settings.change_timeout
            deadline = time.monotonic() + patience
            while exists(kube, path):
                if time.monotonic() > deadline:
                    raise TimedOut(f"namespace {name} is not gone after {patience:g} s")
                time.sleep(POLL)
            return {}

        return [Action(remove, call=f"delete Namespace {name}, unless others keep something in it")]


def _check_empty(world: World) -> None:
    """A namespace that this run made is not removed with what others keep in it by now.

    What the run put there is gone before; what follows from that, such as pods, is on its way.
    """
    name = world.settings.namespace
    for kind, place in _KEPT.items():
        root, plural = place.rsplit("/", 1)
        for item in world.kube().get(f"{root}/namespaces/{name}/{plural}")["items"]:
            if item["metadata"]["name"] not in _EVERYWHERE and item.get("type") != _OF_ACCOUNT:
                raise Conflict(
                    f"namespace {name} holds {kind} {item['metadata']['name']}, which this run did "
                    "not make: it is not removed",
                    code="migrate.in_use",
                    hint="remove it first; a workspace, with coditect workspace delete ID --purge",
                )
