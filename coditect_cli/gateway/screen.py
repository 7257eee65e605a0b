"""A session's screen: what a terminal that read every byte would show. The one door to avt."""

from __future__ import annotations

import json
import re
from collections import deque

from avt import Line, Vt  # type: ignore[attr-defined]  # its stubs re-export nothing

from coditect_cli.gateway.dump import ENTER, HOME, LEAVE, paint, seven_bit, split_lines, written_out
from coditect_cli.gateway.marks import Marks, has_marks, is_wide, last_character, leading
from coditect_cli.gateway.modes import LASTING, LASTING_58, Modes, keyboard_sequences
from coditect_cli.gateway.pieces import (
    MOST_CARRIED,
    last_pens,
    partial_start,
    shortened,
    unfinished,
)
from coditect_cli.gateway.repaint import Repaint
from coditect_cli.gateway.styled import runs_on, styled
from coditect_cli.protocol.terminal import RESET_KEYBOARD, RESET_MODES

SCROLLBACK = 1000  # lines that are kept of what left the screen at its top
_VERSION = 1
_SLICE = 4096  # avt keeps every line of one call until it returns: 80 columns of 30 bytes each
_SAVES = re.compile(rb"\x1b(?:7|\[[0-9;]*s|\[\?[0-9;]*104[89][0-9;]*h)")

_C1 = re.compile("[\x80-\x9f]+")
_ENTERS = re.compile("(?=\x1b\\[\\?[0-9;]*(?:47|1047|1049)[0-9;]*h)")
_LONGEST_CSI = 64
_INSERT = "\x9b4h"
_SAVE_NOTHING = b"\x1b[?7h\x1b[H\x1b7"
_MARGINS = re.compile("\x9b\\d+;\\d+r")


class Screen:
    """The model of one terminal, `cols` by `rows` cells.

    It takes any bytes in any pieces and never raises on them.
    """

    def __init__(self, cols: int, rows: int) -> None:
        self.cols = cols
        self.rows = rows
        self._vt = Vt(cols, rows, 0)
        self._modes = Modes()
        self._carry = b""
        self._tail = b""
        self._repaint: Repaint | None = None
        self._scrolled: deque[Line | str] = deque(maxlen=SCROLLBACK)
        self.dropped = 0  # lines that left the screen at its top and are no longer kept
        self._marks = Marks()
        self._last: str | None = None  # the character printed last, with nothing behind it
        self._hidden: tuple[int, int] | None = None  # the primary screen's size, where it is older

    @property
    def cursor(self) -> tuple[int, int]:
        """Column and row, from zero."""
        return self._cursor_of(self._vt)

    @property
    def exact(self) -> bool:
        """False from a skip on, until a clear or a screenful of lines makes the screen right."""
        self._settle()
        return self._repaint is None

    @property
    def alternate(self) -> bool:
        """Whether the program is on the alternate screen."""
        self._settle()
        return self._modes.alternate

    def feed(self, data: bytes | memoryview) -> None:
        """Takes every byte, in order."""
        self._settle()
        self._feed(bytes(data))

    def skip(self, data: bytes | memoryview) -> None:
        """Takes bytes for which there is no time: lasting state, and the last screenful of text."""
        data = self._tail + bytes(data)
        cut = max(len(data) - _tail_size(self.cols, self.rows), 0)
        lost = self._repaint is not None and self._repaint.saved_lost
        self._repaint = Repaint(lost)
        self._tail = data[cut:]
        if cut:
            self._draw(self._take(data[:cut], skipping=True))

    def resize(self, cols: int, rows: int) -> None:
        """Makes the screen `cols` by `rows`; lines of the primary screen are wrapped anew."""
        self._settle()
        if self._modes.alternate:  # avt wraps the primary screen's lines anew when it comes back
            self._hidden = self._hidden or (self.cols, self.rows)
        self.cols, self.rows = cols, rows
        if self._repaint:
            self._repaint = Repaint(self._repaint.saved_lost)
        try:
            _, gone = self._vt.resize(cols, rows)
            self._keep(gone)
        except BaseException as error:
            self._recover(error)

    def text(self) -> list[str]:
        """The visible lines, each without trailing blanks."""
        self._settle()
        return [self._marks.shown(line.text.rstrip()) for line in self._vt.view()]

    def before_cursor(self) -> str:
        """The text left of the cursor, with the rows above it that are full and so may run on."""
        self._settle()
        view, cursor = self._vt.view(), self._vt.cursor
        rows = [_left_of(view[cursor.row], cursor.col)]
        for line in reversed(view[: cursor.row]):
            text = line.text
            if text.endswith(" "):
                break
            rows.append(text)
        return self._marks.shown("".join(reversed(rows)))

    @property
    def mid_sequence(self) -> bool:
        """Whether the last byte is inside an escape sequence."""
        self._settle()
        return self._carry.startswith(b"\x1b")

    def cursor_line(self) -> str:
        """The line that the cursor is on, with SGR sequences, whole where it fills several rows."""
        self._settle()
        rows = [*self._scrolled, *self._vt.view()]
        first = last = len(rows) - self.rows + self.cursor[1]
        while first > 0 and runs_on(rows[first - 1]):
            first -= 1
        while last + 1 < len(rows) and runs_on(rows[last]):
            last += 1
        begun = "".join(styled(row, trimmed=False) for row in rows[first:last])
        return self._marks.shown(begun + styled(rows[last]))

    def primary(self) -> tuple[list[str], tuple[int, int]]:
        """Lines and cursor of the primary screen, also while the alternate one is shown.

        The lines that left it at its top, as far as they are kept, then its `rows` lines: text
        with SGR sequences, without trailing blanks.
        """
        self._settle()
        vt, gone = self._vt, list[Line]()
        if self._modes.alternate:
            before, _, _ = written_out(vt.dump()).partition(ENTER)
            vt, gone = self._hidden_screen(before)
        for index, line in enumerate(self._scrolled):
            if not isinstance(line, str):
                self._scrolled[index] = styled(line)
        rows = [*map(str, self._scrolled), *map(styled, [*gone, *vt.view()])]
        return [self._marks.shown(row) for row in rows], self._cursor_of(vt)

    def put_above(self, lines: list[str]) -> None:
        """Take lines that left the screen in an earlier process."""
        room = SCROLLBACK - len(self._scrolled)
        self.dropped += max(0, len(lines) - room)
        if room:
            self._scrolled.extendleft(reversed(lines[-room:]))

    def redraw(self) -> bytes:
        """The bytes that turn a terminal in any state into this screen.

        They ask nothing, hold no 8-bit controls, and scroll no terminal of whatever size.
        """
        self._settle()
        dump = written_out(self._vt.dump())
        enter, leave = dump.find(ENTER), dump.find(LEAVE)
        if leave >= 0:  # only a saved cursor of the alternate screen, which is not in use
            dump = dump[:enter] + dump[leave + len(LEAVE) :]
            enter = -1
        out = [RESET_MODES, b"\x1b[?25l\x1b[?6l\x1b[?7l\x1b[H\x1b[J"]
        if enter >= 0:
            primary, dump = dump[:enter], dump[enter + len(ENTER + HOME) :]
            hidden, _ = self._hidden_screen(primary)
            if self._hidden:
                primary = written_out(hidden.dump())
            lines, state = split_lines(primary)
            out += [self._shown(paint(lines, hidden.view())), _SAVE_NOTHING]
            out.append(self._shown(seven_bit(state)))
            out.append(keyboard_sequences(self._modes.keyboards[0]))
            # 1049 saves the cursor, which 1047 would not: the program may leave by 1049
            saved = re.search("\x9b(\\d+;\\d+)H(\x1b\\[[0-9;:]*m)\x1b7", state)
            if not self._hidden:
                out.append(f"\x1b[{saved[1]}H{saved[2]}".encode() if saved else b"\x1b[H")
            out.append(b"\x1b[?1049h" + RESET_KEYBOARD + b"\x1b[m\x1b[?7l\x1b[H\x1b[J")
        lines, state = split_lines(dump)
        # A cursor behind the last column: a wider terminal has a column there.
        state = state.replace(f";{self.cols + 1}H", f";{self.cols}H")
        out += [self._shown(paint(lines, self._vt.view())), _SAVE_NOTHING, b"\x1b[?25h"]
        out.append(self._shown(seven_bit(state)))
        out.append(self._modes.sequences())
        return b"".join(out)

    def _hidden_screen(self, primary: str) -> tuple[Vt, list[Line]]:
        """What the alternate screen hides, as it will be once the program has left that.

        Also the lines that leave it at its top by then.
        """
        hidden = Vt(*(self._hidden or (self.cols, self.rows)), 0)
        hidden.feed_str(primary)
        if not self._hidden:
            return hidden, []
        hidden.feed_str(ENTER)
        hidden.resize(self.cols, self.rows)
        _, gone = hidden.feed_str("\x9b?1049l")
        return hidden, gone

    def _cursor_of(self, vt: Vt) -> tuple[int, int]:
        return min(vt.cursor.col, self.cols - 1), vt.cursor.row

    def _shown(self, text: str) -> bytes:
        return self._marks.shown(text).encode()

    def checkpoint(self) -> bytes:
        """All that `restore` needs to go on, also in another process."""
        self._settle()
        dump, marks = self._marks.renumbered(self._vt.dump())
        state = {
            "version": _VERSION,
            "cols": self.cols,
            "rows": self.rows,
            "hidden": self._hidden,
            "dump": dump,
            "marks": marks,
            "last": self._last and self._marks.shown(self._last),
            "modes": self._modes.state(),
            "carry": self._carry.decode("latin-1"),
            "exact": self._repaint is None,
            "savedLost": self._repaint is not None and self._repaint.saved_lost,
        }
        return json.dumps(state).encode()

    @classmethod
    def restore(cls, blob: bytes) -> Screen:
        """The screen whose `checkpoint()` this is.

        Raises ValueError when it is none, or one of another version.
        """
        state = json.loads(bytes(blob))
        if not isinstance(state, dict) or state.get("version") != _VERSION:
            raise ValueError("a checkpoint of an unknown version")
        cols, rows, hidden = state["cols"], state["rows"], state.get("hidden")
        screen = cls(*(hidden or (cols, rows)))
        dump = written_out(state["dump"])  # the model repeats a wide character as blanks
        screen._marks = Marks(state.get("marks", ()))
        screen._last = screen._marks.composed(state["last"]) if state.get("last") else None
        if hidden:
            primary, enter, dump = dump.partition(ENTER)
            screen._print(primary + enter)
            screen._vt.resize(cols, rows)
            screen.cols, screen.rows, screen._hidden = cols, rows, tuple(hidden)
        screen._print(dump)
        screen._modes = Modes.from_state(state["modes"])
        screen._carry = state["carry"].encode("latin-1")
        if not state["exact"]:
            screen._repaint = Repaint(state["savedLost"])
        return screen

    def _settle(self) -> None:
        """Feeds what the last skip kept for later."""
        if self._tail:
            tail, self._tail = self._tail, b""
            while tail[0] & 0xC0 == 0x80 and not self._carry and len(tail) > 1:
                tail = tail[1:]  # the rest of a character that was cut
            self._feed(tail)

    def _feed(self, data: bytes) -> None:
        for start in range(0, len(data), _SLICE):
            plain = self._take(data[start : start + _SLICE], skipping=False)
            self._draw(plain)
            if self._repaint and self._repaint.finished_by(plain, self.rows):
                full = not _MARGINS.search(self._vt.dump()) and not self._modes.alternate
                if self._repaint.cleared or full:
                    self._repaint = None

    def _take(self, data: bytes, *, skipping: bool) -> bytes:
        """What the model shall see of `data`; carries an unfinished sequence to the next call."""
        if self._carry:
            data = self._carry + data
        if b"\x7f" in data:
            data = data.translate(None, b"\x7f")  # the model would print it
        self._carry = b""
        out = []
        done = 0
        for match in _lasting(data).finditer(data):
            start, end = match.span()
            sequence = match[0]
            out.append(last_pens(data[done:start]) if skipping else data[done:start])
            done = end
            if end == len(data) and unfinished(sequence):
                self._carry = shortened(sequence)
                break
            out.append(self._modes.take(sequence))
            if not self._modes.alternate:
                self._hidden = None
            if skipping and self._repaint and _SAVES.match(sequence):
                self._repaint.saved_lost = True
        rest = data[done:]
        cut = partial_start(rest)
        if cut < len(rest):
            self._carry = rest[cut:][:MOST_CARRIED]
            rest = rest[:cut]
        out.append(last_pens(rest) if skipping else rest)
        return b"".join(out)

    def _draw(self, plain: bytes) -> None:
        text = plain.decode("utf-8", "replace")
        if not plain.isascii():
            text = _C1.sub("", text)  # the model would give each a cell
            if has_marks(text):
                if marks := leading(text):
                    self._mark(marks)
                text = self._marks.composed(text)
        if text:
            self._print(text)
            self._last = last_character(text[-_LONGEST_CSI:])

    def _mark(self, marks: str) -> None:
        """Add marks to the character that was printed last, if the cursor is still behind it."""
        if self._last is None:
            return
        base = self._marks.shown(self._last)
        cursor, cells = self._vt.cursor, self._vt.view()[self._vt.cursor.row].cells
        behind = cursor.col - (2 if is_wide(base[0]) else 1)
        places = [at for at in (behind, cursor.col) if 0 <= at < len(cells)]
        place = next((at for at in places if cells[at].char == self._last), behind)
        if place >= 0:
            marked = self._marks.composed(base + marks)
            inserts = _INSERT in self._vt.dump()
            self._print(f"\x1b[{place + 1}G\x1b[4l{marked}{_INSERT if inserts else ''}")
            self._last = marked

    def _print(self, text: str) -> None:
        # Behind the alternate screen avt would keep the lines that have just left the primary one,
        # and bring them back when that grows: no dump has them.
        parts = _ENTERS.split(text) if "\x1b[?" in text else [text]
        try:
            for part in parts:
                _, gone = self._vt.feed_str(part)
                if gone:
                    self._keep(gone)
        except BaseException as error:
            self._recover(error)

    def _keep(self, gone: list[Line]) -> None:
        self.dropped += max(0, len(self._scrolled) + len(gone) - SCROLLBACK)
        self._scrolled.extend(gone)

    def _recover(self, error: BaseException) -> None:
        """Starts over where avt panicked; its exception derives from BaseException alone."""
        if type(error).__name__ != "PanicException":
            raise error
        self._vt = Vt(self.cols, self.rows, 0)
        self._vt.feed_str("\x1b[?1047h" if self._modes.alternate else "")
        self._repaint = Repaint(saved_lost=True)


def _left_of(line: Line, column: int) -> str:
    if (text := line.text).isascii():
        return str(text[:column])
    shown = ""
    for cell in line.cells:
        if column <= 0:
            break
        shown += cell.char if cell.width else ""
        column -= 1
    return shown


def _tail_size(cols: int, rows: int) -> int:
    """How many of the last skipped bytes are kept for a screenful of text."""
    return min(max(_SLICE, 2 * cols * rows), 1 << 16)


def _lasting(data: bytes) -> re.Pattern[bytes]:
    return LASTING_58 if b"\x1b" in data and b"58" in data else LASTING
