"""`coditect workspace stop|delete`: sessions end, and what of the workspace is not kept."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from coditect_cli.errors import CoditectError, Conflict, NotFound, UsageError
from coditect_cli.gateway.not_saved import tell_not_saved
from coditect_cli.options import Timeout, Wait, WorkspaceId, seconds
from coditect_cli.output import Result
from coditect_cli.runtime import Runtime
from coditect_cli.workspaces.local import LocalWorkspaces
from coditect_cli.workspaces.spec import WorkspaceRecord

NO_POD = ("workspace.not_running", "workspace.not_ready")  # that could hold a session
IgnoreNotFound = Annotated[
    bool, typer.Option("--ignore-not-found", help="Succeed when there is no such workspace.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Also with clients attached, and with what cannot be saved.")
]


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
    8 sessions cannot be saved and --force was not given, 9 the gateway does not answer,
    124 not stopped in time
    """
    runtime: Runtime = ctx.obj
    limit = seconds(timeout, "--timeout")
    runtime.bound(limit)
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
    how = "is stopping" if record.status == "stopping" else "stopped"
    text = f"workspace {id} {how}{known}"
    return Result("Workspace", record.as_dict(), text=text)


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
    typed id; it also removes the directory that an earlier delete left, and what is saved of the
    workspace's sessions. Where another gateway that shares the store holds one of them, it needs
    --force.

    Examples:
      coditect workspace delete demo
      coditect workspace delete demo --purge --confirm demo

    Exit codes: 0 deleted, 2 --purge without a terminal and without --confirm,
    3 no such workspace, 6 a client is attached, or another gateway holds a session, and --force
    was not given, 8 declined, sessions cannot be saved and --force was not given, or not all
    files could be removed, 9 the gateway does not answer, 124 not gone in time
    """
    runtime: Runtime = ctx.obj
    limit = seconds(timeout, "--timeout")
    if confirm is not None and not purge:
        raise UsageError("--confirm goes with --purge")
    try:
        if purge:
            removed = runtime.workspaces.purgeable(id)
            if not force:
                _check_unheld(runtime, id)
            question = f"This removes workspace {id}: {removed}, and its saved sessions."
            runtime.confirm_name(question, id, confirm, "--confirm")
        runtime.bound(limit)
        _end_sessions(runtime, id, force, deleting=True, kept=purge)
        if purge:
            _forget_sessions(runtime, id)
        runtime.workspaces.delete(id, purge)
    except NotFound:
        if ignore_not_found:
            return _absent(id)
        raise
    if wait:
        runtime.workspaces.wait(id, "deleted", limit, runtime.streams.say)
        if purge:
            _forget_sessions(runtime, id)  # also one that was first saved as its pod ended
    files = "with its files" if purge else "its files are kept"
    status = "deleted" if wait else _status(runtime, id)
    how = "deleted" if status == "deleted" else "is being deleted"
    text = f"workspace {id} {how}{' ' if purge else ', '}{files}"
    return Result("Workspace", {"id": id, "status": status}, text=text)


def _status(runtime: Runtime, id: str) -> str | None:
    try:
        return runtime.workspaces.get(id).status
    except NotFound:
        return "deleted"


def _check_unheld(runtime: Runtime, id: str) -> None:
    """Raises Conflict where another gateway holds a session of what is here by the same id."""
    if runtime.context.settings.provider == "kubernetes":
        return  # its pod's gateway does
    try:
        runtime.check_here(id, "")
    except Conflict as error:
        error.hint = f"{error.hint}; --force removes what is saved of it too"
        raise


def _forget_sessions(runtime: Runtime, id: str) -> None:
    """Remove what is recorded of a workspace's sessions: their screens may hold its files."""
    from coditect_cli.sessions.layer import SessionLayer

    if not runtime.has_store:
        return  # they lie on the volume, and go with it
    layer = SessionLayer(runtime.store)
    for session in layer.ids(id):
        layer.delete(id, session)


def _end_sessions(
    runtime: Runtime, id: str, force: bool, *, deleting: bool = False, kept: bool = False
) -> int | None:
    """Let no new session start, and end the live ones; how many there were, if known.

    Nothing has changed when this raises. With `kept`, there may be only what a delete kept. On a
    cluster a delete ends them by itself: one that is refused has not stopped the workspace.
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
        if not deleting:
            workspaces.set_desired(id, "stopped")
        return sessions  # the pod saves them when it is told to end
    answer = runtime.ask_gateway(id, {"type": "stop", "force": force})
    workspaces.set_desired(id, "stopped")  # where no gateway runs, nobody else did
    tell_not_saved(runtime.streams.say, answer, force=force)
    return int(answer.get("sessions", 0))


def _sessions_to_save(runtime: Runtime, record: WorkspaceRecord, force: bool) -> int | None:
    if record.status not in ("running", "starting"):
        return 0
    starting = record.status == "starting"  # also a pod that runs, and was not ready just now
    try:
        sessions = runtime.sessions_in_pod(record.id)
    except CoditectError as error:
        if starting and error.code in NO_POD:
            return 0
        if force or starting:
            runtime.streams.say(f"warning: nobody said what cannot be saved: {error.message}")
            return None
        force_hint = "--force does it all the same, whoever is attached"
        error.hint = f"{error.hint}; {force_hint}" if error.hint else force_hint
        raise
    if sessions is None:
        if not force:
            runtime.streams.say(
                "warning: no gateway_url is set, so nobody was asked who is attached"
            )
        return None
    clients = sum(session.get("clients", 0) for session in sessions)
    if clients and not force:
        raise Conflict(
            f"workspace {record.id} has clients attached: {clients}",
            code="workspace.in_use",
            hint="pass --force to end their sessions",
        )
    unsaved = [one | {"message": one["notSaved"]} for one in sessions if one.get("notSaved")]
    tell_not_saved(runtime.streams.say, {"notSaved": unsaved}, force=force)
    return len(sessions)


def _absent(id: str) -> Result:
    return Result("Workspace", {"id": id, "status": "deleted"}, text=f"there is no workspace {id}")
