"""`coditect cp`: files and folders in and out of a workspace."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from coditect_cli.errors import Failed, UsageError
from coditect_cli.options import workspace_ids
from coditect_cli.output import Result
from coditect_cli.runtime import Runtime
from coditect_cli.streams import Streams, printable

if TYPE_CHECKING:
    from coditect_cli.attach.copy import Progress, Run
    from coditect_cli.attach.exec import Source
    from coditect_cli.attach.pump import Output
    from coditect_cli.files.tree import LeftOut
    from coditect_cli.protocol.messages import Files

REDRAW = 0.1  # seconds
MOST_NAMED = 10  # of what was left out


def _places() -> list[str]:
    return [f"{id}:" for id in workspace_ids()]


def cp(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="What to copy.", autocompletion=_places)
    ],
    destination: Annotated[
        str, typer.Argument(metavar="DST", help="Where to.", autocompletion=_places)
    ],
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Send the token unencrypted over ws:// to another host."),
    ] = False,
) -> Result | None:
    """Copy files and folders in and out of a workspace.

    One side is ID:PATH, a path in a workspace: relative to its folder, or absolute from
    /workspace. A local name with a colon in it is written ./NAME.

    As with cp -r, a folder that is there takes the copy in under the source's own name, and a
    folder of that name is merged into. Else the copy is made as DST, whose parent must exist;
    DST/ wants a folder. SRC/. means what is in SRC, without SRC itself.

    A link that is SRC itself is followed. In a folder, links are copied as links, but for those
    that lead, or could lead, out of it. These, named pipes, sockets and devices are left out with
    a warning (-o json: in "skipped"), and the exit code is 0 as tar's is. What in a folder may not
    be read is left out, too, and then the exit code is 8. Modes and times are kept, owners and
    set-uid bits are not. A transfer that breaks leaves no half file under a final name,
    nor half a new folder. A device or a named pipe is never replaced, and nothing is written
    through a link to what does not exist.

    Examples:
      coditect cp notes.txt demo:
      coditect cp src demo:backup
      coditect cp src/. demo:/workspace/src
      coditect cp demo:results.csv .

    Exit codes: 0 done, 2 not exactly one side is ID:PATH, 3 no such file or workspace,
    5 a path leads outside or is not permitted, 6 something of another kind is there, or the
    workspace is stopped, 8 the transfer failed, or not all may be read, 9 the gateway does not
    answer, 130 interrupted, 255 the connection was lost
    """
    from coditect_cli.attach.copy import download, upload
    from coditect_cli.files.tree import UNREADABLE, shown

    runtime: Runtime = ctx.obj
    remote_source, remote_destination = _remote(source), _remote(destination)
    if (remote_source is None) == (remote_destination is None):
        raise UsageError(
            "exactly one of SRC and DST has to be ID:PATH",
            hint="such as: coditect cp notes.txt demo:",
        )
    left_out: list[LeftOut] = []
    with _progress(runtime.streams, source) as progress:
        if remote_source is not None:
            id, path = remote_source
            left_out = download(_runner(runtime, id, insecure), path, destination, progress)
        elif remote_destination is not None:
            id, path = remote_destination
            left_out = upload(_runner(runtime, id, insecure), source, path, progress)
    _warn(runtime.streams, left_out)
    if unreadable := sum(one.what == UNREADABLE for one in left_out):
        raise Failed(
            f"the copy is without what may not be read: {unreadable:,} of {shown(source)}",
            code="transfer.partial",
            hint="all else is copied; allow reading (chmod +r), and copy it again",
        )
    if runtime.is_for_people:
        return None
    skipped = [shown(one.path) for one in left_out]
    fields = {"source": source, "destination": destination, "skipped": skipped}
    return Result("Copy", fields, name="destination")


def _warn(streams: Streams, left_out: list[LeftOut]) -> None:
    """Names what was left out; where that is much, the first of it."""
    from coditect_cli.files.tree import shown

    for one in left_out[:MOST_NAMED]:
        streams.say(f"warning: {shown(one.path)} is left out: {one.what}")
    if (more := len(left_out) - MOST_NAMED) > 0:
        streams.say(f"warning: left out besides these: {more:,}")


def _remote(text: str) -> tuple[str, str] | None:
    """Workspace and path of `ID:PATH`; None for a local path."""
    from coditect_cli.workspaces.spec import check_workspace_id

    id, colon, path = text.partition(":")
    if not colon or "/" in id:
        return None
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            "a path in a workspace has to be UTF-8", code="path.invalid", hint="copy its folder"
        ) from error
    return check_workspace_id(id), path


def _runner(runtime: Runtime, id: str, insecure: bool) -> Run:
    """Runs file operations in the workspace, each over a connection of its own."""
    from coditect_cli.attach import exec as pipes
    from coditect_cli.attach.connect import dialing
    from coditect_cli.protocol.messages import Files

    def run(op: str, path: str, source: Source | None, stdout: Output, stderr: Output) -> int:
        def ask(client: str, resume: dict[str, int] | None) -> Files:
            return Files(client, op, path, resume)

        with dialing(runtime.context, runtime.paths, id, insecure=insecure) as dial:
            return pipes.run(dial, ask, source, stdout, stderr)

    return run


@contextmanager
def _progress(streams: Streams, what: str) -> Iterator[Progress | None]:
    """One line on a terminal that says how far the copy is; gone when it is over."""
    if not streams.may_animate():
        yield None
        return
    started = drawn = time.monotonic()
    done, expected = 0, 0

    def draw(count: int, total: int | None) -> None:
        nonlocal done, expected, drawn
        done += count
        expected = expected if total is None else total
        now = time.monotonic()
        if now - drawn < REDRAW:
            return
        drawn = now
        share = min(100, 100 * done // expected) if expected else 100
        rate = done / (now - started)
        line = f"{share:3} %  {done / 1e6:.1f} MB  {rate / 1e6:.1f} MB/s  {printable(what)}"
        width = os.get_terminal_size(streams.stderr.fileno()).columns or 80
        streams.stderr.write(f"\r\x1b[K{line.splitlines()[0][: width - 1]}")
        streams.stderr.flush()

    try:
        yield draw
    finally:
        streams.stderr.write("\r\x1b[K")
        streams.stderr.flush()
