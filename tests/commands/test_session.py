"""`coditect session show`, `history` and `output`."""

from __future__ import annotations

import re

import pytest

from coditect_cli.main import main
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.stores.store import SessionStore
from coditect_cli.streams import Streams
from tests.commands.session_documents import document, refused
from tests.conftest import RunCli
from tests.sessions.test_session import output, state

SECRET = "hunter2hunter"


def test_variables_are_hidden_unless_they_are_named(run_cli: RunCli, layer: SessionLayer) -> None:
    variables = {"TOKEN": SECRET, "LANG": "C"}
    layer.save(state(environment_vars=variables, unknown={"old": {"environment_vars": variables}}))
    for form in ("table", "wide", "json", "yaml", "name", "ndjson"):
        code, out, err = run_cli("session", "show", "demo", "s1", "-o", form)
        assert code == 0
        assert SECRET not in out + err
    assert "variable    TOKEN=••••(13)\n" in run_cli("session", "show", "demo", "s1")[1]
    shown = document(run_cli, "show", "demo", "s1", "--reveal", "LANG")
    assert shown["environmentVars"] == {"TOKEN": "••••(13)", "LANG": "C"}
    assert shown["unknown"]["old"]["environment_vars"] == {"TOKEN": "••••(13)", "LANG": "C"}
    assert shown["kind"] == "Session"
    assert "no variable NO" in run_cli("session", "show", "demo", "s1", "--reveal", "NO")[2]


@pytest.mark.parametrize("depth", [100, 900, 40_000])
def test_what_is_nested_deep_hides_no_session(
    run_cli: RunCli, layer: SessionLayer, store: SessionStore, depth: int
) -> None:
    layer.save(state())
    value = state(id="deep").encode()[:-1] + b',"x":' + b"[" * depth + b"]" * depth + b"}"
    store.transact(lambda transaction: transaction.set(b"demo/terminal_sessions/deep", value))
    found = {item["session"]: item["state"] for item in document(run_cli, "list", "demo")["items"]}
    assert found == {"deep": "unreadable" if depth > 1000 else "saved", "s1": "saved"}
    if depth > 1000:
        assert refused(run_cli, "show", "demo", "deep") == (8, "session.unreadable")
    else:
        assert document(run_cli, "show", "demo", "deep")["state"] == "saved"


def test_a_session_is_found_by_a_unique_start(run_cli: RunCli, layer: SessionLayer) -> None:
    for id in ("5e0c", "5e1d"):
        layer.save(state(id=id))
    assert document(run_cli, "show", "demo", "5e1")["session"] == "5e1d"
    assert refused(run_cli, "show", "demo", "5e") == (2, "session.ambiguous")
    assert refused(run_cli, "show", "demo", "6") == (3, "session.not_found")
    assert refused(run_cli, "show", "demo", "a/b") == (2, "session.invalid_id")


def test_an_output_without_its_state_is_said_so(run_cli: RunCli, store: SessionStore) -> None:
    value = output(["x"]).encode()
    store.transact(lambda transaction: transaction.set(b"demo/terminal_output/s1", value))
    assert refused(run_cli, "show", "demo", "s1") == (8, "session.no_state")
    store.transact(lambda transaction: transaction.set(b"demo/terminal_output/s1", b"junk"))
    assert (
        "coditect keys get demo/terminal_output/s1" in run_cli("session", "show", "demo", "s1")[2]
    )


def test_history_is_numbered_and_searched(run_cli: RunCli, layer: SessionLayer) -> None:
    commands = ["git pull", "ls", "git push", "echo \x1b[31m"]
    layer.save(state(command_history=commands, history_trimmed=10))
    items = document(run_cli, "history", "demo", "s1")["items"]
    assert [(item["number"], item["command"]) for item in items] == [*enumerate(commands, 11)]
    code, out, _ = run_cli("session", "history", "demo", "s1", "--grep", "^git pu(ll|sh)$")
    assert (code, out) == (0, "NUMBER  COMMAND\n11      git pull\n13      git push\n")
    assert "\x1b" not in run_cli("session", "history", "demo", "s1")[1]
    assert refused(run_cli, "history", "demo", "s1", "--grep", "(") == (2, "session.grep")


def test_output_has_colours_where_they_are_wanted(
    run_cli: RunCli, layer: SessionLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer.save(state(), output(["\x1b[1mbold\x1b[m", "\x1b[2Jrest", "", ""]))
    assert run_cli("session", "output", "demo", "s1") == (0, "bold\n\\x1b[2Jrest\n", "")
    coloured = "\x1b[1mbold\x1b[m\n\\x1b[2Jrest\n"
    assert run_cli("session", "output", "demo", "s1", "--ansi")[1] == coloured
    streams = Streams.test()
    monkeypatch.setattr(streams.stdout, "isatty", lambda: True)
    assert main(["session", "output", "demo", "s1"], streams) == 0
    streams.stdout.seek(0)
    assert streams.stdout.read() == coloured
    found = document(run_cli, "output", "demo", "s1")
    assert (found["lines"], found["screenSize"]) == (["bold", "\\x1b[2Jrest", "", ""], [80, 24])


def test_of_a_state_without_output_there_is_none_to_show(
    run_cli: RunCli, layer: SessionLayer
) -> None:
    layer.save(state())
    assert refused(run_cli, "output", "demo", "s1") == (3, "session.not_saved")
    _, _, err = run_cli("session", "output", "demo", "s1")
    assert "no output is saved" in err
    assert run_cli(*re.findall(r"coditect (.*) shows", err)[0].split())[0] == 0


def test_variables_that_were_unset_are_named(run_cli: RunCli, layer: SessionLayer) -> None:
    layer.save(state(variables_unset=["LANG", "TZ"]))
    assert document(run_cli, "show", "demo", "s1")["variablesUnset"] == ["LANG", "TZ"]
    assert "unset       LANG\nunset       TZ\n" in run_cli("session", "show", "demo", "s1")[1]
