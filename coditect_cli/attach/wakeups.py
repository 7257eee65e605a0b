"""Signals as something that a select loop can wait for."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterable
from types import FrameType, TracebackType
from typing import Any, Self


class Wakeups:
    """While entered, the given signals do nothing but make this readable; nested uses don't mix."""

    def __init__(self, signals: Iterable[signal.Signals]) -> None:
        self._signals = tuple(signals)
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._old_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in self._signals:
            if signal.getsignal(number) is signal.SIG_IGN:  # as nohup asks for
                continue
            self._old[number] = signal.signal(number, _ignore)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_fd)
        self._reader.close()
        self._writer.close()

    def fileno(self) -> int:
        return self._reader.fileno()

    def read(self) -> list[int]:
        """The numbers of the signals that came since the last call, in order."""
        try:
            return list(self._reader.recv(4096))
        except BlockingIOError:
            return []


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing: the wakeup descriptor has the number."""


class Terminated(BaseException):
    """Raised where the process was told to end; not an Exception, so that only `finally` runs."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


class Terminations:
    """While entered, SIGTERM and SIGHUP raise Terminated in the main thread, once."""

    _signals = (signal.SIGTERM, signal.SIGHUP)

    def __enter__(self) -> Self:
        self._old: dict[signal.Signals, Callable[..., Any] | int | None] = {
            number: signal.signal(number, self._raise)
            for number in self._signals
            if signal.getsignal(number) is not signal.SIG_IGN  # as nohup asks for
        }
        return self

    def _raise(self, number: int, frame: FrameType | None) -> None:
        for each in self._old:
            signal.signal(each, signal.SIG_IGN)
        raise Terminated(number)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
