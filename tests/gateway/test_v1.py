"""A client that speaks only the JSON text frames of coditect.v1+json, against a real gateway."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coditect_cli.gateway.v1 import MOST_BAD, MOST_QUEUED
from coditect_cli.protocol import gateway_message as g
from tests.support.earlier import EarlierClient
from tests.support.gateway import Gateway, until


@pytest.fixture
def client(gateway: Gateway) -> EarlierClient:
    return EarlierClient(gateway)


def root(gateway: Gateway) -> Path:
    return gateway.paths.workspaces / "demo/root"


@pytest.mark.parametrize("subprotocols", [None, ["coditect.v1+json"]])
def test_a_terminal_is_created_and_typed_into(
    gateway: Gateway, subprotocols: list[Any] | None
) -> None:
    client = EarlierClient(gateway, subprotocols=subprotocols)
    session = client.create(cols=100, rows=30)
    client.type("echo a''b; stty size\n")
    client.expect("ab\r\n30 100\r\n")
    assert [one["session"] for one in gateway.sessions()] == [session]


def test_a_ping_is_answered(client: EarlierClient) -> None:
    client.send(g.Ping())
    assert client.step() == g.Pong()


def test_input_without_create_makes_a_terminal(client: EarlierClient) -> None:
    client.type("echo a''b\n")
    first = client.step()
    assert isinstance(first, g.Connected)
    client.expect("ab\r\n", first.session_id)


def test_input_without_create_goes_to_the_newest_live_session(gateway: Gateway) -> None:
    first = EarlierClient(gateway)
    first.create()
    newest = first.create()
    second = EarlierClient(gateway)
    second.type("echo a''b\n")
    assert second.step() == g.Connected(newest)
    second.expect("ab", newest)


def test_a_resize_reaches_the_program(gateway: Gateway) -> None:
    client = EarlierClient(gateway)
    client.send(g.Resize(90, 20))
    client.session = client.message(g.Connected).session_id
    client.type("stty size\n")
    client.expect("20 90\r\n")
    client.send(g.Resize(70, 10, client.session))
    client.type("stty size\n")
    client.expect("10 70\r\n")


def test_terminals_of_one_connection_are_kept_apart(client: EarlierClient) -> None:
    one, two = client.create(), client.create()
    client.type("echo i''n_two\n")
    client.type("echo i''n_one\n", one)
    client.expect("in_two", two)
    client.expect("in_one", one)
    assert "in_two" not in client.text[one]
    assert client.create(session_id=one) == one
    client.type("echo n''ow\n")
    client.expect("now\r\n", one)


def test_close_hangs_the_shell_up(gateway: Gateway, client: EarlierClient) -> None:
    session = client.create()
    client.type("echo a''b\n")
    client.expect("ab\r\n")
    client.send(g.Close())
    assert client.message(g.Closed) == g.Closed(session, 129)
    assert gateway.sessions() == []


def test_an_exit_status_comes_after_all_output(client: EarlierClient) -> None:
    session = client.create()
    client.type("seq 1 20000; exit 3\n")
    assert client.message(g.Closed) == g.Closed(session, 3)
    assert "\n19999\r\n20000\r\n" in client.text[session]


def test_what_is_typed_after_the_end_goes_nowhere_else(
    gateway: Gateway, client: EarlierClient
) -> None:
    other = client.create()
    session = client.create()
    client.type("exit\n")
    client.message(g.Closed)
    client.send(g.Input("echo wrong\n"), g.Close(), g.Ping())
    for _ in range(2):
        error = client.step()
        assert isinstance(error, g.Error)
        assert error.code == "session.not_found"
    assert client.step() == g.Pong()
    assert [one["session"] for one in gateway.sessions()] == [other]
    assert session != other


def test_close_without_a_terminal_is_refused(gateway: Gateway, client: EarlierClient) -> None:
    client.create()
    other = EarlierClient(gateway)
    other.send(g.Close())
    assert isinstance(error := other.step(), g.Error)
    assert error.code == "session.not_found"
    assert len(gateway.sessions()) == 1


def test_a_session_of_another_workspace_is_not_found(
    gateway: Gateway, client: EarlierClient
) -> None:
    session = client.create()
    other = EarlierClient(gateway, "other")
    other.send(g.Create(session_id=session), g.Input("x", session), g.Close(session))
    for _ in range(3):
        assert isinstance(error := other.step(), g.Error)
        assert (error.code, error.session_id) == ("session.not_found", session)


def test_an_exec_is_no_terminal(gateway: Gateway, client: EarlierClient) -> None:
    program = gateway.connect()
    program.exec("cat")
    client.send(g.Create(session_id=program.session))
    assert isinstance(error := client.step(), g.Error)
    assert error.code == "session.kind"


def test_a_lost_clients_session_goes_on(gateway: Gateway) -> None:
    lost = EarlierClient(gateway)
    session = lost.create()
    lost.type("X=kept; echo on_''screen\n")
    lost.expect("on_screen\r\n")
    lost.connection.socket.shutdown(2)
    after = EarlierClient(gateway)
    assert after.create(session_id=session) == session
    after.expect("on_screen")
    after.type("echo $X$X\n")
    after.expect("keptkept")


def test_a_coditect_v2_client_shares_the_session(gateway: Gateway, client: EarlierClient) -> None:
    session = client.create()
    other = gateway.attach(session=session)
    other.send(b"echo fr''om_v2\n")
    client.expect("from_v2\r\n")
    client.type("echo fr''om_v1\n")
    other.expect(b"from_v1\r\n")


def silent(client: EarlierClient) -> None:
    """A shell that shows only what programs print."""
    client.create()
    client.type("PS1= PS2=; stty -echo; bind 'set enable-bracketed-paste off'; echo rea''dy\n")
    client.expect("ready\r\n")


def test_a_character_that_comes_in_two_reads_is_one(client: EarlierClient) -> None:
    silent(client)
    client.type("printf '<\\303'; read x; printf '\\251>'\n")
    client.expect("<")
    client.type("\n")
    assert client.expect(">").strip() == "é"


def test_a_character_is_whole_after_a_redraw_in_its_middle(
    gateway: Gateway, client: EarlierClient
) -> None:
    silent(client)
    client.type("printf '<\\360\\237\\230'; read x; printf '\\200>'\n")
    client.expect("<")
    other = EarlierClient(gateway)
    other.create(session_id=client.session)
    other.expect("<")
    other.text.clear()
    client.type("\n")
    shown = other.expect(">")
    assert shown.endswith("\U0001f600")
    assert "\ufffd" not in shown


def test_bytes_that_are_no_utf8_are_replaced(gateway: Gateway, client: EarlierClient) -> None:
    silent(client)
    client.type("printf '<\\377a\\303b>'\n")
    client.expect("<\ufffda\ufffdb>")
    other = EarlierClient(gateway)
    other.create(session_id=client.session)
    other.expect("<")
    other.type("printf '[\\251]'\n")
    other.expect("[\ufffd]")


def test_a_cut_off_character_is_shown_before_the_end(client: EarlierClient) -> None:
    silent(client)
    client.type("exec printf 'end\\303'\n")
    client.message(g.Closed)
    assert client.text[client.session].endswith("end\ufffd")


def test_input_is_typed_as_utf8(client: EarlierClient) -> None:
    silent(client)
    client.type("stty raw; head -c 6 | od -An -tx1; stty -raw; echo do''ne\n")
    client.type("é\0\U0001f600"[:3])
    client.type("x")
    assert "c3 a9 00 f0 9f 98" in client.expect("done")


def test_a_flood_arrives_whole(client: EarlierClient) -> None:
    silent(client)
    client.type("seq 1 2000000; echo do''ne\n")
    lines = client.expect("done").split("\r\n")
    assert lines[:-1] == [str(number) for number in range(1, 2_000_001)]


def test_a_client_that_fell_behind_gets_the_screen(gateway: Gateway, client: EarlierClient) -> None:
    session = client.create()
    client.type("echo he''re\n")
    client.expect("here")
    behind = EarlierClient(gateway)
    behind.create(session_id=session)
    client.type("seq 1 2000000; echo do''ne\n")
    client.expect("done")
    behind.expect("done", session)
    redraws = [one for one in behind.heard if isinstance(one, g.Output) and one.skipped]
    assert redraws
    assert redraws[0].skipped > 100_000


def test_more_input_than_is_kept_waits_for_the_program(
    gateway: Gateway, client: EarlierClient
) -> None:
    """The gateway reads no more of it, and all of it arrives once the program reads."""
    silent(client)
    size = 4 * MOST_QUEUED
    client.type(
        f"mkfifo gate; stty raw; cat gate; head -c {size} | sha256sum; stty -raw; echo do''ne\n"
    )
    gate = root(gateway) / "gate"
    until(gate.exists, "the gate")
    data = os.urandom(size // 2).hex()

    def paste() -> None:
        for at in range(0, size, 500_000):
            client.type(data[at : at + 500_000])

    typing = threading.Thread(target=paste)
    typing.start()
    typing.join(1)  # it would end if all were read; that it does not, no other event can tell
    assert typing.is_alive()
    gate.write_text("begun")
    client.expect("begun")
    client.expect(hashlib.sha256(data.encode()).hexdigest())
    typing.join()


def test_bad_messages_in_a_row_end_the_connection(client: EarlierClient) -> None:
    for _ in range(MOST_BAD - 1):
        client.connection.send("nonsense")
    client.send(g.Ping())
    for _ in range(MOST_BAD - 1):
        client.connection.send(b"binary")
    client.send(g.Ping())
    for _ in range(MOST_BAD):
        client.connection.send('{"type":"Resize"}')
    assert client.closed() == 1008
    assert [type(one) for one in client.heard] == [
        *[g.Error] * (MOST_BAD - 1),
        g.Pong,
        *[g.Error] * (MOST_BAD - 1),
        g.Pong,
        *[g.Error] * MOST_BAD,
    ]


def test_a_stopped_workspace_is_refused(gateway: Gateway) -> None:
    gateway.workspace()
    gateway.workspaces.set_desired("demo", "stopped")
    client = EarlierClient(gateway)
    assert client.closed() == 1008
    assert [one.code for one in client.heard if isinstance(one, g.Error)] == ["workspace.stopped"]


def test_the_gateways_own_token_opens_nothing(gateway: Gateway) -> None:
    client = EarlierClient(gateway, "_gateway")
    assert client.closed() == 1008
    assert [one.code for one in client.heard if isinstance(one, g.Error)] == ["workspace.forbidden"]


def test_sessions_past_the_limit_are_refused(start_gateway: Callable[..., Gateway]) -> None:
    client = EarlierClient(start_gateway(max_sessions=1))
    client.create()
    client.send(g.Create())
    while not isinstance(error := client.step(), g.Error):
        pass
    assert error.code == "limit.sessions"


def test_a_client_comes_back_after_the_bridge_was_killed(gateway: Gateway) -> None:
    client = EarlierClient(gateway)
    session = client.create()
    client.type("X=kept; echo a''b\n")
    client.expect("ab\r\n")
    gateway.kill_bridge()
    assert client.closed() == 1006
    again = EarlierClient(gateway)
    again.type("echo $X$X\n", session)
    assert again.step() == g.Connected(session)
    again.expect("keptkept", session)
