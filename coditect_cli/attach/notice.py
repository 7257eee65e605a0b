"""A line on the user's terminal that is the client's own, and how it goes away again (pure)."""

from __future__ import annotations

from coditect_cli.protocol.terminal import RESET_MODES

# One row below the cursor, which IND makes by scrolling when there is none; then back.
_ROW_BELOW = b"\x1bD\x1b[A\x1b7\x1b[B\r\x1b[2K"
_ERASE_BELOW = b"\x1b7\x1b[B\r\x1b[2K\x1b8"


def show(text: str, *, alternate: bool, rows: int, cols: int) -> bytes:
    """Show `text` below the cursor of a shell, or on the last row of a full-screen program."""
    line = b"\x1b[7m" + text[: max(1, cols - 1)].encode() + b"\x1b[0m"
    if alternate:
        return b"\x1b7\x1b[%d;1H\x1b[2K" % rows + line + b"\x1b8"
    return _ROW_BELOW + line + b"\x1b8"


def erase() -> bytes:
    """Take the line of a shell away; on the alternate screen it is drawn over."""
    return _ERASE_BELOW


def overlay(texts: list[str], *, rows: int, cols: int) -> bytes:
    """Lines over the last rows of a full-screen program, until that is drawn anew."""
    texts = texts[-rows:]
    width = max(1, cols - 1)
    drawn = b"".join(
        b"\x1b[%d;1H\x1b[2K\x1b[0;7m" % row + text[:width].ljust(width).encode()
        for row, text in enumerate(texts, rows - len(texts) + 1)
    )
    return b"\x1b7" + drawn + b"\x1b8"


def lines(texts: list[str]) -> bytes:
    """Lines that stay, in between the program's output."""
    return b"\r\n" + b"".join(text.encode() + b"\r\n" for text in texts)


def gap(text: str, *, rows: int) -> bytes:
    """A line behind all that was shown, scrolled off with it, where a redraw clears the screen."""
    return RESET_MODES + b"\x1b[%d;1H\r\n" % rows + text.encode() + b"\r\n" * rows
