"""The screen beside tmux's own, over recorded and generated streams."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from coditect_cli.gateway.screen import Screen
from tests.gateway.test_screen import DIRTY, fed, shown

STREAM_FILES = sorted((Path(__file__).parent / "streams").glob("*.bin"))
FLAGS = (
    "alternate_on cursor_x cursor_y cursor_flag insert_flag keypad_cursor_flag keypad_flag "
    "mouse_standard_flag mouse_button_flag mouse_all_flag mouse_sgr_flag mouse_utf8_flag "
    "origin_flag wrap_flag scroll_region_upper scroll_region_lower"
)


class Tmux:
    """A real tmux on a socket of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.argv = ["tmux", "-S", str(folder / "s"), "-f", "/dev/null"]
        self.count = 0

    def run(self, *args: str) -> str:
        env = {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin:/usr/local/bin:/opt/homebrew/bin"}
        done = subprocess.run(
            [*self.argv, "-u", *args], capture_output=True, check=True, env=env, timeout=30
        )
        return done.stdout.decode()

    def show(self, data: bytes, cols: int = 80, rows: int = 24) -> None:
        """Puts the bytes on a new pane; returns when tmux has taken them all."""
        self.count += 1
        mark = f"mark-{uuid.uuid4().hex}"
        path = self.folder / f"stream{self.count}"
        path.write_bytes(data + f"\x18\x1b\\\x1b]2;{mark}\x07".encode())
        shell = f"stty raw -echo; cat {path}; exec sleep 600"
        # a session without a terminal keeps the size that it was made with
        self.run("new-session", "-d", "-s", mark, "-x", str(cols), "-y", str(rows), shell)
        self.run("set-option", "-t", mark, "status", "off")
        self.target = mark
        deadline = time.monotonic() + 20
        while self.run("display-message", "-p", "-t", mark, "#{pane_title}").strip() != mark:
            assert time.monotonic() < deadline, "tmux has not taken the stream"

    def text(self) -> list[str]:
        return [
            line.rstrip()
            for line in self.run("capture-pane", "-p", "-t", self.target).split("\n")[:-1]
        ]

    def drawn(self, cols: int, rows: int) -> Screen:
        """The pane's cells and pens, as a screen of our own."""
        lines = self.run("capture-pane", "-p", "-e", "-N", "-t", self.target).split("\n")[:-1]
        screen = Screen(cols, rows)
        for row, line in enumerate(lines):
            screen.feed(f"\x1b[{row + 1}H{line}".encode())
        return screen

    def flags(self) -> dict[str, str]:
        form = " ".join(f"#{{{name}}}" for name in FLAGS.split())
        values = self.run("display-message", "-p", "-t", self.target, form).split()
        return dict(zip(FLAGS.split(), values, strict=True))


@pytest.fixture(scope="module")
def tmux(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tmux]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    server = Tmux(tmp_path_factory.mktemp("t"))
    yield server
    subprocess.run([*server.argv, "kill-server"], check=False, capture_output=True, timeout=30)


@pytest.mark.parametrize("path", STREAM_FILES, ids=lambda path: path.stem)
def test_a_recorded_program_looks_as_in_tmux(tmux: Tmux, path: Path) -> None:
    data = path.read_bytes()
    for part in (len(data) // 3, 2 * len(data) // 3, len(data)):
        screen = fed(data[:part] + b"\x18", cols=80, rows=24)
        tmux.show(data[:part])
        assert screen.text() == tmux.text()
        flags = tmux.flags()
        cursor = screen._vt.cursor
        assert (int(flags["cursor_x"]), int(flags["cursor_y"])) == (cursor.col, cursor.row)
        assert flags["alternate_on"] == str(int(screen.alternate))


@pytest.mark.parametrize("path", STREAM_FILES, ids=lambda path: path.stem)
def test_a_redraw_in_a_dirty_tmux_is_the_stream_itself(tmux: Tmux, path: Path) -> None:
    data = path.read_bytes()
    data = data[: 2 * len(data) // 3] + b"\x18"
    tmux.show(data)
    wanted, text, flags = tmux.drawn(80, 24), tmux.text(), tmux.flags()
    tmux.show(DIRTY + fed(data, cols=80, rows=24).redraw())
    assert tmux.text() == text
    assert shown(tmux.drawn(80, 24))[0] == shown(wanted)[0]
    assert tmux.flags() == flags


@pytest.mark.parametrize(
    "sequence",
    [
        b"\x1b[?1002h\x1b[?1006h", b"\x1b[?1003h", b"\x1b[?1h\x1b=", b"\x1b[4h", b"\x1b[?25l",
        b"\x1b[5;10r\x1b[7;3H", b"\x1b[5;10r\x1b[?6h\x1b[2;2H", b"x" * 80, b"x" * 79, b"\x1b[?7l",
        b"\x1b[?1049h\x1b[?1000hfull", b"\x1b[1;31;44mred  \x1b[22;39m", "日本".encode() * 20,
    ],
)  # fmt: skip
def test_a_redraw_sets_what_tmux_reports(tmux: Tmux, sequence: bytes) -> None:
    tmux.show(b"before\r\n" + sequence)
    wanted, flags = tmux.drawn(80, 24), tmux.flags()
    tmux.show(DIRTY + fed(b"before\r\n" + sequence, cols=80, rows=24).redraw())
    assert shown(tmux.drawn(80, 24))[0] == shown(wanted)[0]
    assert tmux.flags() == flags


def ordinary(seed: int) -> bytes:
    """A generated stream of what avt and tmux agree on (docs/screen.md says on what not)."""
    rng = random.Random(seed)  # noqa: S311

    def number(limit: int) -> str:
        return str(rng.randint(1, limit))

    kinds = [
        lambda: "".join(rng.choices("abc XYZ", k=rng.randint(1, 30))),
        lambda: rng.choice(["\r\n", "\n", "\r", "\x1bM", "\x1bE", "\x1bD"]),
        lambda: f"\x1b[{number(24)};{number(80)}H",
        lambda: f"\x1b[{number(9)}{rng.choice('ABCDGd')}",
        lambda: f"\x1b[{number(3)}{rng.choice('@PXLM')}" if rng.random() < 0.5 else "\x1b[r",
        lambda: f"\x1b[{rng.choice(['', '1', '2'])}{rng.choice('JK')}",
        lambda: f"\x1b[{rng.choice(['', '1', '32', '48;5;7', '7'])}m",
        lambda: "\x1b[?7l\r" + "edge" * 20 + "!\x1b[?7h\r",
        lambda: rng.choice(["\x1b[?25l", "\x1b[?25h", "\x1b[4hinserted\x1b[4l"]),
        lambda: rng.choice(["日本", "é→", "\x1b]0;x\x07", "\x1b[3S", "\x1b[2T"]),
        lambda: "\x1b[?1049h\x1b[2Jfull\x1b[3;3Hscreen\x1b[?1049l",
    ]
    last = rng.choice(["", "\x1b[?1049hfull\x1b[3;3Hscreen"])
    return ("".join(rng.choice(kinds)() for _ in range(120)) + last).encode()


def alike(tmux: Tmux, seed: int) -> None:
    data = ordinary(seed)
    screen = fed(data, cols=80, rows=24)
    tmux.show(data)
    assert screen.text() == tmux.text()
    flags = tmux.flags()
    assert flags["alternate_on"] == str(int(screen.alternate))
    assert (int(flags["cursor_x"]), int(flags["cursor_y"])) == tuple(
        (screen._vt.cursor.col, screen._vt.cursor.row)
    )


@pytest.mark.parametrize("seed", range(15))
def test_a_generated_stream_looks_as_in_tmux(tmux: Tmux, seed: int) -> None:
    alike(tmux, seed)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_generated_streams_look_as_in_tmux(tmux: Tmux) -> None:
    for seed in range(1000, 1300):
        alike(tmux, seed)


def test_marks_are_where_tmux_has_them(tmux: Tmux) -> None:
    lines = ["e\u0301x", "n\u0303\u0323|", "\u0915\u094d\u0937|", "\u0e01\u0e34|", "a\u20dd\u0301b"]
    data = "\r\n".join([*lines, "x" * 79 + "e\u0301"]).encode()
    tmux.show(data)
    assert fed(data, cols=80, rows=24).text() == tmux.text()
    tmux.show(fed(data, cols=80, rows=24).redraw())
    assert fed(data, cols=80, rows=24).text() == tmux.text()
