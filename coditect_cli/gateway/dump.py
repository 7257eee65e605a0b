"""What avt's dump of a screen says, made into what draws it on a real terminal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from coditect_cli.gateway.marks import is_stand_in

if TYPE_CHECKING:
    from avt import Line  # type: ignore[attr-defined]  # its stubs re-export nothing

ENTER, LEAVE, HOME = "\x9b?1047h", "\x9b?1047l", "\x9b1;1H"
_REP = re.compile(r"(.)\x1b\[(\d+)b")
_LINES_END = re.compile("\x9b|\x1b\\[m")
_DRAWN = re.compile(r"\x1b\[[0-9;:]*m|[^\x1b\r\n]+")


def written_out(dump: str) -> str:
    """A dump with runs of one character written out."""
    return _REP.sub(lambda run: run[1] * (int(run[2]) + 1), dump)


def split_lines(dump: str) -> tuple[str, str]:
    """The lines that a dump begins with, and the state behind them."""
    end = _LINES_END.search(dump)
    cut = end.start() if end else len(dump)
    return dump[:cut], dump[cut:]


def seven_bit(state: str) -> str:
    """A dump's state for real terminals, which know HTS but not CTC."""
    state = state.replace("\x9b5W", "\x1b[3g").replace("\x1b[W", "\x1bH")
    return state.replace("\x9b", "\x1b[")


def paint(lines: str, view: list[Line]) -> str:
    """Draws each row at its own address on a cleared screen.

    A dump's wrapped rows run on, so `view` says how many characters each row has.
    """
    out = ["\x1b[m"]
    plain = True
    row, left = 0, 0
    widths = [len(line.text) for line in view]
    for run in _DRAWN.findall(lines):
        if run[0] == "\x1b":
            plain = run == "\x1b[0m"
            out.append(run)
            continue
        done = 0
        while done < len(run):
            if left == 0:
                left = widths[row]
                row += 1
                out.append(f"\x1b[{row}H")
            part = run[done : done + left]
            done += len(part)
            left -= len(part)
            if left == 0 and is_stand_in(part[-1]):
                # without autowrap the cursor stays on it, and its marks would go to the one before
                part = f"{part[:-1]}\x1b[?7h{part[-1]}\x1b[?7l"
            out.append(part.rstrip(" ") if plain and left == 0 else part)
    return "".join(out) + "\x1b[m"
