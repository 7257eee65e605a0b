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
        self._kept = bytearray()

    @property
    def end(self) -> int:
        """How many bytes have been appended so far."""
        return self.acked + len(self._kept)

    @property
    def kept(self) -> int:
        """How many bytes are held in memory: sent or not, but not yet taken."""
        return len(self._kept)

    def append(self, data: bytes) -> None:
        """Add `data` at the end of the stream."""
        self._kept += data

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


class Inbox:
    """A count of bytes that came in, and of those that were written to where they belong."""

    def __init__(self) -> None:
        self.received = 0
        self.written = 0
        self._acked = 0

    def ack(self, at_least: int) -> int | None:
        """The offset to acknowledge now, or None while fewer than `at_least` bytes are new."""
        if self.written - self._acked < at_least or self.written == self._acked:
            return None
        self._acked = self.written
        return self.written

    def jump(self, offset: int) -> None:
        """Go on at `offset`, as after a redraw: what lies between is not coming."""
        self.received = self.written = offset

    def resume(self) -> int:
        """The first byte to ask for on a new link; forget what was acknowledged on the old one."""
        self._acked = 0
        return self.received


def _violation(message: str) -> Failed:
    return Failed(message, code="protocol.violation", hint="report this: it is a bug")
