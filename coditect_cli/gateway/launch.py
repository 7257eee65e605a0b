"""Start the local context's gateway when nobody serves its socket."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

from coditect_cli.errors import Unreachable
from coditect_cli.gateway.address import short_path
from coditect_cli.gateway.handover import LOCKED
from coditect_cli.paths import Paths, make_private, unusable

TIMEOUT = 15.0  # seconds


def ensure_running(paths: Paths, context: str) -> None:
    """Return once the local gateway's socket accepts connections, starting a gateway if need be.

    A new one takes its settings from `context`. Any number of processes may do so at once: one
    keeper gets the lock, the others end. One that is ending keeps the lock to its end.
    Raises Unreachable with the log's last lines when it cannot be started.
    """
    if not accepts(paths):
        import logging

        logging.getLogger("coditect.launch").info("starting_gateway log=%s", paths.gateway_log)
        keeper = start(paths, context, os.environ)
        keeper.returncode = 0  # it outlives this process: nobody waits for it


def start(paths: Paths, context: str, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a keeper, and return it once its socket accepts connections; as `ensure_running`."""
    make_private(paths.state)
    check_socket(paths)
    log_start = _log_size(paths)
    keeper = _spawn(paths, context, environ)
    deadline = time.monotonic() + TIMEOUT
    pause = 0.002
    while not accepts(paths):
        status = keeper.poll()
        if status in (0, LOCKED):  # one that ends is still there, or ours was stopped at once
            keeper = _spawn(paths, context, environ)
        elif status is not None:
            raise _failed(paths, log_start, f"it ended with status {status}")
        if time.monotonic() > deadline:
            raise _failed(paths, log_start, f"its socket does not answer after {TIMEOUT:g} s")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    return keeper


def accepts(paths: Paths) -> bool:
    """Whether a gateway listens on the local context's socket."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with probe:
        try:
            with short_path(str(paths.gateway_socket)) as name:
                probe.connect(name)
        except OSError:
            return False
    return True


def check_socket(paths: Paths) -> None:
    """Raises Unreachable where something is there that is no socket, and so no gateway's."""
    with suppress(OSError):
        if not stat.S_ISSOCK(os.lstat(paths.gateway_socket).st_mode):
            raise Unreachable(
                f"{paths.gateway_socket} is in the gateway's way: it is not a socket",
                code="gateway.start_failed",
                hint="remove it, or move it away: a gateway makes its socket there",
            )


def _spawn(paths: Paths, context: str, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        log = os.open(paths.gateway_log, flags, 0o600)
    except OSError as error:
        raise unusable(paths.gateway_log, error) from error
    argv = [sys.executable, "-m", "coditect_cli.gateway.keeper", "--lock", str(paths.gateway_lock)]
    argv += ["--listen", f"unix:{paths.gateway_socket}", "--"]
    argv += [sys.executable, "-m", "coditect_cli.gateway.main", "--role", "local"]
    environ = {**environ, "CODITECT_CONTEXT": context}
    environ.pop("CODITECT_TOKEN", None)
    if environ.get("CODITECT_HOME"):  # it may be relative to a folder that is ours alone
        environ["CODITECT_HOME"] = str(paths.config.parent)
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environ,
            start_new_session=True,
        )
    except OSError as error:
        raise unusable(paths.gateway_log, error) from error
    finally:
        os.close(log)


def _log_size(paths: Paths) -> int:
    try:
        return paths.gateway_log.stat().st_size
    except OSError:
        return 0


def _failed(paths: Paths, log_start: int, why: str) -> Unreachable:
    try:
        with open(paths.gateway_log, "rb") as log:
            log.seek(log_start)
            lines = log.read(65_536).decode("utf-8", "replace").strip().splitlines()[-5:]
    except OSError:
        lines = []
    said = "".join(f"\n  {line}" for line in lines)
    return Unreachable(
        f"the gateway could not be started: {why}{said}",
        code="gateway.start_failed",
        hint=f"its log is {paths.gateway_log}; coditect doctor checks what it needs",
    )
