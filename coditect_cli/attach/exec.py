"""A program in the workspace as a local one: three pipes, its exit status, its signals."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Protocol

from coditect_cli.attach.link import Link
from coditect_cli.attach.pump import Output, Pump
from coditect_cli.attach.wakeups import wakeups
from coditect_cli.errors import Interrupted
from coditect_cli.protocol import messages
from coditect_cli.protocol.messages import Message

PATIENCE = 60.0  # seconds without a link
HANGUP_WAIT = 5.0  # seconds for a program to end once nobody reads its output
GRACE = 10.0  # seconds for a program to end once it was told to
CHUNK = 64 * 1024

FORWARDED = {
    signal.SIGINT: "INT",
    signal.SIGTERM: "TERM",
    signal.SIGHUP: "HUP",
    signal.SIGQUIT: "QUIT",
    signal.SIGUSR1: "USR1",
    signal.SIGUSR2: "USR2",
}
LEAVING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the second of a kind does not wait
ENDING = (signal.SIGTERM, signal.SIGHUP)  # and after these, nobody may be there for a second


class Source(Protocol):
    """Where input comes from: `fileno` is None for one that never has to be waited for."""

    def fileno(self) -> int | None: ...
    def read(self) -> bytes:
        """Some bytes; none at the end."""
        ...


class Descriptor:
    """A source that is a descriptor, such as stdin; it is never made non-blocking."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def read(self) -> bytes:
        return os.read(self._fd, CHUNK)


class PipesPump(Pump):
    """Counts three streams; a lost link is never taken for the end of one."""

    def __init__(
        self,
        dial: Callable[[], Link],
        ask: Callable[[str, dict[str, int] | None], Message],
        source: Source | None,
        stdout: Output,
        stderr: Output,
    ) -> None:
        super().__init__(dial, {"stdout": stdout, "stderr": stderr}, PATIENCE)
        self._ask = ask
        self._source = source
        self._input_ended = source is None
        self._eof_told = source is None
        self._seen: set[int] = set()
        self._signals: list[str] = []  # that wait for a link
        self._leave_at: float | None = None
        self._leave_for = signal.SIGPIPE

    @property
    def broken(self) -> bool:
        """Whether somebody stopped reading our output."""
        return self._leave_at is not None and self._leave_for is signal.SIGPIPE

    def opening(self, resume: dict[str, int] | None) -> Message:
        return self._ask(self.client, resume)

    def way_back(self) -> None:
        """There is none: a program is not saved."""

    def on_open(self, resumed: bool) -> None:
        self._eof_told = self._source is None
        waiting, self._signals = self._signals, []
        for name in waiting:
            self._signal(name)

    def source(self) -> int | None:
        if self._source is None or not self._wants_input():
            return None
        return self._source.fileno()

    def _wants_input(self) -> bool:
        return not self._input_ended and self.outbox.kept < self.window

    def on_readable(self) -> None:
        if self._source is not None:
            self._read(self._source)

    def _read(self, source: Source) -> None:
        try:
            data = source.read()
        except BlockingIOError:
            return
        if data:
            self.outbox.append(data)
        else:
            self._input_ended = True

    def on_tick(self) -> float | None:
        source = self._source
        if source is not None and source.fileno() is None and self._wants_input():
            self._read(source)
            return 0.0
        if self._input_ended and not self._eof_told and self.outbox.sent == self.outbox.end:
            if not self.connected:
                return None
            self._eof_told = True
            self.tell(messages.Eof(self.outbox.end))
        if self._leave_at is None:
            return None
        if time.monotonic() >= self._leave_at:
            raise self._leaving(self._leave_for)
        return self._leave_at - time.monotonic()

    def on_signal(self, number: int) -> None:
        if number in LEAVING:
            waits = self.connected or number == signal.SIGINT
            if number in self._seen or not waits:
                raise self._leaving(number)
            self._seen.add(number)
        self._signal(FORWARDED[signal.Signals(number)])
        if number in ENDING:
            self._leave_within(GRACE, signal.Signals(number))

    def _leave_within(self, seconds: float, number: signal.Signals) -> None:
        """Wait no longer for the end of a program that was told to end."""
        if self._leave_at is None:
            self._leave_at = time.monotonic() + seconds
            self._leave_for = number

    def _leaving(self, number: int) -> Exception:
        """Let the gateway end the program, however it does not want to; why we end ourselves."""
        told = self.connected
        self.tell(messages.Detach())
        self.finish()
        if number == signal.SIGPIPE:
            return BrokenPipeError()
        fate = "did not end, and is ended by the gateway" if told else "may still run"
        return Interrupted.by(number, f"the program in the workspace {fate}")

    def _signal(self, name: str) -> None:
        if self.connected:
            self.tell(messages.Signal(name))
        else:
            self._signals.append(name)

    def on_broken_output(self, output: Output) -> None:
        output.drop()
        if not self.broken:
            self._leave_within(HANGUP_WAIT, signal.SIGPIPE)
            self._signal("HUP")


def run(
    dial: Callable[[], Link],
    ask: Callable[[str, dict[str, int] | None], Message],
    source: Source | None,
    stdout: Output,
    stderr: Output,
) -> int:
    """Run what `ask` (client id, resume) asks for to its end; its exit status, 128+N for signal N.

    Without `source` the program's input is empty. Raises the gateway's error when it refuses,
    SessionLost after PATIENCE seconds without a link, Interrupted on a second SIGINT.
    """
    link = dial()
    pump = PipesPump(dial, ask, source, stdout, stderr)
    with wakeups(FORWARDED) as woken:
        try:
            status = pump.run(link, woken)
        except BrokenPipeError:
            return 128 + signal.SIGPIPE
    return 128 + signal.SIGPIPE if pump.broken else status
