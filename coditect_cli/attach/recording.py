"""A live session, watched and written down as asciicast v3: what it shows, never what is typed."""

from __future__ import annotations

import codecs
import os
import signal
import stat
import time
from collections.abc import Callable
from typing import Any

from coditect_cli.attach.link import Link
from coditect_cli.attach.pump import Pump
from coditect_cli.attach.redactor import Redactor
from coditect_cli.attach.sink import Share, Sink
from coditect_cli.attach.wakeups import wakeups
from coditect_cli.protocol import messages
from coditect_cli.protocol.messages import Message
from coditect_cli.protocol.stream import Inbox
from coditect_cli.sessions.asciicast import EXIT, MARKER, OUTPUT, RESIZE, Timeline, header_line

LAST_WORDS = 1.0  # seconds for a reader to take what is left

_IGNORED: dict[str, Any] = {"cols": 80, "rows": 24, "term": "xterm-256color"}  # of a watcher


class Cast:
    """A recording under way; whole lines only, each written at once where the file is one.

    `open_file` is called when there is something to write. Bytes count as taken, for their
    inbox, once their line is written.
    """

    def __init__(
        self, open_file: Callable[[], int], title: str, secret_names: tuple[str, ...]
    ) -> None:
        self._open_file = open_file
        self._secret_names = secret_names
        self._title = title
        self._fd = -1
        self._size = 0, 0
        self._started = 0.0
        self.seconds = 0.0

    def resize(self, cols: int, rows: int) -> None:
        """The session has this size: the first one starts the recording."""
        if self._fd < 0:
            self._fd = self._open_file()
            self._sink = Sink(self._fd)
            self._started = time.monotonic()
            self._timeline = Timeline(self._started)
            self._decoder = _decoder()
            self._redactor = Redactor(cols, rows, self._secret_names)
            line = header_line(cols, rows, timestamp=int(time.time()), title=self._title)
            self._sink.write(line)
        elif (cols, rows) != self._size:
            self._redactor.resize(cols, rows)
            self._event(RESIZE, f"{cols}x{rows}")
        self._size = cols, rows

    def restart(self, skipped: int) -> None:
        """What comes next draws the screen anew; `skipped` bytes before it were never seen."""
        self._event(OUTPUT, self._redactor.flush())
        self._decoder = _decoder()
        if skipped:
            self._event(MARKER, f"{skipped} bytes of output were skipped")

    def write(self, data: bytes, inbox: Inbox | None = None) -> None:
        share = Share(inbox, len(data)) if inbox is not None else None
        self._event(OUTPUT, self._redactor.feed(self._decoder.decode(data)), share)

    def end(self, status: int | None) -> None:
        """Finish the recording, with the program's exit status where it ended. Raises OSError."""
        if self._fd < 0:
            return
        self._event(OUTPUT, self._redactor.flush())
        if status is not None:
            self._event(EXIT, str(status))
        self.seconds = time.monotonic() - self._started
        self._sink.drain(LAST_WORDS)
        if stat.S_ISREG(os.fstat(self._fd).st_mode):
            os.fsync(self._fd)

    @property
    def waiting(self) -> bool:
        return self._fd >= 0 and self._sink.waiting

    def fileno(self) -> int:
        return self._fd

    def flush(self) -> None:
        if self._fd >= 0:
            self._sink.flush()

    def drop(self) -> None:
        self._sink.drop()

    def _event(self, code: str, data: str, share: Share | None = None) -> None:
        if data or code != OUTPUT:
            line = self._timeline.event_line(time.monotonic(), code, data)
            self._sink.write(line, share and share.of(len(line)))
        elif share is not None:
            share.of(0).wrote(0)


class Recorder(Pump):
    """Watches one session, read-only, until its program ends."""

    def __init__(
        self, dial: Callable[[], Link], session: str, cast: Cast, patience: float | None
    ) -> None:
        super().__init__(dial, {"output": cast}, patience)
        self._wanted = session
        self._cast = cast

    def opening(self, resume: dict[str, int] | None) -> Message:
        return messages.Attach(self.client, self._wanted, read_only=True, resume=resume, **_IGNORED)

    def on_redraw(self, redraw: messages.Redraw) -> None:
        self._cast.restart(redraw.skipped)

    def on_signal(self, number: int) -> None:
        raise _Stopped

    def _handle(self, message: Message | None) -> None:
        if isinstance(message, messages.Attached | messages.Lead):
            self._cast.resize(message.cols, message.rows)
        super()._handle(message)


class _Stopped(BaseException):
    """Raised when the user ends the recording; not an Exception, as KeyboardInterrupt is none."""


def record(
    dial: Callable[[], Link], session: str, cast: Cast, *, patience: float | None
) -> int | None:
    """Record until the session's program ends, or SIGINT, SIGTERM or SIGHUP comes.

    Returns the program's exit status, None when it goes on. The recording is whole on every way
    out. Raises SessionLost, what refuses the first connection, and OSError of the file.
    """
    status = None
    try:
        link = dial()
        with wakeups((signal.SIGINT, signal.SIGTERM, signal.SIGHUP)) as woken:
            status = Recorder(dial, session, cast, patience).run(link, woken)
    except _Stopped:
        pass
    finally:
        cast.end(status)
    return status


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")("replace")
