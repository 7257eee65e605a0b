"""`coditect session`: show, history, output, kill."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import closing
from typing import Annotated, Any

import typer

from coditect_cli.errors import Failed, NotFound, UsageError
from coditect_cli.options import SessionId, WorkspaceId
from coditect_cli.output import Result
from coditect_cli.runtime import Runtime
from coditect_cli.sessions.ids import id_words
from coditect_cli.sessions.session import SessionOutput, SessionState, format_time

Item = dict[str, Any]


def show(
    ctx: typer.Context,
    id: WorkspaceId,
    session: SessionId,
    reveal: Annotated[
        list[str] | None,
        typer.Option("--reveal", metavar="NAME", help="Show this variable; may be repeated."),
    ] = None,
) -> Result:
    """Show a session, with the values of its variables hidden.

    A hidden variable is shown as dots and its length. "unset" names those that start-up files
    export and the session has no longer. "not saved" says why what is new of a live one is not.

    Examples:
      coditect session show demo 5e0c7d1a
      coditect session show demo 5e0c --reveal PATH -o json

    Exit codes: 0 done, 2 several sessions start so, 3 no such session, 8 its record cannot be
    read, 9 the gateway or the store does not answer
    """
    from coditect_cli.sessions.redaction import redacted

    runtime: Runtime = ctx.obj
    item, state, output = _load(runtime, id, session)
    variables = redacted({"environment_vars": state.environment_vars} if state else {}, reveal)
    fields = {
        **item,
        "endedAt": format_time(state.ended_at) if state and state.ended_at else None,
        "environmentVars": variables.get("environment_vars", {}),
        "variablesTrimmed": state.variables_trimmed if state else 0,
        "variablesUnset": state.variables_unset if state else [],
        "historyCount": len(state.command_history) if state else 0,
        "historyTrimmed": state.history_trimmed if state else 0,
        "outputLines": len(output.lines) if output else 0,
        "linesTrimmed": output.lines_trimmed if output else 0,
        "screenSize": list(output.screen_size) if output else None,
        "cursorPosition": list(output.cursor_position) if output else None,
        "unknown": redacted(state.unknown, reveal) if state else {},
    }
    for name in set(reveal or ()).difference(fields["environmentVars"]):
        runtime.streams.say(f"warning: the session has no variable {name}")
    return Result("Session", fields, text=_shown(fields), name="session")


def history(
    ctx: typer.Context,
    id: WorkspaceId,
    session: SessionId,
    grep: Annotated[
        str | None, typer.Option("--grep", metavar="RE", help="Only what this matches in.")
    ] = None,
) -> Result:
    """Show the commands that were typed in a session, the oldest first.

    Examples:
      coditect session history demo 5e0c
      coditect session history demo 5e0c --grep '^git (push|pull)'

    Exit codes: 0 done, 2 not a regular expression, or several sessions start so,
    3 no such session, or nothing of it is saved yet, 8 its record cannot be read,
    9 the gateway or the store does not answer
    """
    runtime: Runtime = ctx.obj
    try:
        pattern = re.compile(grep or "")
    except (re.error, OverflowError, RecursionError) as rule:
        raise UsageError(
            f"--grep {grep!r} is not a regular expression: {rule}", code="session.grep"
        ) from None
    item, state, _ = _load(runtime, id, session)
    if state is None:
        raise _not_saved(item)
    commands = [
        {"number": number, "command": command}
        for number, command in enumerate(state.command_history, state.history_trimmed + 1)
        if pattern.search(command)
    ]
    return Result(
        "SessionHistory",
        {
            "workspace": item["workspace"],
            "session": item["session"],
            "historyTrimmed": state.history_trimmed,
            "items": commands,
        },
        {"NUMBER": "number", "COMMAND": "command"},
        name="command",
    )


def output(
    ctx: typer.Context,
    id: WorkspaceId,
    session: SessionId,
    style: Annotated[
        bool | None,
        typer.Option("--ansi/--plain", help="With colours, or without; as stdout is a terminal."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with each line of a live session.")
    ] = False,
) -> Result | None:
    """Show what a session's terminal has shown: the lines that left its screen, and its screen.

    It is what the store has, which for a live session is at most a second old. With --follow it
    begins with a live session's screen as it is, and goes on with each line once it is ended,
    until the session ends or Ctrl-C. It watches, and types nothing. One that another gateway
    holds is followed in the store, a second behind, where lines that are wiped at once are not.
    -o ndjson prints each line as {"line": "..."}, with --follow too.

    Examples:
      coditect session output demo 5e0c
      coditect session output demo 5e0c --ansi | less -R
      coditect session output demo 5e0c --follow | grep --line-buffered error

    Exit codes: 0 done, 2 several sessions start so, 3 no such session, or nothing of it is
    saved yet, 8 its record cannot be read, 9 the gateway or the store does not answer,
    130 Ctrl-C, 255 the followed session was lost
    """
    from coditect_cli.sessions.lines import ansi, plain

    runtime: Runtime = ctx.obj
    in_lines = runtime.is_for_people or runtime.output == "ndjson"
    if follow and not in_lines:
        raise UsageError("--follow writes lines: of -o it goes with ndjson alone")
    item, _, saved = _load(runtime, id, session)
    colours = runtime.streams.stdout.isatty() if style is None else style
    text = ansi if colours else plain
    shape = text if runtime.is_for_people else lambda line: json.dumps({"line": text(line)})
    if follow and item["state"] == "live":
        _follow(runtime, item, shape)
        return None
    if follow and item["state"] == "held":
        _follow_record(runtime, item, shape)
        return None
    if saved is None:
        raise _not_saved(item)
    lines = list(map(text, saved.lines))
    if in_lines:
        while lines and not lines[-1]:  # a screen is rarely full
            lines.pop()
        runtime.streams.stdout.writelines(shape(line) + "\n" for line in lines)
        return None
    fields = {
        "workspace": item["workspace"],
        "session": item["session"],
        "lines": lines,
        "linesTrimmed": saved.lines_trimmed,
        "screenSize": list(saved.screen_size),
        "cursorPosition": list(saved.cursor_position),
    }
    return Result("SessionOutput", fields, name="session")


def kill(
    ctx: typer.Context,
    id: WorkspaceId,
    session: SessionId,
    ignore_not_found: Annotated[
        bool, typer.Option("--ignore-not-found", help="Succeed when it is not live.")
    ] = False,
) -> Result:
    """End a live session: hang up its program and all that it started, whoever is attached.

    What was saved of the session stays.

    Examples:
      coditect session kill demo 5e0c

    Exit codes: 0 ended, 2 several sessions start so, 3 no such live session,
    5 the workspace is another user's, 6 another gateway holds it, 8 its program does not end,
    9 the gateway does not answer
    """
    from coditect_cli.sessions.lookup import find_session

    runtime: Runtime = ctx.obj
    try:
        live = [session for _, session in runtime.live_sessions(id)]
        session = find_session(None, live, id, session)
        runtime.end_session(id, session)
        text = f"session {session} ended"
    except NotFound as error:
        runtime.check_here(id, session)
        text = f"no live session {session} in workspace {id}"
        if not ignore_not_found:
            hint = f"coditect session list --active {id_words(id)} shows them"
            raise NotFound(text, code=error.code, hint=hint) from error
    fields = {"workspace": id, "session": session, "state": "ended"}
    return Result("Session", fields, text=text, name="session")


def _load(
    runtime: Runtime, id: str, text: str
) -> tuple[Item, SessionState | None, SessionOutput | None]:
    """A session as a listing has it, and what is saved of it."""
    from msgspec import to_builtins

    from coditect_cli.sessions.layer import SessionLayer
    from coditect_cli.sessions.listing import live_item, saved_item
    from coditect_cli.sessions.lookup import find_session

    with closing(runtime.store_of(id)) as store:
        live = runtime.live_sessions(id)
        live = {**live, **runtime.held_elsewhere([id], live)}
        session = find_session(store, [session for _, session in live], id, text)
        state, output = SessionLayer(store).load(id, session)
    found = live.get((id, session))
    saved = None if state is None else saved_item(id, session, state)
    if found is not None:
        live_one = to_builtins(live_item((id, session), found, saved))
        more = {"pid": found["pid"], "notSaved": found.get("notSaved")}
        return {**live_one, **more}, state, output
    if saved is None:
        raise Failed(
            f"of session {session} of workspace {id} only the output is left",
            code="session.no_state",
            hint=f"coditect keys get {id_words(f'{id}/terminal_output/{session}')} shows it",
        )
    return {**to_builtins(saved), "pid": None, "notSaved": None}, state, output


def _follow(runtime: Runtime, item: Item, shape: Callable[[str], str]) -> None:
    from coditect_cli.attach.connect import dialing
    from coditect_cli.attach.follow import follow

    with dialing(runtime.context, runtime.paths, item["workspace"], insecure=False) as dial:
        follow(dial, item["session"], 1, shape, runtime.streams.say)


def _follow_record(runtime: Runtime, item: Item, shape: Callable[[str], str]) -> None:
    from coditect_cli.sessions.following import follow_record
    from coditect_cli.stores.store import open_store

    stdout = runtime.streams.stdout
    with closing(open_store(runtime.context.settings, runtime.paths)) as store:
        ids = item["workspace"], item["session"]
        for lines in follow_record(store, *ids, runtime.streams.say):
            stdout.writelines(shape(line) + "\n" for line in lines)
            stdout.flush()


def _not_saved(item: Item) -> NotFound:
    workspace, session = item["workspace"], item["session"]
    if item["state"] == "live":
        return NotFound(
            f"nothing of session {session} of workspace {workspace} is saved yet",
            code="session.not_saved",
            hint=f"coditect attach {workspace} --session {session} --read-only shows it",
        )
    return NotFound(
        f"of session {session} of workspace {workspace} no output is saved",
        code="session.not_saved",
        hint=f"coditect session show {id_words(workspace, session)} shows what is",
    )


def _shown(fields: Item) -> str:
    place = f"{fields['workspace']} {fields['session']}"
    lines = [f"{name:<11} {fields[name]}" for name in ("workspace", "session", "state")]
    lines += [
        f"{title:<11} {fields[name]}"
        for title, name in (
            ("type", "type"),
            ("shell", "shell"),
            ("pid", "pid"),
            ("directory", "directory"),
            ("started", "startedAt"),
            ("last active", "lastActive"),
            ("ended", "endedAt"),
            ("clients", "clients"),
            ("not saved", "notSaved"),
        )
        if fields[name] is not None
    ]
    trimmed = {name: fields[f"{name}Trimmed"] for name in ("history", "lines", "variables")}
    told = {name: f", {count} older dropped" if count else "" for name, count in trimmed.items()}
    lines.append(f"{'history':<11} {_counted(fields['historyCount'], 'command')}{told['history']}")
    size = fields["screenSize"]
    screen = f", screen {size[0]}x{size[1]}" if size else ""
    lines.append(f"{'output':<11} {_counted(fields['outputLines'], 'line')}{told['lines']}{screen}")
    if trimmed["variables"]:
        lines.append(f"{'dropped':<11} {_counted(trimmed['variables'], 'large variable')}")
    lines += [f"{'variable':<11} {n}={value}" for n, value in fields["environmentVars"].items()]
    lines += [f"{'unset':<11} {name}" for name in fields["variablesUnset"]]
    lines += [f"{'unknown':<11} {n}={json.dumps(value)}" for n, value in fields["unknown"].items()]
    lines = [line.replace("\n", "\\n") for line in lines]
    if fields["historyCount"]:
        lines.append(f"\nits commands: coditect session history {place}")
    if fields["outputLines"]:
        lines.append(f"its screen: coditect session output {place}")
    return "\n".join(lines)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
