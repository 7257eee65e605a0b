"""Lines of a session's output, made fit for whoever reads them."""

from __future__ import annotations

import re

from coditect_cli.streams import printable

_SGR = re.compile("(\x1b\\[[0-9;:]*m)")
_PLAIN_AT_END = ["\x1b[m", ""], ["\x1b[0m", ""]


def plain(line: str) -> str:
    """The line's text: without SGR sequences, anything else that a terminal obeys escaped."""
    return printable(_SGR.sub("", line).expandtabs()).replace("\n", "\\n")


def ansi(line: str) -> str:
    """The line with its colours, which end with it; anything else that a terminal obeys escaped."""
    parts = _SGR.split(line)
    parts[::2] = (printable(text.expandtabs()).replace("\n", "\\n") for text in parts[::2])
    return "".join(parts) + ("" if len(parts) == 1 or parts[-2:] in _PLAIN_AT_END else "\x1b[m")
