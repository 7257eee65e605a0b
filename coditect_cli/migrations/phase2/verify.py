"""Phase 2, step 5: a workspace that is made, looked at, used, and removed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from coditect_cli.errors import Conflict
from coditect_cli.migrations.phase2.objects import exists
from coditect_cli.migrations.phase2.workloads import check_workloads
from coditect_cli.migrations.step import Action, Facts, Step, World, program
from coditect_cli.migrations.target import kube_context_of
from coditect_cli.workspaces.manifest import claim_name

TAKEN = "canary_workspace"  # an output: the name that was free, until what this run made is gone
PROBE = "echo written > /workspace/.canary && cat /workspace/.canary"


class Verify(Step):
    name = "verify"
    title = "Verify with a workspace that is made, used and removed"
    expected = 60.0
    no_inverse = "what it made is gone already"

    def needs(self, world: World) -> str | None:
        world.user_of(world.settings.canary_workspace)
        return None

    def actions(self, world: World) -> Sequence[Action]:
        settings = world.settings
        id, patience = settings.canary_workspace, settings.ready_timeout
        quick = settings.change_timeout
        image = settings.workspace_image or f"gcr.io/{world.project}/workspace:latest"
        make = ("create", id, "--if-not-exists", "--wait", f"--timeout={patience:g}s")
        return [
            *([self._removal(world)] if _is_ours(world) else []),  # an earlier attempt's
            _check_free(world),
            _coditect(world, "workspace", *make, f"--image={image}", timeout=patience + quick),
            check_workloads(world),
            _coditect(world, "gateway", "probe", f"--workspace={id}", timeout=quick),
            _coditect(world, "exec", id, "--", "sh", "-c", PROBE, timeout=quick),
            self._removal(world),
        ]

    def inverse(self, world: World, before: Facts) -> Sequence[Action]:
        is_gone = world.outputs.get(TAKEN, "") is None
        return [] if is_gone else [self._removal(world)]

    def _removal(self, world: World) -> Action:
        id = world.settings.canary_workspace
        flags = ("--force", "--purge", f"--confirm={id}", "--ignore-not-found")
        removal = _coditect(
            world, "workspace", "delete", id, *flags, timeout=world.settings.change_timeout
        )

        def remove() -> Facts:
            return {**removal.perform(), TAKEN: None} if _is_ours(world) else {"removed": False}

        return replace(removal, perform=remove)


def _is_ours(world: World) -> bool:
    return bool(world.outputs.get(TAKEN))


def _check_free(world: World) -> Action:
    """A workspace of that name that was there before is somebody's, and not ours to remove."""
    id, namespace = world.settings.canary_workspace, world.settings.namespace
    paths = (
        f"/apis/apps/v1/namespaces/{namespace}/statefulsets/{id}",
        f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim_name(id)}",
    )

    def check() -> Facts:
        if not _is_ours(world) and any(exists(world.kube(), path) for path in paths):
            raise Conflict(
                f"there is a workspace {id}, or its volume, already",
                code="migrate.canary",
                hint=f"coditect workspace delete {id} --purge, if it is nobody's; else roll back, "
                "and choose another name with --canary-workspace",
            )
        return {TAKEN: id}

    return Action(check, call=f"check that there is no workspace {id} yet")


def _coditect(world: World, *words: str, timeout: float) -> Action:
    """A command of this program on the cluster, whatever the context's provider is."""
    variables = (
        f"CODITECT_CONTEXT={world.target.context}",
        "CODITECT_PROVIDER=kubernetes",
        f"CODITECT_KUBE_CONTEXT={kube_context_of(world.settings, world.target)}",
        f"CODITECT_NAMESPACE={world.settings.namespace}",
    )
    argv = ("env", *variables, sys.executable, "-m", "coditect_cli", *words)
    return program(argv, timeout=timeout)
