"""The screen model: fed in any pieces, skipped, redrawn, handed over."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from coditect_cli.gateway.screen import Screen

COLS, ROWS = 20, 6

TEXT = st.one_of(
    st.text("abc XYZ0123", max_size=30),
    st.sampled_from(["日本語", "e\u0301x", "é", "→", "😀", "\u200d", "a\x7fb"]),
)
NUMBER = st.integers(0, 25).map(str)
SEQUENCES = st.one_of(
    st.builds(
        "\x1b[{}m".format, st.sampled_from(["", "0", "1", "31", "38;5;9", "48;2;1;2;3", "7"])
    ),
    st.sampled_from(["\x1b[38:2::1:2:3m", "\x1b[4:3m", "\x1b[58;2;1;5;7m", "\x1b[1;58:5:4;3m"]),
    st.builds("\x1b[{};{}H".format, NUMBER, NUMBER),
    st.builds("\x1b[{}{}".format, NUMBER, st.sampled_from("ABCDEFG@LXdST")),
    st.builds("\x1b[{}{}".format, st.sampled_from(["", "1", "2"]), st.sampled_from("JK")),
    st.builds("\x1b[{};{}r".format, st.integers(1, 3), st.integers(4, 6)),
    st.builds(
        "\x1b[?{}{}".format,
        st.one_of(
            st.sampled_from([1, 5, 6, 7, 9, 12, 25, 47, 66, 2004, 2026, "1000;1006", "1;25"]),
            st.sampled_from(
                [1000, 1002, 1003, 1004, 1005, 1006, 1007, 1015, 1016, 1047, 1048, 1049]
            ),
        ),
        st.sampled_from("hl"),
    ),
    st.builds("\x1b[{}{}".format, st.sampled_from(["4", "20"]), st.sampled_from("hl")),
    st.sampled_from(["\n", "\r", "\r\n", "\t", "\b", "\x0e", "\x0f", "\x1bM", "\x1bD", "\x1bE"]),
    st.sampled_from(["\x1b7", "\x1b8", "\x1b[s", "\x1b[u", "\x1bH", "\x1b[3g", "\x1b(0", "\x1b)0"]),
    st.sampled_from(["\x1b(B", "\x1b=", "\x1b>", "\x1bc", "\x1b[!p", "\x1b[r", "\x1b[3 q"]),
    st.sampled_from(["\x1b[>4;2m", "\x1b[>4m", "\x1b[>1u", "\x1b[<u", "\x1b[=5;1u", "\x1b[=1;2u"]),
    st.sampled_from(["\x1b]0;title\x07", "\x1b]2;t\u00e9\x1b\\", "\x1b[22;0t", "\x1b[23;0t"]),
    st.sampled_from(["\x1b]0;\x1b[?1049h", "\x1bPtmux;\x1b\x1b[?1049h\x1b\\", "\x1b_x[?25l\x1b\\"]),
)
STREAMS = st.lists(st.one_of(TEXT, SEQUENCES), max_size=40).map("".join)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

DIRTY = (
    b"old\x1b[1;31m\x1b(0\x1b)0\x0e\x1b[4h\x1b[20h\x1b[?1049h\x1b[2;4r\x1b[?6h\x1b[?7l\x1b[?25l"
    b"\x1b[?1h\x1b[?1003;1006;2004;1004;5h\x1b=\x1b7zz\x1b[>4;2m\x1b[>5u\x1b[4 q"
)


def fed(*pieces: bytes, cols: int = COLS, rows: int = ROWS) -> Screen:
    screen = Screen(cols, rows)
    for piece in pieces:
        screen.feed(piece)
    return screen


def shown(screen: Screen) -> tuple[object, ...]:
    """Cells, pens and cursor."""
    screen.exact  # noqa: B018 (takes what a skip has kept for later)
    vt = screen._vt
    cells = [[(c.char, c.width, sgr(c.pen)) for c in line.cells] for line in vt.view()]
    return cells, (vt.cursor.row, vt.cursor.col, vt.cursor.visible)


def modes(screen: Screen) -> tuple[object, ...]:
    kept = screen._modes
    keys = (screen._vt.cursor_key_app_mode, kept.keypad, kept.keyboard(), kept.other_keys)
    return kept.private, kept.alternate, kept.cursor_style, keys


def lasting(screen: Screen) -> tuple[object, ...]:
    """What a skip keeps: modes, and from a dump its pen, margins and modes without positions."""
    screen.exact  # noqa: B018
    tail = screen._vt.dump().rpartition("\r\n")[2]
    position = re.compile(r"\x9b\d+;\d+H|\x1b7")
    final = re.search(r"(\x1b\[0[0-9;:]*m)((?:\x9b\?25l|\x1b[()]0|\x0e|\x9b[?0-9]+[hl])*)$", tail)
    margins = re.search(r"\x9b\d+;\d+r", position.sub("", tail))
    return modes(screen), final and final.groups(), margins and margins[0], screen._modes.title


def sgr(pen: Any) -> tuple[object, ...]:
    names = ("bold", "faint", "italic", "underline", "strikethrough", "blink", "inverse")
    colours = (colour(pen.foreground), colour(pen.background))
    return colours + tuple(getattr(pen, name) for name in names)


def colour(value: Any) -> list[int]:
    if value is None:
        return []
    return [value[index] for index in range(3 if type(value).__name__.endswith("RGB") else 1)]


@QUICK
@given(STREAMS, st.lists(st.integers(0, 400), max_size=8))
def test_a_stream_fed_in_pieces_is_the_stream_fed_at_once(text: str, cuts: list[int]) -> None:
    data = text.encode()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert fed(*pieces).checkpoint() == fed(data).checkpoint()


@QUICK
@given(STREAMS)
def test_every_byte_by_itself_is_the_stream_fed_at_once(text: str) -> None:
    data = text.encode()
    assert fed(*(bytes([byte]) for byte in data)).checkpoint() == fed(data).checkpoint()


@QUICK
@given(STREAMS, st.sampled_from([b"", DIRTY]), STREAMS)
def test_a_redraw_makes_any_terminal_into_this_screen(text: str, dirt: bytes, after: str) -> None:
    screen = fed(text.encode() + b"\x18")  # no unfinished sequence, which a redraw can't carry
    client = fed(dirt, screen.redraw())
    assert shown(client) == shown(screen)
    assert modes(client) == modes(screen)
    # What is printed next shows pen, margins, tabs, charsets, insert, wrap and origin mode. Only
    # the cursor that was saved on the alternate screen, while that is not in use, is not redrawn.
    if not any(f"?{mode}h" in after for mode in (47, 1047, 1049)):
        screen.feed(after.encode())
        client.feed(after.encode())
        assert shown(client) == shown(screen)


@QUICK
@given(STREAMS, STREAMS)
def test_a_restored_screen_goes_on_as_if_never_stopped(before: str, after: str) -> None:
    screen = fed(before.encode())
    successor = Screen.restore(screen.checkpoint())
    screen.feed(after.encode())
    successor.feed(after.encode())
    assert successor.checkpoint() == screen.checkpoint()


@QUICK
@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=200)), max_size=8))
def test_no_bytes_raise(parts: list[tuple[bool, bytes]]) -> None:
    screen = Screen(COLS, ROWS)
    for skip, data in parts:
        (screen.skip if skip else screen.feed)(data)
    screen.redraw()
    Screen.restore(screen.checkpoint()).redraw()
    screen.resize(7, 3)
    assert len(screen.text()) == 3


@QUICK
@given(STREAMS, STREAMS, STREAMS, st.integers(0, 99), st.integers(0, 99))
def test_a_skip_keeps_all_that_lasts(
    before: str, text: str, after: str, early: int, late: int
) -> None:
    # DECRC brings back the position too: only what it saved since is compared
    whole = (before + text + after + "x" * 50 + "\r\n\x18").encode()
    early, late = sorted((early * len(whole) // 100, late * len(whole) // 100))
    exact, skipped = fed(whole), Screen(COLS, ROWS)
    skipped.feed(whole[:early])
    with keeping(skipped, 1):
        skipped.skip(whole[early:late])
    skipped.feed(whole[late:])
    assert lasting(skipped) == lasting(exact)


class keeping:
    """Lets a skip keep only that many bytes for its screenful of text."""

    def __init__(self, screen: Screen, size: int) -> None:
        self.patch = pytest.MonkeyPatch()
        self.size = size

    def __enter__(self) -> None:
        self.patch.setattr("coditect_cli.gateway.screen._tail_size", lambda *_: self.size)

    def __exit__(self, *_: object) -> None:
        self.patch.undo()


def test_a_screen_is_exact_until_bytes_are_skipped_and_after_a_screenful() -> None:
    screen = fed(b"first\r\n")
    assert screen.exact
    screen.skip(b"\x1b[31mlost\x1b[5;5H" + b"w" * 100000)
    assert not screen.exact
    flood = b"".join(b"line %d\r\n" % n for n in range(3 * ROWS))
    screen.feed(flood)
    assert screen.exact
    # the pen of the skipped part is still on
    assert shown(screen) == shown(fed(b"\x1b[31m" + flood))


def test_a_screen_is_exact_after_a_clear_with_a_position() -> None:
    for repaint in (b"\x1b[H\x1b[2J", b"\x1b[2J\x1b[3;3H", b"\x1b[H\x1b[m\x1b[J", b"\x1bc"):
        screen = Screen(COLS, ROWS)
        screen.skip(b"w" * 100000)
        screen.feed(repaint[:3])
        assert not screen.exact or repaint == b"\x1bc"
        screen.feed(repaint[3:] + b"now")
        assert screen.exact, repaint
        assert shown(screen) == shown(fed(repaint + b"now"))


@pytest.mark.parametrize(
    "fed_after",
    [b"\x1b[J", b"\x1b[2J", b"\x1b[2Jx\x1b[H", b"\x1b[H", b"\x1b[Hx\x1b[J", b"y\r\n" * ROWS],
)
def test_what_does_not_replace_the_screen_does_not_make_it_exact(fed_after: bytes) -> None:
    screen = Screen(COLS, ROWS)
    screen.skip(b"w" * 100000)
    screen.feed(fed_after)
    assert not screen.exact


def test_a_cursor_that_was_saved_in_skipped_bytes_keeps_the_screen_inexact() -> None:
    screen = Screen(COLS, ROWS)
    screen.skip(b"\x1b7" + b"w" * 100000)
    screen.feed(b"\x1b[H\x1b[2J")
    assert not screen.exact
    screen.feed(b"\x1b7\x1b[H\x1b[2J")
    assert screen.exact


def test_a_flood_that_was_skipped_ends_as_one_that_was_fed() -> None:
    screen = Screen(80, 24)
    for _ in range(20):
        screen.skip(b"y\r\n" * 20000)
    assert shown(screen) == shown(fed(b"y\r\n" * 20000, cols=80, rows=24))


def test_a_redraw_asks_nothing_and_has_no_eight_bit_controls() -> None:
    screen = fed("aaaaaaaaaaaaé日\x1b[5n\x1b[?1049h\x1b]0;x\x1b[6n\x07\x1b[c".encode() + DIRTY)
    redraw = screen.redraw()
    assert not re.search(rb"\x1b\[[?>=]?[0-9;]*[cnb]|\x1bZ|\$[pq]|\x1b\[\?u", redraw)
    assert not re.search("[\x80-\x9f]", redraw.decode())


@pytest.mark.parametrize(("cols", "rows"), [(8, 3), (60, 20)])
def test_a_redraw_scrolls_no_terminal_of_another_size(cols: int, rows: int) -> None:
    screen = fed(b"\r\n".join(b"%d" % n * COLS for n in range(ROWS)))
    client = fed(screen.redraw(), cols=cols, rows=rows)
    for row, line in enumerate(client.text()[: min(rows, ROWS) - 1]):
        assert line[: cols - 1] == screen.text()[row][: cols - 1]


@pytest.mark.parametrize("into", ["", "\x1b[?1049h"])
def test_wide_characters_in_a_row_survive_a_checkpoint(into: str) -> None:
    screen = fed(f"{into}日 {'🙂' * 7} y".encode())
    restored = Screen.restore(screen.checkpoint())
    assert restored.text()[0] == f"日 {'🙂' * 7} y"
    assert restored.checkpoint() == screen.checkpoint()


def test_a_checkpoint_of_another_version_is_refused() -> None:
    state = json.loads(Screen(COLS, ROWS).checkpoint())
    for blob in (json.dumps({**state, "version": 99}).encode(), b"[]", b"\xff", b""):
        with pytest.raises(ValueError):
            Screen.restore(blob)


def test_a_panic_of_the_model_starts_a_new_one(capfd: pytest.CaptureFixture[str]) -> None:
    screen = Screen(1, 3)  # the model has no room for a wide character without wrapping
    screen.feed("\x1b[?7l日".encode())
    assert not screen.exact
    screen.feed(b"\x1bcx")
    assert screen.text()[0] == "x"


SIZES = st.tuples(st.integers(4, 30), st.integers(2, 12))


@settings(deadline=None, max_examples=200)
@example("a" + "\n" * ROWS, [(4, 2)], (4, ROWS + 1))  # it left the screen just before
@given(st.text("abc xyz\n", max_size=120), st.lists(SIZES, min_size=1, max_size=3), SIZES)
def test_a_screen_behind_the_alternate_one_is_wrapped_anew(
    text: str, sizes: list[tuple[int, int]], last: tuple[int, int]
) -> None:
    screen = Screen(COLS, ROWS)
    screen.feed(text.replace("\n", "\r\n").encode() + b"\x1b[?1049h\x1b[Hvim")
    for size in (*sizes, last):
        screen.resize(*size)
    drawn = Screen(*last)
    drawn.feed(screen.redraw())
    restored = Screen.restore(screen.checkpoint())
    assert drawn.text() == restored.text() == screen.text()
    for one in (screen, drawn, restored):
        one.feed(b"\x1b[?1049l")
    assert drawn.text() == restored.text() == screen.text()
    assert drawn.cursor == restored.cursor == screen.cursor


MARKED = ["e\u0301", "x", "n\u0303\u0323", "\U0001f468\u200d", "\u0915\u094d", "\u2764\ufe0f", " "]


@QUICK
@given(st.lists(st.sampled_from(MARKED), max_size=40).map("".join), st.lists(st.integers(0, 200)))
def test_marks_stay_on_their_characters(text: str, cuts: list[int]) -> None:
    data = text.encode()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    screen = fed(*(data[a:b] for a, b in itertools.pairwise(edges)))
    assert screen.checkpoint() == fed(data).checkpoint()
    assert "".join("".join(screen.primary()[0]).split()) == "".join(text.split())
    client = fed(screen.redraw())
    assert client.primary()[0] == screen.primary()[0][-ROWS:]
    assert Screen.restore(screen.checkpoint()).redraw() == screen.redraw()


def test_a_mark_without_a_character_to_stand_on_is_left_out() -> None:
    for before in ("", "a\r\n", "a\x1b[2;3H", "a\x1b[m"):
        assert "\u0301" not in "".join(fed(f"{before}\u0301b".encode()).text())
        assert "\u0301" not in "".join(fed(before.encode(), "\u0301b".encode()).text())
