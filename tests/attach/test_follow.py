from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from coditect_cli.attach.follow import Lines
from coditect_cli.sessions.lines import plain
from coditect_cli.tokens import local_user
from tests.support.gateway import Client, Gateway, running_gateway, until


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"10%\r20%\rdone\r\n", ["done"]),
        (b"gti\b\b\x1b[Kit\r\n", ["git"]),
        (b"0123456789" * 7 + b"\r\nnext\r\n", ["0123456789" * 7, "next"]),
        (b"0123456789\r\nnext\r\n", ["0123456789", "next"]),
        (b"a b         c\r\n", ["a b         c"]),
        (b"\x1b]0;a title\nof two lines\x07a\r\n", ["a"]),
        (b"\xffa\r\n\xc3\r\nb\r\n", ["�a", "�", "b"]),
        (b"x\x1b[?1049hfull\r\nscreen\r\n\x1b[?1049ly\r\n", ["xy"]),
        (b"\r\n\r\n", ["", ""]),
        (b"unfinished", []),
    ],
)
def test_a_line_is_what_the_screen_shows_when_it_is_ended(data: bytes, lines: list[str]) -> None:
    whole = Lines(10, 4)
    assert [plain(line) for line in whole.feed(data)] == lines
    pieces = Lines(10, 4)
    found = [line for at in range(len(data)) for line in pieces.feed(data[at : at + 1])]
    assert [plain(line) for line in found] == lines
    assert pieces.end() == whole.end()


def test_what_nothing_ended_is_the_last_line() -> None:
    lines = Lines(10, 4)
    assert lines.feed(b"a\r\n\x1b[31mlogout") == ["a"]
    assert [plain(line) for line in lines.end()] == ["logout"]
    assert Lines(10, 4).end() == []


def test_lines_begin_with_the_screen_above_the_cursor() -> None:
    lines = Lines(10, 4)
    assert lines.draw(b"\x1b[H\x1b[Jone\r\ntwo\r\n$ ") == ["one", "two"]
    assert lines.feed(b"ls\r\n") == ["$ ls"]
    assert lines.draw(b"\x1b[?1049hvim\r\n\r\n") == []


Follow = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def gateway(home: Path) -> Iterator[Gateway]:
    with running_gateway(home) as running:
        running.user = local_user()
        yield running


@pytest.fixture
def follow(gateway: Gateway, tmp_path: Path) -> Iterator[Follow]:
    """Follows a session with the installed program; its output is in out, its talk in err."""
    program = str(Path(sys.executable).parent / "coditect")
    with (
        ExitStack() as stack,
        open(tmp_path / "out", "wb") as out,
        open(tmp_path / "err", "wb") as err,
    ):

        def start(session: str, *args: str, **streams: Any) -> subprocess.Popen[bytes]:
            command = [program, "session", "output", "demo", session, "--follow", *args]
            process = subprocess.Popen(command, **{"stdout": out, "stderr": err, **streams})
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def test_a_live_session_is_followed_to_its_end(
    gateway: Gateway, follow: Follow, tmp_path: Path
) -> None:
    client = gateway.attach()
    client.run("PS1='$ '; echo before")
    process = follow(client.session[:8])
    until(lambda: b"before\n" in (tmp_path / "out").read_bytes(), "the screen")
    client.run("printf 'half\\rwh''ole\\n'; tput setaf 1; echo red; tput sgr0")
    until(lambda: b"whole\n" in (tmp_path / "out").read_bytes(), "a line that is not the last")
    client.send(b"exit\n")
    client.exit()
    assert process.wait(60) == 0, (tmp_path / "err").read_text()
    text = (tmp_path / "out").read_text()
    assert "\nwhole\nred\n" in text
    assert text.count("before\n") == 1
    assert "\x1b" not in text
    assert (tmp_path / "err").read_text() == ""


def test_a_follower_has_colours_when_it_is_told_to(
    gateway: Gateway, follow: Follow, tmp_path: Path
) -> None:
    client = gateway.attach()
    process = follow(client.session, "--ansi")
    until(lambda: gateway.sessions()[0]["clients"] == 2, "a follower")
    client.run("printf '\\033[31mred\\033[m\\n'")
    client.send(b"exit\n")
    client.exit()
    assert process.wait(60) == 0
    assert b"\x1b[0;31mred\x1b[0m\n" in (tmp_path / "out").read_bytes()


def test_a_follower_writes_objects_for_programs(
    gateway: Gateway, follow: Follow, tmp_path: Path
) -> None:
    client = gateway.attach()
    process = follow(client.session, "-o", "ndjson")
    until(lambda: gateway.sessions()[0]["clients"] == 2, "a follower")
    client.run("printf '\\033[31mred\\033[m\\n'")
    client.send(b"exit\n")
    client.exit()
    assert process.wait(60) == 0
    lines = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert {"line": "red"} in lines


def test_a_follower_resumes_after_the_bridge_was_killed(
    gateway: Gateway, follow: Follow, tmp_path: Path
) -> None:
    client = gateway.attach()
    process = follow(client.session)
    until(lambda: gateway.sessions()[0]["clients"] == 2, "a follower")
    client.run("echo fir''st")
    until(lambda: b"first\n" in (tmp_path / "out").read_bytes(), "a line")
    gateway.kill_bridge()
    again = until(lambda: rejoin(gateway, client), "the bridge's successor")
    again.send(b"echo sec''ond; exit\n")
    assert process.wait(60) == 0, (tmp_path / "err").read_text()
    text = (tmp_path / "out").read_text()
    assert text.count("first\n") == 1
    assert "second\n" in text


def rejoin(gateway: Gateway, client: Client) -> Client | None:
    try:
        again = gateway.connect()
        again.attach(session=client.session)
    except Exception:  # it is not there yet, or ends while it answers
        return None
    return again


def test_a_follower_that_is_slow_does_not_slow_the_program(
    gateway: Gateway, follow: Follow
) -> None:
    client = gateway.attach()
    process = follow(client.session, stdout=subprocess.PIPE)
    until(lambda: gateway.sessions()[0]["clients"] == 2, "a follower")
    os.kill(process.pid, signal.SIGSTOP)
    client.run("head -c 3000000 /dev/zero | tr '\\0' x")
    os.kill(process.pid, signal.SIGCONT)
    process.kill()


def test_who_stops_reading_ends_it(gateway: Gateway, follow: Follow) -> None:
    client = gateway.attach()
    process = follow(client.session, stdout=subprocess.PIPE)
    until(lambda: gateway.sessions()[0]["clients"] == 2, "a follower")
    assert process.stdout is not None
    process.stdout.close()
    client.run("echo a; echo b")
    assert process.wait(60) == 141


def test_following_a_session_that_is_over_shows_what_was_saved(
    gateway: Gateway, follow: Follow, tmp_path: Path
) -> None:
    client = gateway.attach()
    client.send(b"echo la''st; exit\n")
    client.exit()
    until(lambda: not gateway.sessions(), "the end")
    assert follow(client.session).wait(60) == 0
    assert b"last\n" in (tmp_path / "out").read_bytes()


def test_a_follower_brings_no_session_back(gateway: Gateway) -> None:
    """A session that ended between the look and the attach was restored, for nobody."""
    client = gateway.attach()
    client.send(b"exit\n")
    client.exit()
    until(lambda: not gateway.sessions(), "the end")
    watcher = gateway.connect()
    message = {"type": "attach", "client": "0" * 32, "session": client.session, "resume": None}
    watcher.send({**message, "cols": 80, "rows": 24, "term": "xterm", "readOnly": True})
    assert watcher.closed() == 1008
    assert watcher.heard[-1]["code"] == "session.not_found"
    assert gateway.sessions() == []
