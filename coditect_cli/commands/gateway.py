"""`coditect gateway`: serve, status, stop, restart, logs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from coditect_cli.attach.request import request
from coditect_cli.errors import Conflict, NotFound, TimedOut, Unreachable, UsageError
from coditect_cli.output import Result
from coditect_cli.paths import make_private
from coditect_cli.runtime import Runtime
from coditect_cli.workspaces.spec import GATEWAY, check_workspace_id

PATIENCE = 30.0  # seconds for a gateway to end, or to come back
POLL = 0.02  # seconds


def serve(
    ctx: typer.Context,
    role: Annotated[
        Literal["local", "workspace", "edge"], typer.Option("--role", help="What it serves.")
    ] = "local",
    listen: Annotated[
        list[str] | None,
        typer.Option("--listen", metavar="HOST:PORT|unix:PATH", help="Where; may be repeated."),
    ] = None,
    workspace_id: Annotated[
        str | None,
        typer.Option("--workspace-id", metavar="ID", help="With --role workspace: which one."),
    ] = None,
) -> None:
    """Serve in the foreground, until it is told to stop.

    The local role always serves its own socket, and nothing else unless --listen says so.
    Commands start a local gateway by themselves; this is for those who want to see it run.

    Examples:
      coditect gateway serve
      coditect gateway serve --listen 127.0.0.1:8080
      coditect gateway serve --role workspace --workspace-id demo --listen 0.0.0.0:8080

    Exit codes: 0 it was told to stop, or one runs already, 2 an address that is none
    """
    runtime: Runtime = ctx.obj
    keeper = [sys.executable, "-m", "coditect_cli.gateway.keeper"]
    bridge = [sys.executable, "-m", "coditect_cli.gateway.main", "--role", role]
    addresses = [_address(text) for text in listen or ()]
    if role == "local":
        make_private(runtime.paths.state)
        keeper += ["--lock", str(runtime.paths.gateway_lock)]
        addresses.insert(0, f"unix:{runtime.paths.gateway_socket}")
    elif not addresses:
        raise UsageError(f"--role {role} needs --listen HOST:PORT")
    if (role == "workspace") != (workspace_id is not None):
        raise UsageError("--role workspace and --workspace-id ID go together")
    if workspace_id is not None:
        bridge += ["--workspace-id", check_workspace_id(workspace_id)]
    for address in addresses:
        keeper += ["--listen", address]
    environ = {**os.environ, "CODITECT_CONTEXT": runtime.context.name}
    environ.pop("CODITECT_TOKEN", None)
    runtime.streams.say("serving on " + ", ".join(addresses))
    os.execve(sys.executable, [*keeper, "--", *bridge], environ)  # noqa: S606 (no shell)


def status(ctx: typer.Context) -> Result:
    """Show the gateway in effect.

    Examples:
      coditect gateway status
      coditect gateway status -o json

    Exit codes: 0 it runs, 3 none runs, 9 it does not answer
    """
    runtime: Runtime = ctx.obj
    return Result("Gateway", _status(runtime), name="gatewayUrl")


def stop(
    ctx: typer.Context,
    force: Annotated[bool, typer.Option("--force", help="Also with live sessions.")] = False,
) -> Result:
    """Stop the gateway. Its sessions end with it, so with live ones it asks first.

    Examples:
      coditect gateway stop
      coditect gateway stop --force

    Exit codes: 0 stopped, 3 none runs, 6 it has live sessions, 8 declined, 9 no answer,
    124 it did not end in time
    """
    runtime: Runtime = ctx.obj
    before = _status(runtime)
    try:
        _ask(runtime, {"type": "gateway", "action": "stop", "force": force})
    except Conflict:
        if not (runtime.yes or runtime.streams.may_prompt()):
            raise
        runtime.confirm(f"{before['sessions']} sessions end with the gateway. Stop it?", "--force")
        _ask(runtime, {"type": "gateway", "action": "stop", "force": True})
    _await(lambda: not _lives(before["keeperPid"]), "ended")
    return Result("Gateway", {**before, "stopped": True}, text="gateway stopped", name="gatewayUrl")


def restart(ctx: typer.Context) -> Result:
    """Restart the gateway's bridge, after an upgrade for example. No session ends.

    Examples:
      coditect gateway restart

    Exit codes: 0 restarted, 3 none runs, 9 no answer, 124 it did not come back in time
    """
    runtime: Runtime = ctx.obj
    before = _status(runtime)
    _ask(runtime, {"type": "gateway", "action": "restart", "force": False})
    after = before

    def is_new() -> bool:
        nonlocal after
        try:
            after = _status(runtime)
        except Unreachable:
            return False  # the old bridge hung up on us
        return bool(after["bridgePid"] != before["bridgePid"])

    _await(is_new, "come back")
    text = f"gateway restarted: bridge {before['bridgePid']} -> {after['bridgePid']}"
    return Result("Gateway", after, text=text, name="gatewayUrl")


def logs(
    ctx: typer.Context,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="How many of the last.")] = 200,
) -> Result:
    """Print the end of the local gateway's log.

    Examples:
      coditect gateway logs
      coditect gateway logs -n 20

    Exit codes: 0 done, 3 there is no log yet
    """
    from collections import deque

    path = ctx.obj.paths.gateway_log
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            last = [line.rstrip("\n") for line in deque(file, maxlen=lines)]
    except FileNotFoundError:
        raise NotFound(f"there is no log yet at {path}", code="gateway.no_log") from None
    fields = {"path": str(path), "items": [{"line": line} for line in last]}
    return Result("GatewayLog", fields, text="\n".join(last), name="line")


def _status(runtime: Runtime) -> dict[str, Any]:
    answer = _ask(runtime, {"type": "status"})
    names = ("role", "version", "keeperPid", "bridgePid", "sessions", "connections", "startedAt")
    return {
        "gatewayUrl": runtime.context.gateway_url(runtime.paths),
        **{name: answer.get(name) for name in (*names, "listen", "log")},
    }


def _ask(runtime: Runtime, message: dict[str, Any]) -> dict[str, Any]:
    try:
        return request(runtime.context, runtime.paths, GATEWAY, message)
    except Unreachable as error:
        ours = runtime.context.settings.gateway_url is None
        if not ours or error.code != "gateway.not_running":
            raise
        raise NotFound(
            "no gateway runs",
            code=error.code,
            hint="coditect up ID starts one, and so does coditect gateway serve",
        ) from error


def _await(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() >= deadline:
            raise TimedOut(
                f"the gateway has not {what} after {PATIENCE:g} s",
                hint="coditect gateway logs says more",
            )
        time.sleep(POLL)


def _lives(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if text.startswith("unix:/") or (host and colon and port.isdecimal() and int(port) < 65536):
        return text
    raise UsageError(f"--listen {text!r} is neither HOST:PORT nor unix:/PATH")
