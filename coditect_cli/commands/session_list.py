"""`coditect session list`."""

from __future__ import annotations

import time
from contextlib import closing
from functools import partial
from typing import Annotated

import typer

from coditect_cli.errors import CoditectError, UsageError
from coditect_cli.options import SomeWorkspaceId, seconds
from coditect_cli.output import Stream, emit_stream
from coditect_cli.runtime import Runtime
from coditect_cli.sessions.session import NANOSECONDS


def list_(
    ctx: typer.Context,
    id: SomeWorkspaceId = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Of all workspaces, also of deleted ones.")
    ] = False,
    user: Annotated[
        str | None, typer.Option("--user", metavar="U", help="Of the workspaces that U owns.")
    ] = None,
    active: Annotated[bool, typer.Option("--active", help="The live ones only.")] = False,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="D", help="Last active longer ago, such as 30d."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="How many at most.")
    ] = None,
    after: Annotated[
        str | None,
        typer.Option("--after", metavar="WORKSPACE/SESSION", help="Go on behind this one."),
    ] = None,
) -> None:
    """List sessions, live and saved: of a workspace, or of all workspaces that are yours.

    "live" is one whose program runs, "held" one that is live under another gateway which shares
    the store, "saved" one that attaching brings back, "ended" one that its user ended: only
    attach --session brings it back. A record that cannot be read is listed as "unreadable".
    -o wide says why, who holds one, its shell and its start. On a terminal it stops after ten
    screenfuls, and says how to go on. -o name prints WORKSPACE/SESSION, as --after takes it, and
    with ID the session alone.

    Examples:
      coditect session list demo
      coditect session list --active -o wide
      coditect session list --all --older-than 30d -o ndjson

    Exit codes: 0 done, 2 options that exclude each other, 3 no such workspace,
    9 the gateway or the store does not answer
    """
    from coditect_cli.sessions.listing import COLUMNS, WIDE, Listing, parts
    from coditect_cli.stores.progress import Progress

    runtime: Runtime = ctx.obj
    if (id is not None) + all_ + (user is not None) > 1:
        raise UsageError("ID, --all and --user exclude each other")
    if active and older_than is not None:
        raise UsageError("--active and --older-than exclude each other")
    before = None
    if older_than is not None:
        before = time.time_ns() - int(seconds(older_than, "--older-than") * NANOSECONDS)
    start = None if after is None else _listed_key(after)

    def cannot(why: CoditectError) -> None:
        runtime.streams.say(f"warning: what is saved is not shown: {why.message}")
        runtime.streams.say(f"hint: {why.hint}")

    with closing(runtime.store if id is None else runtime.store_of(id, cannot)) as store:
        live = runtime.live_sessions(id)
        workspaces = None if all_ else [id] if id is not None else runtime.workspaces_of(user)
        listing = Listing(
            store,
            {**live, **runtime.held_elsewhere(workspaces, live)},
            workspaces,
            active=active,
            before=before,
            after=start,
            limit=runtime.row_limit(limit),
        )
        if id is not None and not listing.live:
            runtime.check_known(id)
        is_whole = listing.limit is None and start is None
        of = partial(parts, store, workspaces) if is_whole else None
        progress = Progress(runtime.streams, "sessions", parts=of)
        stream = Stream(
            "SessionList",
            progress.above(listing.pages(progress.watch)),
            COLUMNS,
            WIDE,
            "workspace/session" if id is None else "session",
            lambda: {
                "next": None if listing.next is None else "/".join(listing.next),
                "readVersions": progress.versions,
            },
        )
        emit_stream(stream, runtime.output, runtime.streams)
    progress.tell_versions()
    if listing.unreadable:
        runtime.streams.say(
            f"warning: records that cannot be read: {listing.unreadable:,}; coditect keys check "
            "says why"
        )
    if listing.next is not None:
        options: dict[str, str | bool | int | None] = {
            "--all": all_,
            "--user": user,
            "--active": active,
            "--older-than": older_than,
            "--limit": limit,
            "--after": "/".join(listing.next),
        }
        runtime.say_more("session", "list", *([id] if id else []), options=options)


def _listed_key(text: str) -> tuple[str, str]:
    from coditect_cli.sessions.ids import id_bytes

    workspace, slash, session = text.partition("/")
    try:
        id_bytes(workspace, "workspace")
        if session or not slash:  # a key may lack its id, and is listed
            id_bytes(session)
    except UsageError as error:
        raise UsageError(
            f"--after {text[:60]!a} is not WORKSPACE/SESSION: {error.message}",
            code="session.invalid_id",
            hint="copy what the listing before said, in single quotes",
        ) from error
    return workspace, session
