"""`coditect workspace`: create, list, show, start, stop, delete, wait."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Literal

import typer

from coditect_cli.errors import CoditectError, Conflict, NotFound, UsageError
from coditect_cli.output import Result, Stream, emit_stream
from coditect_cli.runtime import Runtime, Timeout, WorkspaceId, seconds
from coditect_cli.workspaces.local import LocalWorkspaces
from coditect_cli.workspaces.spec import WorkspaceRecord, check_workspace_id

COLUMNS = {"ID": "id", "STATUS": "status", "OWNER": "owner", "CREATED": "createdAt"}
WIDE = {
    "AGE": "age",
    "NODE": "node",
    "CPU": "cpu",
    "MEMORY": "memory",
    "STORAGE": "storage",
    "IMAGE": "image",
    "ROOT": "root",
}

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Return only when it is so.")]
IgnoreNotFound = Annotated[
    bool, typer.Option("--ignore-not-found", help="Succeed when there is no such workspace.")
]
Force = Annotated[bool, typer.Option("--force", help="Also with clients attached.")]


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

    Files that an earlier workspace of that id left are taken over, by their owner. The options
    about image, sizes, nodes and owner are for workspaces on Kubernetes; the context's settings
    are their defaults.

    Examples:
      coditect workspace create demo
      coditect workspace create demo --if-not-exists -o json
      coditect workspace create demo --image gcr.io/my-project/workspace:v1 --cpu 2 --memory 8Gi
      coditect workspace create demo --dry-run=client -o yaml | kubectl apply -f -

    Exit codes: 0 done, 2 an illegal id or value, 4 not logged in, 5 forbidden, 6 exists already, or
    its kept volume is somebody else's, 7 quota, 8 it can't start, 9 the cluster does not answer,
    124 not ready in time
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
    try:
        if dry_run is not None:
            return _dry_run(runtime, id, dry_run)
        record = runtime.workspaces.create(id, runtime.owner(id))
        text = f"workspace {id} created"
    except Conflict as error:
        if not if_not_exists or error.code != "workspace.exists":
            raise
        record, text = runtime.workspaces.get(id), f"workspace {id} exists already"
    if wait and dry_run is None and record.desired == "running":
        record = runtime.workspaces.wait(id, "running", limit, runtime.streams.say) or record
    return _workspace(record, text)


def _dry_run(runtime: Runtime, id: str, where: str) -> Result:
    from coditect_cli.workspaces.kubernetes import KubernetesWorkspaces
    from coditect_cli.workspaces.manifest import build

    _require_kubernetes(runtime, "--dry-run is")
    owner = runtime.owner(id)
    workspaces = runtime.workspaces
    if where == "server" and isinstance(workspaces, KubernetesWorkspaces):
        objects = workspaces.dry_run(id, owner)
    else:
        objects = list(build(check_workspace_id(id), owner, runtime.context.settings))
    text = f"workspace {id} would be created ({where} dry run); -o yaml shows the objects"
    return Result("List", {"apiVersion": "v1", "items": objects}, text=text)


def _require_kubernetes(runtime: Runtime, what: str) -> None:
    if runtime.context.settings.provider != "kubernetes":
        raise UsageError(
            f"{what} for workspaces on Kubernetes, and context {runtime.context.name} is local",
            code="context.local",
            hint="coditect context list shows the contexts; --context NAME chooses one",
        )


def list_(
    ctx: typer.Context,
    selector: Annotated[
        str | None,
        typer.Option("--selector", "-l", metavar="LABELS", help="Only with these labels."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on with each one that changes.")
    ] = False,
) -> None:
    """List the workspaces. One whose record is damaged has the status "damaged".

    Selectors are Kubernetes' own, and so for workspaces there; -o wide adds age, node, sizes and
    image.

    Examples:
      coditect workspace list
      coditect workspace list -o name
      coditect workspace list -o wide -l user-id=ada
      coditect workspace list --watch -o ndjson

    Exit codes: 0 done, 2 a selector that cannot be, 5 forbidden, 9 the cluster does not answer,
    130 --watch was interrupted
    """
    runtime: Runtime = ctx.obj
    if watch and runtime.output in ("json", "yaml"):
        raise UsageError("--watch has no end, so its output is no document", hint="use -o ndjson")
    nodes = runtime.output not in ("table", "name")
    find = runtime.workspaces.watch if watch else runtime.workspaces.pages
    pages = find(selector, runtime.streams.say, nodes=nodes)
    if runtime.output == "wide":
        pages = ([item | {"age": _age(item)} for item in page] for page in pages)
    stream = Stream("WorkspaceList", pages, COLUMNS, WIDE, "id", dict)
    emit_stream(stream, runtime.output, runtime.streams)


def _age(item: dict[str, Any]) -> str | None:
    """How long ago it was made, in the largest unit that it fills: 5d, 3h, 2m, 40s."""
    if not item["createdAt"]:
        return None
    from datetime import UTC, datetime

    seconds = (datetime.now(UTC) - datetime.fromisoformat(item["createdAt"])).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{unit}"
    return f"{max(0, seconds):.0f}s"


def show(ctx: typer.Context, id: WorkspaceId) -> Result:
    """Show a workspace and its live sessions.

    Examples:
      coditect workspace show demo
      coditect workspace show demo -o json

    Exit codes: 0 done, 3 no such workspace, 9 the gateway does not answer
    """
    runtime: Runtime = ctx.obj
    record = runtime.workspaces.get(id)
    fields: dict[str, Any] = {**record.as_dict(), **runtime.workspaces.details(id)}
    fields["gatewayUrl"] = runtime.context.shown_gateway_url(runtime.paths)
    fields["sessions"] = _sessions(runtime, record)
    return Result("Workspace", fields, text=_described(fields))


def _described(fields: dict[str, Any]) -> str:
    """The fields one by one, with the last events below."""
    shown = {name: value for name, value in fields.items() if name != "events"}
    shown["conditions"] = ", ".join(f"{c['type']}={c['status']}" for c in fields["conditions"])
    shown["volume"] = " ".join(str(part) for part in (fields["volume"] or {}).values())
    if fields["sessions"] is not None:
        shown["sessions"] = ", ".join(session["session"] for session in fields["sessions"])
    lines = [f"{name:<12}{value or '-'}" for name, value in shown.items()]
    if fields["events"]:
        lines.append("\nevents")
        lines += [
            f"  {event['time']}  {event['object']}: {event['reason']}: {event['message']}"
            for event in fields["events"]
        ]
    return "\n".join(lines)


def _sessions(runtime: Runtime, record: WorkspaceRecord) -> list[Any] | None:
    """The live sessions; None where there is no gateway that could tell."""
    if runtime.context.settings.provider == "local":
        answer = runtime.ask_gateway(record.id, {"type": "sessions"})
        return list(answer.get("items", []))
    if record.status == "stopped":
        return []
    try:
        return _sessions_in_pod(runtime, record.id)
    except CoditectError as error:
        runtime.streams.say(f"warning: its sessions are not known: {error.message}")
        return None


def _sessions_in_pod(runtime: Runtime, id: str) -> list[Any] | None:
    if runtime.context.settings.gateway_url is None:
        return None
    return list(runtime.ask_gateway(id, {"type": "sessions"}).get("items", []))


def start(
    ctx: typer.Context, id: WorkspaceId, wait: Wait = True, timeout: Timeout = "5m"
) -> Result:
    """Start a stopped workspace.

    Examples:
      coditect workspace start demo

    Exit codes: 0 runs, 3 no such workspace, 124 not ready in time
    """
    runtime: Runtime = ctx.obj
    limit = seconds(timeout, "--timeout")
    record = runtime.workspaces.set_desired(id, "running")
    if wait:
        record = runtime.workspaces.wait(id, "running", limit, runtime.streams.say) or record
    return _workspace(record, f"workspace {id} runs")


def stop(
    ctx: typer.Context,
    id: WorkspaceId,
    force: Force = False,
    ignore_not_found: IgnoreNotFound = False,
    wait: Wait = True,
    timeout: Timeout = "5m",
) -> Result:
    """Stop a workspace: its processes end, its directory stays.

    Examples:
      coditect workspace stop demo
      coditect workspace stop demo --force

    Exit codes: 0 stopped, 3 no such workspace, 6 a client is attached and --force was not given,
    9 the gateway does not answer, 124 not stopped in time
    """
    runtime: Runtime = ctx.obj
    limit = seconds(timeout, "--timeout")
    try:
        ended = _end_sessions(runtime, id, force)
    except NotFound:
        if ignore_not_found:
            return _absent(id)
        raise
    if wait:
        runtime.workspaces.wait(id, "stopped", limit, runtime.streams.say)
    record = runtime.workspaces.get(id)
    known = "" if ended is None else f", sessions ended: {ended}"
    return _workspace(record, f"workspace {id} stopped{known}")


def delete(
    ctx: typer.Context,
    id: WorkspaceId,
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove its directory too; this cannot be undone.")
    ] = False,
    confirm: Annotated[
        str | None,
        typer.Option("--confirm", metavar="ID", help="With --purge: the workspace's id, again."),
    ] = None,
    force: Force = False,
    ignore_not_found: IgnoreNotFound = False,
    wait: Wait = True,
    timeout: Timeout = "5m",
) -> Result:
    """Delete a workspace: its processes end. Its directory stays, unless --purge is given.

    Creating a workspace of the same id again takes the directory over. --purge asks for the
    typed id; it also removes the directory that an earlier delete left.

    Examples:
      coditect workspace delete demo
      coditect workspace delete demo --purge --confirm demo

    Exit codes: 0 deleted, 2 --purge without a terminal and without --confirm,
    3 no such workspace, 6 a client is attached and --force was not given, 8 declined, or not all
    files could be removed, 9 the gateway does not answer
    """
    runtime: Runtime = ctx.obj
    limit = seconds(timeout, "--timeout")
    if confirm is not None and not purge:
        raise UsageError("--confirm goes with --purge")
    try:
        if purge:
            removed = runtime.workspaces.purgeable(id)
            question = f"This removes workspace {id}: {removed}."
            runtime.confirm_name(question, id, confirm, "--confirm")
        _end_sessions(runtime, id, force, kept=purge)
        if purge:
            _forget_sessions(runtime, id)
        runtime.workspaces.delete(id, purge)
    except NotFound:
        if ignore_not_found:
            return _absent(id)
        raise
    if wait:
        runtime.workspaces.wait(id, "deleted", limit, runtime.streams.say)
    done = "deleted with its files" if purge else "deleted, its files are kept"
    return Result("Workspace", {"id": id, "status": "deleted"}, text=f"workspace {id} {done}")


def wait(
    ctx: typer.Context,
    id: WorkspaceId,
    condition: Annotated[
        Literal["running", "stopped", "deleted"], typer.Option("--for", help="What to wait for.")
    ] = "running",
    timeout: Timeout = "5m",
) -> Result:
    """Wait until a workspace runs, is stopped, or is deleted.

    Examples:
      coditect workspace wait demo
      coditect workspace wait demo --for deleted --timeout 30s

    Exit codes: 0 it is so, 3 no such workspace, 124 not in time
    """
    runtime: Runtime = ctx.obj
    runtime.workspaces.wait(id, condition, seconds(timeout, "--timeout"), runtime.streams.say)
    fields = {"id": id, "status": condition}
    return Result("Workspace", fields, text=f"workspace {id} is {condition}")


def _forget_sessions(runtime: Runtime, id: str) -> None:
    """Remove what is recorded of a workspace's sessions: their screens may hold its files."""
    from coditect_cli.sessions.layer import SessionLayer

    if not runtime.has_store:
        return  # they lie on the volume, and go with it
    layer = SessionLayer(runtime.store)
    for session in layer.ids(id):
        layer.delete(id, session)


def _end_sessions(runtime: Runtime, id: str, force: bool, kept: bool = False) -> int | None:
    """Let no new session start, and end the live ones; how many there were, if known.

    Nothing has changed when this raises. With `kept`, there may be only what a delete kept.
    """
    workspaces = runtime.workspaces
    if kept and isinstance(workspaces, LocalWorkspaces):
        with suppress(NotFound):
            workspaces.mend(id, runtime.owner(id))
    try:
        record = workspaces.get(id)
    except NotFound:
        if kept:
            return 0
        raise
    if runtime.context.settings.provider == "kubernetes":
        sessions = _sessions_to_save(runtime, record, force)
        workspaces.set_desired(id, "stopped")  # the pod saves them when it is told to end
        return sessions
    answer = runtime.ask_gateway(id, {"type": "stop", "force": force})
    workspaces.set_desired(id, "stopped")  # where no gateway runs, nobody else did
    return int(answer.get("sessions", 0))


def _sessions_to_save(runtime: Runtime, record: WorkspaceRecord, force: bool) -> int | None:
    if record.status != "running":
        return 0
    if force:
        return None
    try:
        sessions = _sessions_in_pod(runtime, record.id)
    except CoditectError as error:
        force_hint = "--force does it without asking the gateway who is attached"
        error.hint = f"{error.hint}; {force_hint}" if error.hint else force_hint
        raise
    if sessions is None:
        runtime.streams.say("warning: no gateway_url is set, so nobody was asked who is attached")
        return None
    clients = sum(session.get("clients", 0) for session in sessions)
    if clients:
        raise Conflict(
            f"workspace {record.id} has clients attached: {clients}",
            code="workspace.in_use",
            hint="pass --force to end their sessions",
        )
    return len(sessions)


def _workspace(record: WorkspaceRecord, text: str) -> Result:
    return Result("Workspace", record.as_dict(), text=text)


def _absent(id: str) -> Result:
    return Result("Workspace", {"id": id, "status": "deleted"}, text=f"there is no workspace {id}")
