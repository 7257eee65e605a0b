"""The edge gateway: verifies a client's token, finds its workspace's pod, and joins the two.

python -m coditect_cli.gateway.edge --listen HOST:PORT...

One process. It holds no session: whoever loses it connects to another one and resumes.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from http import HTTPStatus

import uvloop
from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from coditect_cli import __version__, config, tokens
from coditect_cli.errors import CoditectError, Unreachable, UsageError
from coditect_cli.gateway.access import (
    PAGES,
    Asked,
    bearer,
    check_origin,
    check_owner,
    checked_workspace,
    claims_of,
    http_status,
)
from coditect_cli.gateway.limits import Limits
from coditect_cli.gateway.listeners import listen
from coditect_cli.gateway.log import set_up_logging
from coditect_cli.gateway.main import reload_keys
from coditect_cli.gateway.metrics import CONTENT_TYPE, EdgeMetrics
from coditect_cli.gateway.pods import Pod, Pods
from coditect_cli.gateway.server import answer, refusal
from coditect_cli.gateway.splice import LARGEST_HEAD, Side, Splice
from coditect_cli.kube import Kube
from coditect_cli.paths import Paths
from coditect_cli.protocol.handshake import BEARER, WORKSPACE_HEADER
from coditect_cli.settings import Settings
from coditect_cli.signing import Keys, PrivateKey, shared_secret
from coditect_cli.tokens import Claims

log = logging.getLogger("coditect.edge")

HANDSHAKE_SECONDS = 10.0  # for a client's request, and for a pod's answer
POD_TOKEN_SECONDS = 60.0
FAREWELL_SECONDS = 2.0  # a client that does not hang up in this time finds a closed connection
_SILENT = logging.Logger("silent", logging.CRITICAL + 1)  # websockets' own would log headers


class Edge:
    """Admits clients to pods; knows every connection, to take leave of it."""

    def __init__(self, settings: Settings, keys: Keys, signer: PrivateKey | None, pods: Pods):
        self.settings = settings
        self.keys = keys
        self.signer = signer
        self.pods = pods
        self.limits = Limits(settings.max_connections, settings.attach_rate)
        self.metrics = EdgeMetrics()
        self.splices: dict[str, set[Splice]] = {}  # by their pods' uids
        self.draining = False
        self.empty = asyncio.Event()

    def connection(self) -> Side:
        """The protocol of a connection that has just come."""
        return Handshake(self).client

    async def admit(self, asked: Asked) -> tuple[Pod, Claims, str]:
        """The pod for a request, and the token to show there. Raises what speaks against it."""
        if self.draining:
            raise Unreachable(
                "this gateway ends just now",
                code="gateway.not_ready",
                hint="connect again: another one takes its place",
                retryable=True,
            )
        claims = await claims_of(asked, self.settings, self.keys)
        workspace = checked_workspace(claims)
        check_owner(workspace, self.pods.owner(workspace), claims)
        pod = self.pods.find(workspace)
        self.limits.check(claims.user_id)
        return pod, claims, self._token(asked, claims)

    def _token(self, asked: Asked, claims: Claims) -> str:
        if self.signer is None:
            return bearer(asked)
        return tokens.issue(
            self.signer,
            workspace_id=claims.workspace_id,
            user_id=claims.user_id,
            ttl=POD_TOKEN_SECONDS,
            now=time.time(),
            issuer=self.settings.token_issuer,
            audience=self.settings.token_audience,
        )

    def page(self, path: str) -> Response:
        """What load balancers and Prometheus ask for."""
        if path == "/metrics":
            body = self.metrics.expose(self.limits.connections, len(self.pods), __version__)
            return answer(HTTPStatus.OK, CONTENT_TYPE, body.encode())
        is_ready = self.pods.ready.is_set() and not self.draining
        if path == "/healthz" or is_ready:
            return answer(HTTPStatus.OK, CONTENT_TYPE, b"ok\n")
        return answer(HTTPStatus.SERVICE_UNAVAILABLE, CONTENT_TYPE, b"not ready\n")

    def enter(self, splice: Splice, pod: Pod, user: str) -> None:
        """A client and its pod were joined."""
        self.limits.enter(user)
        self.metrics.admitted += 1
        self.splices.setdefault(pod.uid, set()).add(splice)
        if self.draining:
            splice.take_leave()

    def leave(self, splice: Splice, pod: Pod, user: str) -> None:
        """One of a splice's ends is gone, so the other is to go; called for both."""
        splices = self.splices.get(pod.uid, set())
        if splice in splices:
            splices.discard(splice)
            self.limits.leave(user)
            splice.close()
            log.info("left workspace=%s", pod.workspace)
        if not splices:
            self.splices.pop(pod.uid, None)
        if not self.splices:
            self.empty.set()

    def pod_gone(self, uid: str) -> None:
        """Hang up on a pod that is gone: its address may never say so itself."""
        for splice in list(self.splices.get(uid, ())):
            splice.close()

    async def drain(self) -> None:
        """Tell every client to connect again, and wait until they have hung up.

        Who comes meanwhile is told that this gateway is not ready, not refused a connection.
        """
        self.draining = True
        self.empty.clear()
        for splices in list(self.splices.values()):
            for splice in list(splices):
                splice.take_leave()
        if self.splices:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.empty.wait(), FAREWELL_SECONDS)


class Handshake:
    """One connection until it is refused, answered, or joined to its pod."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.client = Side(self._on_request, self._on_lost)
        self._head = bytearray()
        self._task: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(HANDSHAKE_SECONDS, self._give_up)

    def _on_request(self, data: bytes) -> None:
        self._head += data
        end = self._head.find(b"\r\n\r\n") + 4
        if len(self._head) > LARGEST_HEAD:
            self.client.transport.abort()
        elif end > 3 and self._task is None:
            self._patience.cancel()
            self.client.transport.pause_reading()
            self._task = asyncio.create_task(self._serve(bytes(self._head[:end])))
            del self._head[:end]

    def _give_up(self) -> None:
        self.client.transport.abort()

    def _on_lost(self) -> None:
        self._patience.cancel()
        if self._task is not None:
            self._task.cancel()

    async def _serve(self, head: bytes) -> None:
        protocol = ServerProtocol(logger=_SILENT)
        protocol.receive_data(head)
        requests = [event for event in protocol.events_received() if isinstance(event, Request)]
        if not requests:
            self.client.transport.close()  # not HTTP, or a head past websockets' limits
            return
        request, asked = requests[0], Asked.of(requests[0].path, requests[0].headers)
        try:
            if request.path in PAGES:
                check_origin(asked, self.edge.settings)
                self._answer(protocol, self.edge.page(request.path))
                return
            pod, claims, token = await self.edge.admit(asked)
            pod_side, response, rest = await _connect(pod, asked, token)
        except CoditectError as error:
            log.info("refused code=%s", error.code)
            self.edge.metrics.refuse(error.code, http_status(error))
            self._answer(protocol, refusal(error))
            return
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            pod_side.transport.close()
            self.edge.metrics.refuse("by_pod", response.status_code)
            self._answer(protocol, _passed_on(response))
            return
        self._join(protocol, request, pod_side, response, rest, pod, claims.user_id)

    def _join(
        self,
        protocol: ServerProtocol,
        request: Request,
        pod_side: Side,
        response: Response,
        rest: bytes,
        pod: Pod,
        user: str,
    ) -> None:
        chosen = response.headers.get("Sec-WebSocket-Protocol")
        subprotocol = Subprotocol(chosen) if chosen else None
        protocol.select_subprotocol = lambda _: subprotocol  # type: ignore[assignment,method-assign]
        accepted = protocol.accept(request)
        if accepted.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            pod_side.transport.close()
            self._answer(protocol, accepted)
            return
        self._answer(protocol, accepted)
        splice = Splice(self.client, pod_side, chosen, self.edge.metrics)
        self.client.on_lost = pod_side.on_lost = partial(self.edge.leave, splice, pod, user)
        self.edge.enter(splice, pod, user)
        log.info("joined workspace=%s", pod.workspace)
        self.client.on_data(bytes(self._head))
        if rest:
            pod_side.on_data(rest)
        self.client.transport.resume_reading()
        pod_side.transport.resume_reading()

    def _answer(self, protocol: ServerProtocol, response: Response) -> None:
        response.headers["Server"] = f"coditect/{__version__}"
        protocol.send_response(response)
        self.client.transport.write(b"".join(protocol.data_to_send()))
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            self.client.transport.close()


async def _connect(pod: Pod, asked: Asked, token: str) -> tuple[Side, Response, bytes]:
    """Open a connection to a pod; it, the pod's answer, and what came behind that.

    Raises Unreachable where there is no answer.
    """
    try:
        return await asyncio.wait_for(_shake_hands(pod, asked, token), HANDSHAKE_SECONDS)
    except (OSError, TimeoutError, EOFError, WebSocketException) as error:
        log.info("pod_unreachable workspace=%s why=%s", pod.workspace, type(error).__name__)
        raise Unreachable(
            f"the pod of workspace {pod.workspace} does not answer",
            code="workspace.not_ready",
            hint=f"coditect workspace show {pod.workspace} says how it is",
            retryable=True,
        ) from error


async def _shake_hands(pod: Pod, asked: Asked, token: str) -> tuple[Side, Response, bytes]:
    offered = [Subprotocol(name) for name in asked.offered if not name.startswith(BEARER)]
    uri = WebSocketURI(False, pod.host, pod.port, "/ws", "")
    protocol = ClientProtocol(uri, subprotocols=offered or None, logger=_SILENT)
    request = protocol.connect()
    request.headers["Authorization"] = f"Bearer {token}"
    request.headers[WORKSPACE_HEADER] = pod.workspace
    if asked.user_agent:
        request.headers["User-Agent"] = asked.user_agent
    protocol.send_request(request)
    received: asyncio.Queue[bytes] = asyncio.Queue()
    side = Side(received.put_nowait, partial(received.put_nowait, b""))
    await asyncio.get_running_loop().create_connection(lambda: side, pod.host, pod.port)
    try:
        side.transport.write(b"".join(protocol.data_to_send()))
        head = bytearray()
        while b"\r\n\r\n" not in head:
            head += await _next(received)
        end = head.index(b"\r\n\r\n") + 4
        side.transport.pause_reading()
        protocol.receive_data(bytes(head[:end]))
        if not head.startswith(b"HTTP/1.1 101 "):
            side.transport.resume_reading()
            protocol.receive_data(bytes(head[end:]))
        while not (events := list(protocol.events_received())):
            protocol.receive_data(await _next(received))
        if protocol.handshake_exc is not None and head.startswith(b"HTTP/1.1 101 "):
            raise protocol.handshake_exc
        rest = bytes(head[end:]) + b"".join(received.get_nowait() for _ in range(received.qsize()))
    except BaseException:
        side.transport.abort()
        raise
    response = events[0]
    if not isinstance(response, Response):
        raise EOFError
    return side, response, rest


async def _next(received: asyncio.Queue[bytes]) -> bytes:
    if not (data := await received.get()):
        raise EOFError
    return data


def _passed_on(response: Response) -> Response:
    """A pod's refusal, for the client."""
    passed = answer(
        HTTPStatus(response.status_code),
        response.headers.get("Content-Type", "application/json"),
        bytes(response.body or b""),
    )
    for name in ("WWW-Authenticate", "Retry-After"):
        if value := response.headers.get(name):
            passed.headers[name] = value
    return passed


def accepted_keys(settings: Settings) -> tuple[Keys, PrivateKey | None]:
    """The keys that admit clients, and the one that signs for pods. Raises UsageError."""
    if settings.token_jwks is None and settings.token_secret_file is None:
        raise UsageError(
            "an edge gateway has no keys to verify tokens with",
            code="gateway.no_keys",
            hint="set CODITECT_TOKEN_JWKS to a file or an https URL",
        )
    if settings.token_secret_file is not None and settings.token_key_file is None:
        raise UsageError(
            "pods hold public keys only, so tokens of a shared secret can't be passed on",
            code="gateway.no_signer",
            hint="set CODITECT_TOKEN_KEY_FILE: the edge signs tokens for pods with it",
        )
    secrets = [shared_secret(settings.token_secret_file)] if settings.token_secret_file else []
    keys = Keys(*secrets, place=settings.token_jwks)
    keys.load()
    signer = PrivateKey.load(settings.token_key_file) if settings.token_key_file else None
    return keys, signer


async def serve(addresses: Iterable[str]) -> None:
    """Serve until told to end, then take leave of every client."""
    settings = config.load(Paths.from_environ(os.environ), os.environ).settings
    loop = asyncio.get_running_loop()
    keys, signer = accepted_keys(settings)

    def pod_gone(uid: str) -> None:
        loop.call_soon_threadsafe(edge.pod_gone, uid)

    pods = Pods(Kube(settings), pod_gone)
    edge = Edge(settings, keys, signer, pods)
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    servers = [
        await loop.create_server(edge.connection, sock=listen(address)) for address in addresses
    ]
    pods.start()
    reloading = asyncio.create_task(reload_keys(keys))
    log.info("serving pid=%d on=%s", os.getpid(), ",".join(addresses))
    await ending.wait()
    log.info("ending connections=%d", edge.limits.connections)
    reloading.cancel()
    await edge.drain()
    for server in servers:
        server.close()


def main(argv: list[str]) -> int:
    """Run an edge gateway; the exit status."""
    parser = argparse.ArgumentParser(prog="coditect-edge")
    parser.add_argument("--listen", action="append", required=True)
    options = parser.parse_args(argv)
    set_up_logging(os.environ.get("CODITECT_LOG", "info"), Paths.from_environ(os.environ))
    try:
        uvloop.run(serve(options.listen))
    except CoditectError as error:
        log.error("can't_start code=%s why=%s", error.code, error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
