from __future__ import annotations

import os
import pty
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from coditect_cli.streams import Streams, printable


@pytest.fixture
def terminal() -> Iterator[Streams]:
    """Streams that are all one real terminal."""
    master, slave = pty.openpty()
    with ExitStack() as stack:
        stack.callback(os.close, master)
        stack.callback(os.close, slave)
        ends = [stack.enter_context(open(os.dup(slave), mode)) for mode in ("r", "w", "w")]
        yield Streams(*ends)


def test_only_a_terminal_is_asked_and_animated(
    terminal: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert (terminal.may_prompt(), terminal.may_animate()) == (True, True)
    streams = Streams.test()
    assert (streams.may_prompt(), streams.may_animate()) == (False, False)
    mixed = Streams(streams.stdin, terminal.stdout, terminal.stderr)
    assert (mixed.may_prompt(), mixed.may_animate()) == (False, True)
    monkeypatch.setenv("TERM", "dumb")
    assert not terminal.may_animate()


def test_text_from_outside_cannot_steer_the_terminal() -> None:
    hostile = "a\x1b]0;title\x07\x9b31m\u202eb\x7f\r\n\udce9"
    assert printable(hostile) == "a\\x1b]0;title\\x07\\x9b31m\\u202eb\\x7f\\r\n\\udce9"
    assert printable("grüße, 日本 😀") == "grüße, 日本 😀"


def test_say_talks_on_stderr_only() -> None:
    streams = Streams.test()
    streams.say("so\x1b[2J")
    streams.stderr.seek(0)
    streams.stdout.seek(0)
    assert (streams.stdout.read(), streams.stderr.read()) == ("", "so\\x1b[2J\n")
