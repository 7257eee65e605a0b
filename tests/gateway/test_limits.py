"""Each limit has a default, a setting and an error of its own."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed

from coditect_cli.gateway.attachment import Attachment
from coditect_cli.protocol.messages import Lead
from coditect_cli.tokens import local_user
from tests.gateway.test_access import refused
from tests.support.gateway import Gateway, until


def test_sessions_per_workspace(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway(max_sessions=2)
    first, second = gateway.attach(session="new"), gateway.attach(session="new")
    with pytest.raises(AssertionError, match=r"limit\.sessions.*'exitCode': 7"):
        gateway.attach(session="new")
    gateway.attach("other", session="new")
    second.send(b"exit\n")
    second.exit()
    gateway.attach(session="new")
    assert first.run("echo still here") == b"still here\r\n"


def test_connections_per_user(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway(max_connections=2)
    gateway.user = local_user()
    clients = [gateway.attach(), gateway.attach()]
    status, error = refused(gateway.connect)
    assert (status, error["code"], error["exitCode"]) == (429, "limit.connections", 7)
    assert gateway.status()["connections"] == 2
    clients[0].detach()
    gateway.attach()


def test_attachments_per_second(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway(attach_rate=1)
    gateway.attach()
    status, error = refused(gateway.connect)
    assert (status, error["code"], error["retryable"]) == (429, "limit.attach_rate", True)


def test_message_size(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway(max_message="256KiB")
    client = gateway.attach()
    client.send(b"x" * (262144 + 1))
    assert client.closed() == 1009
    assert gateway.attach().run("echo unharmed") == b"unharmed\r\n"


@pytest.mark.parametrize(
    "change",
    [
        {"cols": 0, "rows": 0},
        {"cols": 65535, "rows": 65535},
        {"cols": 4096, "rows": 4096},
        {"session": "../x"},
        {"session": ""},
        {"session": "a" * 300},
        {"session": "\N{PILE OF POO}"},
        {"client": "not hex"},
        {"term": "../../etc"},
        {"resume": {"output": -1}},
        {"readOnly": "yes"},
    ],
)
def test_bad_fields_of_attach_are_refused_and_change_nothing(
    gateway: Gateway, change: dict[str, object]
) -> None:
    client = gateway.connect()
    message = {"type": "attach", "client": uuid.uuid4().hex, "session": None, "resume": None}
    message |= {"cols": 80, "rows": 24, "term": "xterm", "readOnly": False}
    client.send({**message, **change})
    answer = client.message()
    assert (answer["type"], answer["code"], answer["exitCode"]) == ("error", "message.invalid", 2)
    assert client.closed() == 1008
    assert gateway.sessions() == []


@pytest.mark.parametrize("size", [(0, 0), (65535, 65535), (-1, 24), (80.5, 24), ("80", 24)])
def test_a_bad_resize_ends_the_connection_and_not_the_session(
    gateway: Gateway, size: tuple[object, object]
) -> None:
    healthy = gateway.attach()
    healthy.run("true")
    client = gateway.attach(session=healthy.session)
    client.send({"type": "resize", "cols": size[0], "rows": size[1]})
    assert client.closed() == 1008
    assert client.heard[-1]["code"] == "message.invalid"
    assert healthy.run("stty size") == b"24 80\r\n"


def test_idle_time_ends_a_session_that_nobody_uses(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway(session_idle="1s")
    used, left = gateway.attach(session="new"), gateway.attach(session="new")
    left.run("true")
    left.detach()
    until(lambda: len(gateway.sessions()) == 1, "the end of the idle session")
    assert used.run("echo still here") == b"still here\r\n"
    gateway.attach(session=left.session).expect(b"restored")


def test_a_program_that_is_left_with_a_full_pipe_is_forgotten(gateway: Gateway) -> None:
    client = gateway.connect()
    client.exec("sh", "-c", "trap '' HUP; exec yes")
    client.detach()
    until(lambda: not gateway.sessions(), "the end of the session")


def test_input_past_the_window(gateway: Gateway) -> None:
    client = gateway.attach()
    client.send(b"stty raw -echo; echo rea''dy; sleep 1000\n")
    client.expect(b"ready")
    with suppress(ConnectionClosed):  # which may come before the last is sent
        for _ in range(12):
            client.send(bytes(65_536))
    assert client.closed() == 1008
    assert client.heard[-1]["code"] == "input.window"


def test_a_client_that_does_not_read_is_told_the_newest_lead_only() -> None:
    told = [Lead(True, 80, 24), Lead(False, 80, 24), Lead(False, 90, 24)]
    attachment = Attachment.__new__(Attachment)
    attachment.notices, attachment._lead = deque(), None
    attachment._wake = asyncio.Event()
    for message in told:
        attachment.tell_lead(message)
    assert list(attachment.notices) == [told[-1]]
