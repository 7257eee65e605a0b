"""Counted bytes under way, so that a lost link loses none and repeats none.

Offsets count a stream's bytes from 0, as in docs/protocol.md: an offset is the number of bytes
before the next one.
"""

from __future__ import annotations

from coditect_cli.errors import Failed


class Outbox:
    """Bytes on their way out, kept until the other side says that it has taken them.

    `acked <= sent <= end`: what was taken, what was sent on this link, what was appended.
    """

    def __init__(self) -> None:
        self.acked = 0
        self.sent = 0
        self.end = 0
        self._kept = bytearray()

    @property
    def kept(self) -> int:
        """How many bytes are held in memory: sent or not, but not yet taken."""
        return len(self._kept)

    def append(self, data: bytes) -> None:
        """Add `data` at the end of the stream."""
        self._kept += data
        self.end += len(data)

    def take(self, window: int, limit: int) -> bytes:
        """The next bytes to send: at most `limit`, and at most `window` past the last ack."""
        start = self.sent - self.acked
        stop = min(len(self._kept), window, start + limit)
        if stop <= start:
            return b""
        self.sent = self.acked + stop
        return bytes(self._kept[start:stop])

    def ack(self, offset: int) -> None:
        """Let go of everything before `offset`; an old ack changes nothing.

        Raises Failed when `offset` is past what was sent.
        """
        if offset > self.sent:
            raise _violation(f"the gateway has taken {offset} bytes of {self.sent} sent")
        if offset > self.acked:
            del self._kept[: offset - self.acked]
            self.acked = offset

    def rewind(self, offset: int) -> None:
        """Go on at `offset` on a new link: all before it was taken, all after it is sent again.

        Raises Failed when `offset` lies outside of what is kept: bytes would be lost or doubled.
        """
        if not self.acked <= offset <= self.sent:
            raise _violation(
                f"the gateway asks for input from byte {offset}, "
                f"but bytes {self.acked} to {self.sent} are under way"
            )
        self.ack(offset)
        self.sent = offset

    def restart(self) -> None:
        """Begin at byte 0 of another stream; what is kept was for the old one."""
        self.acked = self.sent = self.end = 0
        self._kept.clear()


class Inbox:
    """A count of bytes that came in, and of those that wait to be written where they belong."""

    def __init__(self) -> None:
        self.received = 0
        self._waiting = 0
        self._acked = 0

    def receive(self, count: int) -> None:
        """`count` bytes arrived."""
        self.received += count
        self._waiting += count

    def wrote(self, count: int) -> None:
        """`count` of the bytes that arrived are where they belong."""
        self._waiting -= count

    def ack(self, at_least: int) -> int | None:
        """The offset to acknowledge now, or None while fewer than `at_least` bytes are new."""
        written = self.received - self._waiting
        if written - self._acked < at_least:
            return None
        self._acked = written
        return written

    def start(self, offset: int) -> None:
        """The next byte is number `offset`, and what lies before is acknowledged: as a link
        begins, or after a redraw.
        """
        self.received = self._acked = offset


def _violation(message: str) -> Failed:
    return Failed(message, code="protocol.violation", hint="report this: it is a bug")
