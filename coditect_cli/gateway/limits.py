"""How many, how fast: connections and attachments of each user."""

from __future__ import annotations

import time
from collections import Counter

from coditect_cli.errors import LimitReached


class Limits:
    """Counts per user; each limit has its own error."""

    def __init__(self, max_connections: int, attach_rate: int) -> None:
        self._max_connections = max_connections
        self._attach_rate = attach_rate
        self._connections: Counter[str] = Counter()
        self._buckets: dict[str, tuple[float, float]] = {}

    @property
    def connections(self) -> int:
        return self._connections.total()

    def check(self, user: str) -> None:
        """Raises LimitReached where one more connection is too many, or comes too soon."""
        self._check_rate(user)
        if self._connections[user] >= self._max_connections:
            raise LimitReached(
                f"{user} has all connections to this gateway that one may: {self._max_connections}",
                code="limit.connections",
                hint="close some, or raise the setting max_connections",
                retryable=True,
            )

    def enter(self, user: str) -> None:
        """Count one more connection."""
        self._connections[user] += 1

    def leave(self, user: str) -> None:
        """Count one connection less."""
        self._connections[user] -= 1
        if not self._connections[user]:
            del self._connections[user]

    def _check_rate(self, user: str) -> None:
        now = time.monotonic()
        allowance, at = self._buckets.get(user, (float(self._attach_rate), now))
        allowance = min(self._attach_rate, allowance + (now - at) * self._attach_rate)
        if allowance < 1:
            raise LimitReached(
                f"{user} connects more than {self._attach_rate} times a second",
                code="limit.attach_rate",
                hint="wait a second, or raise the setting attach_rate",
                retryable=True,
            )
        self._buckets[user] = (allowance - 1, now)
