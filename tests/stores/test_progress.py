from __future__ import annotations

from collections.abc import Iterator

import pytest

from coditect_cli.stores.progress import Progress
from coditect_cli.stores.store import Page
from coditect_cli.streams import Streams

PAGES = [Page([(b"a", b"x" * 24)], 1), Page([(b"b", 24), (b"c", 49)], 1), Page([(b"d", 99)], 2)]


class Terminal:
    """Two streams of one terminal; what stands on its last line is read back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, stdout: bool) -> None:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(Progress, "patience", 0.0)
        self.streams = Streams.test()
        monkeypatch.setattr(self.streams.stderr, "isatty", lambda: True)
        monkeypatch.setattr(self.streams.stdout, "isatty", lambda: stdout)

    @property
    def line(self) -> str:
        self.streams.stderr.seek(0)
        written = self.streams.stderr.read()  # which reads a carriage return as a line's end
        return written.rpartition("\x1b[K")[2].rpartition("\n")[2]


def test_a_bar_says_how_much_of_the_whole_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch, stdout=False)
    lines = []
    for _ in Progress(terminal.streams, "keys", lambda: 200).watch(iter(PAGES)):
        lines.append(terminal.line)
    assert lines[0] == ""
    assert lines[1] == "[" + "####".ljust(30, ".") + "] 12%  1 keys"
    assert lines[2] == "[" + "###############".ljust(30, ".") + "] 50%  3 keys"
    assert terminal.line == ""


@pytest.mark.parametrize("whole", [None, lambda: None])
def test_without_a_whole_it_counts(monkeypatch: pytest.MonkeyPatch, whole: None) -> None:
    terminal = Terminal(monkeypatch, stdout=False)
    pages = Progress(terminal.streams, "keys", whole).watch(iter(PAGES))
    next(pages)
    next(pages)
    assert terminal.line == "1 keys"


def test_it_stands_while_pages_are_looked_at_and_leaves_for_what_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal(monkeypatch, stdout=True)
    progress = Progress(terminal.streams, "keys")
    looking = []

    def found() -> Iterator[int]:
        for number, _ in enumerate(progress.watch(iter(PAGES))):
            looking.append(terminal.line)
            if number == 1:
                yield number

    for _ in progress.above(found()):
        assert terminal.line == ""
    assert looking == ["", "1 keys", "3 keys"]
    assert terminal.line == ""


def test_it_leaves_before_every_page_where_nobody_says_what_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal(monkeypatch, stdout=True)
    for _ in Progress(terminal.streams, "keys").watch(iter(PAGES)):
        assert terminal.line == ""
    assert terminal.line == ""
    terminal.streams.stderr.seek(0)
    assert "3 keys" in terminal.streams.stderr.read()
