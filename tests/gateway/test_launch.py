from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from coditect_cli.errors import Unreachable
from coditect_cli.gateway import launch
from coditect_cli.paths import Paths, make_private


def keepers(paths: Paths) -> list[psutil.Process]:
    """The keepers that hold this lock."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "coditect_cli.gateway.keeper" in words and str(paths.gateway_lock) in words:
            found.append(process)
    return found


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Paths]:
    """An empty home; a gateway started in it ends with the test."""
    monkeypatch.setenv("CODITECT_HOME", str(tmp_path))
    monkeypatch.setenv("CODITECT_TOKEN", "secret")
    found = Paths.from_environ(os.environ)
    yield found
    for keeper in keepers(found):
        keeper.terminate()
        while keeper.is_running() and keeper.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)


def start_in_another_process() -> subprocess.Popen[bytes]:
    code = (
        "import os; from coditect_cli.gateway.launch import ensure_running;"
        "from coditect_cli.paths import Paths;"
        "ensure_running(Paths.from_environ(os.environ), 'local')"
    )
    return subprocess.Popen([sys.executable, "-c", code])


def test_ten_that_race_start_one_gateway(paths: Paths) -> None:
    racing = [start_in_another_process() for _ in range(10)]
    assert [one.wait() for one in racing] == [0] * 10
    while len(keepers(paths)) > 1:
        time.sleep(0.01)  # the losers are ending
    assert len(keepers(paths)) == 1
    assert launch.accepts(paths)


def test_it_is_detached_and_has_no_token(paths: Paths) -> None:
    assert start_in_another_process().wait() == 0
    (keeper,) = keepers(paths)
    assert os.getsid(keeper.pid) == keeper.pid
    assert keeper.cwd() == "/"
    assert "CODITECT_TOKEN" not in keeper.environ()
    assert paths.gateway_log.stat().st_mode & 0o777 == 0o600


def test_a_home_may_be_relative_to_where_one_is(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path.parent)
    monkeypatch.setenv("CODITECT_HOME", tmp_path.name)
    assert start_in_another_process().wait() == 0
    (keeper,) = keepers(paths)
    assert keeper.environ()["CODITECT_HOME"] == str(tmp_path)


def test_a_gateway_that_was_killed_is_started_again(paths: Paths) -> None:
    assert start_in_another_process().wait() == 0
    (keeper,) = keepers(paths)
    children = keeper.children()
    keeper.send_signal(signal.SIGKILL)
    psutil.wait_procs([keeper, *children], timeout=30)
    assert paths.gateway_socket.exists()
    assert start_in_another_process().wait() == 0
    assert [one.pid for one in keepers(paths)] != [keeper.pid]


def test_a_start_waits_for_a_gateway_that_is_ending(paths: Paths) -> None:
    make_private(paths.state)
    with open(paths.gateway_lock, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as one does that listens no more
        starting = start_in_another_process()
        while not (
            paths.gateway_log.exists() and "already_running" in paths.gateway_log.read_text()
        ):
            time.sleep(0.01)
    assert starting.wait() == 0
    assert launch.accepts(paths)


def test_a_file_in_the_place_of_the_socket_is_named_and_kept(paths: Paths) -> None:
    make_private(paths.state)
    paths.gateway_socket.write_text("somebody's")
    with pytest.raises(Unreachable) as failed:
        launch.ensure_running(paths, "local")
    assert str(paths.gateway_socket) in failed.value.message
    assert "remove it" in (failed.value.hint or "")
    assert paths.gateway_socket.read_text() == "somebody's"
    assert not keepers(paths)


def test_a_start_that_fails_shows_the_log(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    make_private(paths.state)
    paths.gateway_log.write_text("an old line\n")
    monkeypatch.setenv("PYTHONHOME", "/nowhere")  # so that no interpreter starts
    with pytest.raises(Unreachable) as failed:
        launch.ensure_running(paths, "local")
    assert failed.value.code == "gateway.start_failed"
    assert "an old line" not in failed.value.message
    assert len(failed.value.message.splitlines()) > 1


def test_a_bridge_whose_keeper_is_gone_before_it_told_anything_ends(home: Path) -> None:
    make_private(home / "state")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        words = ["-m", "coditect_cli.gateway.main", "--role", "local"]
        argv = [sys.executable, *words, "--keeper-fd", str(theirs.fileno())]
        bridge = subprocess.Popen(argv, pass_fds=[theirs.fileno()])
    assert bridge.wait(60) == 0
