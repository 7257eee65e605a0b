"""`coditect session delete`: one, or all that were not used for long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import typer
from msgspec.structs import replace

from coditect_cli.errors import Conflict, NotFound, UsageError
from coditect_cli.options import SessionId, SomeWorkspaceId, seconds
from coditect_cli.output import Result, Stream, emit_stream
from coditect_cli.runtime import Runtime
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.sessions.listing import COLUMNS, WIDE, Item, Listing, parts
from coditect_cli.sessions.session import NANOSECONDS
from coditect_cli.stores.progress import Progress
from coditect_cli.stores.store import SessionStore

PER_TRANSACTION = 100  # sessions


def delete(
    ctx: typer.Context,
    id: SomeWorkspaceId = None,
    session: SessionId = "",
    all_: Annotated[
        bool, typer.Option("--all", help="With --older-than: in all workspaces, deleted ones too.")
    ] = False,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="D", help="All last active longer ago, such as 30d."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be deleted, and change nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="End a live session first, and take it from its bridge.")
    ] = False,
    ignore_not_found: Annotated[
        bool, typer.Option("--ignore-not-found", help="Succeed when there is no such session.")
    ] = False,
) -> Result | None:
    """Delete a session with its history and its screen, or all that were not used for long.

    With --older-than: of the workspace, or of all that are yours. It deletes no live session,
    and none whose record cannot be read. Without ID, -o name prints WORKSPACE/SESSION.

    Examples:
      coditect session delete demo 5e0c
      coditect session delete demo 5e0c --force --yes
      coditect session delete --older-than 30d --dry-run

    Exit codes: 0 deleted, 2 neither SESSION nor --older-than, or nobody to ask and no --yes,
    3 no such workspace or session, 6 it is live and --force was not given, 8 declined,
    9 the gateway or the store does not answer
    """
    runtime: Runtime = ctx.obj
    if bool(session) == (older_than is not None):
        raise UsageError(
            "either SESSION or --older-than says what to delete",
            hint="coditect session list shows the sessions",
        )
    if older_than is not None:
        if force or ignore_not_found:
            raise UsageError("--force and --ignore-not-found go with SESSION")
        if all_ and id is not None:
            raise UsageError("ID and --all exclude each other")
        age = int(seconds(older_than, "--older-than") * NANOSECONDS)
        workspaces = None if all_ else [id] if id is not None else runtime.workspaces_of(None)
        _delete_older(runtime, id, workspaces, time.time_ns() - age, dry_run=dry_run)
        return None
    if all_:
        raise UsageError("--all goes with --older-than")
    try:
        return _delete_one(runtime, str(id), session, dry_run=dry_run, force=force)
    except NotFound as error:
        if not ignore_not_found:
            raise
        fields = {"workspace": id, "session": session, "state": "deleted", "dryRun": dry_run}
        return Result("Session", fields, text=error.message, name="session")


def _delete_one(runtime: Runtime, id: str, text: str, *, dry_run: bool, force: bool) -> Result:
    from coditect_cli.sessions.lookup import find_session

    with closing(runtime.store) as store:
        live = [session for _, session in runtime.live_sessions(id)]
        session = find_session(store, live, id, text)
        if session in live and not force:
            raise Conflict(
                f"session {session} of workspace {id} is live",
                code="session.live",
                hint="--force ends it first",
            )
        fields = {"workspace": id, "session": session, "state": "deleted", "dryRun": dry_run}
        if dry_run:
            text = f"session {session} would be deleted"
            return Result("Session", fields, text=text, name="session")
        runtime.confirm(
            f"Delete session {session} of workspace {id} with its history and screen?", "--yes"
        )
        if session in live:
            with suppress(NotFound):  # it has ended by itself since
                runtime.end_session(id, session)
        now = None if force else time.time_ns()
        SessionLayer(store).delete(id, session, unless_held_at=now)
    return Result("Session", fields, text=f"session {session} deleted", name="session")


@dataclass
class _Old:
    """The saved sessions that were last active before a time, and how many were deleted.

    `left` are those that look so and cannot be read, or are held by a bridge.
    """

    store: SessionStore
    listing: Listing
    before: int
    dry_run: bool
    deleted: int = 0
    left: int = 0

    def count(self, progress: Progress) -> int:
        return sum(map(len, self._found(progress, SessionLayer(self.store).older)))

    def delete(self, progress: Progress) -> Iterator[list[Item]]:
        """Each page of what is deleted, once it is; with dry_run, of what would be."""
        layer = SessionLayer(self.store)
        if self.dry_run:
            yield from self._found(progress, layer.older)
            return
        for items in self._found(progress, layer.delete_older):
            self.deleted += len(items)
            yield [replace(item, state="deleted") for item in items]

    def tail(self) -> dict[str, Any]:
        return {"dryRun": self.dry_run, "deleted": self.deleted}

    def _found(
        self, progress: Progress, find: Callable[[list[tuple[str, str]], int, int], set[int]]
    ) -> Iterator[list[Item]]:
        self.left = self.listing.unreadable = 0
        for page in self.listing.pages(progress.watch):
            items = [item for item in page if item.state in ("saved", "ended")]
            for at in range(0, len(items), PER_TRANSACTION):
                some = items[at : at + PER_TRANSACTION]
                ids = [(item.workspace, item.session) for item in some]
                found = find(ids, self.before, time.time_ns())
                self.left += len(some) - len(found)
                yield [some[at] for at in sorted(found)]
        self.left += self.listing.unreadable


def _delete_older(
    runtime: Runtime,
    id: str | None,
    workspaces: list[str] | None,
    before: int,
    *,
    dry_run: bool,
) -> None:
    with closing(runtime.store) as store:
        live = runtime.live_sessions(id)
        if id is not None and not live:
            runtime.check_known(id)
        old = _Old(store, Listing(store, live, workspaces, before=before), before, dry_run)
        of = partial(parts, store, workspaces)
        if not dry_run and (count := old.count(Progress(runtime.streams, "sessions", parts=of))):
            these = "this session" if count == 1 else f"these {count:,} sessions"
            runtime.confirm(f"Delete {these} with history and screen?", "--yes, or --dry-run")
        pages = filter(None, old.delete(Progress(runtime.streams, "sessions", parts=of)))
        name = "workspace/session" if id is None else "session"
        stream = Stream("SessionList", pages, COLUMNS, WIDE, name, old.tail)
        emit_stream(stream, runtime.output, runtime.streams)
    if old.left:
        runtime.streams.say(
            f"warning: left as they are, for they cannot be read or are in use: {old.left:,}; "
            "coditect keys check shows what is wrong"
        )
    if not dry_run:
        runtime.streams.say(f"sessions deleted: {old.deleted:,}")
