from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from coditect_cli.attach.playback import Harmless
from coditect_cli.gateway.screen import Screen
from tests.support.terminal import PATIENCE, Terminal

COMMAND = [sys.executable, "-m", "coditect_cli", "session", "play"]
HEADER = {"version": 3, "term": {"cols": 80, "rows": 24}}
NEVER = 1e6  # seconds: longer than any test
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a recording of (interval, code, data) events."""

    def make(*events: tuple[float, str, str], tail: str = "", **header: object) -> Path:
        file = tmp_path / "demo.cast"
        lines = [json.dumps({**HEADER, **header}), *map(json.dumps, events)]
        file.write_text("\n".join(lines) + "\n" + tail)
        return file

    return make


@pytest.fixture
def on_terminal(home: Path) -> Iterator[Callable[..., Terminal]]:
    """Starts `coditect session play ARGS` on a terminal; it ends with the test."""
    environ = {**os.environ, "COLUMNS": "90"}  # a size that is not this terminal's
    with ExitStack() as stack:
        yield lambda *args: stack.enter_context(
            Terminal(["session", "play", *map(str, args)], environ)
        )


def played(*args: str | Path, stdin: bytes = b"") -> tuple[int, str, str]:
    done = subprocess.run(
        [*COMMAND, *args], input=stdin, capture_output=True, timeout=PATIENCE, check=False
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_output_is_played_in_order_and_nothing_else(write: Write) -> None:
    file = write(
        (0.01, "o", "a"), (0, "i", "typed"), (0, "m", "mark"), (0, "r", "9x9"), (0, "o", "é\r\n")
    )
    assert played(file) == (0, "aé\r\n", "")


def test_v2_is_played_too(write: Write) -> None:
    file = write((0.01, "o", "a"), (0.02, "o", "b"), version=2, width=80, height=24)
    assert played(file)[:2] == (0, "ab")


def test_long_pauses_are_cut_short_as_asked_or_as_the_recording_says(write: Write) -> None:
    events = [(NEVER, "o", "a"), (NEVER, "o", "b")]
    assert played(write(*events), "--skip-idle", "0.01")[1] == "ab"
    assert played(write(*events, idle_time_limit=0.01))[1] == "ab"
    assert played(write(*events, idle_time_limit=NEVER), "--skip-idle", "0")[1] == "ab"


def test_speed_is_a_factor(write: Write) -> None:
    assert played(write((NEVER, "o", "a")), "--speed", "1e9")[1] == "a"


def test_what_was_before_from_is_shown_at_once(write: Write) -> None:
    file = write((NEVER, "o", "a"), (NEVER, "o", "b"), (0.01, "o", "c"))
    assert played(file, "--from", str(2 * NEVER))[1] == "abc"
    assert played(file, "--from", str(9 * NEVER))[1] == "abc"


def test_it_plays_what_has_come_before_the_rest_is_there(home: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(HEADER).encode() + b'\n[0, "o", "first"]\n')
        process.stdin.flush()
        assert process.stdout.read(5) == b"first"
        process.stdin.write(b'[0, "o", "last"]\n')
        process.stdin.close()
        assert process.stdout.read() == b"last"
        assert process.wait(PATIENCE) == 0


def test_keys_pause_step_and_quit(write: Write, on_terminal: Callable[..., Terminal]) -> None:
    steps = [(NEVER, "o", f"step{n}.\r\n") for n in range(4)]
    terminal = on_terminal(write((0, "o", "start\r\n"), *steps))
    terminal.expect(b"start")
    terminal.type(b" ")
    terminal.type(b".")
    terminal.expect(b"step0")
    terminal.type(b".")
    terminal.expect(b"step1")
    terminal.type(b"q")
    assert terminal.wait() == 0
    assert b"step2" not in terminal.seen
    assert terminal.settings() == terminal.settings_before


def test_a_pause_ends_where_it_began(write: Write, on_terminal: Callable[..., Terminal]) -> None:
    terminal = on_terminal(write((0, "o", "one"), (0.05, "o", "two")), "--skip-idle", "1")
    terminal.expect(b"one")
    terminal.type(b" ")
    terminal.type(b" ")
    terminal.expect(b"two")
    assert terminal.wait() == 0


@pytest.mark.parametrize("way_out", ["end", "q", "ctrl-c", "SIGTERM", "bad line"])
def test_the_terminal_is_as_it_was(
    write: Write, on_terminal: Callable[..., Terminal], way_out: str
) -> None:
    wait = () if way_out in ("end", "bad line") else ((NEVER, "o", ""),)
    tail = "junk\n" if way_out == "bad line" else ""
    terminal = on_terminal(write((0, "o", "\x1b[?1049h\x1b[?25lin"), *wait, tail=tail))
    terminal.expect(b"in")
    if way_out == "SIGTERM":
        terminal.signal(signal.SIGTERM)
    elif way_out in ("q", "ctrl-c"):
        terminal.type(b"q" if way_out == "q" else b"\x03")
    codes = {"end": 0, "q": 0, "ctrl-c": 130, "SIGTERM": 143, "bad line": 2}
    assert terminal.wait() == codes[way_out]
    assert b"\x1b[?1049l" in terminal.seen and b"\x1b[?25h" in terminal.seen
    assert terminal.settings() == terminal.settings_before
    assert (b"line 3 of" in terminal.seen) == (way_out == "bad line")


@pytest.mark.parametrize(("cols", "rows"), [(200, 20), (80, 50), (70, 24), (80, 24)])
def test_a_terminal_of_another_size_is_told_before_and_after(
    write: Write, on_terminal: Callable[..., Terminal], cols: int, rows: int
) -> None:
    terminal = on_terminal(write((0, "o", "\x1b[H\x1b[Jx"), term={"cols": cols, "rows": rows}))
    assert terminal.wait() == 0
    told = f"the recording is {cols}x{rows} and this terminal 80x24".encode()
    before, _, after = terminal.seen.partition(b"\x1b[H\x1b[Jx")
    assert (told in before) == (told in after) == ((cols, rows) != (80, 24))


@pytest.mark.parametrize(
    "output",
    [
        "".join(f"line {n}\r\n" for n in range(30)) + "\x1b[1;1Htop\x1b[10;1Hbottom\x1b[K",
        "\x1b[2;5r\x1b[5;1H" + "x\r\n" * 9 + "\x1b[r\x1b[10;1H1\r\n2\r\n3",
        "\x1b[10;1H\x1bcx\x1b[10;1H1\r\n2\x1b[!p\r\n3",
        "\x1b[9;1Htwo\x1b[10;1H\x1b7\r\n\x1b8three",
    ],
)
def test_on_a_taller_terminal_it_looks_as_it_did(
    write: Write, on_terminal: Callable[..., Terminal], output: str
) -> None:
    terminal = on_terminal(write((0, "o", output), term={"cols": 80, "rows": 10}))
    assert terminal.wait() == 0
    as_it_was, here = Screen(80, 10), Screen(80, 24)
    as_it_was.feed(output.encode())
    here.feed(bytes(terminal.seen))
    assert here.text() == [*as_it_was.text(), *[""] * 14]


def test_a_recording_that_was_cut_off_is_played_and_told(write: Write) -> None:
    code, out, err = played(write((0, "o", "a"), tail='[0, "o", "b'))
    assert (code, out) == (0, "a")
    assert "middle of a line" in err


def test_what_is_no_recording_is_an_error(tmp_path: Path, write: Write) -> None:
    assert played(tmp_path / "none.cast")[0] == 3
    assert played(tmp_path)[0] == 8
    code, out, err = played(write((0, "o", "a"), tail="junk\n[0]\n"))
    assert (code, out) == (2, "a")
    assert "line 3 of the recording" in err
    assert played("-", stdin=b"\x00\xff")[0] == 2
    for speed in ("0", "-1", "nan", "inf"):
        assert played(write(), "--speed", speed)[0] == 2


@pytest.mark.parametrize(
    "harm",
    [
        "\x1b]52;c;aGk=\a",
        "\x1b]52;c;aGk=\x1b\\",
        "\x9d52;c;aGk=\x9c",
        "\x1b]0;title\a",
        "\x1b]10;?\a",
        "\x1b]1337;File=:aGk=\a",
        "\x1bP$q q\x1b\\",
        "\x1b_Gf=24;AAAA\x1b\\",
        "\x1b^pm\x1b\\",
        "\x1b[6n",
        "\x1b[c",
        "\x1b[>c",
        "\x1b[21t",
        "\x1b[?2026$p",
        "\x1b[1;1;1;1;1;1*y",
        "\x1b[>q",
        "\x1b[?u",
        "\x1b[>1u",
        "\x1b[>4;2m",
        "\x1b[?1000;1006h",
        "\x1b[?25;1004h",
        "\x1b[?2004h",
        "\x1bZ",
        "\x05",
        "\x9a",
        "\x1b]52;c;aG\x1b]0;x\a",
    ],
)
def test_what_does_more_than_draw_is_left_out(harm: str) -> None:
    assert Harmless().feed(f"a{harm}b") == "ab"
    one_by_one = Harmless()
    assert "".join(map(one_by_one.feed, f"a{harm}b")) == "ab"


def test_a_request_in_pieces_is_none_any_more() -> None:
    assert "\x1b" not in Harmless().feed("\x1b[6\x0en\x1b\x1b[\x1b[")


@pytest.mark.parametrize(
    "drawing",
    [
        "\x1b[1;31mred\x1b[m",
        "\x1b[2J\x1b[H\x1b[3;4H\x1b[K",
        "\x1b[?1049h\x1b[?25l\x1b[?2026h\x1b[?7l",
        "\x1b7\x1b8\x1bM\x1b(0lqk\x1b(B\x0e\x0f",
        "\x1b]8;;https://example.org\alink\x1b]8;;\a",
        "\x1b[2 q\x1b[!p\x1b[s\x1b[u\x1b[4:3m",
        "tab\tbell\a\b\r\n",
    ],
)
def test_what_draws_is_left_as_it_is(drawing: str) -> None:
    assert Harmless().feed(drawing) == drawing


@pytest.mark.parametrize("option", ["--from", "--skip-idle"])
@pytest.mark.parametrize("seconds", ["nan", "inf"])
def test_what_is_no_time_is_refused(write: Write, option: str, seconds: str) -> None:
    assert played(write((0.01, "o", "a")), option, seconds)[:2] == (2, "")
