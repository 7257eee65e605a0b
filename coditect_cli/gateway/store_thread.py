"""The store, used in a thread of its own: a terminal never waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from coditect_cli.errors import Unreachable
from coditect_cli.sessions.layer import SessionLayer

T = TypeVar("T")

SILENCE = 2.0  # seconds


class StoreThread:
    """Asks the store one thing at a time. It is opened when the first is asked."""

    def __init__(self, open_layer: Callable[[], SessionLayer]) -> None:
        self._open_layer = open_layer
        self._layer: SessionLayer | None = None
        self._thread = ThreadPoolExecutor(1, "saving")
        self._silence: tuple[float, Unreachable] | None = None  # until when, and what it raised

    async def ask(self, fn: Callable[[SessionLayer], T]) -> T:
        """What `fn` gets of the store. One wait for a store that is silent does for all in turn.

        Raises the store's errors.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._asked, fn)

    async def close(self) -> None:
        """Close the store; it is opened again by whoever asks."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)

    def _asked(self, fn: Callable[[SessionLayer], T]) -> T:
        if self._silence is not None and time.monotonic() < self._silence[0]:
            raise self._silence[1].with_traceback(None)
        try:
            if self._layer is None:
                self._layer = self._open_layer()
            return fn(self._layer)
        except Unreachable as error:
            self._silence = time.monotonic() + SILENCE, error
            raise

    def _close(self) -> None:
        if self._layer is not None:
            self._layer.close()
            self._layer = None
