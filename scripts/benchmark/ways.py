"""The ways to a shell that are compared; each is typed into and read from in the same manner."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence

from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.http11 import Response
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from coditect_cli.attach.link import Link
from coditect_cli.protocol import messages
from coditect_cli.protocol.stream import Inbox

PATIENCE = 60.0  # seconds until a measurement is given up
CHUNK = 1 << 18


class Way:
    """A shell at the other end of something."""

    def type(self, data: bytes) -> None:
        raise NotImplementedError

    def read(self) -> bytes:
        """What has come, after waiting for it. Raises EOFError, TimeoutError."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def expect(self, wanted: bytes) -> int:
        """Read up to `wanted`; how many bytes came."""
        count, tail = 0, b""
        while True:
            data = self.read()
            count += len(data)
            tail += data
            if wanted in tail:
                return count
            tail = tail[-len(wanted) :]


class Terminal(Way):
    """A program on a PTY, as a person has it."""

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str]) -> None:
        self.pid, self._fd = pty.fork()
        if not self.pid:
            try:
                os.execvpe(argv[0], list(argv), {**environ, "TERM": "xterm-256color"})  # noqa: S606
            finally:
                os._exit(127)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def type(self, data: bytes) -> None:
        os.write(self._fd, data)

    def read(self) -> bytes:
        _wait(self._fd)
        try:
            data = os.read(self._fd, CHUNK)
        except OSError:  # Linux has EIO where nobody is left
            data = b""
        if not data:
            raise EOFError
        return data

    def close(self) -> None:
        os.kill(self.pid, signal.SIGHUP)
        os.close(self._fd)
        os.waitpid(self.pid, 0)


class Gateway(Way):
    """A WebSocket straight to the bridge, without the attach client."""

    def __init__(self, link: Link, session: str = "new") -> None:
        self.session = ""
        self._link = link
        self._inbox = Inbox()
        self._pending = b""
        attach = messages.Attach(
            os.urandom(16).hex(), session, 80, 24, "xterm-256color", False, None
        )
        link.send(messages.encode(attach))

    def type(self, data: bytes) -> None:
        self._link.send(data)

    def read(self) -> bytes:
        output: list[bytes] = []
        while not output:
            if not self._link.pending():
                _wait(self._link.fd)
            for item in self._link.receive():
                if isinstance(item, bytes):
                    output.append(item)
                else:
                    self._heed(json.loads(item))
        data = b"".join(output)
        self._inbox.receive(len(data))
        self._inbox.wrote(len(data))
        if offset := self._inbox.ack(messages.WINDOW // 4):
            self._link.send(messages.encode(messages.Ack("output", offset)))
        return data

    def _heed(self, message: dict[str, object]) -> None:
        if message["type"] == "attached":
            self.session = str(message["session"])
        elif message["type"] in ("exit", "error"):
            raise EOFError(message)

    def close(self) -> None:
        self._link.close()


class Socket(Way):
    """Another program's WebSocket; `wrap` and `unwrap` are its messages."""

    def __init__(
        self,
        url: str,
        subprotocol: str | None,
        wrap: Callable[[bytes], bytes | str],
        unwrap: Callable[[bytes], bytes],
    ) -> None:
        self._wrap, self._unwrap = wrap, unwrap
        uri = parse_uri(url)
        offered = [Subprotocol(subprotocol)] if subprotocol else None
        self._socket = socket.create_connection((uri.host, uri.port), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._protocol = ClientProtocol(uri, subprotocols=offered, max_size=None)
        self._protocol.send_request(self._protocol.connect())
        self._flush()
        self._early: list[Frame] = []
        while not self._early:
            events = self._receive()
            if any(isinstance(event, Response) for event in events):
                break
        self._early = [event for event in events if isinstance(event, Frame)]

    def send(self, message: bytes | str) -> None:
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        self._flush()

    def type(self, data: bytes) -> None:
        self.send(self._wrap(data))

    def read(self) -> bytes:
        data = b""
        while not data:
            frames, self._early = self._early or self._receive(), []
            data = b"".join(self._unwrap(bytes(frame.data)) for frame in frames)
        return data

    def close(self) -> None:
        self._socket.close()

    def _flush(self) -> None:
        self._socket.sendall(b"".join(self._protocol.data_to_send()))

    def _receive(self) -> list[Frame]:
        data = self._socket.recv(CHUNK)
        if not data:
            raise EOFError
        self._protocol.receive_data(data)
        self._flush()
        return self._protocol.events_received()  # type: ignore[return-value]


def _wait(fd: int) -> None:
    if not select.select([fd], [], [], PATIENCE)[0]:
        raise TimeoutError("nothing came")


def until_open(port: int, may_come: Callable[[], bool]) -> None:
    """Return once somebody listens on this loopback port. Raises ConnectionRefusedError."""
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline or not may_come():
                raise
            time.sleep(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
