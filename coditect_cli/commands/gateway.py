"""`coditect gateway`: serve, status, stop, restart, logs; the rest is in gateway_probe.py."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from coditect_cli.attach.request import request
from coditect_cli.errors import Conflict, NotFound, TimedOut, Unreachable, UsageError
from coditect_cli.gateway.launch import accepts
from coditect_cli.gateway.not_saved import tell_not_saved
from coditect_cli.output import Result
from coditect_cli.paths import Paths, make_private
from coditect_cli.runtime import Runtime
from coditect_cli.workspaces.spec import GATEWAY, check_workspace_id

PATIENCE = 30.0  # seconds for a gateway to end, or to come back
POLL = 0.02  # seconds


def serve(
    ctx: typer.Context,
    role: Annotated[
        str, typer.Option("--role", metavar="local|workspace|edge", help="What it serves.")
    ] = "local",
    listen: Annotated[
        list[str] | None,
        typer.Option("--listen", metavar="HOST:PORT|unix:PATH", help="Where; may be repeated."),
    ] = None,
    workspace_id: Annotated[
        str | None,
        typer.Option(
            "--workspace-id", metavar="ID", help="With --role workspace; else WORKSPACE_ID."
        ),
    ] = None,
) -> None:
    """Serve in the foreground, until it is told to stop.

    The local role always serves its own socket, and nothing else unless --listen says so.
    Commands start a local gateway by themselves; this is for those who want to see it run.

    The workspace role is for a pod: it serves that one workspace to its owner (USER_ID), and has
    public keys only (setting token_jwks). The edge role joins clients to the pods of the
    context's namespace; without --listen it takes port PORT, else 8080, of every address.

    Examples:
      coditect gateway serve
      coditect gateway serve --listen 127.0.0.1:8080
      coditect gateway serve --role workspace --workspace-id demo --listen 0.0.0.0:8080
      coditect gateway serve --role edge

    Exit codes: 0 it was told to stop, 2 an address that is none, 6 one runs already, or the
    address is taken
    """
    runtime: Runtime = ctx.obj
    addresses = [_address(text) for text in listen or ()]
    if role != "workspace" and workspace_id is not None:
        raise UsageError("--workspace-id needs --role workspace")
    if role == "local":
        program = _local(runtime, addresses)
    elif role == "workspace":
        program = _pod(runtime, addresses, workspace_id or os.environ.get("WORKSPACE_ID"))
    elif role == "edge":
        addresses = addresses or [_address(f"0.0.0.0:{os.environ.get('PORT', '8080')}")]
        program = _edge(runtime, addresses)
    else:
        raise UsageError(f"--role {role!r} is none of local, workspace, edge")
    environ = {**os.environ, "CODITECT_CONTEXT": runtime.context.name}
    environ.pop("CODITECT_TOKEN", None)
    for address in addresses:
        _check_free(address)
    # They wait until that program can act on them, which it says by letting them through.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    os.execve(sys.executable, [sys.executable, *program], environ)  # noqa: S606 (no shell)


def _local(runtime: Runtime, addresses: list[str]) -> list[str]:
    make_private(runtime.paths.state)
    if accepts(runtime.paths):
        raise Conflict(
            "a gateway of this user runs already",
            code="gateway.running",
            hint="coditect gateway status shows it; coditect gateway stop ends it",
        )
    return _kept("local", [f"unix:{runtime.paths.gateway_socket}", *addresses], runtime.paths)


def _pod(runtime: Runtime, addresses: list[str], id: str | None) -> list[str]:
    from coditect_cli.gateway.account import Account
    from coditect_cli.gateway.main import served_workspaces, verifying_keys

    if not addresses:
        raise UsageError("--role workspace needs --listen HOST:PORT")
    if id is None:
        raise UsageError("--role workspace needs --workspace-id ID, or WORKSPACE_ID")
    settings = runtime.context.settings
    served_workspaces(settings, runtime.paths, check_workspace_id(id))
    verifying_keys(settings, runtime.paths, "workspace")
    make_private(runtime.paths.state)
    account = Account.find(settings.run_as)
    if account.is_other:
        account.let_into(Path(settings.workspace_root))
    return [*_kept("workspace", addresses, runtime.paths), "--workspace-id", id]


def _kept(role: str, addresses: list[str], paths: Paths) -> list[str]:
    """The keeper's arguments, and its bridge's."""
    keeper = ["-m", "coditect_cli.gateway.keeper", "--lock", str(paths.gateway_lock)]
    bridge = [sys.executable, "-m", "coditect_cli.gateway.main", "--role", role, "--stay"]
    return [*keeper, *_listening(addresses), "--", *bridge]


def _edge(runtime: Runtime, addresses: list[str]) -> list[str]:
    from coditect_cli.gateway.edge import accepted_keys

    if any(address.startswith("unix:") for address in addresses):
        raise UsageError("--role edge listens on HOST:PORT only")
    accepted_keys(runtime.context.settings)
    return ["-m", "coditect_cli.gateway.edge", *_listening(addresses)]


def _listening(addresses: list[str]) -> list[str]:
    return [word for address in addresses for word in ("--listen", address)]


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
    force: Annotated[
        bool,
        typer.Option("--force", help="Also with live sessions, and with what cannot be saved."),
    ] = False,
) -> Result:
    """Stop the gateway. Its sessions end with it, so with live ones it asks first.

    All that is new of them is saved first; where that cannot be done, it goes on serving.

    Examples:
      coditect gateway stop
      coditect gateway stop --force

    Exit codes: 0 stopped, 3 none runs, 6 it has live sessions, 8 declined, or sessions cannot be
    saved and --force was not given, 9 no answer, 124 it did not end in time
    """
    runtime: Runtime = ctx.obj
    before = _status(runtime)
    try:
        answer = _ask(runtime, {"type": "gateway", "action": "stop", "force": force})
    except Conflict:
        if not (runtime.yes or runtime.streams.may_prompt()):
            raise
        question = f"Live sessions that end with the gateway: {before['sessions']}. Stop it?"
        runtime.confirm(question, "--force")
        answer = _ask(runtime, {"type": "gateway", "action": "stop", "force": True})
    _await(lambda: not _lives(before["keeperPid"]), "ended")
    tell_not_saved(runtime.streams.say, answer, force=force)
    return Result("Gateway", {**before, "stopped": True}, text="gateway stopped", name="gatewayUrl")


def restart(
    ctx: typer.Context,
    force: Annotated[bool, typer.Option("--force", help="Also with what cannot be saved.")] = False,
) -> Result:
    """Restart the gateway's bridge, after an upgrade for example. No session ends.

    All that is new of them is saved first; where that cannot be done, nothing is restarted.

    Examples:
      coditect gateway restart

    Exit codes: 0 restarted, 3 none runs, 8 the installed release can't take over, or sessions
    cannot be saved and --force was not given, 9 no answer, 124 it did not come back in time
    """
    runtime: Runtime = ctx.obj
    before = _status(runtime)
    answer = _ask(runtime, {"type": "gateway", "action": "restart", "force": force})
    after = before

    def is_new() -> bool:
        nonlocal after
        try:
            after = _status(runtime)
        except Unreachable:
            return False  # the old bridge hung up on us
        return bool(after["bridgePid"] != before["bridgePid"])

    _await(is_new, "come back")
    tell_not_saved(runtime.streams.say, answer, force=force)
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
    last: deque[str] = deque(maxlen=lines)
    for part in (path.with_name(path.name + ".1"), path):  # a large log moves to NAME.1
        with suppress(FileNotFoundError), open(part, encoding="utf-8", errors="replace") as file:
            last.extend(line.rstrip("\n") for line in file)
    if not path.exists():
        raise NotFound(f"there is no log yet at {path}", code="gateway.no_log")
    fields = {"path": str(path), "items": [{"line": line} for line in last]}
    return Result("GatewayLog", fields, text="\n".join(last), name="line")


def _status(runtime: Runtime) -> dict[str, Any]:
    answer = _ask(runtime, {"type": "status"})
    names = ("role", "version", "keeperPid", "bridgePid", "sessions", "connections", "startedAt")
    return {
        "gatewayUrl": runtime.context.gateway_url(runtime.paths),
        **{name: answer.get(name) for name in (*names, "listen", "log")},
        "notSaved": answer.get("notSaved", []),
    }


def _ask(runtime: Runtime, message: dict[str, Any]) -> dict[str, Any]:
    settings = runtime.context.settings
    if settings.provider == "kubernetes":
        raise UsageError(
            f"the gateways of context {runtime.context.name} are its cluster's to run",
            code="context.remote",
            hint=f"kubectl get pods -l app=gateway -n {settings.namespace} shows them; coditect "
            "doctor says whether one is ready",
        )
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


def _check_free(address: str) -> None:
    """Raises UsageError, or Conflict where something else listens there."""
    import errno

    from coditect_cli.gateway.listeners import listen

    try:
        listen(address).close()
    except (OSError, ValueError, OverflowError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        raise (Conflict if taken else UsageError)(
            f"can't listen on {address}: {why}",
            code="gateway.listen",
            hint="choose another port" if taken else "choose an address of this machine",
        ) from error


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if text.startswith("unix:/") or (host and colon and port.isdecimal() and int(port) < 65536):
        return text
    raise UsageError(f"--listen {text!r} is neither HOST:PORT nor unix:/PATH")
