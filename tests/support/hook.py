"""Shells with their hooks on a terminal, without a gateway."""

from __future__ import annotations

import os
import pty
import select
import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from coditect_cli.gateway import hook
from coditect_cli.gateway.hook import Report, Reports
from tests.support.shell import needs_shell

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


def zsh(stack: ExitStack, home: Path, rc: str, saved: int | None = None) -> Shell:
    needs_shell("zsh")
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
