"""Waiting for an echo awake: on an idle machine falling asleep and being woken costs more.

Only the bridge does, not the client too: two that look out keep the shell from a processor.
"""

from __future__ import annotations

from os import sched_yield
from time import perf_counter

LONGEST = 200e-6  # seconds; what takes longer is felt, however it is waited for
REST = 0.05  # seconds without a look where somebody else keeps the processor


class Spin:
    """Says how long somebody looks again and again for what is due, before it sleeps until then."""

    def __init__(self) -> None:
        self._until = 0.0
        self._not_before = 0.0

    def begin(self) -> bool:
        """Something is due; True where looking for it begins, and does not just go on."""
        begins, now = not self._until, perf_counter()
        if now < self._not_before:
            return False
        self._until = now + LONGEST
        return begins

    def end(self) -> None:
        """It has come."""
        self._until = 0.0

    def goes_on(self) -> bool:
        """Let others run first; whether to look again then."""
        if not self._until:
            return False
        begun = perf_counter()
        if begun < self._until:
            sched_yield()
            ended = perf_counter()
            if ended - begun < LONGEST:
                return True
            self._not_before = ended + REST
        self._until = 0.0
        return False
