"""The list of steps on a terminal, as a terminal shows it."""

from __future__ import annotations

import os
import pty
import termios
import threading
import time

import pyte
import pytest

from coditect_cli.migrations.journal import Event
from coditect_cli.migrations.live import LiveSteps
from coditect_cli.migrations.run import Run

RUN = "toy-20260101T000000-abcdef"
TITLES = {"one": "Write one", "two": "Watch two"}


def event(type: str, step: str | None = None, **data: object) -> Event:
    return Event(
        number=1, at="2026-01-02T03:04:05Z", run=RUN, type=type, step=step, attempt=1, actor="me",
        data=data, id="a", previous=RUN,
    )  # fmt: skip


class Screen:
    """A terminal of so many columns, and what it shows."""

    def __init__(self, columns: int) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, columns))
        self.stream = os.fdopen(slave, "w")
        self._written = bytearray()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._master, 65_536):
                self._written += data
        except OSError:
            pass  # nobody has the other end any more

    def lines(self) -> list[str]:
        """What is on it when all has been written."""
        self.stream.close()
        self._thread.join(10)
        os.close(self._master)
        screen = pyte.Screen(100, 24)
        pyte.ByteStream(screen).feed(bytes(self._written))
        return [line.rstrip() for line in screen.display if line.strip()]


Live = tuple[Screen, LiveSteps]


def begin() -> Event:
    return event("run.started", phase="toy", settings={}, target={}, steps=list(TITLES))


@pytest.fixture
def columns() -> int:
    return 100


@pytest.fixture
def live(columns: int, monkeypatch: pytest.MonkeyPatch) -> Live:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")  # another terminal's, as a shell may export it
    screen = Screen(columns)
    return screen, LiveSteps(screen.stream, TITLES, {"one": 5.0, "two": 3600.0})


def test_each_step_is_there_once_with_its_state_and_a_bakes_bar(live: Live) -> None:
    screen, steps = live
    run, now = Run(RUN), time.time()
    with steps:
        for one in (
            begin(),
            event("step.skipped", "one", detail="one is 1"),
            event("step.started", "two", before={}),
            event("bake.started", "two", since=now - 1800, deadline=now + 1800, until="later"),
        ):
            run.apply(one)
            steps.tell(one, run)
        steps.say("stopping at the next safe point")
    first, second, bar, last = screen.lines()
    assert first.split()[:4] == ["already", "so", "Write", "one"]
    assert second.split()[:3] == ["running", "Watch", "two"]
    assert "of about 1:00:00" in second
    assert "━━━━" in bar
    assert last == "stopping at the next safe point"


@pytest.mark.parametrize("columns", [32])
def test_on_a_narrow_terminal_a_title_is_cut_and_no_state(live: Live) -> None:
    screen, steps = live
    run = Run(RUN)
    with steps:
        run.apply(begin())
        steps.tell(begin(), run)
    first, second, *_ = screen.lines()
    assert (first[:9], second[:9]) == ("waiting  ", "waiting  ")
    assert ("…" in first, first.endswith("of about 0:05")) == (True, True)


def test_the_steps_are_there_once_also_after_somebody_was_asked(live: Live) -> None:
    screen, steps = live
    run = Run(RUN)
    with steps:
        for one in (begin(), event("step.skipped", "one", detail="one is 1")):
            run.apply(one)
            steps.tell(one, run)
        with steps.quiet():
            screen.stream.write("Next: Watch two.\r\nType two to go on: two\r\n")
            screen.stream.flush()
        run.apply(event("step.started", "two", before={}))
    asked, typed, first, second, _ = screen.lines()
    assert (asked, typed) == ("Next: Watch two.", "Type two to go on: two")
    assert ("Write one" in first, "Watch two" in second) == (True, True)
