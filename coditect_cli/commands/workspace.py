"""`coditect workspace`: list, show, start, wait."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from coditect_cli.errors import CoditectError, UsageError
from coditect_cli.options import Timeout, Wait, WorkspaceId, seconds
from coditect_cli.output import Result, Stream, emit_stream
from coditect_cli.runtime import Runtime
from coditect_cli.workspaces.spec import WorkspaceRecord

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


def list_(
    ctx: typer.Context,
    selector: Annotated[
        str | None,
        typer.Option("--selector", "-l", metavar="LABELS", help="Only with these labels."),
    ] = None,
    owner: Annotated[
        str | None, typer.Option("--owner", metavar="USER", help="Only those of this user.")
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
      coditect workspace list --owner ada@example.com
      coditect workspace list -o wide -l team=web
      coditect workspace list --watch -o ndjson

    Exit codes: 0 done, 2 a selector that cannot be, 5 forbidden, 9 the cluster does not answer,
    130 --watch was interrupted
    """
    runtime: Runtime = ctx.obj
    if watch and runtime.output in ("json", "yaml"):
        raise UsageError("--watch has no end, so its output is no document", hint="use -o ndjson")
    whole = runtime.output not in ("table", "name")
    find = runtime.workspaces.watch if watch else runtime.workspaces.pages
    pages = find(selector, runtime.streams.say, whole=whole, owner=owner)
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
        return runtime.sessions_in_pod(record.id)
    except CoditectError as error:
        runtime.streams.say(f"warning: its sessions are not known: {error.message}")
        return None


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
    runtime.bound(limit)
    record = runtime.workspaces.set_desired(id, "running")
    if wait:
        record = runtime.workspaces.wait(id, "running", limit, runtime.streams.say) or record
    how = "is starting" if record.status == "starting" else "runs"
    return Result("Workspace", record.as_dict(), text=f"workspace {id} {how}")


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
    limit = seconds(timeout, "--timeout")
    runtime.bound(limit)
    runtime.workspaces.wait(id, condition, limit, runtime.streams.say)
    fields = {"id": id, "status": condition}
    return Result("Workspace", fields, text=f"workspace {id} is {condition}")
