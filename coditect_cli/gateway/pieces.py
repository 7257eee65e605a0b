"""Where a program's output is cut: never inside of a sequence or a character."""

from __future__ import annotations

import re

MOST_CARRIED = 4096
_PARTIAL = re.compile(rb"\x1b(?:\[[\x00-\x17\x19\x1c-\x3f]*+|[\x00-\x17\x19\x1c-\x2f]*+)")
_SGR = re.compile(rb"\x1b\[[0-9;]*+m")
_STRING = b"]PX^_"


def unfinished(sequence: bytes) -> bool:
    """Whether a sequence at the end of the data is a string that goes on."""
    if sequence[1] not in _STRING:
        return False
    return not sequence.endswith(b"\x1b\\") and not (
        sequence[1:2] == b"]" and sequence.endswith(b"\x07")
    )


def shortened(string: bytes) -> bytes:
    """The start of an unfinished string, as much of it as can matter, and an ESC that ends it."""
    keep = MOST_CARRIED if string[1:2] == b"]" else 2
    if len(string) <= keep:
        return string
    return string[:keep] + (b"\x1b" if string.endswith(b"\x1b") else b"")


def partial_start(data: bytes) -> int:
    """Where an unfinished escape sequence or character at the end of `data` begins."""
    escape = data.rfind(b"\x1b")
    if escape >= 0 and _PARTIAL.fullmatch(data, escape):
        return escape
    for back in range(1, min(len(data), 3) + 1):
        byte = data[-back]
        if byte >= 0xC2:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if byte < 0xF5 and length > back else len(data)
        if byte < 0x80:
            break
    return len(data)


def last_pens(data: bytes) -> bytes:
    """The pens and charset shifts in `data` that still matter behind it.

    Each pen sequence sets some attributes to fixed values, so only its last occurrence counts.
    """
    pens: list[bytes] = []
    if b"\x1b" in data:
        reset = max(data.rfind(b"\x1b[m"), data.rfind(b"\x1b[0m"))
        pens = _SGR.findall(data, max(reset, 0))
        pens = list(dict.fromkeys(reversed(pens)))[::-1]
    out, into = data.rfind(b"\x0e"), data.rfind(b"\x0f")
    if out != into:
        pens.append(b"\x0e" if out > into else b"\x0f")
    return b"".join(pens)
