"""`coditect session export` and `coditect session import`."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Annotated

import typer

from coditect_cli.errors import Conflict, Failed, NotFound, UsageError
from coditect_cli.options import SomeWorkspaceId
from coditect_cli.output import Result
from coditect_cli.paths import check_replaceable, make_private
from coditect_cli.runtime import Runtime
from coditect_cli.sessions.listing import parts
from coditect_cli.sessions.session import format_time
from coditect_cli.sessions.transfer import (
    Export,
    Exported,
    Import,
    batches,
    check_not_live,
    read_export,
    record_pages,
)
from coditect_cli.stores.progress import Progress

WHOLE = "every variable and command in it is as it was: keep it to yourself"


def export(
    ctx: typer.Context,
    id: SomeWorkspaceId = None,
    output_file: Annotated[
        str | None,
        typer.Option("--output-file", metavar="FILE", help="Write FILE, which only you can read."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE.")] = False,
) -> Result | None:
    """Write out saved sessions, whole: of a workspace, or all that are in the store.

    One line of JSON for each, with its checksum. Nothing is hidden. An output whose session is
    gone is left out, and with a warning a session that an import would refuse.

    Examples:
      coditect session export demo --output-file demo.ndjson
      coditect session export | gpg --encrypt --recipient ada > sessions.gpg

    Exit codes: 0 done, 2 another -o than ndjson without --output-file, 3 no such workspace,
    6 FILE exists, 8 FILE cannot be written, 9 the store does not answer
    """
    runtime: Runtime = ctx.obj
    if output_file is None and runtime.output not in ("table", "ndjson"):
        raise UsageError(
            f"-o {runtime.output} says what was done, so the sessions need --output-file"
        )
    exporting = Export(format_time(time.time_ns()))
    with closing(runtime.store) as store:
        if id is not None:
            runtime.check_known(id)
        workspaces = None if id is None else [id]
        of = partial(parts, store, workspaces)
        progress = Progress(runtime.streams, "sessions", parts=of)
        pages = progress.watch(record_pages(store, workspaces))
        if output_file is None:
            runtime.streams.say(f"{WHOLE}; --output-file makes a file that only you can read")
            for line in exporting.lines(pages):
                runtime.streams.stdout.write(line)
        else:
            _write(output_file, exporting.lines(pages), force)
    progress.tell_versions()
    if exporting.left_out:
        runtime.streams.say(
            f"warning: left out, for they could not be imported: {exporting.left_out:,} (the "
            f"first is {exporting.why}); coditect keys check shows them"
        )
    if output_file is None:
        return None
    runtime.streams.say(WHOLE)
    fields = {"file": output_file, "sessions": exporting.sessions, "leftOut": exporting.left_out}
    text = f"sessions exported to {output_file}: {exporting.sessions:,}"
    return Result("SessionExport", fields, text=text, name="file")


def import_(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="What export wrote; - is stdin.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace also what is newer in the store.")
    ] = False,
    keep_newer: Annotated[
        bool, typer.Option("--keep-newer", help="Leave what is newer in the store as it is.")
    ] = False,
) -> Result:
    """Put exported sessions into the store.

    The whole file is checked first, and nothing is changed where it is damaged, or a session of
    it is live or newer in the store. Then it goes on session by session, each whole. After a
    break run it again: what is there already is passed over.

    Examples:
      coditect session import demo.ndjson
      gpg --decrypt sessions.gpg | coditect session import - --keep-newer

    Exit codes: 0 done, 2 the file is damaged, 3 no such file, 6 a session is live, or newer in
    the store and neither --overwrite nor --keep-newer was given, 8 the file or what the store
    has there cannot be read, 9 the gateway or the store does not answer
    """
    runtime: Runtime = ctx.obj
    if overwrite and keep_newer:
        raise UsageError("--overwrite and --keep-newer exclude each other")
    with _opened(runtime, file) as source, closing(runtime.store) as store:
        importing = Import(store, time.time_ns(), overwrite, keep_newer)
        live = runtime.live_sessions(None)
        for batch in batches(_watched(runtime, read_export(source))):
            check_not_live(batch, live)
            importing.check(batch)
        source.seek(0)
        try:
            for batch in batches(_watched(runtime, read_export(source))):
                importing.put(batch)
        except BaseException:
            done = sum(importing.counts.values())
            runtime.streams.say(f"sessions imported until then: {done:,}; run it again to go on")
            raise
    counts = importing.counts
    fields = {
        "file": file,
        "new": counts["new"],
        "unchanged": counts["same"],
        "replaced": counts["older"] + (counts["newer"] if overwrite else 0),
        "keptNewer": 0 if overwrite else counts["newer"],
    }
    text = (
        f"sessions imported: {fields['new']:,} new, {fields['replaced']:,} replaced, "
        f"{fields['unchanged']:,} there already, {fields['keptNewer']:,} newer ones kept"
    )
    return Result("SessionImport", fields, text=text, name="file")


def _watched(runtime: Runtime, sessions: Iterable[Exported]) -> Iterator[Exported]:
    streams = runtime.streams
    shown = streams.may_animate()
    for number, one in enumerate(sessions, 1):
        if shown and number % 1_000 == 0:
            streams.stderr.write(f"\r{number:,} sessions")
            streams.stderr.flush()
        yield one
    if shown:
        streams.stderr.write("\r\x1b[K")


def _write(file: str, lines: Iterable[str], force: bool) -> None:
    """Write the file in one step, readable by its owner alone."""
    if os.path.lexists(file) and not force:
        raise Conflict(
            f"{file} exists", code="export.exists", hint="name another file, or pass --force"
        )
    file = os.path.realpath(file)
    check_replaceable(Path(file))
    folder, name = os.path.split(file)
    part = os.path.join(folder, f".{name}.{os.getpid()}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "w", encoding="ascii") as target:
                target.writelines(lines)
                target.flush()
                os.fsync(descriptor)
            os.replace(part, file)
        except BaseException:
            os.unlink(part)
            raise
    except OSError as error:
        raise Failed(
            f"cannot write {file}: {error.strerror}",
            code="export.failed",
            hint="check the folder's owner, mode and free space",
        ) from error


@contextmanager
def _opened(runtime: Runtime, file: str) -> Iterator[IO[bytes]]:
    """The export; from stdin a private copy, since it is read twice."""
    if file == "-":
        make_private(runtime.paths.state)
        with tempfile.TemporaryFile(dir=runtime.paths.state) as copy:
            shutil.copyfileobj(runtime.streams.stdin.buffer, copy)
            copy.seek(0)
            yield copy
        return
    try:
        source = open(file, "rb")  # noqa: SIM115 (closed below)
    except FileNotFoundError:
        raise NotFound(f"there is no file {file}", code="import.not_found") from None
    with source:
        if not source.seekable():
            raise UsageError(f"{file} is no file that can be read twice", hint="pass - for a pipe")
        yield source
