"""`coditect session record` and `coditect session play`."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from coditect_cli.errors import Conflict, Failed, NotFound, SessionLost, UsageError
from coditect_cli.options import WorkspaceId
from coditect_cli.output import Result
from coditect_cli.runtime import Runtime

if TYPE_CHECKING:
    from coditect_cli.attach.recording import Cast
    from coditect_cli.sessions.asciicast import Recording

PATIENCE = 60.0  # seconds without a link, where nobody is there to end the wait


def record(
    ctx: typer.Context,
    id: WorkspaceId,
    session: Annotated[
        str | None,
        typer.Argument(
            metavar="[SESSION]", help="The session, or how its id begins; else the newest."
        ),
    ] = None,
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="Where to write; else stdout.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
) -> Result | None:
    """Record a live session as asciicast v3, until its shell ends or Ctrl-C.

    It watches: it starts with the screen as it is, and types nothing. What is typed is not
    recorded, only what is shown. Values of names that look secret (TOKEN=..., password: ...),
    what follows Authorization: and Cookie:, tokens of well-known forms and passwords in URLs
    become bullets; other secrets on the screen do not. FILE is readable by you alone. The
    asciinema player plays it too.

    A lone word after ID that holds a dot or a slash is FILE.

    Examples:
      coditect session record demo demo.cast
      coditect session record demo 5e0c7d1a demo.cast --force
      coditect session record demo | gzip > demo.cast.gz

    Exit codes: 0 the shell ended, or Ctrl-C or SIGTERM came, 2 no FILE and stdout is a terminal,
    3 no such workspace or session, 6 FILE exists, or another gateway holds the session, 8 FILE
    cannot be written, 9 the gateway does not answer, 255 the session was lost; what was recorded
    until then stays
    """
    from coditect_cli.workspaces.spec import check_workspace_id

    runtime: Runtime = ctx.obj
    check_workspace_id(id)
    if file is None and session is not None and set(session) & set("./"):
        session, file = None, session
    _check_target(runtime, file, force=force)
    found = _live_session(runtime, id, session)
    with _writing(file, force=force) as open_file:
        try:
            cast, status = _record(runtime, id, found, open_file)
        except SessionLost:
            runtime.streams.say(f"what was recorded until then is in {file or 'the output'}")
            raise
    if file is None:
        return None
    fields: dict[str, Any] = {"workspace": id, "session": found, "file": file}
    fields |= {"seconds": round(cast.seconds, 3), "status": status}
    text = f"recorded {cast.seconds:.1f} s of session {found} in {file}"
    return Result("Recording", fields, text=text, name="file")


def play(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The recording; - is stdin.")],
    speed: Annotated[float, typer.Option("--speed", metavar="N", help="N times as fast.")] = 1.0,
    skip_idle: Annotated[
        float | None,
        typer.Option("--skip-idle", min=0, metavar="SECONDS", help="Make longer pauses this long."),
    ] = None,
    start: Annotated[
        float, typer.Option("--from", min=0, metavar="SECONDS", help="Begin there.")
    ] = 0.0,
) -> int:
    """Play a recording, asciicast v3 or v2, on this terminal.

    It takes the upper rows of a terminal that has more, and says so where one has fewer, or not as
    many columns as the recording: then it may not look as it did.
    Space pauses, . shows the next step while paused, q quits. With --from all that was shown
    before is drawn at once. --skip-idle goes before the recording's own limit.

    Only what draws is played: no clipboard, titles, colours of the terminal, notifications or
    images, and nothing that a terminal would answer.

    Examples:
      coditect session play demo.cast
      coditect session play demo.cast --speed 2 --skip-idle 1
      coditect session play demo.cast --from 90

    Exit codes: 0 played or quit, 2 not a recording, 3 no such file, 8 it cannot be read,
    130 interrupted
    """
    from coditect_cli.attach import tty
    from coditect_cli.attach.playback import Player
    from coditect_cli.sessions.asciicast import Recording

    runtime: Runtime = ctx.obj
    if not 0 < speed < float("inf"):
        raise UsageError("--speed is a number above 0")
    if not (isfinite(start) and isfinite(skip_idle or 0.0)):
        raise UsageError("--from and --skip-idle are numbers of seconds")
    with _opened(file) as source:
        recording = Recording(source)
        _say_size(runtime, recording)
        idle = recording.idle_time_limit if skip_idle is None else skip_idle
        is_taller = os.isatty(1) and tty.size(1)[1] > recording.rows
        rows = recording.rows if is_taller else None
        player = Player(0, 1, speed=speed, idle=idle, start=start, rows=rows)
        status = player.play(recording.events())
        if os.isatty(2):
            _say_size(runtime, recording)  # what was said before it may have wiped
    if recording.cut_off:
        runtime.streams.say(
            "the recording ends in the middle of a line: whatever wrote it was killed"
        )
    return status


def _check_target(runtime: Runtime, file: str | None, *, force: bool) -> None:
    if file is None:
        if os.isatty(1):
            raise UsageError(
                "a recording is not for a terminal", hint="name a FILE, or redirect stdout"
            )
        if not runtime.is_for_people:
            raise UsageError(f"-o {runtime.output} describes the recording, so name a FILE")
    elif not file:
        raise UsageError("FILE is empty", hint="leave it out to write to stdout")
    elif os.path.lexists(file) and not force:
        raise _exists(file)
    elif os.path.isdir(file):
        raise UsageError(f"{file} is a folder", code="recording.folder")


def _exists(file: str) -> Conflict:
    return Conflict(f"{file} exists", code="recording.exists", hint="--force overwrites it")


def _live_session(runtime: Runtime, workspace_id: str, text: str | None) -> str:
    """The one live terminal session that `text` names or begins, or the newest."""
    from coditect_cli.sessions.ids import id_words
    from coditect_cli.sessions.lookup import find_session

    live = runtime.live_sessions(workspace_id)
    terminals = [session for (_, session), one in live.items() if one["kind"] == "terminal"]
    if text is not None:
        try:
            return find_session(None, terminals, workspace_id, text)
        except NotFound as error:
            runtime.check_here(workspace_id, text)
            session = runtime.find_session(workspace_id, text)
            raise NotFound(
                f"session {session} of workspace {workspace_id} is not live",
                code=error.code,
                hint=f"coditect attach {workspace_id} --session {session} brings it back; "
                f"coditect session list --active {id_words(workspace_id)} shows the live ones",
            ) from error
    if not terminals:
        raise NotFound(
            f"workspace {workspace_id} has no live session",
            code="session.not_found",
            hint=f"coditect attach {workspace_id} starts one",
        )
    return terminals[0]


def _record(
    runtime: Runtime, workspace_id: str, session: str, open_file: Callable[[], int]
) -> tuple[Cast, int | None]:
    from coditect_cli.attach.connect import dialing
    from coditect_cli.attach.recording import Cast
    from coditect_cli.attach.recording import record as record_session

    names = runtime.context.settings.secret_names
    cast = Cast(open_file, f"{workspace_id} {session}", names)
    patience = None if os.isatty(0) else PATIENCE
    runtime.streams.say(f"recording session {session} of workspace {workspace_id}; Ctrl-C ends it")
    with dialing(runtime.context, runtime.paths, workspace_id, insecure=False) as dial:
        status = record_session(dial, session, cast, patience=patience)
    return cast, status


@contextmanager
def _writing(file: str | None, *, force: bool) -> Iterator[Callable[[], int]]:
    """How to open `file`, or stdout where it is None; what fails tells its name."""
    with ExitStack() as stack:

        def open_file() -> int:
            if file is None:
                return 1
            how = os.O_TRUNC if force else os.O_EXCL
            fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o600)
            stack.callback(os.close, fd)
            if stat.S_ISREG(os.fstat(fd).st_mode):
                os.fchmod(fd, 0o600)
            return fd

        try:
            yield open_file
        except FileExistsError:
            raise _exists(str(file)) from None
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Failed(
                f"cannot write {file or 'stdout'}: {error.strerror}", code="recording.failed"
            ) from error


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        source = open(file, "rb")  # noqa: SIM115 (closed below)
    except FileNotFoundError:
        raise NotFound(f"there is no file {file}", code="recording.not_found") from None
    with source:
        yield source


def _say_size(runtime: Runtime, recording: Recording) -> None:
    from coditect_cli.attach import tty

    cols, rows = tty.size(1)  # its own: COLUMNS may be another's
    if os.isatty(1) and (cols != recording.cols or rows < recording.rows):
        runtime.streams.say(
            f"the recording is {recording.cols}x{recording.rows} and this terminal "
            f"{cols}x{rows}: it may not look as it did"
        )
