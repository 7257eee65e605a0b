"""Where WebSocket messages end, for who passes them on without looking into them."""

from __future__ import annotations

_FINAL, _CONTROL, _MASKED = 0x80, 0x08, 0x80


class Boundaries:
    """Follows one direction of a connection, from its first frame on (RFC 6455, section 5.2)."""

    def __init__(self) -> None:
        self._header = bytearray()  # of a frame that has begun
        self._left = 0  # bytes of the frame's payload
        self._in_message = False  # its last data frame was not final

    @property
    def between_messages(self) -> bool:
        """Whether another message may be put in here."""
        return not (self._header or self._left or self._in_message)

    def feed(self, data: bytes) -> int:
        """Go on by `data`; how many bytes of it lie before the last place between messages.

        0 where there is none in it, or only its start.
        """
        at, end, last = 0, len(data), 0
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                self._left -= step
                at += step
            else:
                self._header.append(data[at])
                at += 1
                self._read_header()
            if self.between_messages:
                last = at
        return last

    def _read_header(self) -> None:
        header = self._header
        if len(header) < 2:
            return
        length = header[1] & 0x7F
        extended = {126: 2, 127: 8}.get(length, 0)
        if len(header) < 2 + extended + (4 if header[1] & _MASKED else 0):
            return
        self._left = int.from_bytes(header[2 : 2 + extended]) if extended else length
        if not header[0] & _CONTROL:
            self._in_message = not header[0] & _FINAL
        header.clear()
