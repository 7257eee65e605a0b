"""Phase 2, step 1: an Autopilot cluster, and its credentials in the kubeconfig."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from coditect_cli.errors import CoditectError, Conflict, Failed, NotFound
from coditect_cli.migrations import gke, programs
from coditect_cli.migrations.phase2.objects import exists
from coditect_cli.migrations.step import Action, Facts, Observation, Step, World, program
from coditect_cli.migrations.target import KubeContext, kube_context_of, kubeconfig_contexts

if TYPE_CHECKING:
    from coditect_cli.kube import Kube

PLUGIN = "gke-gcloud-auth-plugin"
GONE = (None, "ERROR")  # nothing can be in it: making it failed, and it is of no use to anybody
ABOUT = "https://cloud.google.com/kubernetes-engine/docs/how-to/cluster-access-for-kubectl"


class MakeCluster(Step):
    name = "cluster"
    title = "Make the Autopilot cluster"
    expected = 480.0

    def observe(self, world: World) -> Observation:
        found = _describe(world)
        name = world.settings.cluster
        if found is None:
            return Observation(False, f"there is no cluster {name}", {"exists": False})
        status, is_autopilot = str(found.get("status")), _is_autopilot(found)
        kind = "Autopilot" if is_autopilot else "Standard"
        is_done = is_autopilot and status in ("RUNNING", "RECONCILING")
        return Observation(is_done, f"{name} is {status}, {kind}", {"exists": True})

    def precondition(self, world: World) -> str | None:
        found = _describe(world)
        if found is None:
            return None
        name, status = world.settings.cluster, found.get("status")
        if status in ("ERROR", "DEGRADED", "STOPPING"):
            why = found.get("statusMessage")
            return f"{name} is {status}{f': {why}' if why else ''}"
        if not _is_autopilot(found):
            return f"{name} is a Standard cluster, not Autopilot: choose another name for --cluster"
        return None

    def actions(self, world: World) -> Sequence[Action]:
        argv = _argv(world, "create-auto")

        def make() -> Facts:
            if _describe(world) is None:
                with suppress(Conflict):  # an attempt that was cut off had its effect
                    programs.run(argv, timeout=world.settings.build_timeout)
            _settled(world, None, gke.MAKING)
            return {}

        return [Action(make, argv=argv)]

    def inverse(self, world: World, before: Facts) -> Sequence[Action]:
        if before.get("exists"):
            return []
        enter, leave = _argv(world, "get-credentials"), _argv(world, "delete", "--quiet")

        def look_inside() -> Facts:
            if _settled(world, gke.MAKING, gke.DELETING) not in GONE:
                programs.run(enter)
            return {}

        def remove() -> Facts:
            status = _settled(world, gke.MAKING, gke.DELETING)
            if status not in GONE:
                _check_unused(world)
            if status is not None:
                programs.run(leave, timeout=world.settings.build_timeout)
            return {}

        # A run that ended before its next step has no credentials for what it made.
        get = [] if world.settings.kube_context else [Action(look_inside, argv=enter)]
        return [*get, Action(remove, argv=leave)]

    def restored(self, world: World, before: Facts) -> str | None:
        return None if _describe(world) is None else f"{world.settings.cluster} is still there"


class GetCredentials(Step):
    name = "credentials"
    title = "Get the cluster's credentials"
    expected = 5.0
    no_inverse = "an entry in the kubeconfig, which gcloud makes the current one"

    def needs(self, world: World) -> str | None:
        context = kube_context_of(world.settings, world.target)
        if context in kubeconfig_contexts():
            return None
        if world.settings.kube_context is not None:
            return f"the kubeconfig has no context {context}"
        if shutil.which(PLUGIN) is None:
            return f"{PLUGIN} is not installed, and the cluster's credentials need it: {ABOUT}"
        return None

    def observe(self, world: World) -> Observation:
        """A context that was chosen is taken as it is; gcloud's own must lead to this cluster."""
        context = kube_context_of(world.settings, world.target)
        entry = kubeconfig_contexts().get(context)
        if entry is None:
            return Observation(False, f"the kubeconfig has no context {context}")
        words = f"the kubeconfig has context {context}, which leads to {entry.server}"
        if world.settings.kube_context is not None:
            return Observation(True, words)
        places = _places(_describe(world) or {})
        address = (entry.server or "").removeprefix("https://").rstrip("/")
        if address in places:
            return Observation(True, words)
        return Observation(False, f"{words}, and not to {' or '.join(places) or 'any cluster'}")

    def precondition(self, world: World) -> str | None:
        return self.needs(world)

    def actions(self, world: World) -> Sequence[Action]:
        return [program(_argv(world, "get-credentials"), timeout=programs.LOOK)]


def with_its_entry(world: World) -> World:
    """The same world, whose `kube` is opened once for what the kubeconfig says of the cluster.

    It raises Conflict where that leads to another cluster, such as one that was called so before.
    """
    opened: dict[KubeContext | None, Kube] = {}

    def kube() -> Kube:
        entry = kubeconfig_contexts().get(kube_context_of(world.settings, world.target))
        if entry not in opened:
            seen = GetCredentials().observe(world)
            if not seen.is_done:
                raise Conflict(seen.detail, code="migrate.credentials")
            opened[entry] = world.kube()
        return opened[entry]

    return replace(world, kube=kube)


def can_look(world: World) -> bool:
    """Whether the cluster is there, and answers, before the run has made it."""
    try:
        world.kube().get("/version")
    except CoditectError:
        return False
    return True


def _argv(world: World, *words: str) -> tuple[str, ...]:
    verb, *flags = words
    where = (f"--region={world.settings.region_of_cluster}", f"--project={world.project}")
    return ("gcloud", "container", "clusters", verb, world.settings.cluster, *where, *flags)


def _describe(world: World) -> dict[str, Any] | None:
    try:
        found = programs.run_json(_argv(world, "describe", "--format=json"))
    except NotFound:
        return None
    if not isinstance(found, dict):
        raise Failed("gcloud describes a cluster in a way that is not known", code="migrate.gke")
    return found


def _places(found: dict[str, Any]) -> list[str]:
    """Where a cluster answers: its addresses, public and private, and its DNS name."""
    private = found.get("privateClusterConfig") or {}
    endpoints = found.get("controlPlaneEndpointsConfig") or {}
    by_name = endpoints.get("dnsEndpointConfig") or {}
    named = [
        found.get("endpoint"),
        private.get("publicEndpoint"),
        private.get("privateEndpoint"),
        by_name.get("endpoint"),
    ]
    return list(dict.fromkeys(filter(None, named)))


def _is_autopilot(found: dict[str, Any]) -> bool:
    return bool((found.get("autopilot") or {}).get("enabled"))


def _settled(world: World, *passing: gke.Status) -> gke.Status:
    def look() -> gke.Status:
        found = _describe(world)
        return None if found is None else str(found.get("status"))

    return gke.settled(look, *passing, patience=world.settings.build_timeout)


def _check_unused(world: World) -> None:
    """A cluster that this run made is not removed with what others keep in it by now."""
    namespace = world.settings.namespace
    if exists(world.kube(), f"/api/v1/namespaces/{namespace}"):
        raise Conflict(
            f"{world.settings.cluster} holds namespace {namespace} still: it is not removed",
            code="migrate.in_use",
            hint=f"look at what is in it: kubectl get all,configmaps,secrets -n {namespace}",
        )
    claims = world.kube().get("/api/v1/persistentvolumeclaims", limit=1)["items"]
    if claims:
        where = claims[0]["metadata"]
        raise Conflict(
            f"{world.settings.cluster} holds volumes, such as {where['name']} in "
            f"{where['namespace']}: it is not removed",
            code="migrate.in_use",
            hint="remove the workspaces first, or the cluster by hand",
        )
