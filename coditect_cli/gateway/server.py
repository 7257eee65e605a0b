"""The listening side: upgrades requests that are let in, and takes leave of clients."""

from __future__ import annotations

import asyncio
import http
import json
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve, unix_serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.typing import Subprotocol

from coditect_cli import __version__
from coditect_cli.errors import CoditectError
from coditect_cli.gateway import v1, v2
from coditect_cli.gateway.access import PAGES, PATHS, Access, Admitted, Asked, http_status
from coditect_cli.gateway.bridge import Bridge
from coditect_cli.gateway.limits import Limits
from coditect_cli.gateway.metrics import CONTENT_TYPE
from coditect_cli.gateway.restoring import Restoring
from coditect_cli.protocol import binary
from coditect_cli.protocol import messages as m
from coditect_cli.protocol.handshake import SESSIONS_PAGE, V2
from coditect_cli.protocol.messages import CLOSE_ENDED, CLOSE_RESTART

log = logging.getLogger("coditect.server")

PING_SECONDS = 30
CLOSE_SECONDS = 5
GOODBYE_SECONDS = 1  # a client that does not answer in this time finds a closed connection


class Connection(ServerConnection):
    """One connection; `admitted` is set before the upgrade is answered."""

    admitted: Admitted
    take_key: Callable[[bytes], bool] | None = None  # false where it should come as any message

    def data_received(self, data: bytes) -> None:
        """Hand a keystroke over at once, without a task's turn; all else comes by `recv`."""
        if self.take_key is not None and (key := binary.lone_payload(data, masked=True)):
            alone = binary.at_boundary(self.protocol) and not self.recv_messages.frames
            if alone and self.take_key(key):
                return
        super().data_received(data)

    async def send_bytes(self, data: bytes) -> None:
        """`send` for one whole binary frame, at a fraction of the cost."""
        if self.protocol.state is not State.OPEN:
            await self.send(data)  # raises what became of the connection
            return
        self.send_now(data)
        try:
            await self.drain()
        except ConnectionError as error:
            raise ConnectionClosedError(None, None) from error

    def send_now(self, data: bytes) -> None:
        """Queue one whole binary frame, the way of each echo; lost where the connection is."""
        if self.protocol.state is State.OPEN and not self.transport.is_closing():
            self.transport.write(binary.frame(data, masked=False))


def select_subprotocol(connection: Any, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The protocol that was admitted, where the client offers it; a client may offer none."""
    chosen = connection.admitted.protocol
    return chosen if chosen in offered else None


class Server:
    """WebSocket endpoints over the sockets that the keeper holds."""

    def __init__(self, bridge: Bridge, access: Access, role: str, log_path: str | None) -> None:
        self.bridge = bridge
        self.access = access
        self.role = role
        self.log_path = log_path
        settings = bridge.settings
        self.limits = Limits(settings.max_connections, settings.attach_rate)
        self.connections: set[Connection] = set()
        self.restoring = Restoring(bridge)
        self._servers: list[WebSocketServer] = []

    async def listen(self, listeners: dict[str, socket.socket]) -> None:
        """Accept on each socket."""
        common: dict[str, Any] = {
            "process_request": self.process_request,
            "select_subprotocol": select_subprotocol,
            "create_connection": Connection,
            "compression": None,
            "max_size": self.bridge.settings.max_message,
            "max_queue": 4,
            "ping_interval": PING_SECONDS,
            "ping_timeout": PING_SECONDS,
            "close_timeout": CLOSE_SECONDS,
            "server_header": f"coditect/{__version__}",
            "logger": logging.getLogger("coditect.websockets"),
        }
        handler: Any = self.handle
        for address, listener in listeners.items():
            if address.startswith("unix:"):  # its path is the keeper's, and outlives this bridge
                start = unix_serve(handler, sock=listener, cleanup_socket=False, **common)
            else:
                start = serve(handler, sock=listener, **common)
            self._servers.append(await start)

    async def process_request(self, connection: Connection, request: Request) -> Response | None:
        """Let a request in, or answer it with the reason why not."""
        asked = Asked.of(request.path, request.headers)
        try:
            if request.path in PAGES:
                await self.access.admit_to_page(asked)
                return self.page(request.path)
            page = request.path == SESSIONS_PAGE
            admitted = await self.access.admit(asked, (SESSIONS_PAGE,) if page else PATHS)
            if admitted.record is not None:  # who manages the gateway can still do so
                self.limits.check(admitted.user)
        except CoditectError as error:
            log.info("refused code=%s", error.code)
            self.bridge.metrics.refuse(error.code, http_status(error))
            return refusal(error)
        if page:
            found = m.encode(v2.session_list(self, admitted))
            return answer(http.HTTPStatus.OK, "application/json", found.encode())
        self.bridge.metrics.admitted += 1
        connection.admitted = admitted
        return None

    def page(self, path: str) -> Response:
        """What probes and Prometheus ask for; whoever is answered finds the gateway ready."""
        body = "ok\n"
        if path == "/metrics":
            kinds = Counter(one.kind for one in self.bridge.live(None))
            connections = self.limits.connections
            body = self.bridge.metrics.expose(kinds, connections, __version__)
        return answer(http.HTTPStatus.OK, CONTENT_TYPE, body.encode())

    async def handle(self, connection: Connection) -> None:
        """Serve one connection to its end."""
        admitted = connection.admitted
        self.limits.enter(admitted.user)
        self.connections.add(connection)
        if sock := connection.transport.get_extra_info("socket"):
            with suppress(OSError):
                if sock.family != socket.AF_UNIX:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        protocol = v2 if admitted.protocol == V2 else v1
        try:
            await protocol.serve(self, connection, admitted)
        except ConnectionClosed:
            pass
        finally:
            self.connections.discard(connection)
            self.limits.leave(admitted.user)
            self.bridge.changed.set()

    async def drain(self, reason: str) -> None:
        """Tell every client to come back (`restart`) or that this is the end, then hang up.

        Who connects from now on waits in the keeper's socket for the next bridge.
        """
        for server in self._servers:
            server.close(close_connections=False)
        code = CLOSE_RESTART if reason == "restart" else CLOSE_ENDED
        goodbyes = [
            asyncio.create_task(v2.say_goodbye(connection, reason, code))
            for connection in list(self.connections)
        ]
        if goodbyes:
            await asyncio.wait(goodbyes, timeout=GOODBYE_SECONDS)

    async def stop_when_idle(self, seconds: float) -> None:
        """Return when there was neither a session nor a connection for so long."""
        idle_since = time.monotonic()
        while True:
            if self.bridge.sessions or self.connections or self.bridge.saving.unsaved():
                idle_since = time.monotonic()
            left = idle_since + seconds - time.monotonic()
            if left <= 0:
                return
            self.bridge.changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.bridge.changed.wait(), left)


def refusal(error: CoditectError) -> Response:
    """The HTTP answer that carries an error."""
    status = http_status(error)
    body = json.dumps({"error": error.as_dict()}).encode()
    response = answer(status, "application/json", body)
    if status == http.HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if status == http.HTTPStatus.TOO_MANY_REQUESTS:
        response.headers["Retry-After"] = "1"
    return response


def answer(status: http.HTTPStatus, content_type: str, body: bytes) -> Response:
    """A whole HTTP answer."""
    headers = Headers(Connection="close")
    headers["Content-Length"] = str(len(body))
    headers["Content-Type"] = content_type
    return Response(status.value, status.phrase, headers, body)
