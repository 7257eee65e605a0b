"""Sessions that are live, here or under another gateway, and `coditect session kill`."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from coditect_cli.gateway.place import place
from coditect_cli.paths import Paths
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.sessions.session import parse_time
from coditect_cli.stores.sqlite import SQLiteStore
from tests.commands.session_documents import document, listed, refused
from tests.conftest import RunCli
from tests.sessions.test_session import output, state
from tests.support.gateway import Gateway, until


def test_a_session_that_another_gateway_holds_is_said_so(
    run_cli: RunCli, gateway: Gateway, layer: SessionLayer
) -> None:
    client = gateway.attach()
    for id in ("0-gone", "0-held", "0-saved"):
        layer.save(state(id=id))
    now = time.time_ns()
    layer.acquire("demo", "0-held", "elsewhere:digest#1-2", now=now, ttl=10**12)
    ours = f"{place(gateway.paths, 'local')}#1-2"  # of a bridge that was killed
    layer.acquire("demo", "0-gone", ours, now=now, ttl=10**12)
    for args in ([], ["demo"], ["--all"]):
        items = document(run_cli, "list", *args)["items"]
        found = {item["session"]: item["state"] for item in items}
        live = {"0-gone": "saved", "0-held": "held", "0-saved": "saved", client.session: "live"}
        assert found == live
    assert listed(run_cli, "demo", "--active") == ["demo/0-held", f"demo/{client.session}"]
    item = document(run_cli, "show", "demo", "0-held")
    assert (item["state"], item["problem"]) == ("held", "the gateway elsewhere holds it")
    for args in (["kill", "demo", "0-held"], ["record", "demo", "0-h", "x.cast"]):
        assert refused(run_cli, *args) == (6, "session.leased")
    assert refused(run_cli, "kill", "demo", "0-gone") == (3, "session.not_found")


def test_a_session_that_another_gateway_holds_is_followed_in_the_store(
    run_cli: RunCli, layer: SessionLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = layer.acquire("demo", "s1", "elsewhere:d#1-2", now=time.time_ns(), ttl=10**12)
    layer.save(state(), output(["one", "two", ""]))

    def until_it_ends(*_: object) -> None:
        layer.save(state(ended_at=1), output(["one", "two", "three"]))
        layer.release(lease)

    monkeypatch.setattr(SQLiteStore, "wait_for_change", until_it_ends)
    assert run_cli("session", "output", "demo", "s1", "--follow") == (0, "one\ntwo\nthree\n", "")
    lines = '{"line": "one"}\n{"line": "two"}\n{"line": "three"}\n'
    for follow in ([], ["--follow"]):
        code, out, err = run_cli("session", "output", "demo", "s1", *follow, "-o", "ndjson")
        assert (code, out, err) == (0, lines, "")
    assert refused(run_cli, "output", "demo", "s1", "--follow") == (2, "usage")  # with -o json


def test_only_a_live_session_is_recorded(
    run_cli: RunCli, gateway: Gateway, layer: SessionLayer, tmp_path: Path
) -> None:
    layer.save(state())
    code, _, err = run_cli("session", "record", "demo", "s1", str(tmp_path / "demo.cast"))
    assert code == 3
    assert "session s1 of workspace demo is not live" in err
    assert "coditect attach demo --session s1 brings it back" in err


def test_live_sessions_are_listed_shown_and_killed(
    run_cli: RunCli, gateway: Gateway, layer: SessionLayer
) -> None:
    client = gateway.attach()
    layer.save(state(id="0-saved"))
    assert listed(run_cli) == ["demo/0-saved", f"demo/{client.session}"]
    until(lambda: document(run_cli, "list", "--active")["items"][0]["directory"], "its record")
    assert listed(run_cli, "--active") == [f"demo/{client.session}"]
    item = document(run_cli, "list", "--all", "--active")["items"][0]
    assert (item["state"], item["clients"], item["directory"]) == (
        "live",
        1,
        str(gateway.workspaces.root("demo")),
    )
    shown = document(run_cli, "show", "demo", client.session[:8])
    assert (shown["state"], shown["pid"]) == ("live", client.answer["pid"])
    code, out, _ = run_cli("session", "kill", "demo", client.session[:8])
    assert (code, out) == (0, f"session {client.session} ended\n")
    assert client.message("exit") == {
        "type": "exit",
        "status": 129,
        "signal": 1,
        "reason": "killed",
    }
    assert listed(run_cli, "--active") == []
    assert refused(run_cli, "kill", "demo", client.session) == (3, "session.not_found")
    assert run_cli("session", "kill", "demo", client.session, "--ignore-not-found")[0] == 0


def test_a_live_session_was_not_active_before_it_started(run_cli: RunCli, gateway: Gateway) -> None:
    client = gateway.attach()
    until(lambda: listed(run_cli, "--all"), "the record")
    item = document(run_cli, "show", "demo", client.session)
    assert re.fullmatch(r".*T\d\d:\d\d:\d\d(\.\d{3})?Z", item["lastActive"])
    assert parse_time(item["startedAt"]) <= parse_time(item["lastActive"])


def test_asking_the_gateway_loads_no_message(gateway: Gateway) -> None:
    gateway.attach().detach()
    code = """
import sys
from coditect_cli.main import main
main(["session", "list", "demo", "-o", "name"])
print("coditect_cli.protocol.messages" in sys.modules)
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=gateway.environ,
    )
    assert len(run.stdout.splitlines()) == 2
    assert run.stdout.endswith("False\n")


def test_a_session_that_is_not_saved_yet_is_said_so(
    run_cli: RunCli, gateway: Gateway, layer: SessionLayer
) -> None:
    with closing(sqlite3.connect(gateway.paths.session_store, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")  # the gateway waits
        session = gateway.attach().session
        for verb in ("history", "output"):
            assert refused(run_cli, verb, "demo", session) == (3, "session.not_saved")
        assert document(run_cli, "show", "demo", session)["environmentVars"] == {}


def test_a_session_of_another_users_workspace_is_not_killed(
    run_cli: RunCli, gateway: Gateway
) -> None:
    gateway.user = "bob"
    victim = gateway.attach()
    assert refused(run_cli, "kill", "demo", victim.session) == (5, "workspace.forbidden")
    assert victim.run("echo unharmed") == b"unharmed\r\n"


def test_a_kill_ends_what_ignores_a_hang_up_and_what_went_to_the_background(
    run_cli: RunCli, gateway: Gateway
) -> None:
    client = gateway.attach()
    client.run("trap '' HUP TERM; (setsid sleep 1000 &); sleep 1000 & true")
    other = gateway.attach(session="new")
    assert run_cli("session", "kill", "demo", client.session)[0] == 0
    assert client.message("exit")["signal"] == 9
    assert other.run("echo unharmed") == b"unharmed\r\n"
    until(lambda: listed(run_cli, "demo", "--active") == [f"demo/{other.session}"], "one session")


def test_looking_starts_no_gateway(run_cli: RunCli, paths: Paths, layer: SessionLayer) -> None:
    layer.save(state(), output(["x"]))
    for line in ("list demo", "list --all", "show demo s1", "history demo s1", "output demo s1"):
        assert run_cli("session", *line.split())[0] == 0
    assert refused(run_cli, "kill", "demo", "s1") == (3, "session.not_found")
    assert not paths.gateway_socket.exists()
