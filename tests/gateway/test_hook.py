"""The prompt hook in real shells, and what is read of its reports."""

from __future__ import annotations

import os
import pty
import select
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coditect_cli.gateway import hook
from coditect_cli.gateway.capture import Capture
from coditect_cli.gateway.hook import Report, Reports
from coditect_cli.gateway.ring import HISTORY, PAGE, Ring
from coditect_cli.sessions.session import SessionState
from coditect_cli.settings import SECRET_NAMES

PATIENCE = 30.0
FIELD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


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


def bash(stack: ExitStack, home: Path, profile: str, saved: int | None = None) -> Shell:
    (home / ".bash_profile").write_text(
        f"PS1='ready$ '; bind 'set enable-bracketed-paste off'\n{profile}"
    )
    shell = Shell("bash", home, saved)
    stack.callback(shell.close)
    shell.shown(b"ready$ ")
    return shell


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


def test_a_login_shell_is_one_and_not_in_posix_mode(stack: ExitStack, tmp_path: Path) -> None:
    shell = bash(stack, tmp_path, "")
    shell.type("shopt login_shell; shopt -o posix; echo $HISTFILE ${ENV-none}; compgen -v CODITECT")
    lines = shell.shown(b"ready$ ").split(b"\r\n")[1:]
    assert lines[0].split() == [b"login_shell", b"on"]
    assert lines[1].split() == [b"posix", b"off"]
    assert lines[2:] == [f"{tmp_path}/.bash_history none".encode(), b""]


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
def test_a_prompt_costs_no_fork(stack: ExitStack, tmp_path: Path) -> None:
    shell = bash(stack, tmp_path, "")
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
    assert [one.newest and one.newest[1] for one in reports[1:]] == ["echo kept"] * 3


def test_variables_of_every_kind_arrive(stack: ExitStack, tmp_path: Path) -> None:
    shell = bash(stack, tmp_path, "")
    shell.report()
    shell.type(
        r"""export A='x  y' B=$'l1\nl2\t\001' C='q"\$`'"'" D= E=é; declare -x F; unset HOME"""
    )
    variables = shell.report().variables
    assert [variables.get(name) for name in "ABCDEF"] == [
        "x  y", "l1\nl2\t\x01", "q\"\\$`'", "", "é", None
    ]  # fmt: skip
    assert "HOME" not in variables


def test_a_full_pipe_delays_no_prompt_and_tears_nothing(stack: ExitStack, tmp_path: Path) -> None:
    shell = bash(stack, tmp_path, "export BIG=$(printf '%060000d' 0)\n")
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


def test_who_reads_may_be_killed_while_somebody_holds_the_pipe(
    stack: ExitStack, tmp_path: Path
) -> None:
    shell = bash(stack, tmp_path, "")
    kept = os.dup(shell.out)
    stack.callback(os.close, kept)
    os.close(shell.out)
    shell.out = kept
    shell.type("echo alive")
    shell.shown(b"alive\r\nready$ ")


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
    assert report.newest is not None
    assert report.newest[1] == "echo é"
    shell.type("fc -ln 1")
    shown = shell.shown(b"echo \xc3\xa9\r\n")
    assert b"one  tw" in shown
    assert b"cat <<E" in shown or name == "zsh"  # which shows the end of a long list
    assert not (tmp_path / "x").exists()


@given(st.lists(st.tuples(st.from_regex(r"[A-Za-z_]\w{0,8}", fullmatch=True), FIELD)), st.data())
def test_reports_are_found_in_any_pieces(pairs: list[tuple[str, str]], data: st.DataObject) -> None:
    fields = "".join(f"X{name}={value}\0" for name, value in pairs)
    record = f"\0\0D/x\0{fields}H 7  ls\n\0E".encode("utf-8", "surrogateescape")
    torn = record[: data.draw(st.integers(2, len(record) - 2))]
    stream = torn + record + b"junk" + record
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    reader = Reports()
    found: list[Report] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[start:end])
    assert found[-1] == Report("/x", {name: value for name, value in pairs}, (7, "ls"))
    assert len(found) in (1, 2)


@given(st.binary(max_size=2000))
def test_junk_is_no_report(junk: bytes) -> None:
    for report in Reports().feed(b"\0\0D" + junk):
        assert report.directory.startswith("/")


@pytest.fixture
def capture() -> Iterator[Capture]:
    ring = Ring.create(PAGE)
    yield Capture(os.getpid(), ring.words, "/", 0, SECRET_NAMES)
    ring.close()


def said(number: int, line: str, **variables: str) -> bytes:
    fields = "".join(f"X{name}={value}\0" for name, value in variables.items())
    return f"\0\0D/\0{fields}H {number}  {line}\n\0E".encode()


def test_only_what_was_typed_here_is_history(capture: Capture) -> None:
    for number, line in [(5, "from a file"), (6, "one"), (6, "one"), (7, " quiet"), (8, "two")]:
        capture.feed(said(number, line))
    assert capture.history == ["one", "two"]


def test_lines_that_were_taken_out_of_history_are_forgotten(capture: Capture) -> None:
    for number, line in [(1, "a"), (2, "b"), (3, "c"), (4, "secret"), (3, "c")]:
        capture.feed(said(number, line))
    assert capture.history == ["b", "c"]
    capture.feed(said(0, ""))
    assert capture.history == []


def test_a_line_that_replaced_its_duplicates_is_kept(capture: Capture) -> None:
    for number, line in [(1, "x"), (2, "a"), (3, "b"), (3, "a")]:
        capture.feed(said(number, line))
    assert capture.history == ["a", "b", "a"]


def test_a_successor_knows_which_line_was_the_newest(capture: Capture) -> None:
    capture.feed(said(1, "one"))
    assert capture.words[HISTORY] == 2
    successor = Capture(os.getpid(), capture.words, "/", 0, SECRET_NAMES, known=False)
    successor.feed(said(1, "one"))
    successor.feed(said(2, "two"))
    successor.take_back(SessionState("s", "demo", 1, 1, "bash", "/", {}, ["zero"]))
    assert successor.history == ["zero", "two"]


def test_secrets_and_code_are_not_kept(capture: Capture) -> None:
    capture.feed(said(1, "first"))
    line = "curl --token abc https://me:pass@host -H 'Authorization: Bearer xyz'; MY_KEY=k run"
    names = {"GH_TOKEN": "1", "LD_PRELOAD": "2", "PLAIN": "3", "PWD": "/", "BASH_ENV": "4"}
    capture.feed(said(2, line, **names))
    assert capture.variables == {"PLAIN": "3"}
    kept = capture.history[0]
    assert not [word for word in ("abc", "pass@", "xyz", "=k") if word in kept]
    assert kept.startswith("curl --token •••• https://me:••••@host")
