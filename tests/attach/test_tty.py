from __future__ import annotations

import os
import termios
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coditect_cli.attach import notice, tty

SEQUENCES = ["plain", "é", "€", "😀", "\x1b[1;31m", "\x1b]0;title\x07", "\x1b(B", "\x1b7", "\r\n"]
OUTPUT = st.lists(st.sampled_from(SEQUENCES)).map(lambda parts: "".join(parts).encode())


@pytest.fixture
def pty() -> Iterator[tuple[int, int]]:
    master, slave = os.openpty()
    yield master, slave
    os.close(master)
    os.close(slave)


def test_an_exception_leaves_the_terminal_as_it_was(pty: tuple[int, int]) -> None:
    _, slave = pty
    before = termios.tcgetattr(slave)
    with pytest.raises(RuntimeError), tty.RawTerminal(slave, slave):
        assert termios.tcgetattr(slave) != before
        raise RuntimeError
    assert termios.tcgetattr(slave) == before


def test_a_size_is_within_what_the_protocol_allows(pty: tuple[int, int]) -> None:
    _, slave = pty
    assert tty.size(slave) == (80, 24)  # a terminal that does not know says 0, 0
    termios.tcsetwinsize(slave, (65535, 65535))
    cols, rows = tty.size(slave)
    assert cols <= 4096
    assert 0 < cols * rows <= 1_000_000


@pytest.mark.parametrize(
    ("term", "name"),
    [("screen.xterm-256color", "screen.xterm-256color"), (None, "xterm-256color")]
    + [(bad, "xterm-256color") for bad in ("", "a b", "../x", "x" * 65)],
)
def test_a_terminals_name_is_sent_where_it_is_one(term: str | None, name: str) -> None:
    assert tty.name(term) == name


@given(OUTPUT, st.data())
def test_it_is_known_whether_output_ends_inside_a_sequence(
    output: bytes, data: st.DataObject
) -> None:
    screen = tty.Screen()
    cut = data.draw(st.integers(0, len(output)))
    screen.feed(output[:cut])
    screen.feed(output[cut:])
    assert not screen.mid_sequence


@pytest.mark.parametrize("part", ["\x1b", "\x1b[", "\x1b[1;3", "\x1b]0;tit", "\x1b(", "\x1bP1$"])
def test_a_sequence_cut_in_two_is_seen(part: str) -> None:
    screen = tty.Screen()
    screen.feed(b"text" + part.encode())
    assert screen.mid_sequence


@pytest.mark.parametrize("part", [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98"])
def test_a_character_cut_in_two_is_seen(part: bytes) -> None:
    screen = tty.Screen()
    screen.feed(b"text" + part)
    assert screen.mid_sequence


@given(st.integers(0, 20))
def test_the_alternate_screen_is_noticed_wherever_it_is_cut(cut: int) -> None:
    enter, leave = b"vi\x1b[?1049h~~~", b"\x1b[?12;1049lbye"
    screen = tty.Screen()
    screen.feed(enter[:cut])
    screen.feed(enter[cut:])
    assert screen.alternate
    screen.feed(leave[:cut])
    screen.feed(leave[cut:])
    assert not screen.alternate


@given(st.integers(0, 20))
def test_origin_mode_is_noticed_wherever_it_is_cut(cut: int) -> None:
    for reset in (b"\x1b[?6l", b"\x1b[?25;6l", b"\x1b[!p", b"\x1bc"):
        screen = tty.Screen()
        for output, on in ((b"vi\x1b[?7;6h~~~", True), (reset + b"bye", False)):
            screen.feed(output[:cut])
            screen.feed(output[cut:])
            assert screen.origin is on


@pytest.mark.parametrize(
    "before", ["$ make", "\r\n".join(f"line {n}" for n in range(30)) + "\r\n$ ma"]
)
def test_a_notice_on_the_main_screen_leaves_no_trace(before: str) -> None:
    pyte = pytest.importorskip("pyte")

    def shown(*parts: str) -> tuple[list[str], str]:
        screen = pyte.Screen(40, 10)
        stream = pyte.Stream(screen)
        for part in parts:
            stream.feed(part)
        lines = [line.rstrip() for line in screen.display]
        return [line for line in lines if line], lines[screen.cursor.y][: screen.cursor.x]

    sign = notice.show("gone, reconnecting", alternate=False, rows=10, cols=40).decode()
    assert "gone, reconnecting" in shown(before, sign)[0]
    lines, at_cursor = shown(before, sign, notice.erase().decode(), "ke")
    wanted, wanted_at_cursor = shown(before, "ke")
    assert lines == wanted[-len(lines) :]
    assert len(lines) >= len(wanted) - 1  # at most one line has scrolled away
    assert at_cursor == wanted_at_cursor.rstrip()
