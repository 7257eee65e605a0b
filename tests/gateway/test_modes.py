"""Modes that the screen model leaves to us, and the resets that undo them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from coditect_cli.gateway.modes import LASTING, LASTING_58, Modes
from coditect_cli.gateway.screen import Screen
from coditect_cli.protocol.terminal import RESET_MODES, is_reply


def taken(*sequences: bytes) -> Modes:
    modes = Modes()
    for sequence in sequences:
        for match in LASTING_58.finditer(sequence):
            modes.take(match[0])
    return modes


@pytest.mark.parametrize(
    "sequence",
    [
        b"\x1b[?1000h",
        b"\x1b[?1002;1006h",
        b"\x1b[?10\n02h",
        b"\x1b[?2004h\x1b[?1004h\x1b[?1007l\x1b[?12l\x1b[?5h",
        b"\x1b=",
        b"\x1b[?66h",
        b"\x1b[4 q",
        b"\x1b[>4;2m",
        b"\x1b[>1u\x1b[=5;2u",
        b"\x1b]2;vim \xc3\xa9\x07",
    ],
)
def test_what_a_program_sets_is_set_again_and_then_reset(sequence: bytes) -> None:
    modes = taken(sequence)
    assert modes != Modes()
    assert taken(RESET_MODES, modes.sequences()) == modes
    modes = taken(sequence, RESET_MODES)
    modes.title = ""
    modes.private = {mode: on for mode, on in modes.private.items() if mode not in (12, 1007)}
    assert modes == Modes()


def test_a_passed_through_string_is_matched_to_its_end_whatever_follows() -> None:
    # Python 3.11.2 gives up on a possessive group here
    passed = b"\x1bPtmux;\x1b\x1b[?1049h\x1b\\"
    for pattern in (LASTING, LASTING_58):
        assert [match[0] for match in pattern.finditer(passed + b"after")] == [passed]


def test_a_state_survives_as_json_values() -> None:
    modes = taken(b"\x1b[?1003h\x1b[>1u\x1b[?1049h\x1b[>3u\x1b]0;a\x07\x1b[22t\x1b[6 q\x1b[>4;1m")
    assert Modes.from_state(modes.state()) == modes


def test_each_screen_has_its_own_keyboard_stack() -> None:
    modes = taken(b"\x1b[>1u\x1b[?1049h\x1b[>2u\x1b[>4u")
    assert modes.keyboards == [[1], [2, 4]]
    assert taken(b"\x1b[>1u\x1b[>2u\x1b[<u").keyboard() == [1]
    assert taken(b"\x1b[>1u\x1b[<9u").keyboard() == []
    assert taken(b"\x1b[>7u\x1b[=2;3u").keyboard() == [5]


def test_a_title_has_no_controls_and_an_end() -> None:
    modes = taken(b"\x1b]0;a\xc2\x9bb\nc" + b"x" * 5000 + b"\x07")
    assert modes.title == "abc" + "x" * 253
    assert taken(b"\x1b]0;old\x07\x1b[22;0;0t\x1b]0;new\x07\x1b[23;0;0t").title == "old"
    assert taken(b"\x1b]52;c;AAAA\x07").title == ""


@pytest.mark.parametrize(
    "string",
    [
        b"\x1b]0;[?1049h\x07",
        b"\x1bPtmux;\x1b\x1b[?1049h\x1b\\",
        b"\x1b_G[?1049h\x1b\\",
        b"\x1bX7\x1b\\",
    ],
)
def test_the_payload_of_a_string_is_no_sequence(string: bytes) -> None:
    assert LASTING.fullmatch(string)
    modes = taken(string)
    modes.title = ""
    assert modes == Modes()


def test_an_escape_ends_a_string() -> None:
    assert taken(b"\x1b]0;t\x1b[?1049h").alternate


def test_a_full_reset_forgets_everything() -> None:
    assert taken(b"\x1b[?1003;1049;2004h\x1b=\x1b]0;t\x07\x1b[>1u\x1bc") == Modes()


@pytest.mark.parametrize(
    ("sequence", "seen"),
    [
        (b"\x1b[4:3m", b"\x1b[4m"),
        (b"\x1b[4:0;1m", b"\x1b[24;1m"),
        (b"\x1b[58;2;1;5;7m", b"\0"),
        (b"\x1b[1;58;5;4;3m", b"\x1b[1;3m"),
        (b"\x1b[58:2::1:2:3;7m", b"\x1b[7m"),
        (b"\x1b[38;5;58;1m", b"\x1b[38;5;58;1m"),
        (b"\x1b[48;2;58;2;3;9m", b"\x1b[48;2;58;2;3;9m"),
        (b"\x1b[38:2::1:2:3m", b"\x1b[38:2::1:2:3m"),
        (b"\x1b[?47h", b"\x1b[?1047h"),
        (b"\x1b[?1000;25l", b"\x1b[?25l"),
    ],
)
def test_the_model_sees_only_what_it_reads_right(sequence: bytes, seen: bytes) -> None:
    match = LASTING_58.fullmatch(sequence)
    assert match
    assert Modes().take(match[0]) == seen


REPLIES = [
    b"\x1b[I", b"\x1b[O", b"\x1b[24;80R", b"\x1b[1;9R", b"\x1b[?1;1R", b"\x1b[?62;22c",
    b"\x1b[>41;354;0c", b"\x1b[0n", b"\x1b[?2004;1$y", b"\x1b[4;1$y", b"\x1b[8;24;80t",
    b"\x1b]10;rgb:ffff/ffff/ffff\x1b\\", b"\x1b]11;rgb:0/0/0\x07", b"\x1b]4;1;rgb:1/2/3\x07",
    b"\x1bP>|XTerm(390)\x1b\\", b"\x1bP1$r0m\x1b\\", b"\x1bP1+r544e=787465726d\x1b\\",
    b"\x1bP!|00000000\x1b\\", b"\x1b[?1u", b"\x1b[I\x1b[1;20R",
]  # fmt: skip
TYPED = [
    b"", b"a", b"\x1b", b"\x1b[A", b"\x1bOP", b"\x1b[1;2R", b"\x1b[1;8R", b"\x1b[1;5A",
    b"\x1b[97;5u",
    b"\x1b[<0;1;1M", b"\x1b[M !!", b"\x1b[200~ls\x1b[201~", b"\x1b[Ix", b"x\x1b[24;80R",
    b"\x1b[24;80",
]  # fmt: skip


@pytest.mark.parametrize("data", REPLIES)
def test_an_answer_of_a_terminal_is_a_reply(data: bytes) -> None:
    assert is_reply(data)


@pytest.mark.parametrize("data", TYPED)
def test_what_a_person_types_is_no_reply(data: bytes) -> None:
    assert not is_reply(data)


def test_a_reset_leaves_the_cursor_where_it_is() -> None:
    screen = Screen(20, 6)
    screen.feed(b"\x1b7\x1b[3;5H" + RESET_MODES + b"x")
    assert screen.text()[2] == "    x"


def test_a_reset_goes_back_to_the_primary_screen_and_its_cursor() -> None:
    screen = Screen(20, 6)
    screen.feed(b"$ \x1b[?1049h\x1b[5;5Hfull\x1b[2;3r" + RESET_MODES + b"x")
    assert screen.text()[0] == "$ x"


def test_the_resets_load_no_terminal_model() -> None:
    code = "import sys, coditect_cli.protocol.terminal; sys.exit('avt' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
