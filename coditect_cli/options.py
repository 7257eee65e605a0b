"""Arguments and options that several commands have, with what a shell completes of them."""

from __future__ import annotations

import os
from contextlib import closing
from typing import Annotated

import typer

from coditect_cli.errors import CoditectError, UsageError
from coditect_cli.paths import Paths
from coditect_cli.runtime import Runtime
from coditect_cli.streams import Streams

MOST_COMPLETED = 1_000  # session ids that a shell is offered
COMPLETION_PATIENCE = 1.0  # seconds, for a shell that does nothing else meanwhile


def workspace_ids() -> list[str]:
    try:
        return Runtime(Streams.system()).workspaces.ids()
    except (CoditectError, OSError):
        return []  # a shell that completes has no use for an error


def context_names() -> list[str]:
    from coditect_cli import config

    try:
        return list(config.read_contexts(Paths.from_environ(os.environ))[0])
    except CoditectError:
        return []


def session_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    from coditect_cli.sessions.lookup import saved_ids
    from coditect_cli.stores.store import open_store

    runtime, workspace_id = Runtime(Streams.system()), ctx.params.get("id")
    try:
        ids = {session for _, session in runtime.live_sessions(workspace_id)}
        is_there = (
            runtime.context.settings.store != "sqlite" or runtime.paths.session_store.exists()
        )
        if runtime.has_store and is_there:
            settings, paths = runtime.context.settings, runtime.paths
            with closing(open_store(settings, paths, COMPLETION_PATIENCE)) as store:
                ids |= saved_ids(store, str(workspace_id), incomplete, MOST_COMPLETED)
    except (CoditectError, OSError):
        return []
    return sorted(ids)


WorkspaceId = Annotated[
    str,
    typer.Argument(metavar="ID", help="The workspace's id.", autocompletion=workspace_ids),
]
SomeWorkspaceId = Annotated[
    str | None,
    typer.Argument(metavar="[ID]", help="The workspace's id.", autocompletion=workspace_ids),
]
SessionId = Annotated[
    str,
    typer.Argument(
        metavar="SESSION",
        help="The session's id, or as much of its start as only it has.",
        autocompletion=session_ids,
    ),
]


Timeout = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="How long to wait, such as 30s or 5m.")
]


Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Return only when it is so.")]


def seconds(duration: str, flag: str) -> float:
    """What was given with `flag`. Raises UsageError."""
    from coditect_cli.settings import parse_duration

    try:
        return parse_duration(duration)
    except ValueError as rule:
        raise UsageError(f"{flag} {duration!r} is not {rule}") from None
