"""A client's connection and its pod's, joined: bytes go across as they come, and no faster.

Frames are forwarded as they are. In the direction of the client their ends are followed, so that
a farewell can be put between two messages.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from websockets.frames import Close, Frame, Opcode

from coditect_cli.gateway.metrics import EdgeMetrics
from coditect_cli.protocol import messages as m
from coditect_cli.protocol.frames import Boundaries
from coditect_cli.protocol.handshake import V2

LARGEST_HEAD = 64 << 10  # bytes of an HTTP request or response


class Side(asyncio.Protocol):
    """One end: first what `on_data` does with it, then, once joined, all goes to the other end."""

    transport: asyncio.Transport

    def __init__(self, on_data: Callable[[bytes], None], on_lost: Callable[[], None]) -> None:
        self.on_data = on_data
        self.on_lost = on_lost
        self._peer: Side | None = None

    def join(self, peer: Side) -> None:
        """What is received from now on is also held back when `peer` can't send it."""
        self._peer = peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if sock := transport.get_extra_info("socket"):
            with suppress(OSError):  # a connection that is gone already
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        self.on_data(data)

    def pause_writing(self) -> None:
        if self._peer is not None:
            self._peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._peer is not None:
            self._peer.transport.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        self.on_lost()


class Splice:
    """Two sides joined, until one is lost or the client is told to come back."""

    def __init__(self, client: Side, pod: Side, protocol: str | None, metrics: EdgeMetrics) -> None:
        self._metrics = metrics
        self._client = client
        self._pod = pod
        self._protocol = protocol
        self._boundaries = Boundaries()
        self._leaving = False
        client.join(pod)
        pod.join(client)
        client.on_data, pod.on_data = self._to_pod, self._to_client

    def close(self) -> None:
        """Hang up on both, with what was already taken on its way."""
        self._client.transport.close()
        self._pod.transport.close()

    def take_leave(self) -> None:
        """Tell the client, as soon as no message is under way to it, to connect again."""
        self._leaving = True
        if self._boundaries.between_messages:
            self._say_farewell()

    def _to_pod(self, data: bytes) -> None:
        self._metrics.input_bytes += len(data)
        self._pod.transport.write(data)

    def _to_client(self, data: bytes) -> None:
        self._metrics.output_bytes += len(data)
        end = self._boundaries.feed(data)
        if not self._leaving:
            self._client.transport.write(data)
        elif end or self._boundaries.between_messages:
            self._client.transport.write(data[:end])
            self._say_farewell()
        else:
            self._client.transport.write(data)

    def _say_farewell(self) -> None:
        """After it nothing is passed on: what is under way either way is asked for again."""
        self._client.on_data = self._pod.on_data = lambda data: None
        self._pod.transport.abort()
        if self._protocol == V2:
            drain = m.encode(m.Drain("restart")).encode()
            self._client.transport.write(Frame(Opcode.TEXT, drain).serialize(mask=False))
        close = Close(m.CLOSE_RESTART, "restart").serialize()
        self._client.transport.write(Frame(Opcode.CLOSE, close).serialize(mask=False))
        self._client.transport.write_eof()
