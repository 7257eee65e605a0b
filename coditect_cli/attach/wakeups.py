"""Signals as something that a select loop can wait for, or as an end."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], None]


class Wakeups:
    """Readable once a signal came; see `wakeups`."""

    def __init__(self, reader: socket.socket) -> None:
        self._reader = reader
        self.fd = reader.fileno()

    def read(self) -> list[int]:
        """The numbers of the signals that came since the last call, in order."""
        try:
            return list(self._reader.recv(4096))
        except BlockingIOError:
            return []


@contextmanager
def wakeups(signals: Iterable[signal.Signals]) -> Iterator[Wakeups]:
    """The given signals do nothing but make this readable; nested uses don't mix."""
    reader, writer = socket.socketpair()
    with reader, writer, _handled(signals, _ignore):
        reader.setblocking(False)
        writer.setblocking(False)
        old_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield Wakeups(reader)
        finally:
            signal.set_wakeup_fd(old_fd)


class Terminated(BaseException):
    """Raised where the process was told to end; not an Exception, so that only `finally` runs."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


@contextmanager
def terminations() -> Iterator[None]:
    """SIGTERM and SIGHUP raise Terminated in the main thread, once."""

    def end(number: int, frame: FrameType | None) -> None:
        for each in handled:
            signal.signal(each, signal.SIG_IGN)
        raise Terminated(number)

    with _handled((signal.SIGTERM, signal.SIGHUP), end) as handled:
        yield


@contextmanager
def _handled(signals: Iterable[signal.Signals], handler: Handler) -> Iterator[set[signal.Signals]]:
    """These signals go to `handler`, but for those that are ignored, as nohup asks."""
    old = {
        number: signal.signal(number, handler)
        for number in signals
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield set(old)
    finally:
        for number, before in old.items():
            signal.signal(number, before)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing: the wakeup descriptor has the number."""
