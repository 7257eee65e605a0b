"""The one writer of a program's input, for the whole life of its PTY or pipe.

Bytes go through a pipe of our own, the inlet, which the keeper holds too: into the inlet by
write, from there to the program by splice. Both move bytes and their count in one system call,
so a successor of a killed bridge sees in the inlet exactly what was taken and not delivered.
"""

from __future__ import annotations

import fcntl
import os
import termios
from collections import deque

from coditect_cli.gateway.ring import BASE, PHASE, SLOT, UNCERTAIN, UNCERTAIN_AT, Ring

_IDLE, _TAKING, _WRITING = range(3)
_CHUNK = 65_536
_EXACT = hasattr(os, "splice")


class Inlet:
    """Queues input and moves it to `target`, a non-blocking PTY master or pipe."""

    def __init__(self, ring: Ring, read_end: int, write_end: int, target: int) -> None:
        self._words = ring.words
        self._read_end = read_end
        self._write_end = write_end
        self.target = target
        self._queue: deque[tuple[int, memoryview | int]] = deque()
        self._held = 0

    @property
    def idle(self) -> bool:
        """True when nothing is queued and nothing is in the inlet."""
        return not self._queue and not self._held

    def put(self, slot: int, data: bytes) -> None:
        """Queue bytes of the client whose input is counted in word `slot`."""
        if data:
            self._queue.append((slot, memoryview(data)))

    def pass_over(self, slot: int, count: int) -> None:
        """Count bytes as taken, in their turn, without delivering them."""
        self._queue.append((slot, count))

    def drop(self, slot: int) -> None:
        """Forget what this client has queued; it sends that again when it resumes."""
        self._queue = deque(item for item in self._queue if item[0] != slot)

    def discard(self) -> None:
        """Count everything as taken: nobody will ever read it."""
        for slot, data in self._queue:
            self._words[slot] += data if isinstance(data, int) else len(data)
        self._queue.clear()
        self._held = 0

    def pump(self) -> bool:
        """Move as much as the program takes now; False when it takes no more for now.

        Raises OSError (EPIPE, EIO) when the program no longer reads.
        """
        try:
            while not self.idle:
                if self._held:
                    self._deliver()
                    continue
                slot, data = self._queue[0]
                if isinstance(data, int):
                    self._words[slot] += data
                    taken = data
                else:
                    taken = self._take(slot, data) if _EXACT else self._write(slot, data)
                    if taken < len(data):
                        self._queue[0] = (slot, data[taken:])
                        continue
                self._queue.popleft()
        except BlockingIOError:
            return False
        return True

    def _take(self, slot: int, data: memoryview) -> int:
        words = self._words
        words[BASE] = words[slot]
        words[SLOT] = slot
        words[PHASE] = _TAKING
        taken = os.write(self._write_end, data[:_CHUNK])
        words[slot] = words[BASE] + taken
        words[PHASE] = _IDLE
        self._held = taken
        return taken

    def _deliver(self) -> None:
        while self._held:
            self._held -= os.splice(
                self._read_end, self.target, self._held, flags=os.SPLICE_F_NONBLOCK
            )

    def _write(self, slot: int, data: memoryview) -> int:
        """Write directly where there is no splice; a kill meanwhile makes the bytes uncertain."""
        words = self._words
        words[BASE] = words[slot]
        words[SLOT] = slot
        words[UNCERTAIN] = len(data)
        words[PHASE] = _WRITING
        try:
            taken = os.write(self.target, data)
            words[slot] = words[BASE] + taken
        finally:
            words[PHASE] = _IDLE
            words[UNCERTAIN] = 0
        return taken

    def recover(self) -> None:
        """Go on where a killed bridge was; what can't be known is noted as uncertain."""
        words = self._words
        waiting = fcntl.ioctl(self._read_end, termios.FIONREAD, bytes(4))
        self._held = int.from_bytes(waiting, "little")
        if words[PHASE] == _TAKING:
            words[words[SLOT]] = words[BASE] + self._held
        elif words[PHASE] == _WRITING:
            words[UNCERTAIN_AT] = words[BASE]
            words[words[SLOT]] = words[BASE] + words[UNCERTAIN]
        else:
            words[UNCERTAIN] = 0
        words[PHASE] = _IDLE

    def uncertain(self, slot: int) -> tuple[int, int] | None:
        """(offset, count) of this client's input that may not have arrived; told once."""
        words = self._words
        if not words[UNCERTAIN] or words[SLOT] != slot:
            return None
        told = words[UNCERTAIN_AT], words[UNCERTAIN]
        words[UNCERTAIN] = 0
        return told
