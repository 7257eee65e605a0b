"""Nobody else gets in: each way that a token or a request can be wrong has its own refusal."""

from __future__ import annotations

import base64
import json
import stat
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jwt
import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from coditect_cli import __version__, tokens
from tests.support.gateway import Client, Gateway, until


def refused(connect: Callable[..., Client], *args: Any, **kw: Any) -> tuple[int, dict[str, Any]]:
    """The HTTP status and the error that a connection is refused with."""
    with pytest.raises(InvalidStatus) as caught:
        connect(*args, **kw)
    response = caught.value.response
    return response.status_code, json.loads(response.body or b"")["error"]


def signed(gateway: Gateway, algorithm: str = "HS256", key: Any = None, **changes: Any) -> str:
    now = time.time()
    claims: dict[str, Any] = {"sub": "tester", "user_id": "tester", "workspace_id": "demo"}
    claims |= {"iat": int(now), "exp": int(now) + 60, **changes}
    claims = {name: value for name, value in claims.items() if value is not None}
    key = tokens.local_key(gateway.paths) if key is None else key
    return jwt.encode(claims, key, algorithm=algorithm)


def unsigned(gateway: Gateway) -> str:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = jwt.decode(signed(gateway), options={"verify_signature": False})
    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}."


@pytest.mark.parametrize(
    ("make", "status", "code"),
    [
        (unsigned, 401, "token.algorithm"),
        (lambda g: signed(g, "HS512", key=b"k" * 64), 401, "token.algorithm"),
        (lambda g: signed(g, key=b"k" * 32), 401, "token.signature"),
        (lambda g: signed(g, exp=int(time.time()) - 1), 401, "token.expired"),
        (lambda g: signed(g, nbf=int(time.time()) + 60), 401, "token.not_yet_valid"),
        (lambda g: signed(g, exp=None), 401, "token.claims"),
        (lambda g: signed(g, sub="other"), 401, "token.claims"),
        (lambda g: signed(g, workspace_id="../demo"), 401, "token.claims"),
        (lambda g: signed(g, workspace_id="absent"), 404, "workspace.not_found"),
        (lambda g: signed(g, sub="eve", user_id="eve"), 403, "workspace.forbidden"),
        (lambda g: signed(g, padding="x" * 4000), 401, "token.too_large"),
        (lambda g: "", 401, "token.missing"),
        (lambda g: "not-a-token", 401, "token.invalid"),
    ],
)
def test_a_token_that_does_not_hold_is_refused_with_its_own_error_and_never_logged(
    gateway: Gateway, make: Callable[[Gateway], str], status: int, code: str
) -> None:
    gateway.workspace("demo")
    token = make(gateway)
    assert refused(gateway.connect, token=token)[1]["code"] == code
    found, error = refused(gateway.connect, token=token)
    assert (found, error["code"]) == (status, code)
    assert not token or token not in gateway.log.read_text() + json.dumps(error)
    assert gateway.attach().run("echo the owner gets in") == b"the owner gets in\r\n"


def test_issuer_and_audience_are_checked_where_the_context_sets_them(
    start_gateway: Callable[..., Gateway],
) -> None:
    gateway = start_gateway(token_issuer="us", token_audience="gateway")
    assert refused(gateway.connect)[1]["code"] == "token.claims"
    wrong = gateway.token("demo", issuer="us", audience="another")
    assert refused(gateway.connect, token=wrong)[1]["code"] == "token.claims"
    right = gateway.token("demo", issuer="us", audience="gateway")
    gateway.connect(token=right).attach()


def test_no_request_is_answered_without_a_token_whatever_its_path(gateway: Gateway) -> None:
    for path in ("/ws", "/ws/terminal", "/", "/healthz", "/metrics", "/sessions", "/ws?token=x"):
        status, _ = refused(gateway.connect, token="", uri=f"ws://localhost{path}")
        assert status in (401, 404)
    gateway.connect(uri="ws://localhost/ws/terminal").attach()


def test_a_token_in_the_url_is_not_looked_at(gateway: Gateway) -> None:
    uri = f"ws://localhost/ws?token={gateway.token('demo')}"
    assert refused(gateway.connect, token="", uri=uri)[1]["code"] == "token.missing"


def test_pages_may_use_the_gateway_from_an_allowed_origin_only(
    start_gateway: Callable[..., Gateway],
) -> None:
    gateway = start_gateway(allowed_origins="https://ide.example.com")
    gateway.workspace("demo")
    error = refused(gateway.connect, origin="https://evil.example.com")
    assert (error[0], error[1]["code"]) == (403, "origin.forbidden")
    bearer = [f"coditect.bearer.{gateway.token('demo')}", "coditect.v2"]
    page = gateway.connect(
        headers={"Authorization": ""}, origin="https://ide.example.com", subprotocols=bearer
    )
    assert page.connection.subprotocol == "coditect.v2"
    page.attach()
    assert refused(gateway.connect, token="", subprotocols=bearer)[1]["code"] == "token.missing"


def test_the_default_allows_no_page_at_all(gateway: Gateway) -> None:
    for path in ("/ws", "/healthz", "/readyz", "/metrics", "/sessions"):
        uri = f"ws://localhost{path}"
        error = refused(gateway.connect, origin="http://localhost", uri=uri)[1]
        assert error["code"] == "origin.forbidden", path


def test_a_client_of_another_release_is_refused_with_both_versions(gateway: Gateway) -> None:
    status, error = refused(
        gateway.connect, subprotocols=["coditect.v9"], user_agent_header="coditect/9.1.2"
    )
    found = (status, error["exitCode"], error["code"])
    assert found == (400, 8, "protocol.unsupported")
    for shown in (__version__, "9.1.2", "coditect.v9", "coditect.v2"):
        assert shown in error["message"]


def test_an_oversized_header_is_refused(gateway: Gateway) -> None:
    gateway.workspace("demo")
    with pytest.raises((InvalidMessage, InvalidStatus)):
        gateway.connect(token="x" * 100_000)
    gateway.connect().attach()


def test_tokens_of_the_gateway_itself_open_no_terminal_and_others_do_not_manage_it(
    gateway: Gateway,
) -> None:
    manager = gateway.connect("_gateway")
    with pytest.raises(AssertionError, match=r"workspace\.forbidden"):
        manager.attach()
    for message in ({"type": "status"}, {"type": "gateway", "action": "stop", "force": True}):
        client = gateway.connect()
        client.send(message)
        assert client.message()["code"] == "gateway.forbidden"
        assert client.closed() == 1008


def test_sessions_of_another_workspace_can_not_be_reached(gateway: Gateway) -> None:
    mine = gateway.attach("demo")
    other = gateway.connect("other")
    with pytest.raises(AssertionError, match=r"session\.not_found"):
        other.attach(session=mine.session)
    assert gateway.sessions("other") == []


def test_key_socket_and_log_are_their_owners_only(gateway: Gateway) -> None:
    gateway.attach()
    for path in (gateway.paths.key_file, gateway.paths.gateway_socket):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_gateway_listens_on_its_socket_only(gateway: Gateway) -> None:
    gateway.attach()
    for process in (gateway.keeper.pid, until(gateway.bridge_pid, "the bridge")):
        assert psutil.Process(process).net_connections(kind="inet") == []


def test_no_process_list_and_no_environment_shows_the_key_or_a_token(gateway: Gateway) -> None:
    client = gateway.attach()
    key = tokens.local_key(gateway.paths).hex()
    client.run("true")
    root = psutil.Process(gateway.keeper.pid)
    for process in (root, *root.children(recursive=True)):
        shown = " ".join(process.cmdline()) + json.dumps(process.environ())
        assert key not in shown
        assert "eyJ" not in shown


def test_a_shell_inherits_nothing_of_the_gateway(start_gateway: Callable[..., Gateway]) -> None:
    client = start_gateway(token="leaks").attach()
    names = client.run("env | cut -d= -f1 | sort | tr '\\n' ' '").split()
    assert b"WORKSPACE_ID" in names
    assert not {name for name in names if name.startswith(b"CODITECT_")} - {b"CODITECT_SESSION"}
    assert (
        client.run("ls /proc/self/fd | wc -l") == b"5\r\n"
    )  # 0, 1, 2, the hook's pipe, the folder's own


def test_a_token_for_another_workspace_than_the_named_one_does_nothing_there(
    gateway: Gateway,
) -> None:
    victim = gateway.attach("demo")
    status, error = refused(gateway.connect, "demo", headers={"Coditect-Workspace": "other"})
    assert (status, error["code"], error["exitCode"]) == (403, "workspace.forbidden", 5)
    assert victim.run("echo unharmed") == b"unharmed\r\n"
    gateway.connect("demo", headers={"Coditect-Workspace": "demo"}).attach()


def test_another_users_token_does_not_manage_the_gateway(gateway: Gateway) -> None:
    token = gateway.token("_gateway", user="bob")
    assert refused(gateway.connect, "_gateway", token=token)[1]["code"] == "gateway.forbidden"


def test_a_connection_from_before_a_stop_starts_nothing_after_it(gateway: Gateway) -> None:
    early = gateway.connect("demo")
    gateway.attach("demo").detach()
    stopped = {"type": "stopped", "sessions": 1, "notSaved": []}
    assert gateway.request("demo", type="stop", force=False) == stopped
    with pytest.raises(AssertionError, match=r"workspace\.stopped"):
        early.attach()
    assert gateway.workspaces.get("demo").desired == "stopped"


def test_a_read_only_client_that_sends_input_is_refused_and_its_size_is_ignored(
    gateway: Gateway,
) -> None:
    writer = gateway.attach()
    reader = gateway.connect()
    reader.attach(session=writer.session, read_only=True, size=(40, 10))
    reader.send({"type": "resize", "cols": 50, "rows": 12})
    reader.send(b"echo typed\n")
    assert reader.closed() == 1008
    assert reader.heard[-1]["code"] == "attach.read_only"
    assert writer.run("stty size") == b"24 80\r\n"


def test_one_client_id_never_gets_two_sessions(gateway: Gateway) -> None:
    """A link that was cut just after the first attach, and the client's second try."""
    client = uuid.uuid4().hex
    links = [gateway.connect() for _ in range(4)]
    message = {"type": "attach", "client": client, "session": "new", "cols": 80, "rows": 24}
    for link in links:
        link.send({**message, "term": "xterm", "readOnly": False, "resume": None})
    until(gateway.sessions, "a session")
    answers = []
    for link in links:  # all but one were left for another, some before they heard of the session
        with suppress(ConnectionClosed):
            answers.append(link.message("attached")["session"])
    assert set(answers) == {gateway.sessions()[0]["session"]}
    assert len(gateway.sessions()) == 1
