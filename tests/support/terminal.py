"""A real terminal with `coditect` in it, and a person who types and reads."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from typing import Any, Self

# A new session's leader has no terminal until it takes one.
_TAKE_TERMINAL = (
    "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "from coditect_cli.main import entry; entry()"
)
PATIENCE = 30.0  # seconds until a test gives up


class Terminal:
    """A PTY whose other end is `coditect ARGS`'s stdin, stdout and stderr."""

    def __init__(self, args: Sequence[str], environ: dict[str, str]) -> None:
        self.master, self.slave = os.openpty()
        self.resize(80, 24)
        self.seen = bytearray()
        self.settings_before = self.settings()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *args],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env={**environ, "TERM": "xterm-256color"},
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for end in (self.master, self.slave):
            if end >= 0:
                os.close(end)

    def settings(self) -> list[Any]:
        """What `stty -a` would show."""
        return termios.tcgetattr(self.slave)

    def resize(self, cols: int, rows: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def expect(self, wanted: bytes, patience: float = PATIENCE) -> bytes:
        """Read until `wanted` is shown; everything up to it is taken off."""
        deadline = time.monotonic() + patience
        searched = 0
        while (found := self.seen.find(wanted, searched)) < 0:
            searched = max(0, len(self.seen) - len(wanted))
            left = deadline - time.monotonic()
            assert left > 0, f"never shown: {wanted!r}, but {bytes(self.seen[-2000:])!r}"
            self._read(left)
        end = found + len(wanted)
        before = bytes(self.seen[:end])
        del self.seen[:end]
        return before

    def wait(self) -> int:
        """Read to the end of the program; its exit status."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"does not end: {bytes(self.seen[-2000:])!r}"
            self._read(0.02)
        while self._read(0):
            pass
        return self.process.returncode

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def _read(self, timeout: float) -> bool:
        if not select.select([self.master], [], [], timeout)[0]:
            return False
        self.seen += os.read(self.master, 65_536)
        return True
