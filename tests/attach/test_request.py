from __future__ import annotations

import select
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from coditect_cli import config
from coditect_cli.attach import request as requests
from coditect_cli.attach.page import fetch
from coditect_cli.attach.request import request
from coditect_cli.errors import CoditectError, NotFound, Unreachable
from coditect_cli.gateway.address import short_path
from coditect_cli.paths import Paths
from coditect_cli.tokens import local_user
from tests.support.gateway import Gateway


def test_a_request_has_one_answer(gateway: Gateway) -> None:
    context = config.load(gateway.paths, gateway.environ)
    answer = request(context, gateway.paths, "demo", {"type": "sessions"})
    assert answer == {"type": "sessions", "items": []}
    status = request(context, gateway.paths, "_gateway", {"type": "status"})
    assert status["keeperPid"] == gateway.keeper.pid


def test_live_sessions_are_asked_for_without_a_websocket(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = config.load(gateway.paths, gateway.environ)
    mine, _ = gateway.attach("demo"), gateway.attach("other")
    asked = {"type": "sessions"}
    with monkeypatch.context() as without:
        without.delattr(requests, "Link")
        answer = request(context, gateway.paths, "demo", asked)
        everything = request(context, gateway.paths, "_gateway", asked)
    assert [one["session"] for one in answer["items"]] == [mine.session]
    assert {one["workspace"] for one in everything["items"]} == {"demo", "other"}
    monkeypatch.setattr(requests, "SESSIONS_PAGE", "/not-in-this-release")
    assert request(context, gateway.paths, "demo", asked) == answer


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", b"?\r\n\r\n"]
)
def test_an_answer_that_is_not_whole_is_told(tmp_path: Path, answer: bytes) -> None:
    def hang_up() -> None:
        client, _ = listener.accept()
        client.recv(10_000)
        client.sendall(answer)
        client.close()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        server = threading.Thread(target=hang_up)
        server.start()
        with pytest.raises(Unreachable) as lost:
            fetch(f"ws+unix:{tmp_path}/socket", "/sessions", "demo", "token")
        server.join()
    assert lost.value.code == "gateway.no_answer"


@pytest.mark.parametrize(
    ("workspace", "asked", "answer"),
    [
        ("demo", {"type": "sessions"}, "sessions"),
        ("_gateway", {"type": "status"}, "status"),
        ("demo", {"type": "stop", "force": False}, "stopped"),
    ],
)
def test_one_that_hangs_up_is_asked_again(
    gateway: Gateway, tmp_path: Path, workspace: str, asked: dict[str, Any], answer: str
) -> None:
    gateway.user = local_user()
    gateway.workspace("demo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()

        def hang_up_then_pass_on() -> None:
            """As the socket of a gateway whose bridge is killed."""
            listener.accept()[0].close()
            client, _ = listener.accept()
            with (
                client,
                socket.socket(socket.AF_UNIX) as successor,
                short_path(str(gateway.socket)) as name,
            ):
                successor.connect(name)
                ways = {client: successor, successor: client}
                while True:
                    for source in select.select(ways, [], [])[0]:
                        if not (data := source.recv(65_536)):
                            return
                        ways[source].sendall(data)

        server = threading.Thread(target=hang_up_then_pass_on, daemon=True)
        server.start()
        environ = {**gateway.environ, "CODITECT_GATEWAY_URL": f"ws+unix:{tmp_path}/socket"}
        context = config.load(gateway.paths, environ)
        assert request(context, gateway.paths, workspace, asked)["type"] == answer
        server.join()


def test_the_gateways_error_is_raised(gateway: Gateway) -> None:
    context = config.load(gateway.paths, gateway.environ)
    with pytest.raises(CoditectError) as refused:
        request(context, gateway.paths, "demo", {"type": "status"})
    assert refused.value.exit_code == 5
    with pytest.raises(NotFound):
        request(context, gateway.paths, "other", {"type": "sessions"})


def test_where_no_gateway_runs_none_is_started(tmp_path: Path) -> None:
    environ = {"CODITECT_HOME": str(tmp_path)}
    paths = Paths.from_environ(environ)
    with pytest.raises(Unreachable) as refused:
        request(config.load(paths, environ), paths, "demo", {"type": "sessions"})
    assert refused.value.code == "gateway.not_running"
    assert not paths.gateway_socket.exists()
