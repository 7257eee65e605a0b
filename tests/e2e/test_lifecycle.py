"""The background gateway: started once, outliving its starter, ending when idle, found again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from coditect_cli.paths import Paths
from tests.e2e.conftest import Coditect
from tests.support.gateway import until
from tests.support.tmux import INSIDE, Tmux

Status = Callable[[], dict[str, Any]]


def keepers(home: Path) -> list[int]:
    """The keepers that use this home."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("CODITECT_HOME") == str(home)
            if ours and "coditect_cli.gateway.keeper" in process.cmdline():
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_ten_that_race_start_one_gateway(home: Path, gateway_status: Status) -> None:
    program = str(Path(sys.executable).parent / "coditect")
    racers = [
        subprocess.Popen([program, "up", "x", "--detach"], stdout=subprocess.DEVNULL)
        for _ in range(10)
    ]
    assert [racer.wait(60) for racer in racers] == [0] * 10
    until(lambda: keepers(home) == [gateway_status()["keeperPid"]], "one keeper")


def test_it_outlives_the_terminal_that_started_it(
    tmux: Tmux, coditect: Coditect, gateway_status: Status
) -> None:
    pane = tmux.shell()
    pane.coditect("up", "demo")
    pane.enter("mark=still-here")
    pane.prompts(INSIDE)
    before = gateway_status()
    pane.close()
    until(lambda: gateway_status()["connections"] == 0, "the end of the client")
    assert gateway_status()["keeperPid"] == before["keeperPid"]
    again = tmux.shell()
    again.enter("coditect attach demo")
    again.prompts(INSIDE)
    again.enter("clear; echo $mark")
    again.shows("still-here\n")


def test_what_its_starter_ignores_ends_programs_all_the_same(coditect: Coditect) -> None:
    program = str(Path(sys.executable).parent / "coditect")
    starts = "trap '' QUIT USR1 TSTP; exec \"$0\" up demo --detach"
    subprocess.run(["sh", "-c", starts, program], check=True, capture_output=True)
    for number in (signal.SIGQUIT, signal.SIGUSR1):
        script = f"ulimit -c 0; kill -{number:d} $$; echo ignored"
        ran = coditect("exec", "demo", "--", "sh", "-c", script)
        assert (ran.returncode, ran.stdout) == (128 + number, b"")


def test_it_ends_when_idle_but_not_with_a_live_session(
    monkeypatch: pytest.MonkeyPatch, tmux: Tmux, paths: Paths, gateway_status: Status
) -> None:
    monkeypatch.setenv("CODITECT_GATEWAY_IDLE", "300ms")
    pane = tmux.shell(CODITECT_GATEWAY_IDLE="300ms")
    pane.coditect("up", "demo")
    keeper = psutil.Process(gateway_status()["keeperPid"])
    pane.press("Enter")
    pane.type("~d")
    pane.shows("detached")
    with pytest.raises(psutil.TimeoutExpired):
        keeper.wait(1)
    pane.enter("clear; coditect attach demo")
    pane.prompts(INSIDE)
    pane.enter("exit")
    keeper.wait(30)
    assert not paths.gateway_socket.exists()


def test_it_is_found_again_after_a_crash(
    coditect: Coditect, paths: Paths, gateway_status: Status
) -> None:
    assert coditect("up", "demo", "--detach").returncode == 0
    before = gateway_status()
    for name in ("keeperPid", "bridgePid"):
        os.kill(before[name], signal.SIGSTOP)
    killed = [psutil.Process(before[name]) for name in ("keeperPid", "bridgePid")]
    for process in killed:
        process.kill()
    psutil.wait_procs(killed, timeout=30)
    assert paths.gateway_socket.exists()
    done = coditect("up", "demo", "--exec", "echo back")
    assert (done.returncode, done.stdout) == (0, b"back\n"), done.stderr
    assert gateway_status()["keeperPid"] != before["keeperPid"]


def test_a_damaged_key_is_replaced_while_it_runs(
    home: Path, coditect: Coditect, gateway_status: Status
) -> None:
    coditect("up", "demo", "--detach")
    before = gateway_status()
    key = Paths.from_environ(os.environ).key_file
    key.write_text("")
    refused = coditect("exec", "demo", "--", "true")
    assert refused.returncode == 4
    assert f"{key} is damaged".encode() in refused.stderr and b"remove it" in refused.stderr
    key.unlink()
    assert coditect("exec", "demo", "--", "true").returncode == 0
    assert gateway_status()["keeperPid"] == before["keeperPid"]
