"""Connects in the background, so that keys are answered while a network is dead."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable

from coditect_cli.attach.link import Link
from coditect_cli.errors import CoditectError

FIRST_DELAY = 0.05  # seconds before the second attempt; the first comes at once
MAX_DELAY = 5.0  # seconds


class Dialer:
    """One attempt at a time, with capped and jittered exponential backoff between them.

    Resolving a name, a token command and a TLS handshake all wait: each attempt has a thread.
    """

    def __init__(self, dial: Callable[[], Link]) -> None:
        self._dial = dial
        self._ready, self._done = socket.socketpair()
        self._outcome: Link | CoditectError | None = None
        self._running = False
        self._attempts = 0
        self._next = 0.0

    def fileno(self) -> int:
        """Readable once an attempt has ended."""
        return self._ready.fileno()

    def reset(self) -> None:
        """The connection is good: the next attempt comes at once again."""
        self._attempts = 0
        self._next = 0.0

    def wait(self) -> float | None:
        """Seconds until `advance` has something to do, or None while an attempt runs."""
        return None if self._running else max(0.0, self._next - time.monotonic())

    def advance(self) -> Link | CoditectError | None:
        """Start an attempt that is due, or return the outcome of one that has ended."""
        if self._running:
            if self._outcome is None:
                return None
            self._ready.recv(1)
            outcome, self._outcome, self._running = self._outcome, None, False
            return outcome
        if time.monotonic() >= self._next:
            self._running = True
            delay = min(MAX_DELAY, FIRST_DELAY * 2 ** min(self._attempts, 16))
            self._next = time.monotonic() + delay * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)
            self._attempts += 1
            threading.Thread(target=self._attempt, daemon=True).start()
        return None

    def close(self) -> None:
        """Forget an attempt that still runs; its thread closes what it opens."""
        self._ready.close()
        if not self._running:
            self._done.close()

    def _attempt(self) -> None:
        try:
            self._outcome = self._dial()
        except CoditectError as error:
            self._outcome = error
        except Exception as error:
            failure = CoditectError(f"connecting failed: {type(error).__name__}")
            failure.__cause__ = error
            self._outcome = failure
        try:
            self._done.send(b"\0")
        except OSError:  # closed meanwhile
            self._done.close()
            if isinstance(self._outcome, Link):
                self._outcome.close()
