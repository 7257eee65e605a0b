"""Messages with file descriptors between keeper and bridge, over a Unix stream socket."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

VERSION = 2
LOCKED = 6  # the keeper's exit status, as errors.Conflict: another one holds the lock
REFUSED = 78  # the bridge's, EX_CONFIG: it does not know our handover or our memory's layout
_MOST_FDS = 64


class Channel:
    """One end of the socket between keeper and bridge."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self._received = bytearray()
        self._fds: list[int] = []

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        """Send one message and copies of `fds`. Raises OSError when the other end is gone."""
        fds = fds or []
        body = json.dumps({**message, "fds": len(fds)}).encode()
        data = memoryview(len(body).to_bytes(4, "little") + body)
        sent = socket.send_fds(self.socket, [data], fds) if fds else self.socket.send(data)
        if sent < len(data):
            self.socket.sendall(data[sent:])

    def receive(self) -> list[tuple[dict[str, Any], list[int]]]:
        """The messages that have arrived, each with its descriptors; waits for some bytes.

        Raises EOFError when the other end is gone, BlockingIOError when nothing is there.
        """
        try:
            data, fds, _, _ = socket.recv_fds(self.socket, 65_536, _MOST_FDS)
        except ConnectionError:
            raise EOFError from None
        if not data:
            raise EOFError
        self._received += data
        self._fds += fds
        for fd in fds:
            os.set_inheritable(fd, False)
        messages = []
        while len(self._received) >= 4:
            end = 4 + int.from_bytes(self._received[:4], "little")
            if len(self._received) < end:
                break
            message = json.loads(self._received[4:end])
            del self._received[:end]
            count = message.pop("fds")
            messages.append((message, self._fds[:count]))
            del self._fds[:count]
        return messages
