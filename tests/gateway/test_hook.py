"""The prompt hook in real shells: what it shows, costs and leaves alone."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from coditect_cli.gateway import hook
from coditect_cli.gateway.hook import Reports
from coditect_cli.gateway.screen import Screen
from coditect_cli.sessions.lines import plain
from coditect_cli.sessions.session import SessionState
from tests.support.hook import Shell, bash, begin, zsh


def test_what_a_user_has_set_up_goes_on(stack: ExitStack, tmp_path: Path) -> None:
    shell = bash(stack, tmp_path, "PROMPT_COMMAND='echo mine $?'\ntrap 'echo bye' EXIT\n")
    shell.type("(exit 7)")
    shell.shown(b"mine 7\r\nready$ ")
    shell.type("PROMPT_COMMAND='echo other'")
    shell.shown(b"other\r\nready$ ")
    for _ in range(3):
        shell.report()
    shell.type("cd /usr")
    assert shell.report().directory == "/usr"
    shell.shown(b"other\r\nready$ ")
    shell.type("exit")
    shell.shown(b"bye")


def test_nothing_of_it_is_shown(stack: ExitStack, tmp_path: Path) -> None:
    shell = bash(stack, tmp_path, "set -u\n")
    shell.type("set -x")
    shell.shown(b"ready$ ")
    shell.type("trap 'echo trapped' DEBUG")
    shell.shown(b"ready$ ")
    shell.type("true")
    assert shell.shown(b"ready$ ") == b"true\r\n++ echo trapped\r\ntrapped\r\n+ true\r\n"
    shell.type("trap - DEBUG; set +x; set -eE; trap 'echo failed' ERR")
    shell.shown(b"ready$ ")
    shell.type("echo on")
    assert shell.shown(b"ready$ ") == b"echo on\r\non\r\n"
    shell.type("set -v")
    shell.shown(b"ready$ ")
    shell.type("echo on")
    assert drawn(shell.shown(b"ready$ ")) == ["echo on", "echo on", "on"]  # the second is bash's


def drawn(shown: bytes) -> list[str]:
    """What a terminal shows of it, with a line above it."""
    screen = Screen(80, 24)
    screen.feed(b"\r\n" + shown)
    lines = [plain(line).rstrip() for line in screen.primary()[0][1:]]
    assert screen.primary()[1] == (0, 1 + len(list(filter(None, lines))))
    return [line for line in lines if line]


def test_a_login_shell_is_one_and_not_in_posix_mode(stack: ExitStack, tmp_path: Path) -> None:
    shell = bash(stack, tmp_path, "")
    words = "echo $HISTFILE ${ENV-none} $MAILCHECK; compgen -v CODITECT"
    shell.type(f"shopt login_shell; shopt -o posix; {words}")
    lines = shell.shown(b"ready$ ").split(b"\r\n")[1:]
    assert lines[0].split() == [b"login_shell", b"on"]
    assert lines[1].split() == [b"posix", b"off"]
    assert lines[2:] == [f"{tmp_path}/.bash_history none 60".encode(), b""]


def test_the_options_are_those_of_a_shell_without_a_hook(stack: ExitStack, tmp_path: Path) -> None:
    shell = bash(stack, tmp_path, "")
    shell.type(
        "set +o > with; shopt -p >> with; "
        "HISTFILE= /bin/bash -il -c 'set +o > without; shopt -p >> without'"
    )
    shell.shown(b"ready$ ")
    with_hook = (tmp_path / "with").read_text().splitlines()
    without = (tmp_path / "without").read_text().splitlines()
    differing = {line.split()[-1] for line in set(with_hook) ^ set(without)}
    assert differing <= {"history", "histexpand", "emacs"}  # -c has none of them


@pytest.mark.parametrize(
    "options",
    [
        "set -u",
        "set -eE; trap 'echo failed > /dev/tty' ERR",
        "set -x",
        "set -v",
        "trap 'echo trapped' DEBUG",
        "set -o posix",
        "readonly HISTTIMEFORMAT='%F %T '",
        "readonly HISTTIMEFORMAT='%F '; set -o posix",
        "set -u; PROMPT_COMMAND=(true true)",
    ],
)
def test_options_of_start_up_files_do_not_stop_it(
    stack: ExitStack, tmp_path: Path, options: str
) -> None:
    # UID cannot be set: that is no reason to end, or to show anything
    state = SessionState("s", "demo", 0, 0, "bash", "/usr", {"UID": "0", "FOO": "bar"}, ["ls"])
    (tmp_path / ".bash_profile").write_text(
        f"PS1='ready$ '; bind 'set enable-bracketed-paste off'\n{options}\n"
    )
    shell = Shell("bash", tmp_path, hook.saved_state("/bin/bash", "/usr", state))
    stack.callback(shell.close)
    assert drawn(shell.shown(b"ready$ ")) == []
    shell.type("status=$?; set +xv; trap - DEBUG; echo $status,$PWD,$FOO")
    assert shell.shown(b"ready$ ").endswith(b"0,/usr,bar\r\n")
    reports = [shell.report(), shell.report()]
    assert reports[0].variables["FOO"] == "bar"
    assert reports[0].recent == [(1, "ls")]
    assert reports[1].recent == [(2, "status=$?; set +xv; trap - DEBUG; echo $status,$PWD,$FOO")]


def test_a_prompt_command_that_cannot_be_changed_is_left_alone(
    stack: ExitStack, tmp_path: Path
) -> None:
    (tmp_path / ".bash_profile").write_text("PS1='ready$ '; readonly PROMPT_COMMAND='echo mine'\n")
    shell = Shell("bash", tmp_path)
    stack.callback(shell.close)
    assert b"readonly" not in shell.shown(b"ready$ ")
    shell.type("echo $?")
    assert b"0\r\nmine" in shell.shown(b"ready$ ")


def test_zsh_shows_nothing_of_it_and_takes_it_into_what_is_set_anew(
    stack: ExitStack, tmp_path: Path
) -> None:
    rc = "HISTORY_IGNORE='pas## *'\nprecmd_functions=(true)\nexport name=1\n"
    shell = zsh(stack, tmp_path, f"{rc}setopt extendedglob\nset -x\n")
    shell.type("cd /usr")
    assert shell.shown(b"ready$ ") == b"cd /usr\r\n+-zsh:1> cd /usr\r\n"
    shell.type("pass word")
    shell.shown(b"ready$ ")
    reports = [shell.report() for _ in range(3)]
    assert reports[1].directory == "/usr"
    assert reports[1].variables["name"] == "1"
    assert reports[2].recent == [(1, "cd /usr")]
    shell.type("set +x; trap 'echo trapped' DEBUG")
    shell.shown(b"ready$ ")
    for _ in range(2):
        shell.type("true")
        assert shell.shown(b"ready$ ") == b"true\r\ntrapped\r\ntrapped\r\n"
    shell.type("trap 'echo trapped > /dev/tty' DEBUG")
    shell.shown(b"ready$ ")
    shell.type("true")
    assert shell.shown(b"ready$ ") == b"true\r\n" + b"trapped\r\n" * 4


def test_aliases_and_functions_of_the_same_names_are_not_run(
    stack: ExitStack, tmp_path: Path
) -> None:
    profile = "history() { echo hijacked; }\nprintf() { echo hijacked; }\nalias export='echo no'\n"
    shell = bash(stack, tmp_path, profile)
    shell.report()
    shell.type("cd /")
    assert shell.report().directory == "/"
    assert b"hijacked" not in shell.shown(b"ready$ ")


def faults_of_children(pid: int) -> int:
    """Page faults of all the children that a process has had: each fork of its has some."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[8])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_a_prompt_costs_no_fork(stack: ExitStack, tmp_path: Path, name: str) -> None:
    shell = begin(stack, tmp_path, name, "")
    before = faults_of_children(shell.pid)
    for _ in range(5):
        shell.report()
        shell.type("cd .")
        shell.shown(b"ready$ ")
    assert faults_of_children(shell.pid) == before
    shell.type("/bin/true")
    shell.shown(b"ready$ ")
    assert faults_of_children(shell.pid) > before


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_a_full_pipe_delays_no_prompt_and_tears_nothing(
    stack: ExitStack, tmp_path: Path, name: str
) -> None:
    shell = begin(stack, tmp_path, name, "export BIG=$(printf '%060000d' 0)\n")
    for number in range(4):
        shell.type(f"echo {number}")
        shell.shown(b"ready$ ")
    data = b""
    with suppress(BlockingIOError):
        while True:
            data += os.read(shell.out, 65_536)
    whole = list(Reports().feed(data))
    assert all(len(report.variables["BIG"]) == 60_000 for report in whole)
    assert len(whole) == 1
    shell.type("cd /usr")
    shell.shown(b"ready$ ")
    reader = Reports()
    list(reader.feed(data))
    assert [report.directory for report in reader.feed(os.read(shell.out, 1 << 20))] == ["/usr"]


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_who_reads_may_be_killed_while_somebody_holds_the_pipe(
    stack: ExitStack, tmp_path: Path, name: str
) -> None:
    shell = begin(stack, tmp_path, name, "")
    kept = os.dup(shell.out)
    stack.callback(os.close, kept)
    os.close(shell.out)
    shell.out = kept
    shell.type("echo alive")
    shell.shown(b"alive\r\nready$ ")
