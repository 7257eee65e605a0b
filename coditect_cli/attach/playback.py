"""A recording on the user's terminal, at its own pace."""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Iterable

from coditect_cli.attach.tty import RawTerminal
from coditect_cli.attach.wakeups import Terminated, terminations, wakeups
from coditect_cli.errors import Interrupted
from coditect_cli.sessions.asciicast import OUTPUT, RESIZE, Event
from coditect_cli.sessions.escapes import Kind, Splitter

LONGEST_WAIT = 3600.0  # seconds; more is no time-out for select
PAUSE, STEP, QUIT, INTERRUPT = b" ", b".", b"q", b"\x03"

_CSI = re.compile(r"(?:\x1b\[|\x9b)(?P<private>[<-?]?)(?P<numbers>[0-;]*)(?P<rest>[ -/]*[@-~])")
# A terminal answers these, and the shell would read the answer as typed: DA, DSR, window reports,
# DECREQTPARM.
_ASKING = "cntx"
_REPORTING = re.compile(r"(?:^|;)(?:9|10(?:0\d|15|16)|2004|2031|2048)(?:;|$)")
_ALL_ROWS = re.compile(r"(?:\x1b\[|\x9b)[01]?;?0?r")
_SIZE = re.compile(r"\d+x(\d{1,5})", re.ASCII)
_RESETS = ("\x1bc", "\x1b[!p", "\x9b!p")
_MOVING = "\a\b\t\n\v\f\r\x0e\x0f"
_HYPERLINK = re.compile(r"(?:\x1b\]|\x9d)8;")


class Harmless:
    """Takes out of a recording what does more than draw.

    Control strings go (clipboard, titles, colours, notifications, files, queries), but for
    hyperlinks; so do requests that a terminal answers, what makes it report keys, mouse and
    focus, and unfinished sequences. What sets the whole screen's margins sets those of its first
    `rows`, where these are not all.
    """

    def __init__(self, rows: int | None = None) -> None:
        self._splitter = Splitter()
        self.rows = rows

    def feed(self, text: str) -> str:
        """What of `text` may go to a terminal."""
        tokens = self._splitter.split(text)
        return "".join(self._kept(token) for kind, token in tokens if _draws(kind, token))

    def _kept(self, token: str) -> str:
        if self.rows is None:
            return token
        if _ALL_ROWS.fullmatch(token):
            return f"\x1b[1;{self.rows}r"
        return token + self.margins() if token in _RESETS else token

    def margins(self) -> str:
        """What sets the margins to the first `rows`, and leaves the cursor where it is."""
        return f"\x1b7\x1b[1;{self.rows}r\x1b8"


def _draws(kind: Kind, token: str) -> bool:
    match kind:
        case Kind.STRING:
            return _HYPERLINK.match(token) is not None and token.endswith(("\x07", "\x1b\\"))
        case Kind.CSI:
            return _csi_draws(token)
        case Kind.ESCAPE:
            return len(token) > 1 and token[-1] >= "0" and token[1] not in "[]PX^_Z"
        case Kind.CONTROL:
            return token in _MOVING
        case _:
            return True


def _csi_draws(token: str) -> bool:
    found = _CSI.fullmatch(token)
    if found is None:
        return False
    rest = found["rest"]
    if found["private"] == "?":
        return rest in "JK" or (rest in "hl" and not _REPORTING.search(found["numbers"]))
    return not found["private"] and (
        rest in (" q", "!p") or (len(rest) == 1 and rest not in _ASKING)
    )


class Player:
    """Plays events to `stdout`; a person's keys on `stdin` pause, step and quit.

    `speed` is a factor; a pause longer than `idle` seconds becomes as long as that; what comes
    before `start` seconds is shown at once. `rows` are the recording's, where it is played at the
    top of a terminal that has more: what scrolled there at the bottom does so here.
    """

    def __init__(
        self,
        stdin: int,
        stdout: int,
        *,
        speed: float,
        idle: float | None,
        start: float,
        rows: int | None = None,
    ) -> None:
        self._stdout = stdout
        self._keys = [stdin] if os.isatty(stdin) else []
        self._speed = speed
        self._idle = idle
        self._start = start
        self._raw = RawTerminal(stdin, stdout)
        self._harmless = Harmless(rows)
        self._paused = False
        self._due = 0.0

    def play(self, events: Iterable[Event]) -> int:
        """Play to the end, or until q; the exit status. Raises Interrupted at Ctrl-C."""
        try:
            # A signal that comes just before a select does not always end it: the wakeup does.
            with terminations(), wakeups(()) as self._wakeups, self._raw:
                self._due = time.monotonic()
                self._play(events)
        except _Quit:
            pass
        except Terminated as ended:
            return ended.status
        return 0

    def _play(self, events: Iterable[Event]) -> None:
        if self._harmless.rows is not None:
            self._show(f"\x1b[H\x1b[J{self._harmless.margins()}".encode())
        last = self._start
        for event in events:
            gap = max(0.0, event.time - last)
            last = max(last, event.time)
            if self._idle is not None:
                gap = min(gap, self._idle)
            if gap:
                self._wait(gap / self._speed)
            if event.code == OUTPUT:
                self._show(self._harmless.feed(event.data).encode("utf-8", "replace"))
            elif event.code == RESIZE and (found := _SIZE.fullmatch(event.data)):
                self._resize(int(found[1]))

    def _resize(self, rows: int) -> None:
        if self._harmless.rows is not None:
            self._harmless.rows = rows
            self._show(self._harmless.margins().encode())

    def _show(self, data: bytes) -> None:
        self._raw.screen.feed(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._stdout, view) :]

    def _wait(self, seconds: float) -> None:
        """Until the next event is due, or a key asks for it."""
        self._due += seconds
        while (left := self._due - time.monotonic()) > 0 or self._paused:
            began = time.monotonic()
            timeout = None if self._paused else min(left, LONGEST_WAIT)
            readers = [self._wakeups.fd, *self._keys]
            ready = select.select(readers, [], [], timeout)[0]
            self._wakeups.read()
            if self._paused:
                self._due += time.monotonic() - began
            if self._keys and self._keys[0] in ready and self._is_step_asked():
                self._due = time.monotonic()
                return

    def _is_step_asked(self) -> bool:
        """Act on the next key; whether it asks for the next event."""
        key = os.read(self._keys[0], 1)
        if key == INTERRUPT:
            raise Interrupted("interrupted")
        if key in (QUIT, b""):
            raise _Quit
        if key == PAUSE:
            self._paused = not self._paused
        return key == STEP and self._paused


class _Quit(Exception):
    """Raised when the person has seen enough."""
