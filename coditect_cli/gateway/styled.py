"""A row of the terminal model as text with its colours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avt import Line  # type: ignore[attr-defined]  # its stubs re-export nothing

_RUST_ESCAPE = re.compile(r"\\(u\{[0-9a-f]+\}|.)")
_RUST_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}
_WRAPPED = "⏎"  # avt's mark behind a row that goes on in the next
_COLON_SGR = re.compile("\x1b\\[[0-9;:]*m")
_PLAIN = "\x1b[0m"


def styled(row: Line | str, *, trimmed: bool = True) -> str:
    """A row's text with its SGR sequences, which avt tells in the form for debugging alone.

    `trimmed` takes blanks in the default colours off its end.
    """
    if isinstance(row, str):
        return row
    text = _RUST_ESCAPE.sub(_unescaped, repr(row)[6:-2])
    if runs_on(row):
        text = text[:-1]
    text = _COLON_SGR.sub(lambda sgr: sgr[0].replace(":", ";"), text)
    last = text.rfind("\x1b[")
    if trimmed and (last < 0 or text.startswith(_PLAIN, last)):
        text = text.rstrip(" ")
    text = text.removeprefix(_PLAIN)
    return text if "\x1b" not in text or text.endswith(_PLAIN) else text + _PLAIN


def runs_on(row: Line | str) -> bool:
    """Whether a row is full and its line goes on in the next one."""
    if isinstance(row, str):
        return False
    return repr(row)[-3] == _WRAPPED and not row.text.endswith(_WRAPPED)


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code[2:-1], 16)) if code[0] == "u" else _RUST_ESCAPES.get(code, code)
