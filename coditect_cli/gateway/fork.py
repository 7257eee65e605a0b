"""A program's own process: its terminal or pipes, its limits, its user; standard library only."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import subprocess
from typing import Any

PR_SET_NO_NEW_PRIVS = 38
_FIRST_PASSED = 700  # past what `exec 9>file` and the like in a shell would replace


def start(message: dict[str, Any], own: dict[str, int], soft_limit: int) -> int:
    """Start what a `spawn` message asks for; its pid, which the caller has to wait for.

    `own` are its descriptors by name: 0, 1, 2, and those that it is passed besides, which get high
    numbers; variables of the same names tell it which. `soft_limit` is how many files it may open.
    Raises OSError, ValueError, subprocess.SubprocessError.
    """
    first = min(_FIRST_PASSED, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
    passed = {
        name: fcntl.fcntl(own[name], fcntl.F_DUPFD_CLOEXEC, first) for name in message["passed"]
    }

    user = message["user"]
    identity: dict[str, Any] = {}
    if user is not None:
        groups = user["groups"]
        identity = {"user": user["uid"], "group": groups[0], "extra_groups": groups}

    def prepare() -> None:
        if message["tty"]:
            os.login_tty(0)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft_limit, hard))
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)  # also what our own starter ignored
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if user is not None:
            os.chdir(message["cwd"])  # with the user's rights, which uid 0 may not have
            ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)

    try:
        child = subprocess.Popen(
            message["argv"],
            executable=message["executable"],
            env={**message["env"], **{name: str(fd) for name, fd in passed.items()}},
            cwd=message["cwd"] if user is None else None,
            stdin=own["0"],
            stdout=own["1"],
            stderr=own["2"],
            pass_fds=list(passed.values()),
            start_new_session=not message["tty"],
            **identity,
            preexec_fn=prepare,  # noqa: PLW1509 - this process has one thread
        )
    finally:
        for fd in passed.values():
            os.close(fd)
    child.returncode = 0  # the keeper waits for all of its children itself
    return child.pid
