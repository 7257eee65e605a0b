"""What both ends know of terminals: how to reset one, and what is an answer of one."""

from __future__ import annotations

import re

RESET_KEYBOARD = b"\x1b[<32u\x1b[=0;1u"
"""Empties the kitty keyboard stack of the screen in use, of which each terminal has two."""

# DECSC comes first because 1049l brings back the saved cursor on the primary screen too (xterm).
# DECSC and DECRC around the margins keep the cursor where it is; pen and charset come after,
# since DECRC brings the old ones back.
RESET_MODES = (
    b"\x1b\\"  # ends a string that was cut off
    b"\x1b[?2026l\x1b7\x1b[?1049l" + RESET_KEYBOARD + b"\x1b[>4m"
    b"\x1b[?9l\x1b[?1000l\x1b[?1001l\x1b[?1002l\x1b[?1003l"
    b"\x1b[?1004l\x1b[?1005l\x1b[?1006l\x1b[?1015l\x1b[?1016l\x1b[?2004l"
    b"\x1b[?1l\x1b>\x1b[?5l\x1b[?7h\x1b[4l\x1b[20l\x1b[?5W"
    b"\x1b7\x1b[?69l\x1b[r\x1b8"
    b"\x1b[m\x1b(B\x1b)B\x0f\x1b[?25h\x1b[0 q"
)
"""What a client prints on leaving: the modes that a program may have set, as a shell wants them.

The cursor stays where it is. Left alone, because no one default fits every terminal: alternate
scroll (1007), cursor blink (12), the window title. Origin mode (6) is reset apart, where it was
set: that moves the cursor, and DECRC brings the mode back.
"""

_REPLY = re.compile(
    rb"""(?:
      \x1b\[[IO]                               # focus in, out
    | \x1b\[(?!1;[2-8]R)[0-9]+;[0-9]+R         # cursor position, but not F3 with modifiers
    | \x1b\[\?[0-9;]+R                         # DECXCPR
    | \x1b\[[?>=][0-9;]*c                      # device attributes
    | \x1b\[\??[0-9;]+n                        # device status
    | \x1b\[\??[0-9]+;[0-9]+\$y                # DECRPM
    | \x1b\[[0-9]+(?:;[0-9]+){1,2}t            # window size
    | \x1b\[\?[0-9]+u                          # kitty keyboard flags
    | \x1b\[>[0-9;]*m                          # modifyOtherKeys, as XTQMODKEYS reports it
    | \x1b\](?:4;[0-9]+|1[0-9]|52|[lL])[^\x07\x1b]*(?:\x07|\x1b\\)  # colours, clipboard, titles
    | \x1bP[^\x1b]*\x1b\\                      # XTVERSION, DECRQSS, XTGETTCAP, DA3
    | \x1b_G[^\x1b]*\x1b\\                     # kitty graphics
    )+""",
    re.VERBOSE,
)


def is_reply(data: bytes) -> bool:
    """True when `data` is nothing but a terminal's answers to queries, and focus reports.

    Nobody typed those bytes. `ESC [ 1 ; 2 R` to `ESC [ 1 ; 8 R` count as typed: they are F3 with
    modifiers, too.
    """
    return _REPLY.fullmatch(data) is not None


def replies_apart(data: bytes) -> list[bytes]:
    """`data` in pieces, each of which is nothing but replies (see `is_reply`) or has none."""
    pieces, done = [], 0
    for match in _REPLY.finditer(data) if b"\x1b" in data else ():
        pieces += [data[done : match.start()], match[0]]
        done = match.end()
    return [piece for piece in (*pieces, data[done:]) if piece]
