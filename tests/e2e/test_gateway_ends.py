"""What commands do while a gateway ends, and with a token that was given by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Coditect

ROUNDS = 8


def test_a_command_that_races_with_a_stop_gets_a_gateway(coditect: Coditect) -> None:
    assert coditect("up", "demo", "--detach").returncode == 0
    program = str(Path(sys.executable).parent / "coditect")
    for _ in range(ROUNDS):
        with subprocess.Popen([program, "gateway", "stop", "--force"], stderr=subprocess.DEVNULL):
            done = coditect("exec", "demo", "--", "echo", "ok")
        ended_with_its_gateway = done.returncode == 255
        assert ended_with_its_gateway or (done.returncode, done.stdout) == (0, b"ok\n"), done


@pytest.mark.parametrize(
    "command",
    [
        ("exec", "other", "--", "pwd"),
        ("attach", "other"),
        ("cp", "other:x", "."),
        ("workspace", "stop", "other", "--force"),
        ("workspace", "show", "other"),
        ("gateway", "status"),
    ],
    ids=lambda command: "-".join(command[:2]),
)
def test_a_token_of_one_workspace_does_nothing_to_another(
    coditect: Coditect, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    for workspace in ("demo", "other"):
        assert coditect("up", workspace, "--detach").returncode == 0
    token = coditect("token", "issue", "--workspace", "demo").stdout.decode().strip()
    monkeypatch.setenv("CODITECT_TOKEN", token)
    done = coditect(*command)
    assert done.returncode == 5, done.stderr
    assert b"the token is for workspace demo" in done.stderr
    assert coditect("exec", "demo", "--", "true").returncode == 0
    monkeypatch.delenv("CODITECT_TOKEN")
