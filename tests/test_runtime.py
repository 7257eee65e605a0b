from __future__ import annotations

import logging
import os
import pty
import tty
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from coditect_cli.errors import Failed, UsageError
from coditect_cli.runtime import Runtime
from coditect_cli.streams import Streams


class Terminal:
    """A real terminal that a runtime asks its questions on."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        with ExitStack() as stack:
            files = [stack.enter_context(open(os.dup(slave), mode)) for mode in ("r", "w", "w")]
            self._files = stack.pop_all()
        os.close(slave)
        self.runtime = Runtime(Streams(*files))

    def answer(self, text: str) -> None:
        os.write(self.master, text.encode() + b"\n")

    def shows(self, wanted: bytes) -> None:
        """Read until this was shown."""
        seen = b""
        while wanted not in seen:
            seen += os.read(self.master, 1000)

    def close(self) -> None:
        self._files.close()
        os.close(self.master)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.mark.parametrize("answer", ["y", "Yes", "YES"])
def test_yes_goes_on(terminal: Terminal, answer: str) -> None:
    terminal.answer(answer)
    terminal.runtime.confirm("Sure?", "--force")
    terminal.shows(b"Sure? [y/N]")


@pytest.mark.parametrize("answer", ["", "n", "yesterday", "\x04"])
def test_everything_else_declines(terminal: Terminal, answer: str) -> None:
    terminal.answer(answer)
    with pytest.raises(Failed) as caught:
        terminal.runtime.confirm("Sure?", "--force")
    assert caught.value.code == "declined"


def test_who_ends_the_input_gets_the_next_line(terminal: Terminal) -> None:
    os.write(terminal.master, b"\x04")
    with pytest.raises(Failed):
        terminal.runtime.confirm("Sure?", "--force")
    terminal.shows(b"Sure? [y/N] \r\n")


def test_the_yes_flag_answers_without_asking() -> None:
    Runtime(Streams.test(), yes=True).confirm("Sure?", "--force")


def test_without_a_terminal_the_flag_is_named_and_stdin_is_not_read() -> None:
    streams = Streams.test(b"y\n")
    asks: list[Callable[[], None]] = [
        lambda: Runtime(streams).confirm("Sure?", "--force"),
        lambda: Runtime(streams, yes=True).confirm_name("Sure?", "demo", None, "--confirm"),
    ]
    for ask in asks:
        with pytest.raises(UsageError) as caught:
            ask()
        assert caught.value.code == "confirm.needed"
        assert (caught.value.hint or "").startswith(("pass --force", "pass --confirm demo"))
    assert streams.stdin.read() == "y\n"


def test_a_name_is_typed_or_given_and_never_replaced_by_yes(terminal: Terminal) -> None:
    terminal.runtime.yes = True
    terminal.answer("demo")
    terminal.runtime.confirm_name("All gone.", "demo", None, "--confirm")
    terminal.answer("y")
    with pytest.raises(Failed):
        terminal.runtime.confirm_name("All gone.", "demo", None, "--confirm")
    terminal.runtime.confirm_name("All gone.", "demo", "demo", "--confirm")
    with pytest.raises(UsageError) as caught:
        terminal.runtime.confirm_name("All gone.", "demo", "dmo", "--confirm")
    assert caught.value.code == "confirm.mismatch"


def test_nothing_is_opened_before_it_is_used(paths: object) -> None:
    runtime = Runtime(Streams.test())
    assert not {"paths", "context", "workspaces"} & set(vars(runtime))
    assert runtime.paths == paths
    assert not runtime.paths.config.exists()


def test_log_lines_begin_at_the_left_of_a_raw_terminal_too(terminal: Terminal) -> None:
    tty.setraw(terminal.master)
    terminal.runtime.verbose = True
    logger = logging.getLogger("coditect")
    before = logger.handlers, logger.level
    try:
        terminal.runtime.start_log()
        logger.info("one")
    finally:
        logger.handlers, logger.level = before
    terminal.shows(b": one\r\n")
