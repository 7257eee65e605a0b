"""`coditect exec` as a part of a pipeline."""

from __future__ import annotations

import hashlib
import os

import pytest

from coditect_cli.paths import Paths
from tests.e2e.conftest import Coditect
from tests.support.tmux import OUTSIDE, Tmux


@pytest.fixture(autouse=True)
def workspace(coditect: Coditect) -> None:
    assert coditect("up", "demo", "--detach").returncode == 0


def test_fifty_megabytes_go_in_whole(coditect: Coditect) -> None:
    data = os.urandom(50 * 2**20)
    done = coditect("exec", "demo", "--", "sha256sum", input=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_fifty_megabytes_come_back_whole(coditect: Coditect) -> None:
    data = os.urandom(50 * 2**20)
    done = coditect("exec", "demo", "--", "cat", input=data)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 3", 3), ("kill -TERM $$", 143), ("kill -KILL $$", 137), ("no-such-command", 127)],
)
def test_a_status_is_the_programs_own(coditect: Coditect, script: str, status: int) -> None:
    done = coditect("exec", "demo", "--", "sh", "-c", f"echo out; echo err >&2; {script}")
    assert (done.returncode, done.stdout) == (status, b"out\n")
    assert done.stderr.startswith(b"err\n")


def test_a_missing_command_is_127(coditect: Coditect) -> None:
    done = coditect("exec", "demo", "--", "no-such-command")
    assert (done.returncode, done.stdout) == (127, b"")
    assert b"no-such-command" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_workspaces_folder_that_is_gone_is_told(coditect: Coditect, paths: Paths) -> None:
    root = paths.workspaces / "demo" / "root"
    root.rmdir()
    for command in (("attach", "demo"), ("exec", "demo", "--", "true")):
        done = coditect(*command)
        assert (done.returncode, f"no folder {root}" in done.stderr.decode()) == (3, True)


def test_a_script_without_its_interpreter_is_told(coditect: Coditect) -> None:
    script = b"#!/no/such/interpreter\n"
    write = ("sh", "-c", "cat > script; chmod +x script")
    assert coditect("exec", "demo", "--", *write, input=script).returncode == 0
    done = coditect("exec", "demo", "--", "./script")
    assert (done.returncode, done.stdout) == (127, b"")
    assert b"its interpreter is not there" in done.stderr


def test_the_end_of_stdin_half_closes(coditect: Coditect) -> None:
    done = coditect("exec", "demo", "--", "sh", "-c", "cat; echo after; echo >&2", input=b"all\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"all\nafter\n", b"\n")


def test_there_is_no_terminal_anywhere(coditect: Coditect) -> None:
    script = (
        "for fd in 0 1 2; do test -t $fd && echo $fd; done;"
        "readlink /proc/self/fd/* | grep -c pts; (: < /dev/tty) 2> /dev/null && echo /dev/tty"
    )
    assert coditect("exec", "demo", "--", "sh", "-c", script).stdout == b"0\n"


def test_variables_and_the_folder(coditect: Coditect) -> None:
    coditect("exec", "demo", "--", "mkdir", "-p", "src")
    shown = coditect(
        "exec", "--env", "A=b c", "--workdir", "src", "demo", "--", "sh", "-c", 'echo "$A $PWD"'
    ).stdout
    assert shown.startswith(b"b c /")
    assert shown.endswith(b"/src\n")


def test_t_gives_a_terminal_of_this_size(tmux: Tmux) -> None:
    pane = tmux.shell(90, 30)
    pane.enter(
        "coditect exec -t demo -- sh -c 'test -t 0 && test -t 1 && stty size; read x; exit $x'"
    )
    pane.shows("\n30 90")
    pane.enter("9")
    pane.prompts(OUTSIDE)
    pane.enter("echo status $?")
    pane.shows("status 9\n")
