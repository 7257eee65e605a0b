from __future__ import annotations

import pytest

from coditect_cli.sessions.lines import ansi, plain


@pytest.mark.parametrize(
    ("line", "without", "coloured"),
    [
        ("$ ls", "$ ls", "$ ls"),
        ("\x1b[1;32mada\x1b[0m:~", "ada:~", "\x1b[1;32mada\x1b[0m:~\x1b[m"),
        ("\x1b[38:2::1:2:3mx", "x", "\x1b[38:2::1:2:3mx\x1b[m"),
        ("a\x1b]52;c;ZXZpbA==\x07b", "a\\x1b]52;c;ZXZpbA==\\x07b", "a\\x1b]52;c;ZXZpbA==\\x07b"),
        ("\x1b[2J\x1b[31mx", "\\x1b[2Jx", "\\x1b[2J\x1b[31mx\x1b[m"),
        ("a\nb\rc", "a\\nb\\rc", "a\\nb\\rc"),
    ],
)
def test_colours_are_all_that_a_line_may_do_to_a_terminal(
    line: str, without: str, coloured: str
) -> None:
    assert plain(line) == without
    assert ansi(line) == coloured
