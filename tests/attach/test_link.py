from __future__ import annotations

import json
import logging
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.sync.server import ServerConnection, unix_serve
from websockets.typing import Subprotocol

from coditect_cli import __version__
from coditect_cli.attach.link import Address, Link, LinkLost
from coditect_cli.errors import CoditectError, Failed, Forbidden, Unreachable, UsageError

TOKEN = "secret-token"


def answer_once(path: Path, answer: bytes) -> list[bytes]:
    """A server that reads one request and gives this answer; the requests it got."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    requests: list[bytes] = []

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            requests.append(connection.recv(65_536))
            connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return requests


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


Serve = Callable[..., str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a WebSocket server with this handler; its URL."""
    with ExitStack() as stack:

        def start(handler: Callable[[ServerConnection], None], **options: Any) -> str:
            options.setdefault("subprotocols", [Subprotocol("coditect.v2")])
            path = tmp_path / "socket"
            server = unix_serve(
                handler, str(path), server_header="coditect/0.0.9", compression=None, **options
            )
            stack.enter_context(server)
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return f"ws+unix:{path}"

        yield start


def receive(link: Link) -> list[bytes | str]:
    while True:
        if not link.pending():
            select.select([link.fd], [], [])
        if received := link.receive():
            return received


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("ws://127.0.0.1:8080", ("127.0.0.1", 8080, "/ws", None)),
        ("wss://gate.example/ws/terminal", ("gate.example", 443, "/ws/terminal", None)),
        ("ws://[::1]:99/", ("::1", 99, "/ws", None)),
        ("ws+unix:/run/a b.sock", ("localhost", 80, "/ws", "/run/a b.sock")),
        ("ws+unix:/run/a?b#c\n@d", ("localhost", 80, "/ws", "/run/a?b#c\n@d")),
    ],
)
def test_an_address_is_parsed(url: str, where: tuple[Any, ...]) -> None:
    address = Address.parse(url)
    assert (address.host, address.port, address.path, address.unix_path) == where


@pytest.mark.parametrize(
    "url", ["", "http://x", "ws://", "ws://u:p@host", "ws://host:99999", "ws+unix:relative"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        Address.parse(url)
    assert "u:p" not in refused.value.message


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "localhost"])
def test_loopback_is_private(host: str) -> None:
    assert Address.parse(f"ws://{host}:1").is_private()


@pytest.mark.parametrize("host", ["example.com", "10.0.0.1", "127.0.0.1.example.com", "[::2]"])
def test_a_token_is_not_sent_in_the_clear_beyond_loopback(host: str) -> None:
    with pytest.raises(UsageError) as refused:
        Link.open(f"ws://{host}:1", "demo", TOKEN)
    assert refused.value.code == "token.insecure"


def test_the_request_says_who_we_are_and_has_no_origin(tmp_path: Path) -> None:
    requests = answer_once(tmp_path / "s", http("401 Unauthorized"))
    with pytest.raises(CoditectError):
        Link.open(f"ws+unix:{tmp_path / 's'}", "demo", TOKEN)
    head = requests[0].lower()
    assert f"user-agent: coditect/{__version__}".encode() in head
    assert b"authorization: bearer secret-token" in head
    assert b"sec-websocket-protocol: coditect.v2" in head
    assert b"coditect-workspace: demo\r\n" in head
    assert b"origin:" not in head
    assert TOKEN.encode() not in head.split(b"\r\n")[0]


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_not_followed(tmp_path: Path, status: str) -> None:
    answer = http(status, b"", "Location: ws://127.0.0.1:1/ws")
    requests = answer_once(tmp_path / "s", answer)
    with pytest.raises(Failed) as refused:
        Link.open(f"ws+unix:{tmp_path / 's'}", "demo", TOKEN)
    assert refused.value.code == "gateway.redirect"
    assert len(requests) == 1


def test_a_refusal_is_the_gateways_own_error(tmp_path: Path) -> None:
    error = Forbidden("not yours", code="workspace.forbidden", hint="ask").as_dict()
    answer_once(tmp_path / "s", http("403 Forbidden", json.dumps({"error": error}).encode()))
    with pytest.raises(Forbidden) as refused:
        Link.open(f"ws+unix:{tmp_path / 's'}", "demo", TOKEN)
    assert refused.value.as_dict() == error


@pytest.mark.parametrize(
    ("status", "exit_code", "retryable"),
    [(401, 4, False), (403, 5, False), (404, 3, False), (429, 7, True), (502, 9, True)],
)
def test_a_refusal_without_a_description_is_told_by_its_status(
    tmp_path: Path, status: int, exit_code: int, retryable: bool
) -> None:
    answer_once(tmp_path / "s", http(f"{status} No", b"<html>"))
    with pytest.raises(CoditectError) as refused:
        Link.open(f"ws+unix:{tmp_path / 's'}", "demo", TOKEN)
    assert (refused.value.exit_code, refused.value.retryable) == (exit_code, retryable)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9\r\n"])
def test_what_is_no_gateway_is_unreachable(tmp_path: Path, answer: bytes) -> None:
    answer_once(tmp_path / "s", answer)
    with pytest.raises(Unreachable):
        Link.open(f"ws+unix:{tmp_path / 's'}", "demo", TOKEN)


def test_nobody_at_a_socket_means_that_no_gateway_runs(tmp_path: Path) -> None:
    with pytest.raises(Unreachable) as refused:
        Link.open(f"ws+unix:{tmp_path / 's'}", "demo", TOKEN)
    assert refused.value.code == "gateway.not_running"


def test_another_protocol_is_refused_with_both_versions(serve: Serve) -> None:
    url = serve(lambda connection: None, subprotocols=None)
    with pytest.raises(Failed) as refused:
        Link.open(url, "demo", TOKEN)
    assert refused.value.code == "protocol.unsupported"
    assert "coditect/0.0.9" in refused.value.message
    assert f"coditect/{__version__}" in refused.value.message


def test_messages_arrive_whole_and_in_order_then_the_close_code(serve: Serve) -> None:
    def handler(connection: ServerConnection) -> None:
        connection.send(b"bytes")
        connection.send("text é")
        connection.send(iter([b"in ", b"pie", b"ces"]))
        assert connection.recv() == b"up"
        connection.close(1012, "again")

    link = Link.open(serve(handler), "demo", TOKEN)
    try:
        link.send(b"up")
        received: list[bytes | str] = []
        with pytest.raises(LinkLost) as lost:
            while True:
                received += receive(link)
        assert received == [b"bytes", "text é", b"in pieces"]
        assert lost.value.close_code == 1012
    finally:
        link.close()


def test_sending_never_waits_for_the_other_side(serve: Serve) -> None:
    release = threading.Event()
    url = serve(lambda connection: release.wait() and None, max_size=None)
    link = Link.open(url, "demo", TOKEN)
    try:
        for _ in range(64):
            link.send(bytes(1_000_000))
        assert link.unsent
    finally:
        link.close()
        release.set()


def test_what_came_in_one_read_with_the_handshake_is_received(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    listener.listen()

    def serve() -> None:
        protocol = ServerProtocol(subprotocols=[Subprotocol("coditect.v2")])
        with listener, listener.accept()[0] as connection:
            protocol.receive_data(connection.recv(65_536))
            (request,) = protocol.events_received()
            assert isinstance(request, Request)
            protocol.send_response(protocol.accept(request))
            protocol.send_text(b"early")
            protocol.send_close(1012)
            connection.sendall(b"".join(protocol.data_to_send()))

    thread = threading.Thread(target=serve)
    thread.start()
    link = Link.open(f"ws+unix:{tmp_path / 'socket'}", "demo", TOKEN)
    thread.join()
    assert link.pending()
    assert link.receive() == ["early"]
    with pytest.raises(LinkLost) as lost:
        link.receive()
    assert lost.value.close_code == 1012
    link.close()


def test_the_token_is_never_logged(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    link = Link.open(serve(lambda connection: connection.send(b"output") and None), "demo", TOKEN)
    receive(link)
    link.close()
    client_records = [r.getMessage() for r in caplog.records if r.name != "websockets.server"]
    assert TOKEN not in "".join(client_records)
    assert "output" not in "".join(client_records)


def test_a_socket_with_a_long_path_is_reached(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    import os

    old = os.getcwd()
    os.chdir(folder)
    try:
        answer_once(Path("s"), http("404 No"))
    finally:
        os.chdir(old)
    with pytest.raises(CoditectError) as refused:
        Link.open(f"ws+unix:{folder / 's'}", "demo", TOKEN)
    assert refused.value.exit_code == 3
