"""One WebSocket connection to a gateway: opened here, then driven by its owner's select loop.

The only part of the client that knows `websockets`, whose protocol object does no I/O of its own:
no redirect is followed, no proxy looked up, and nothing ever waits behind our back.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from coditect_cli import __version__
from coditect_cli.attach.refusal import refusal, unsupported
from coditect_cli.errors import CoditectError, Failed, SessionLost, Unreachable, UsageError
from coditect_cli.gateway.address import short_path
from coditect_cli.protocol import binary
from coditect_cli.protocol.handshake import V2, WORKSPACE_HEADER

if TYPE_CHECKING:
    from websockets.client import ClientProtocol
    from websockets.http11 import Response

CONNECT_TIMEOUT = 10.0  # seconds, for each of: connecting, and both handshakes together
MAX_MESSAGE = 16 * 1024 * 1024  # bytes; the redraw of a very large screen is one message
CHUNK = 256 * 1024

# RFC 6455's opcodes, and State.OPEN of websockets: names of that library would have to be
# imported for each message.
_CONTINUATION, _TEXT, _BINARY, _PONG = 0, 1, 2, 10
_OPEN = 1


class LinkLost(SessionLost):
    """Raised when the connection ended; `close_code` says how, 1006 without a close frame."""

    def __init__(self, close_code: int, reason: str = "") -> None:
        super().__init__(
            f"the connection to the gateway was lost{f' ({reason})' if reason else ''}",
            code="session.link_lost",
            retryable=True,
        )
        self.close_code = close_code


@dataclass(frozen=True)
class Address:
    """Where a gateway listens: `unix_path`, or `host` and `port`; `path` is the resource."""

    url: str
    secure: bool
    host: str
    port: int
    path: str
    unix_path: str | None = None

    @classmethod
    def parse(cls, url: str) -> Address:
        """The address in a `ws://`, `wss://` or `ws+unix:` URL. Raises UsageError."""
        scheme, _, rest = url.partition(":")
        if scheme == "ws+unix" and rest.startswith("/") and not rest.startswith("//"):
            return cls(url, False, "localhost", 80, "/ws", rest)
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise _bad_url(url) from None
        if parts.scheme not in ("ws", "wss") or not parts.hostname or "@" in parts.netloc:
            raise _bad_url(url)
        secure = parts.scheme == "wss"
        path = parts.path if parts.path not in ("", "/") else "/ws"
        shown = f"{parts.scheme}://{parts.netloc}{path}"
        resource = path + (f"?{parts.query}" if parts.query else "")
        return cls(shown, secure, parts.hostname, port or (443 if secure else 80), resource)

    def is_private(self) -> bool:
        """Whether a token sent there stays on this machine or is encrypted."""
        if self.secure or self.unix_path is not None or self.host == "localhost":
            return True
        import ipaddress

        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def _bad_url(url: str) -> UsageError:
    shown = url if "@" not in url else "it"
    return UsageError(
        f"the gateway's URL is not one that can be used: {shown}",
        code="gateway.url",
        hint="use ws://HOST:PORT, wss://HOST or ws+unix:/path/to/socket, with no user in it",
    )


class Link:
    """An open connection; `receive` and `flush` never wait."""

    def __init__(self, sock: socket.socket, protocol: ClientProtocol, workspace_id: str) -> None:
        self.workspace_id = workspace_id
        self._socket = sock
        self.fd = sock.fileno()
        self._protocol = protocol
        self.unsent = bytearray()  # what waits until the network takes it
        self._buffer = memoryview(bytearray(CHUNK))
        self._decrypted: Callable[[], int] | None = getattr(sock, "pending", None)
        self._parts: list[bytes] = []
        self._ping_sent = 0.0
        self.heard = time.monotonic()
        self.rtt: float | None = None

    @classmethod
    def open(cls, url: str, workspace_id: str, token: str, *, insecure: bool = False) -> Link:
        """Connect, and wait until the gateway has agreed; CONNECT_TIMEOUT bounds each step.

        It agrees only when `workspace_id` is the workspace that the token is for.

        Raises the gateway's own error when it refuses, Unreachable when it does not answer,
        UsageError for a URL that cannot be used or that would send the token in the clear.
        """
        address = Address.parse(url)
        if not insecure and not address.is_private():
            raise UsageError(
                f"a token is not sent unencrypted to {address.host}",
                code="token.insecure",
                hint="use wss://; on a trusted network attach, exec and cp take --insecure",
            )
        sock = connect(address)
        try:
            protocol = _handshake(sock, address, workspace_id, token)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        return cls(sock, protocol, workspace_id)

    def send(self, data: bytes | str) -> None:
        """Queue one message: a text frame for str, a binary frame for bytes."""
        if self._protocol.state != _OPEN:
            raise self._lost()
        if isinstance(data, str):
            self._protocol.send_text(data.encode())
            self.flush()
        else:
            self.unsent += binary.frame(data, masked=True)
            self._write()

    def ping(self) -> None:
        """Ask for a sign of life; its answer sets `rtt`, in seconds."""
        self._ping_sent = time.monotonic()
        self._protocol.send_ping(b"")
        self.flush()

    def flush(self) -> None:
        """Send what the network takes now. Raises LinkLost."""
        for data in self._protocol.data_to_send():
            self.unsent += data
        self._write()

    def _write(self) -> None:
        while self.unsent:
            try:
                sent = self._socket.send(self.unsent)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if _would_block(error):
                    return
                raise LinkLost(1006, error.strerror or "") from error
            del self.unsent[:sent]

    def receive(self) -> list[bytes | str]:
        """The messages that have arrived, in order. Raises LinkLost once there are no more."""
        if self._protocol.events and (came_with_the_handshake := self._messages()):
            return came_with_the_handshake
        while True:
            try:
                data = bytes(self._buffer[: self._socket.recv_into(self._buffer)])
            except (BlockingIOError, InterruptedError):
                return []
            except OSError as error:
                if _would_block(error):
                    return []
                raise LinkLost(1006, error.strerror or "") from error
            if not data:
                raise self._lost()
            self.heard = time.monotonic()
            echo = binary.lone_payload(data, masked=False)
            if echo is not None and binary.at_boundary(self._protocol):
                return [echo]
            self._protocol.receive_data(data)
            messages = self._messages()
            if messages or self._protocol.close_rcvd is not None:
                break
        with contextlib.suppress(LinkLost):  # what came before the loss is still good
            self.flush()
        if not messages:
            raise self._lost()
        return messages

    def pending(self) -> bool:
        """Whether messages wait that a select on the socket would not show."""
        if self._protocol.events or self._protocol.close_rcvd is not None:
            return True
        return self._decrypted is not None and self._decrypted() > 0

    def close(self) -> None:
        """End the connection without waiting for the other side."""
        with contextlib.suppress(Exception):
            self._protocol.send_close(1000)
            self.flush()
        self._socket.close()

    def _messages(self) -> list[bytes | str]:
        messages: list[bytes | str] = []
        frames: list[Any] = self._protocol.events_received()
        for frame in frames:
            if frame.opcode == _PONG:
                self.rtt = time.monotonic() - self._ping_sent
            elif frame.opcode == _TEXT and frame.fin:
                messages.append(bytes(frame.data).decode("utf-8", "replace"))
            elif frame.opcode == _BINARY and frame.fin:
                messages.append(bytes(frame.data))
            elif frame.opcode in (_CONTINUATION, _TEXT, _BINARY):
                self._gather(frame, messages)
        return messages

    def _gather(self, frame: Any, messages: list[bytes | str]) -> None:
        """A message in several frames, as a proxy may have cut it."""
        if frame.opcode != _CONTINUATION:
            self._gathers_text = frame.opcode == _TEXT
        self._parts.append(bytes(frame.data))
        if frame.fin:
            whole = b"".join(self._parts)
            self._parts.clear()
            messages.append(whole.decode("utf-8", "replace") if self._gathers_text else whole)

    def _lost(self) -> LinkLost:
        close = self._protocol.close_rcvd
        return LinkLost(close.code, close.reason) if close is not None else LinkLost(1006)


def _would_block(error: OSError) -> bool:
    # TLS has classes of its own for it; they are only there once ssl was imported.
    return type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError")


def connect(address: Address) -> socket.socket:
    """A connected socket, its time-out CONNECT_TIMEOUT. Raises Unreachable, Failed."""
    try:
        if address.unix_path is not None:
            return _connect_unix(address.unix_path)
        sock = socket.create_connection((address.host, address.port), CONNECT_TIMEOUT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise _unreachable(address, error) from error
    return _wrap_tls(sock, address) if address.secure else sock


def _connect_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(CONNECT_TIMEOUT)
        with short_path(path) as name:
            sock.connect(name)
    except BaseException:
        sock.close()
        raise
    return sock


def _wrap_tls(sock: socket.socket, address: Address) -> socket.socket:
    import ssl

    try:
        return ssl.create_default_context().wrap_socket(sock, server_hostname=address.host)
    except ssl.SSLCertVerificationError as error:
        sock.close()
        raise Failed(
            f"the certificate of {address.host} does not hold: {error.verify_message}",
            code="gateway.certificate",
            hint="check the URL and the clock; SSL_CERT_FILE names another set of authorities",
        ) from error
    except ssl.SSLError as error:
        sock.close()
        why = (error.reason or "it failed").replace("_", " ").lower()
        raise Unreachable(
            f"no TLS with {address.host}, port {address.port}: {why}",
            code="gateway.tls",
            hint="check that the port is the one for wss://; ws:// is for one without TLS",
            retryable=True,
        ) from error
    except OSError as error:
        sock.close()
        raise _unreachable(address, error) from error


def _unreachable(address: Address, error: OSError) -> CoditectError:
    why = error.strerror or str(error) or "no answer"
    if isinstance(error, TimeoutError):
        why = f"no answer within {CONNECT_TIMEOUT:g} s"
    if address.unix_path is not None and error.errno in (errno.ENOENT, errno.ECONNREFUSED):
        return Unreachable(
            f"no gateway is running at {address.unix_path}",
            code="gateway.not_running",
            hint="coditect up ID starts this machine's; coditect context show says which is used",
            retryable=True,
        )
    hint = "check the URL (coditect context show) and the network"
    if address.unix_path is not None:
        hint = "a socket is for its own user alone; coditect gateway logs may say why it is silent"
    return Unreachable(
        f"no gateway answers at {address.url}: {why}",
        code="gateway.unreachable",
        hint=hint,
        retryable=True,
    )


def _handshake(
    sock: socket.socket, address: Address, workspace_id: str, token: str
) -> ClientProtocol:
    protocol = _protocol(address)
    request = protocol.connect()
    request.headers["Authorization"] = f"Bearer {token}"
    request.headers[WORKSPACE_HEADER] = workspace_id
    request.headers["User-Agent"] = f"coditect/{__version__}"
    protocol.send_request(request)
    response: Response | None = None
    deadline = time.monotonic() + CONNECT_TIMEOUT
    try:
        sock.sendall(b"".join(protocol.data_to_send()))
        while response is None and protocol.handshake_exc is None:
            sock.settimeout(max(0.001, deadline - time.monotonic()))
            if data := sock.recv(CHUNK):
                protocol.receive_data(data)
            else:
                protocol.receive_eof()
            response = _response(protocol)
    except ConnectionError:  # no answer, as it has hung up
        response = None
    except OSError as error:
        raise _unreachable(address, error) from error
    if response is None:
        raise Unreachable(
            f"what answers at {address.url} is no gateway, or it hung up",
            code="gateway.no_answer",
            hint="check the URL (coditect context show)",
            retryable=True,
        )
    if response.status_code != 101:
        raise refusal(address.url, response.status_code, bytes(response.body or b""))
    if protocol.handshake_exc is not None or protocol.subprotocol != V2:
        raise unsupported(response.headers.get("Server"))
    return protocol


def _protocol(address: Address) -> ClientProtocol:
    import logging

    from websockets.client import ClientProtocol
    from websockets.typing import Subprotocol
    from websockets.uri import WebSocketURI

    # Its own logger would write headers (the token) and payloads at level DEBUG.
    silent = logging.Logger("silent", logging.CRITICAL + 1)
    resource, _, query = address.path.partition("?")
    uri = WebSocketURI(address.secure, address.host, address.port, resource, query)
    return ClientProtocol(uri, subprotocols=[Subprotocol(V2)], max_size=MAX_MESSAGE, logger=silent)


def _response(protocol: ClientProtocol) -> Response | None:
    from websockets.http11 import Response

    # A first message may come right behind the response: it stays for `receive`.
    for position, event in enumerate(protocol.events):
        if isinstance(event, Response):
            del protocol.events[position]
            return event
    return None
