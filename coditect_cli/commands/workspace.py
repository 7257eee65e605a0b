"""`coditect workspace`: create, list, show, start, stop, delete, wait."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Annotated, Literal

import typer

from coditect_cli.errors import Conflict, Failed, NotFound, TimedOut, UsageError
from coditect_cli.output import Result
from coditect_cli.runtime import Runtime, WorkspaceId, seconds
from coditect_cli.workspaces.local import LocalWorkspaces
from coditect_cli.workspaces.spec import WorkspaceRecord

COLUMNS = {"ID": "id", "STATUS": "status", "OWNER": "owner", "CREATED": "createdAt"}
WIDE = {"ROOT": "root"}
POLL = 0.1  # seconds

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Return only when it is so.")]
Timeout = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="How long to wait, such as 30s or 5m.")
]
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
    wait: Wait = True,
    timeout: Timeout = "5m",
) -> Result:
    """Create a workspace.

    A directory that an earlier workspace of that id left is taken over with its files.

    Examples:
      coditect workspace create demo
      coditect workspace create demo --if-not-exists -o json

    Exit codes: 0 done, 2 not a legal id, 6 exists already, 124 not ready in time
    """
    from coditect_cli.tokens import local_user

    runtime: Runtime = ctx.obj
    limit = seconds(timeout, "--timeout")
    try:
        record = runtime.workspaces.create(id, local_user())
    except Conflict:
        if not if_not_exists:
            raise
        record = runtime.workspaces.get(id)
        return _workspace(record, f"workspace {id} exists already")
    if wait:
        _wait(runtime, id, "running", limit)
    return _workspace(record, f"workspace {id} created")


def list_(ctx: typer.Context) -> Result:
    """List the workspaces. One whose record is damaged has the status "damaged".

    Examples:
      coditect workspace list
      coditect workspace list -o name

    Exit codes: 0 done
    """
    runtime: Runtime = ctx.obj
    items = []
    for id in runtime.workspaces.ids():
        try:
            items.append(runtime.workspaces.get(id).as_dict())
        except NotFound:
            continue  # deleted since the ids were read
        except Failed as error:
            runtime.streams.say(f"warning: {error.message}")
            nothing = dict.fromkeys(("owner", "createdAt", "root"))
            items.append({"id": id, "status": "damaged", **nothing})
    return Result("WorkspaceList", {"items": items}, COLUMNS, WIDE)


def show(ctx: typer.Context, id: WorkspaceId) -> Result:
    """Show a workspace and its live sessions.

    Examples:
      coditect workspace show demo
      coditect workspace show demo -o json

    Exit codes: 0 done, 3 no such workspace, 9 the gateway does not answer
    """
    runtime: Runtime = ctx.obj
    record = runtime.workspaces.get(id)
    answer = runtime.ask_gateway(id, {"type": "sessions"})
    return Result("Workspace", {**record.as_dict(), "sessions": answer.get("items", [])})


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
        _wait(runtime, id, "running", limit)
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
        _wait(runtime, id, "stopped", limit)
    record = runtime.workspaces.get(id)
    return _workspace(record, f"workspace {id} stopped, sessions ended: {ended}")


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
            root = runtime.workspaces.root(id)
            question = f"This removes workspace {id} with all its files in {root}."
            runtime.confirm_name(question, id, confirm, "--confirm")
            _mend(runtime, id)
        _end_sessions(runtime, id, force, kept=purge)
        runtime.workspaces.delete(id, purge)
    except NotFound:
        if ignore_not_found:
            return _absent(id)
        raise
    if wait:
        _wait(runtime, id, "deleted", limit)
    done = "deleted with its files" if purge else "deleted, its directory is kept"
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
    _wait(runtime, id, condition, seconds(timeout, "--timeout"))
    fields = {"id": id, "status": condition}
    return Result("Workspace", fields, text=f"workspace {id} is {condition}")


def _mend(runtime: Runtime, id: str) -> None:
    """Let a purge go on where the record is damaged, or only a directory is left."""
    from coditect_cli.tokens import local_user

    with suppress(NotFound):
        runtime.workspaces.mend(id, local_user())


def _end_sessions(runtime: Runtime, id: str, force: bool, kept: bool = False) -> int:
    """Let no new session start, and end the live ones; how many there were.

    Nothing has changed when this raises. With `kept`, there may be only a kept directory.
    """
    try:
        runtime.workspaces.get(id)
    except NotFound:
        if kept:
            return 0
        raise
    answer = runtime.ask_gateway(id, {"type": "stop", "force": force})
    runtime.workspaces.set_desired(id, "stopped")  # where no gateway runs, nobody else did
    return int(answer.get("sessions", 0))


def _wait(runtime: Runtime, id: str, condition: str, limit: float) -> None:
    if _holds(runtime.workspaces, id, condition):
        return
    import logging

    log = logging.getLogger("coditect.workspace")
    log.info("waiting until workspace %s is %s", id, condition)
    deadline = time.monotonic() + limit
    while not _holds(runtime.workspaces, id, condition):
        if time.monotonic() >= deadline:
            raise TimedOut(
                f"workspace {id} is not {condition} after {limit:g} s",
                code="workspace.timeout",
                retryable=True,
            )
        time.sleep(POLL)


def _holds(workspaces: LocalWorkspaces, id: str, condition: str) -> bool:
    try:
        return workspaces.get(id).desired == condition
    except NotFound:
        if condition == "deleted":
            return True
        raise


def _workspace(record: WorkspaceRecord, text: str) -> Result:
    return Result("Workspace", record.as_dict(), text=text)


def _absent(id: str) -> Result:
    return Result("Workspace", {"id": id, "status": "deleted"}, text=f"there is no workspace {id}")
