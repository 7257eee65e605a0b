"""The user's own terminal: raw while attached, and afterwards as it was."""

from __future__ import annotations

import contextlib
import os
import re
import termios
import tty
from types import TracebackType
from typing import Self

from coditect_cli.protocol import shape
from coditect_cli.protocol.terminal import RESET_MODES

_MODES = re.compile(rb"\x1b\[\?([\d;]+)([hl])|\x1b(?:c|\[!p)")
_ALTERNATE = {b"47", b"1047", b"1049"}
_UNFINISHED = re.compile(
    rb"(?:\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?"
    rb"|[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})\Z"
)
_LONGEST = 256  # bytes of a sequence that may be cut in two

LEAVE_ALTERNATE = b"\x1b[?1049l"
# Ending origin mode moves the cursor to the top: it goes on below what is shown.
LEAVE_ORIGIN = b"\x1b[?6l\x1b[%d;1H\r\n" % shape.MAX_SIDE


class Screen:
    """What of the output the client itself must know: pure, fed with every byte."""

    def __init__(self) -> None:
        self.alternate = False
        self.origin = False
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """Take note of output."""
        seen = self._tail + data
        if b"\x1b" in seen:
            for match in _MODES.finditer(seen):
                self._note(match)
        self._tail = seen[-_LONGEST:]

    def _note(self, match: re.Match[bytes]) -> None:
        if match[1] is None:  # a reset, of which the soft one leaves the screen
            self.origin = False
            self.alternate &= match[0] != b"\x1bc"
            return
        modes = match[1].split(b";")
        if not _ALTERNATE.isdisjoint(modes):
            self.alternate = match[2] == b"h"
        if b"6" in modes:
            self.origin = match[2] == b"h"

    @property
    def mid_sequence(self) -> bool:
        """Whether the output ended inside an escape sequence or a character."""
        return _UNFINISHED.search(self._tail) is not None


class RawTerminal:
    """While entered, `stdin` is raw where it is a terminal; afterwards both ends are as they were.

    The modes that a program may have set on `stdout` are reset on the way out.
    """

    def __init__(self, stdin: int, stdout: int) -> None:
        self.screen = Screen()
        self._stdin = stdin
        self._stdout = stdout

    def __enter__(self) -> Self:
        self._saved = termios.tcgetattr(self._stdin) if os.isatty(self._stdin) else None
        self.make_raw()
        return self

    def make_raw(self) -> None:
        """Raw mode, also again after the process was stopped and continued."""
        with contextlib.suppress(termios.error):
            tty.setraw(self._stdin, termios.TCSANOW)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The terminal may have been closed: then there is nothing left to restore.
        try:
            if os.isatty(self._stdout):
                # Leaving an alternate screen that is not there moves the cursor (xterm).
                unwanted = b"" if self.screen.alternate else LEAVE_ALTERNATE
                origin = LEAVE_ORIGIN if self.screen.origin else b""
                # What is said about an early end does not belong behind a prompt.
                line_end = b"" if error is None else b"\r\n"
                with contextlib.suppress(OSError):
                    reset = RESET_MODES.replace(unwanted, b"") + origin
                    os.write(self._stdout, reset + line_end)
        finally:
            if self._saved is not None:
                with contextlib.suppress(termios.error):
                    termios.tcsetattr(self._stdin, termios.TCSANOW, self._saved)


def size(fd: int) -> tuple[int, int]:
    """Columns and rows of the terminal at `fd`, within what the protocol allows; else 80, 24."""
    try:
        cols, rows = os.get_terminal_size(fd)
    except OSError:
        cols, rows = 0, 0
    if not cols or not rows:
        return 80, 24
    cols = min(cols, shape.MAX_SIDE)
    return cols, min(rows, shape.MAX_SIDE, shape.MAX_CELLS // cols)


def name(term: str | None) -> str:
    """The terminal's type for the program: TERM where that is one."""
    try:
        return str(shape.term(term))
    except ValueError:
        return "xterm-256color"
