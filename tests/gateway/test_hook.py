"""The prompt hook in real shells, and what is read of its reports."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from coditect_cli.gateway import hook
from coditect_cli.gateway.hook import Report, Reports
from coditect_cli.gateway.screen import Screen
from coditect_cli.sessions.lines import plain
from coditect_cli.sessions.session import SessionState

PATIENCE = 30.0


class Shell:
    """bash or zsh with its hook on a terminal, and the pipe that the hook writes to."""

    def __init__(self, name: str, home: Path, saved: int | None = None) -> None:
        self.out, into = os.pipe()
        os.set_blocking(into, False)
        os.set_blocking(self.out, False)
        argv, env = hook.arguments(f"/bin/{name}")
        env |= {"HOME": str(home), "PATH": "/usr/bin:/bin", "TERM": "dumb", "LANG": "C.UTF-8"}
        fds = {hook.PIPE: into, **({hook.SAVED: saved} if saved is not None else {})}
        env |= {variable: str(fd) for variable, fd in fds.items()}
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            for fd in fds.values():
                os.set_inheritable(fd, True)
            os.chdir(home)
            os.execve(f"/bin/{name}", argv, env)  # noqa: S606
        for fd in fds.values():
            os.close(fd)
        self.seen = b""
        self.reports: list[Report] = []
        self._reader = Reports()

    def type(self, line: str) -> None:
        os.write(self.terminal, line.encode() + b"\n")

    def shown(self, wanted: bytes) -> bytes:
        """Everything up to `wanted`."""
        deadline = time.monotonic() + PATIENCE
        while wanted not in self.seen:
            assert select.select([self.terminal], [], [], deadline - time.monotonic())[0], self.seen
            self.seen += os.read(self.terminal, 65_536)
        before, _, self.seen = self.seen.partition(wanted)
        return before

    def report(self) -> Report:
        """The next report."""
        deadline = time.monotonic() + PATIENCE
        while not self.reports:
            assert select.select([self.out], [], [], deadline - time.monotonic())[0], self.seen
            with suppress(BlockingIOError):
                self.reports += self._reader.feed(os.read(self.out, 1 << 20))
        return self.reports.pop(0)

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)
        with suppress(OSError):
            os.close(self.out)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def zsh(stack: ExitStack, home: Path, rc: str, saved: int | None = None) -> Shell:
    if not os.path.exists("/bin/zsh"):
        pytest.skip("needs zsh: apt install zsh")
    (home / ".zshrc").write_text(f"PS1='ready$ '; unsetopt zle promptsp promptcr\n{rc}")
    shell = Shell("zsh", home, saved)
    stack.callback(shell.close)
    shell.shown(b"ready$ ")
    return shell


def bash(stack: ExitStack, home: Path, profile: str, saved: int | None = None) -> Shell:
    (home / ".bash_profile").write_text(
        f"PS1='ready$ '; bind 'set enable-bracketed-paste off'\n{profile}"
    )
    shell = Shell("bash", home, saved)
    stack.callback(shell.close)
    shell.shown(b"ready$ ")
    return shell


def begin(stack: ExitStack, home: Path, name: str, rc: str) -> Shell:
    return (bash if name == "bash" else zsh)(stack, home, rc)


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


def test_deleted_lines_are_reported_missing(stack: ExitStack, tmp_path: Path) -> None:
    shell = bash(stack, tmp_path, "HISTFILE=\n")
    for line in ("echo one", "echo 't\nwo'", "echo three", "history -d -3", "history -c"):
        shell.type(line)
        shell.shown(b"ready$ ")
    reports = [shell.report() for _ in range(6)]
    assert [one.is_list for one in reports] == [True, False, False, False, True, True]
    assert reports[-2].recent == [(1, "echo one"), (2, "echo three"), (3, "history -d -3")]
    assert reports[-1].recent == []


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


def test_what_the_shell_does_not_remember_is_not_reported(stack: ExitStack, tmp_path: Path) -> None:
    shell = bash(stack, tmp_path, "HISTIGNORE='hide*' HISTCONTROL=ignorespace\n")
    shell.type("echo kept")
    shell.shown(b"ready$ ")
    shell.type("hide this")
    shell.shown(b"ready$ ")
    shell.type(" echo spaced")
    shell.shown(b"ready$ ")
    reports = [shell.report() for _ in range(4)]
    assert [one.recent and one.recent[-1][1] for one in reports[1:]] == ["echo kept"] * 3


def test_zsh_reports_what_was_typed_in_this_session_alone(stack: ExitStack, tmp_path: Path) -> None:
    rc = "HISTFILE=~/.history SAVEHIST=100 HISTSIZE=100\nsetopt share_history\n"
    mine, other = zsh(stack, tmp_path, rc), zsh(stack, tmp_path, rc)
    mine.report()
    for shell, line in (
        (mine, "echo mine"),
        (other, "echo theirs"),
        (mine, ""),
        (mine, "fc -l"),
        (mine, "echo two; print -s echo three"),
    ):
        shell.type(line)
        shell.shown(b"ready$ ")
    reports = [mine.report() for _ in range(4)]
    assert [one.recent for one in reports] == [
        [(1, "echo mine")],
        [(1, "echo mine")],
        [(2, "fc -l")],
        [(3, "echo two; print -s echo three"), (4, "echo three")],
    ]


def test_variables_of_every_kind_arrive(stack: ExitStack, tmp_path: Path) -> None:
    shell = bash(stack, tmp_path, "")
    shell.report()
    shell.type(
        r"""export A='x  y' B=$'l1\nl2\t\001' C='q"\$`'"'" D= E=é; declare -x F; unset HOME; """
        r"""declare -ax MY_TOKEN=(a 'declare -x G="1"') H=(b); declare -xi I=7; export -a J"""
    )
    variables = shell.report().variables
    assert [variables.get(name) for name in "ABCDEF"] == [
        "x  y", "l1\nl2\t\x01", "q\"\\$`'", "", "é", None
    ]  # fmt: skip
    assert "HOME" not in variables
    assert variables["I"] == "7"
    assert not {"MY_TOKEN", "G", "H", "J"} & set(variables)  # no program gets an array


def test_arrays_that_zsh_exports_are_what_programs_get(stack: ExitStack, tmp_path: Path) -> None:
    shell = zsh(stack, tmp_path, "")
    shell.report()
    shell.type(
        "typeset -xT MY_LIST my_list; my_list=(a b); typeset -x U='x y'; "
        "typeset -ax W=(c); export -i I=7"
    )
    variables = shell.report().variables
    assert [variables[name] for name in ("MY_LIST", "U", "I")] == ["a:b", "x y", "7"]
    assert not {"my_list", "W"} & set(variables)


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


def test_a_record_sets_nothing_that_is_code_or_the_shells_own() -> None:
    names = ("LD_PRELOAD", "PROMPT_COMMAND", "BASH_ENV", "TERM", "HOME", "IFS", "PS0", "X;id")
    record = SessionState("s", "demo", 0, 0, "bash", "/", {**dict.fromkeys(names, "x"), "FOO": "1"})
    record.environment_vars.update(dict.fromkeys(("PS1", "PS2"), "$(touch x)> "), PROMPT="`id`")
    record.environment_vars.update(PS3="${debian_chroot:+x}\\u> ", RPROMPT="${x@P}", UID="0")
    record.variables_unset.extend(["HOME", "X;id", "BAR"])
    with os.fdopen(hook.saved_state("/bin/bash", "/", record)) as commands:
        assert commands.read().splitlines() == [
            "builtin cd -- /",
            "builtin export FOO=1",
            "builtin export PS3='${debian_chroot:+x}\\u> '",
            "builtin unset -v BAR",
        ]


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_a_state_is_taken_back_with_the_shells_own_history(
    stack: ExitStack, tmp_path: Path, name: str
) -> None:
    if not os.path.exists(f"/bin/{name}"):
        pytest.skip(f"needs {name}: apt install {name}")
    (tmp_path / ".zshrc").write_text("PS1='ready$ '; unsetopt zle\n")
    (tmp_path / ".bash_profile").write_text("PS1='ready$ '\n")
    history = ["echo 'one  two'", "cat <<E\nlines\nE", "echo é"]
    state = SessionState("s", "demo", 0, 0, name, "/usr", {"FOO": "a'b\n$(touch x)"}, history)
    shell = Shell(name, tmp_path, hook.saved_state(f"/bin/{name}", "/usr", state))
    stack.callback(shell.close)
    report = shell.report()
    assert (report.directory, report.variables["FOO"]) == ("/usr", "a'b\n$(touch x)")
    assert report.recent is not None
    assert report.recent[-1][1] == "echo é"
    shell.type("fc -ln 1")
    shown = shell.shown(b"echo \xc3\xa9\r\n")
    assert b"one  tw" in shown
    assert b"cat <<E" in shown or name == "zsh"  # which shows the end of a long list
    assert not (tmp_path / "x").exists()


def test_a_readonly_variable_does_not_stop_the_rest_in_zsh(
    stack: ExitStack, tmp_path: Path
) -> None:
    if not os.path.exists("/bin/zsh"):
        pytest.skip("needs zsh: apt install zsh")
    variables = {"FIRST": "1", "RO": "2", "LAST": "3"}
    state = SessionState("s", "demo", 0, 0, "zsh", "/", variables, ["echo saved"])
    state.variables_unset.append("RO")
    saved = hook.saved_state("/bin/zsh", "/", state)
    shell = zsh(stack, tmp_path, "typeset -rx RO=0\n", saved)
    shell.type("echo $FIRST,$RO,$LAST; fc -l 1")
    shown = shell.shown(b"ready$ ")
    assert b"1,0,3" in shown
    assert b"echo saved" in shown


def hang_up(shell: Shell) -> None:
    """End it as a gateway that ends does: the shell saves its history."""
    os.close(shell.terminal)
    os.waitpid(shell.pid, 0)
    os.close(shell.out)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bash", ""),
        ("bash", "shopt -s histappend"),
        ("bash", "shopt -s histappend; PROMPT_COMMAND='history -a; history -n'"),
        ("zsh", ""),
        ("zsh", "setopt share_history"),
    ],
)
def test_a_restore_adds_nothing_to_the_shells_history_file(
    stack: ExitStack, tmp_path: Path, name: str, options: str
) -> None:
    file = tmp_path / "history"
    file.write_text("other\nmine\n")
    rc = f"HISTFILE={file} HISTSIZE=100 SAVEHIST=100\n{options}\n"
    state = SessionState("s", "demo", 0, 0, name, "/", {}, ["later", "mine", "two\nlines", "later"])
    for _ in range(2):
        saved = hook.saved_state(f"/bin/{name}", "/", state)
        shell = (bash if name == "bash" else zsh)(stack, tmp_path, rc, saved)
        with file.open("a") as history:
            history.write("of another shell\n")
        shell.type("fc -l 1")
        shown = shell.shown(b"ready$ ")
        listed = [re.sub(r"^ *\d+\s+", "", line) for line in shown.decode().splitlines()[1:]]
        both = ("other", "mine", "later")
        assert [line for line in listed if line in both] == list(both)
        if name == "bash":
            shell.type("[[ -v HISTCONTROL ]]; echo $?; shopt histappend")
            wanted = b"on" if "append" in options else b"off"
            assert shell.shown(b"ready$ ").split()[-3:] == [b"1", b"histappend", wanted]
        stack.pop_all()
        hang_up(shell)
    lines = [line.rpartition(":0;")[2] for line in file.read_text().splitlines()]
    typed = [line for line in lines if line.startswith(("fc", "[["))]
    assert sorted(set(lines) - set(typed)) == ["mine", "of another shell", "other"]
    assert len(typed) == (4 if name == "bash" else 2)
    assert len(lines) == len(typed) + 4
