"""Writes to a descriptor that other processes may share, and never waits for it."""

from __future__ import annotations

import os
import select
import stat
import time
from collections import deque
from typing import Protocol

TTY_CHUNK = 16 * 1024
FILE_CHUNK = 1024 * 1024


class Counter(Protocol):
    """Told of bytes once they are written; see `Inbox`."""

    def wrote(self, count: int) -> None: ...


class Sink:
    """A queue in front of a descriptor.

    The descriptor stays blocking, since O_NONBLOCK would hit everyone who shares it: each write
    is as large as a writable one is sure to take.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._queue: deque[tuple[memoryview, Counter | None]] = deque()
        mode = os.fstat(fd).st_mode
        if os.isatty(fd):
            self._chunk = TTY_CHUNK
        else:
            self._chunk = FILE_CHUNK if stat.S_ISREG(mode) else select.PIPE_BUF

    def fileno(self) -> int:
        return self._fd

    @property
    def waiting(self) -> bool:
        """Whether bytes are queued."""
        return bool(self._queue)

    def write(self, data: bytes, inbox: Counter | None = None) -> None:
        """Write `data`, or queue what is not taken now; bytes of a counted stream are reported to
        its `inbox` once written. Raises what `flush` does.
        """
        if data:
            self._queue.append((memoryview(data), inbox))
            if len(self._queue) == 1:
                self.flush()

    def flush(self) -> None:
        """Write what is taken now. Raises OSError (BrokenPipeError) when nobody reads any more."""
        while self._queue:
            if not select.select([], [self._fd], [], 0)[1]:
                return
            data, inbox = self._queue[0]
            try:
                written = os.write(self._fd, data[: self._chunk])
            except BlockingIOError:
                return
            if inbox is not None:
                inbox.wrote(written)
            if written == len(data):
                self._queue.popleft()
            else:
                self._queue[0] = (data[written:], inbox)

    def drain(self, patience: float) -> None:
        """Write what is queued, or as much of it as is taken within `patience` seconds."""
        deadline = time.monotonic() + patience
        self.flush()
        while self._queue and (left := deadline - time.monotonic()) > 0:
            select.select([], [self._fd], [], left)
            self.flush()

    def drop(self) -> None:
        """Forget what is queued, as if it were written: nobody reads it any more."""
        for data, inbox in self._queue:
            if inbox is not None:
                inbox.wrote(len(data))
        self._queue.clear()


class Share:
    """Tells an inbox of its bytes when what was made of them is written."""

    def __init__(self, inbox: Counter, size: int) -> None:
        self._inbox = inbox
        self._size = size

    def of(self, line: int) -> Share:
        self._left = line
        return self

    def wrote(self, count: int) -> None:
        self._left -= count
        if not self._left:
            self._inbox.wrote(self._size)
