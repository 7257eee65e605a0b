"""The lasting state of a terminal that its screen does not show: modes, keyboards, title."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any

C0 = bytes(set(range(0x20)) - {0x18, 0x1A, 0x1B})  # acted on inside a sequence; CAN and SUB end it

# A string (OSC, DCS, SOS, PM, APC) is matched to its end, or to the end of the data. ESC ends it
# whether or not `\` follows, except in DCS, where tmux's pass-through has escapes in the payload.
# The look-ahead throws out the commonest sequences at once, which makes the search 3 times faster.
_LASTING = rb"""\x1b(?!\[[0-9;]*+[mABCDHJK])(?:
    \[[\x00-\x17\x19\x1c-\x3f]*+ [hlrsutgpqW]
  | \[(?:>[0-9;]*+[mn] | [0-9;]*+:[0-9;:]*+m)
  | [78c=>]
  | [()*+\-./][0-~]
  | \][^\x07\x18\x1a\x1b]*+ (?:\x07 | \x1b\\ | \x1b?\Z | (?=[\x18\x1a\x1b]))
  | P[^\x18\x1a\x1b]*+ (?:\x1b(?!\\|\Z) [^\x18\x1a\x1b]*+)* (?:\x1b\\ | \x1b?\Z | (?=[\x18\x1a]))
  | [X^_][^\x18\x1a\x1b]*+ (?:\x1b\\ | \x1b?\Z | (?=[\x18\x1a\x1b]))
)"""
LASTING = re.compile(_LASTING, re.VERBOSE)
LASTING_58 = re.compile(rb"\x1b\[(?:[0-9]*+;)*?58;[0-9;:]*+m | " + _LASTING, re.VERBOSE)
"""Sequences that change lasting state, pens (SGR) apart; the second one for data with `58` in it,
the underline colour, whose parameters would be taken for attributes."""

_FLAGS = frozenset({5, 9, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004})
_TRISTATE = frozenset({12, 1007})  # their default is the terminal's own
_ALTERNATE = frozenset({47, 1047, 1049})
_MOUSE = frozenset({9, 1000, 1001, 1002, 1003})
_STACK = 16
_TITLE = 256


@dataclass
class Modes:
    """Modes that the screen model does not keep.

    `private` maps a DEC private mode to whether it is set, `keyboards` holds the kitty keyboard
    flags of the primary and the alternate screen, the last entry in effect.
    """

    private: dict[int, bool] = field(default_factory=dict)
    keypad: bool = False
    alternate: bool = False
    cursor_style: int = 0
    other_keys: int = 0
    keyboards: list[list[int]] = field(default_factory=lambda: [[], []])
    title: str = ""
    titles: list[str] = field(default_factory=list)

    def take(self, sequence: bytes) -> bytes:
        """Notes what one LASTING sequence changes; returns what the screen model shall see of it.

        A sequence that says nothing to the screen becomes NUL, so that its neighbours stay apart.
        """
        kind = sequence[1:2]
        if kind == b"]":
            self._osc(sequence)
            return b"\0"
        if kind in b"PX^_":
            return b"\0"
        if kind == b"[":
            return self._csi(sequence)
        if kind in b"=>":
            self.keypad = kind == b"="
        elif kind == b"c":
            self.__init__()  # type: ignore[misc]
            return b"\x1bc\x1b[?1l"  # the model forgets to
        return sequence

    def keyboard(self) -> list[int]:
        """The kitty keyboard stack of the screen in use."""
        return self.keyboards[self.alternate]

    def sequences(self) -> bytes:
        """What sets these modes in a terminal that was reset; no sequence moves the cursor."""
        out = [b"\x1b[?%d%c" % (mode, b"lh"[on]) for mode, on in sorted(self.private.items())]
        if self.keypad:
            out.append(b"\x1b=")
        if self.cursor_style:
            out.append(b"\x1b[%d q" % self.cursor_style)
        if self.other_keys:
            out.append(b"\x1b[>4;%dm" % self.other_keys)
        out.append(keyboard_sequences(self.keyboard()))
        if self.title:
            out.append(b"\x1b]2;%s\x1b\\" % self.title.encode())
        return b"".join(out)

    def state(self) -> dict[str, Any]:
        """These modes as JSON values, for `from_state`."""
        state = asdict(self)
        state["private"] = [[mode, on] for mode, on in self.private.items()]
        return state

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Modes:
        """The modes whose `state()` this was."""
        return cls(**{**state, "private": dict(state["private"])})

    def _osc(self, sequence: bytes) -> None:
        number, _, text = sequence[2:].partition(b"\x1b")[0].partition(b";")
        if number in (b"0", b"2"):
            plain = text[: 4 * _TITLE].decode("utf-8", "ignore")
            self.title = "".join(char for char in plain if char.isprintable())[:_TITLE]

    def _csi(self, sequence: bytes) -> bytes:
        body = sequence[2:].translate(None, C0)
        mark, final = body[:1], body[-1:]
        if mark == b"?":
            return self._private(body) if final in b"hl" else b"\0"
        if mark in b"<=>":
            self._keyboard(mark, final, _numbers(body[1:-1]))
            return b"\0"
        if final == b"m":
            return _plain_sgr(body)
        if final == b"q":
            if body[-2:-1] == b" ":
                self.cursor_style = (_numbers(body[:-2]) or [0])[0] % 7
            return b"\0"
        if final == b"p":
            return self._soft_reset() if body == b"!p" else b"\0"
        if final == b"t":
            self._title_stack(_numbers(body[:-1]))
            return b"\0"
        return sequence

    def _private(self, body: bytes) -> bytes:
        on = body[-1:] == b"h"
        kept = []
        for mode in _numbers(body[1:-1]):
            if mode in _FLAGS:
                if mode in _MOUSE:  # one at a time: any of them replaces, or ends, all
                    for other in _MOUSE:
                        self.private.pop(other, None)
                self.private.pop(mode, None)
                if on:
                    self.private[mode] = True
            elif mode in _TRISTATE:
                self.private[mode] = on
            elif mode in _ALTERNATE:
                self.alternate = on
                kept.append(1047 if mode == 47 else mode)
            elif mode == 66:
                self.keypad = on
            else:
                kept.append(mode)
        return b"\x1b[?%s%s" % (b";".join(b"%d" % m for m in kept), body[-1:]) if kept else b"\0"

    def _keyboard(self, mark: bytes, final: bytes, numbers: list[int]) -> None:
        first, second = (*numbers, 0, 0)[:2]
        if final == b"u":
            stack = self.keyboard()
            if mark == b">":
                stack.append(first & 31)
                del stack[:-_STACK]
            elif mark == b"<":
                del stack[-max(first, 1) :]
            else:
                old = stack.pop() if stack else 0
                new = {2: old | first, 3: old & ~first}.get(second, first) & 31
                if stack or new:
                    stack.append(new)
        elif mark == b">" and first == 4 and final in b"mn":
            self.other_keys = min(second, 3) if final == b"m" else 0

    def _title_stack(self, numbers: list[int]) -> None:
        if numbers[:1] == [22] and numbers[1:2] != [1]:
            self.titles.append(self.title)
            del self.titles[:-_STACK]
        elif numbers[:1] == [23] and numbers[1:2] != [1] and self.titles:
            self.title = self.titles.pop()

    def _soft_reset(self) -> bytes:
        self.keypad = False
        self.cursor_style = 0
        return b"\x1b[!p\x1b[?1l\x1b[?7h"  # the model leaves these two


def keyboard_sequences(stack: list[int]) -> bytes:
    """What pushes a kitty keyboard stack, so that the program's own pops find it."""
    return b"".join(b"\x1b[>%du" % flags for flags in stack)


def _numbers(params: bytes) -> list[int]:
    """Parameters as numbers, an empty or odd one as 0; no parameters as no numbers."""
    parts = params.split(b";")[:32] if params else []
    return [int(part) if part.isdigit() and len(part) < 6 else 0 for part in parts]


def _plain_sgr(body: bytes) -> bytes:
    """The SGR without what the model misreads: styled underlines and underline colours."""
    parts = body[:-1].split(b";")
    kept: list[bytes] = []
    while parts:
        part = parts.pop(0)
        if part == b"58":
            del parts[: {b"2": 4, b"5": 2}.get(parts[0] if parts else b"", 0)]
        elif part in (b"38", b"48"):
            width = {b"2": 4, b"5": 2}.get(parts[0] if parts else b"", 0)
            kept += [part, *parts[:width]]
            del parts[:width]
        elif part.startswith(b"4:"):
            kept.append(b"24" if part == b"4:0" else b"4")
        elif not part.startswith(b"58:"):
            kept.append(part)
    return b"\x1b[%sm" % b";".join(kept) if kept else b"\0"
