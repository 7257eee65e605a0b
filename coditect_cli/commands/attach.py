"""`coditect up`, `coditect attach`, `coditect exec`: they hand over the terminal."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from coditect_cli.errors import Conflict, UsageError
from coditect_cli.options import Timeout, WorkspaceId, seconds, session_ids
from coditect_cli.output import Result
from coditect_cli.runtime import Runtime
from coditect_cli.workspaces.backend import await_running
from coditect_cli.workspaces.spec import check_session_id, check_workspace_id

WHOLE_ID = 36  # characters of a UUID, which needs no look-up
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Send the token unencrypted over ws:// to another host.")
]


def up(
    ctx: typer.Context,
    id: WorkspaceId,
    exec_command: Annotated[
        str | None,
        typer.Option("--exec", metavar="CMD", help="Run CMD with bash instead of attaching."),
    ] = None,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Run what comes on stdin with bash.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not attach.")] = False,
    timeout: Timeout = "5m",
) -> Result | int:
    """Create a workspace where there is none, start it, and attach to it.

    Without a terminal, with --detach or with -o json it does not attach.

    Examples:
      coditect up demo
      coditect up demo --exec 'make test'
      coditect up demo --stdin < setup.sh
      coditect up demo --detach --timeout 30s -o json

    Exit codes: 0 done or detached, 2 not a legal id, 6 this terminal is in the session that it
    would be attached to, 8 the workspace can't start, 9 the gateway does not start, 124 the
    workspace is not ready in time (it is left as it is), 255 the session was lost; else the status
    of the shell or of CMD
    """
    from coditect_cli.attach.connect import start_gateway

    runtime: Runtime = ctx.obj
    if (exec_command is not None) + stdin + detach > 1:
        raise UsageError("--exec, --stdin and --detach exclude each other")
    for_people = runtime.is_for_people
    if (exec_command is not None or stdin) and not for_people:
        raise _no_document(runtime)
    limit = seconds(timeout, "--timeout")
    runtime.bound(limit)
    fields = _running_workspace(runtime, id, limit)
    if exec_command is not None:
        return _exec(runtime, id, ("bash", "-c", exec_command), stdin=False)
    if stdin:
        return _exec(runtime, id, ("bash", "-s"), stdin=True)
    if detach or not for_people or not (os.isatty(0) and os.isatty(1)):
        start_gateway(runtime.context, runtime.paths)
        return Result(
            "Workspace", fields, text=f"workspace {id} runs; to attach: coditect attach {id}"
        )
    return _attach(runtime, id, None)


def attach(
    ctx: typer.Context,
    id: WorkspaceId,
    session: Annotated[
        str | None,
        typer.Option(
            "--session",
            metavar="S",
            help="The session, or as much of its id's start as only it has; else the newest.",
            autocompletion=session_ids,
        ),
    ] = None,
    new: Annotated[bool, typer.Option("--new", help="Make a new session.")] = False,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Watch: send no keys and no size.")
    ] = False,
    reconnect: Annotated[
        bool,
        typer.Option("--reconnect/--no-reconnect", help="Come back after a lost connection."),
    ] = True,
    escape_char: Annotated[
        str, typer.Option("--escape-char", metavar="C|none", help="What escape keys begin with.")
    ] = "~",
    insecure: Insecure = False,
) -> int:
    """Attach this terminal to a session of a workspace: the newest one, or a new one.

    At the start of a line ~. leaves at once, ~d detaches, ~s shows the status, ~? all keys.
    Without a terminal on stdin its bytes are typed into the shell, then end of file.

    Examples:
      coditect attach demo
      coditect attach demo --new
      coditect attach demo --session 5e0c2a --read-only

    Exit codes: 0 detached, 2 with -o json, 3 no such workspace or session, 6 the workspace is
    stopped or this terminal in that very session, 9 the gateway does not answer, 255 the session
    was lost or left by ~.; else the shell's status
    """
    from coditect_cli.attach.escape import parse_char

    runtime: Runtime = ctx.obj
    if not runtime.is_for_people:
        raise _no_document(runtime)
    check_workspace_id(id)
    if session is not None and new:
        raise UsageError("--session and --new exclude each other")
    if read_only and new:
        raise UsageError("--read-only and --new exclude each other: nothing would be typed into it")
    wanted = "new" if new else None
    if session is not None:
        wanted = check_session_id(session)
        if len(wanted) < WHOLE_ID:
            wanted = runtime.find_session(id, wanted)
    char = parse_char(escape_char)
    return _attach(
        runtime,
        id,
        wanted,
        read_only=read_only,
        reconnect=reconnect,
        escape_char=char,
        insecure=insecure,
    )


def exec_(
    ctx: typer.Context,
    id: WorkspaceId,
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="What to run.")],
    interactive: Annotated[
        bool, typer.Option("-i", "--stdin", help="Pass stdin on, also from a terminal.")
    ] = False,
    tty: Annotated[bool, typer.Option("-t", "--tty", help="Give the command a terminal.")] = False,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="K=V", help="A variable for the command; may be repeated."),
    ] = None,
    workdir: Annotated[
        str | None,
        typer.Option("--workdir", metavar="DIR", help="Where to run it; else the workspace's own."),
    ] = None,
    insecure: Insecure = False,
) -> int:
    """Run one command in a workspace, as a local one: its pipes, its signals, its exit status.

    stdin is passed on when it is not a terminal, or with -i. -t gives the command a terminal, also
    where there is none here. A lost connection is taken up again for 60 s. A program that goes on
    10 s after SIGTERM or SIGHUP, or after a second signal, is left, and ended by the gateway; on a
    terminal at once, also by ~. and when the terminal is closed.

    Examples:
      coditect exec demo -- make test
      tar c src | coditect exec demo -- tar x
      coditect exec -it --env LANG=C.UTF-8 demo -- vim notes.txt

    Exit codes: the command's own, 128+N where signal N ended it or it was left for that signal,
    2 with -o json, 3 no such workspace, 7 the command is larger than a message may be,
    126 not executable, 127 no such command, 130 interrupted, 141 nobody reads the output,
    255 the connection was lost
    """
    runtime: Runtime = ctx.obj
    if not runtime.is_for_people:
        raise _no_document(runtime)
    check_workspace_id(id)
    variables = _variables(env or [])
    argv = tuple(command[1:] if command[0] == "--" else command)
    if not argv:
        raise UsageError("a command is missing after --", hint="coditect exec --help")
    if workdir == "":
        raise UsageError("--workdir is empty", hint="leave it out for the workspace's own folder")
    if tty:
        from coditect_cli.attach.client import Exec
        from coditect_cli.attach.escape import DEFAULT

        _check_text(*argv, *variables.values(), workdir or "")
        return _hand_over(
            runtime, id, Exec(argv, variables, workdir), escape_char=DEFAULT, insecure=insecure
        )
    stdin = interactive or not os.isatty(0)
    return _exec(runtime, id, argv, stdin=stdin, env=variables, workdir=workdir, insecure=insecure)


def _no_document(runtime: Runtime) -> UsageError:
    return UsageError(
        f"-o {runtime.output} is not for a program that is run here: its output is its own",
        hint="leave -o out; the exit status is the program's",
    )


def _running_workspace(runtime: Runtime, id: str, limit: float) -> dict[str, Any]:
    workspaces = runtime.workspaces
    try:
        record = workspaces.create(id, runtime.owner(id), runtime.streams.say)
    except Conflict as error:
        if error.code != "workspace.exists":
            raise
        record = workspaces.get(id)
    if record.desired != "running":
        record = workspaces.set_desired(id, "running")
    if record.status not in (None, "running"):
        record = await_running(workspaces, record, limit, runtime.streams.say)
    return record.as_dict()


def _attach(
    runtime: Runtime,
    id: str,
    session: str | None,
    *,
    read_only: bool = False,
    reconnect: bool = True,
    escape_char: str | None = "~",
    insecure: bool = False,
) -> int:
    from coditect_cli.attach.client import Attach

    ask = Attach(session, read_only)
    return _hand_over(
        runtime, id, ask, reconnect=reconnect, escape_char=escape_char, insecure=insecure
    )


def _hand_over(
    runtime: Runtime,
    id: str,
    ask: Any,
    *,
    reconnect: bool = True,
    escape_char: str | None,
    insecure: bool,
) -> int:
    from coditect_cli.attach import client
    from coditect_cli.attach.connect import dialing

    with dialing(runtime.context, runtime.paths, id, insecure=insecure) as dial:
        try:
            return client.attach(dial, ask, escape_char=escape_char, reconnect=reconnect)
        except client.Detached as detached:
            runtime.streams.say(f"detached; to return: {detached}")
            return 0


def _exec(
    runtime: Runtime,
    id: str,
    argv: tuple[str, ...],
    *,
    stdin: bool,
    env: dict[str, str] | None = None,
    workdir: str | None = None,
    insecure: bool = False,
) -> int:
    from coditect_cli.attach.connect import dialing
    from coditect_cli.attach.exec import Descriptor, run
    from coditect_cli.attach.sink import Sink
    from coditect_cli.protocol.messages import Exec

    _check_text(*argv, *(env or {}).values(), workdir or "")

    def ask(client: str, resume: dict[str, int] | None) -> Exec:
        return Exec(client, argv, env or {}, workdir, stdin, None, resume)

    with dialing(runtime.context, runtime.paths, id, insecure=insecure) as dial:
        return run(dial, ask, Descriptor(0) if stdin else None, Sink(1), Sink(2))


def _check_text(*words: str) -> None:
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            shown = word.encode(errors="surrogateescape").decode(errors="backslashreplace")
            raise UsageError(
                f"{shown} is not UTF-8, and can't be sent",
                hint="pass bytes on stdin, or make them there: printf '\\xff'",
            ) from None


def _variables(pairs: list[str]) -> dict[str, str]:
    variables = {}
    for pair in pairs:
        name, found, value = pair.partition("=")
        if not found or not name.isidentifier() or not name.isascii():
            raise UsageError(f"--env {pair!r} is not NAME=VALUE")
        variables[name] = value
    return variables
