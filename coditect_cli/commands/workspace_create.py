"""`coditect workspace create`."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import typer

from coditect_cli.errors import Conflict, NotAuthenticated, UsageError
from coditect_cli.options import Timeout, Wait, WorkspaceId, seconds
from coditect_cli.output import Result
from coditect_cli.runtime import Runtime
from coditect_cli.workspaces.backend import await_running
from coditect_cli.workspaces.spec import check_workspace_id


def create(
    ctx: typer.Context,
    id: WorkspaceId,
    if_not_exists: Annotated[
        bool, typer.Option("--if-not-exists", help="Succeed when there is one already.")
    ] = False,
    image: Annotated[str | None, typer.Option("--image", help="The image of its pod.")] = None,
    cpu: Annotated[
        str | None,
        typer.Option("--cpu", help="CPUs it asks for, such as 500m; the limit is twice."),
    ] = None,
    memory: Annotated[str | None, typer.Option("--memory", help="As --cpu, such as 2Gi.")] = None,
    storage: Annotated[
        str | None, typer.Option("--storage", help="The size of its volume, such as 10Gi.")
    ] = None,
    storage_class: Annotated[
        str | None, typer.Option("--storage-class", help="The class of its volume.")
    ] = None,
    spot: Annotated[
        bool | None, typer.Option("--spot/--no-spot", help="Run it on Spot nodes.")
    ] = None,
    owner: Annotated[
        str | None, typer.Option("--owner", metavar="USER", help="Whose it is; else the token's.")
    ] = None,
    dry_run: Annotated[
        Literal["client", "server"] | None,
        typer.Option("--dry-run", help="Print what would be sent, checked by us or the cluster."),
    ] = None,
    wait: Wait = True,
    timeout: Timeout = "5m",
) -> Result:
    """Create a workspace.

    Files that an earlier workspace of that id left are taken over, by their owner; their volume
    keeps its size and class. The options about image, sizes, nodes and owner are for workspaces on
    Kubernetes; the context's settings are their defaults.

    Examples:
      coditect workspace create demo
      coditect workspace create demo --if-not-exists -o json
      coditect workspace create demo --image gcr.io/my-project/workspace:v1 --cpu 2 --memory 8Gi
      coditect workspace create demo --dry-run=client -o yaml | kubectl apply -f -

    Exit codes: 0 done, 2 an illegal id or value, 4 not logged in, 5 forbidden, 6 exists already, or
    its kept volume is somebody else's or not as the options ask, 7 quota, 8 it can't start,
    9 the cluster does not answer, 124 not ready in time
    """
    runtime: Runtime = ctx.obj
    limit = seconds(timeout, "--timeout")
    wanted = {
        "image": image,
        "cpu": cpu,
        "memory": memory,
        "storage": storage,
        "storage_class": storage_class,
        "spot": None if spot is None else str(spot).lower(),
        "owner": owner,
    }
    runtime.flags = {name: value for name, value in wanted.items() if value is not None}
    if runtime.flags and dry_run is None:
        _require_kubernetes(runtime, "these options are")
    runtime.bound(limit)
    try:
        if dry_run is not None:
            return _dry_run(runtime, id, dry_run)
        owner = _owner(runtime, id)
        record = runtime.workspaces.create(id, owner, runtime.streams.say)
        text = f"workspace {id} created"
    except Conflict as error:
        if not if_not_exists or error.code != "workspace.exists":
            raise
        record, text = runtime.workspaces.get(id), f"workspace {id} exists already"
    if wait and record.desired == "running":
        record = await_running(runtime.workspaces, record, limit, runtime.streams.say)
    return Result("Workspace", record.as_dict(), text=text)


def _owner(runtime: Runtime, id: str) -> str:
    try:
        return runtime.owner(id)
    except NotAuthenticated as error:
        error.hint = f"{error.hint}; or say whose it is to be: --owner USER"
        raise


def _dry_run(runtime: Runtime, id: str, where: str) -> Result:
    from coditect_cli.workspaces.kubernetes import KubernetesWorkspaces
    from coditect_cli.workspaces.manifest import build

    _require_kubernetes(runtime, "--dry-run is")
    owner = _owner(runtime, id)
    if where == "server":
        objects = cast(KubernetesWorkspaces, runtime.workspaces).dry_run(id, owner)
    else:
        objects = list(build(check_workspace_id(id), owner, runtime.context.settings))
    if runtime.output == "name":
        objects = [{"id": f"{each['kind'].lower()}/{each['metadata']['name']}"} for each in objects]
    text = f"workspace {id} would be created ({where} dry run); -o yaml shows the objects"
    return Result("List", {"apiVersion": "v1", "items": objects}, text=text)


def _require_kubernetes(runtime: Runtime, what: str) -> None:
    if runtime.context.settings.provider != "kubernetes":
        raise UsageError(
            f"{what} for workspaces on Kubernetes, and context {runtime.context.name} is local",
            code="context.local",
            hint="coditect context list shows the contexts; --context NAME chooses one",
        )
