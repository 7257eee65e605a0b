"""When a screen that missed bytes is right again."""

from __future__ import annotations

import re


class Repaint:
    """Watches what follows a skip for what makes the screen right again.

    Either the whole screen is cleared and the cursor put somewhere, or so many lines are printed,
    with nothing but colours in them, that nothing from before is left.
    """

    _TOKEN = re.compile(rb"\x1b\[([\x20-\x3f]*)([@-~])|\x1b([\x20-\x2f]*[0-~])|([\n\r])")
    _NEUTRAL = b"mhlK"

    def __init__(self, saved_lost: bool) -> None:
        self.saved_lost = saved_lost  # the saved cursor is one that was skipped
        self.cleared = False
        self._placed = False
        self._home = False
        self._column = False
        self._lines = 0

    def finished_by(self, plain: bytes, rows: int) -> bool:
        """Whether these bytes, strings taken out, make the screen right."""
        done = 0
        for match in self._TOKEN.finditer(plain):
            if match.start() > done and plain[done : match.start()].strip(b"\0"):
                self._printed()
            done = match.end()
            params, final, escape, control = match.groups()
            if control:
                self._control(control)
            elif escape:
                self._escape(escape)
            else:
                self._csi(params, final)
        if plain[done:].strip(b"\0"):
            self._printed()
        right = (self.cleared and self._placed) or self._lines >= 2 * rows
        return right and not self.saved_lost

    def _printed(self) -> None:
        self._home = False
        if not self._placed:
            self.cleared = False

    def _control(self, control: bytes) -> None:
        self._home = False
        if control == b"\r":
            self._column = True
        elif self._column:
            self._lines += 1

    def _escape(self, escape: bytes) -> None:
        if escape == b"c":
            self.cleared = self._placed = True
            self.saved_lost = False
        elif escape == b"7":
            self.saved_lost = self.saved_lost and not self._placed
        elif escape[:1] not in b"()*+-./=>H\\":
            self._moved(placed=self._placed and (escape != b"8" or not self.saved_lost))

    def _csi(self, params: bytes, final: bytes) -> None:
        if params[:1] == b"?" and final in b"hl" and b"104" in params:
            self._moved(placed=False)
            self.cleared = final == b"h" and b"1048" not in params
        elif final in b"Hfr":
            self._moved(placed=True)
            self._home = final == b"r" or params in (b"", b"1", b"1;1", b";")
        elif final == b"J":
            if params == b"2" or (params in (b"", b"0") and self._home):
                self.cleared = True
            self._lines = 0
        elif final == b"s":
            self.saved_lost = self.saved_lost and not self._placed
        elif final not in self._NEUTRAL:
            self._moved(placed=self._placed and (final != b"u" or not self.saved_lost))

    def _moved(self, *, placed: bool) -> None:
        self._placed = placed
        self._home = self._column = False
        self._lines = 0
