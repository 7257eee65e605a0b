from __future__ import annotations

import json
import re
import shlex
import time

import pytest

from coditect_cli.commands import session_delete
from coditect_cli.main import main
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.sessions.session import SessionState
from coditect_cli.stores.store import SessionStore, Transaction
from coditect_cli.streams import Streams
from tests.commands.session_documents import document, listed, refused
from tests.conftest import RunCli
from tests.sessions.test_session import output, state
from tests.support.gateway import Gateway

DAY = 86_400 * 10**9


def aged(id: str, days: float, workspace_id: str = "demo") -> SessionState:
    return state(id=id, workspace_id=workspace_id, last_active=time.time_ns() - int(days * DAY))


def test_one_session_is_deleted_with_its_output_and_lease(
    run_cli: RunCli, store: SessionStore, layer: SessionLayer
) -> None:
    layer.save(state(), output(["x"]))
    layer.save(state(id="s2"))
    layer.release(layer.acquire("demo", "s1", "b", now=time.time_ns(), ttl=DAY))
    dry = document(run_cli, "delete", "demo", "s1", "--dry-run")
    assert (dry["session"], dry["dryRun"]) == ("s1", True)
    assert refused(run_cli, "delete", "demo", "s1") == (2, "confirm.needed")
    assert layer.load("demo", "s1")[0] is not None
    done = document(run_cli, "delete", "demo", "s1", "--yes")
    assert dry == {**done, "dryRun": True}
    keys = store.read(lambda snapshot: [key for key, _ in snapshot.range(b"", b"\xff")])
    assert keys == [b"demo/terminal_sessions/s2"]
    assert refused(run_cli, "delete", "demo", "s1", "--yes") == (3, "session.not_found")
    assert run_cli("session", "delete", "demo", "s1", "--yes", "--ignore-not-found")[0] == 0


def test_a_declined_question_deletes_nothing(
    layer: SessionLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer.save(aged("s1", 40))
    for args in (["demo", "s1"], ["demo", "--older-than", "30d"]):
        streams = Streams.test(b"n\n")
        for stream in (streams.stdin, streams.stderr):
            monkeypatch.setattr(stream, "isatty", lambda: True)
        assert main(["session", "delete", *args], streams) == 8
        assert layer.load("demo", "s1")[0] is not None
        streams.stderr.seek(0)
        assert "Delete" in streams.stderr.read()


def test_a_record_that_cannot_be_read_can_be_deleted(run_cli: RunCli, store: SessionStore) -> None:
    store.transact(lambda transaction: transaction.set(b"demo/terminal_sessions/s1", b"junk"))
    assert run_cli("session", "delete", "demo", "s1", "--yes")[0] == 0
    assert listed(run_cli, "--all") == []


def test_what_to_delete_must_be_said(run_cli: RunCli, layer: SessionLayer) -> None:
    layer.save(aged("s1", 40))
    for line in (
        "--yes",
        "demo --yes",
        "demo s1 --older-than 30d --yes",
        "demo s1 --all --yes",
        "demo --all --older-than 30d --yes",
        "--older-than 30d --force --yes",
        "--older-than soon --yes",
    ):
        assert refused(run_cli, "delete", *line.split()) == (2, "usage"), line
    assert listed(run_cli, "--all") == ["demo/s1"]


def test_old_sessions_are_deleted_and_no_others(
    run_cli: RunCli, layer: SessionLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_delete, "PER_TRANSACTION", 2)
    run_cli("workspace", "create", "demo")
    for n in range(5):
        layer.save(aged(f"old{n}", 31))
    layer.save(aged("new", 29))
    layer.save(aged("other", 31, "gone"))
    would = document(run_cli, "delete", "--older-than", "30d", "--dry-run")
    assert [item["session"] for item in would["items"]] == [f"old{n}" for n in range(5)]
    assert (would["dryRun"], would["deleted"]) == (True, 0)
    assert refused(run_cli, "delete", "--older-than", "30d") == (2, "confirm.needed")
    assert len(listed(run_cli, "--all")) == 7
    done = document(run_cli, "delete", "--older-than", "30d", "--yes")
    assert done["items"] == [{**item, "state": "deleted"} for item in would["items"]]
    assert listed(run_cli, "--all") == ["demo/new", "gone/other"]
    assert document(run_cli, "delete", "gone", "--older-than", "30d", "--yes")["deleted"] == 1
    assert document(run_cli, "delete", "--all", "--older-than", "30d")["deleted"] == 0
    for id, code in (("gone", 3), ("A b", 2)):
        assert run_cli("session", "delete", id, "--older-than", "30d", "--yes")[0] == code
    assert listed(run_cli, "--all") == ["demo/new"]


@pytest.mark.parametrize("id", ["a b", "it's", "-rf"])
def test_what_is_said_of_a_damaged_lease_can_be_typed(
    run_cli: RunCli, store: SessionStore, id: str
) -> None:
    def write(transaction: Transaction) -> None:
        transaction.set(f"demo/terminal_sessions/{id}".encode(), aged(id, 1).encode())
        transaction.set(f"_coditect/leases/demo/{id}".encode(), b"[]")

    store.transact(write)
    _, _, err = run_cli("session", "delete", "--yes", "demo", "--", id)
    look, remove = re.findall("coditect (.*?) (?:tells|removes)", err)
    assert run_cli(*shlex.split(look))[0] == 0
    assert run_cli(*shlex.split(remove.replace("--force", "--force --yes")))[0] == 0
    assert listed(run_cli, "--all") == []


def test_what_is_left_is_said_before_and_after(
    run_cli: RunCli, layer: SessionLayer, store: SessionStore
) -> None:
    layer.save(aged("good", 40))
    odd = aged("odd", 40).encode().replace(b'"environment_vars":{', b'"environment_vars":{"N":1,')
    bad = aged("bad", 40).encode().replace(b'"last_active":"2', b'"last_active":"x')
    records = {b"odd": odd, b"bad": bad, b"junk": b"junk"}

    def write(transaction: Transaction) -> None:
        for id, value in records.items():
            transaction.set(b"demo/terminal_sessions/" + id, value)

    store.transact(write)
    args = ["session", "delete", "--all", "--older-than", "30d", "-o", "name"]
    for how in ("--dry-run", "--yes"):
        code, out, err = run_cli(*args, how)
        assert (code, out) == (0, "demo/good\n")
        assert err.startswith("warning: left as they are, for they cannot be read or are in use: 3")
    assert listed(run_cli, "--all") == ["demo/bad", "demo/junk", "demo/odd"]


def test_a_session_that_a_bridge_holds_is_not_deleted(run_cli: RunCli, layer: SessionLayer) -> None:
    layer.save(aged("s1", 40))
    lease = layer.acquire("demo", "s1", "bridge", now=time.time_ns(), ttl=DAY)
    assert refused(run_cli, "delete", "demo", "s1", "--yes") == (6, "session.leased")
    assert document(run_cli, "delete", "--all", "--older-than", "30d", "--yes")["deleted"] == 0
    assert document(run_cli, "delete", "demo", "s1", "--yes", "--force")["state"] == "deleted"
    with pytest.raises(Exception, match="belongs to another bridge now"):
        layer.save(aged("s1", 0), lease=lease)


def test_one_that_became_active_again_since_it_was_counted_stays(layer: SessionLayer) -> None:
    layer.save(aged("s1", 31))
    layer.save(aged("s2", 1))
    layer.save(aged("s3", 31))
    now = time.time_ns()
    ids = [("demo", id) for id in ("gone", "s1", "s2", "s3")]
    assert layer.delete_older(ids, now - 30 * DAY, now) == {1, 3}
    assert list(layer.ids("demo")) == ["s2"]


def test_a_live_session_is_deleted_by_force_only(
    run_cli: RunCli, gateway: Gateway, layer: SessionLayer
) -> None:
    client = gateway.attach()
    layer.save(aged(client.session, 40))
    args = ["delete", "demo", client.session[:8], "--yes"]
    assert refused(run_cli, *args) == (6, "session.live")
    assert json.loads(run_cli("session", *args, "-o", "json")[2])["error"]["hint"]
    assert document(run_cli, "delete", "demo", "--older-than", "30d", "--yes")["deleted"] == 0
    assert client.run("echo unharmed") == b"unharmed\r\n"
    assert document(run_cli, *args, "--force")["session"] == client.session
    client.message("exit")
    assert listed(run_cli, "--all") == []
