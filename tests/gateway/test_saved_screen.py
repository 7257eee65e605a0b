"""What a restored terminal begins with: the saved screen, and the line below it."""

from __future__ import annotations

import re

import pytest

from coditect_cli.gateway.saved import Saved, saved_screen
from coditect_cli.gateway.screen import Screen
from coditect_cli.sessions.leases import Lease
from coditect_cli.sessions.session import SessionOutput, SessionState


def test_a_record_does_nothing_to_a_terminal_but_draw() -> None:
    lines = ["\x1b[31mred", "a\x1b]2;title\x07", "query\x1b[5n\x1b[c", "\x1b[?1049h\x9b5n\r\n"]
    state = SessionState("s1", "demo", 1, 1, "bash", "/gone\x1b[c")
    output = SessionOutput("s1", lines, (0, 0), (80, 24))
    saved = Saved(state, output, Lease("demo", "s1", "me", 1, 1))
    drawn = saved_screen(saved, "/", "bash").decode()
    assert re.sub(r"\x1b\[\d*m|\r\n|[ -~]", "", drawn) == ""
    assert "a\\x1b]2;title\\x07" in drawn


def test_the_notice_is_one_line_of_a_usual_terminal() -> None:
    state = SessionState("s1", "demo", 1, 1, "bash", "/")
    drawn = saved_screen(Saved(state, None, Lease("demo", "s1", "me", 1, 1)), "/", "bash").decode()
    shown = re.sub(r"\x1b\[\d*m", "", drawn)
    assert shown == "[restored: processes did not survive; state of 1970-01-01 00:00:00 UTC]\r\n"
    assert len(shown) < 80


@pytest.mark.parametrize("cols", [40, 80, 120])
def test_a_screen_has_the_newest_notice_alone(cols: int) -> None:
    state = SessionState("s1", "demo", 1, 1, "bash", "/gone")
    earlier = (
        "[restored: its processes did not survive; this is its state of 2026-01-01 00:00:00 UTC]"
    )
    rows = [earlier[start : start + cols] for start in range(0, len(earlier), cols)]
    lines = ["$ one", "\x1b[2mdim]\x1b[m", *(f"\x1b[2m{row}\x1b[m" for row in rows)]
    for _ in range(3):
        screen = Screen(cols, 10)
        output = SessionOutput("s1", lines, (0, 0), (cols, 10))
        screen.feed(
            saved_screen(Saved(state, output, Lease("demo", "s1", "me", 1, 1)), "/", "bash")
        )
        screen.feed(b"$ two\r\n\x1b[2mdim\x1b[m")
        lines, _ = screen.primary()
    shown = "".join(re.sub(r"\x1b\[[\d;]*m", "", line) for line in lines)
    assert shown.count("did not survive") == shown.count("/gone is gone") == 1
    assert (shown.count("$ one"), shown.count("dim]"), shown.count("$ two")) == (1, 1, 3)
    assert shown.index("did not survive") > shown.index("$ two")
