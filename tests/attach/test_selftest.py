from __future__ import annotations

import json

import pytest

from coditect_cli.attach import selftest
from coditect_cli.attach.conversation import Conversation
from coditect_cli.errors import Failed
from coditect_cli.paths import Paths
from tests.conftest import RunCli

NAMES = [
    "test_pty_write_without_error",
    "test_terminal_session_persistence",
    "test_concurrent_terminal_sessions",
]


def test_it_passes_without_a_gateway_and_touches_no_home(run_cli: RunCli, paths: Paths) -> None:
    code, out, _ = run_cli("gateway", "selftest", "-o", "json")
    report = json.loads(out)
    assert code == 0
    assert (report["kind"], report["ok"]) == ("GatewaySelftest", True)
    assert [item["name"] for item in report["items"]] == NAMES
    assert {item["status"] for item in report["items"]} == {"pass"}
    assert not paths.state.exists()


def test_what_fails_is_named(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(dial: selftest.Dial) -> None:
        raise Failed("no echo", code="gateway.no_echo")

    broken.__name__ = NAMES[0]
    monkeypatch.setattr(selftest, "TESTS", (broken,))
    code, out, _ = run_cli("gateway", "selftest", "-o", "json")
    [item] = json.loads(out)["items"]
    assert (code, json.loads(out)["ok"]) == (8, False)
    assert (item["name"], item["status"], item["message"]) == (NAMES[0], "fail", "no echo")


def test_each_test_notices_what_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that drops each second write, forgets a session, and mixes sessions up."""
    real = Conversation.attach
    with selftest.private_gateway() as dial:
        only = real(dial())
        monkeypatch.setattr("coditect_cli.attach.conversation.TIMEOUT", 0.5)
        with pytest.raises(Failed):
            monkeypatch.setattr(Conversation, "type", lambda self, data: None)
            selftest.test_pty_write_without_error(dial)
        monkeypatch.undo()
        with monkeypatch.context() as patch:
            patch.setattr(Conversation, "attach", lambda link, session="new": real(link))
            with pytest.raises(Failed, match="came back"):
                selftest.test_terminal_session_persistence(dial)
            patch.setattr(Conversation, "attach", lambda link, _="new": real(link, only.session))
            with pytest.raises(Failed):
                selftest.test_concurrent_terminal_sessions(dial)
        only.close()
