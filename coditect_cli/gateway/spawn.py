"""The descriptors of a program to be: its own ends, and those that the keeper holds."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from coditect_cli.gateway import hook
from coditect_cli.gateway.account import Account
from coditect_cli.gateway.pty import open_pty
from coditect_cli.gateway.ring import PAGE, Ring
from coditect_cli.gateway.session import MARGIN
from coditect_cli.protocol.messages import WINDOW

HOOK_PIPE = 1 << 18  # bytes; Linux lets a user have 64 MiB of pipes, then makes all of his small


@dataclass(frozen=True)
class Command:
    """What to run; `meta` is kept by the keeper for successors of this bridge.

    A shell with a `hook` gets a pipe for its reports, and may get a descriptor of a `saved`
    state. `first_output` stands in its terminal before its own.
    """

    id: str
    argv: list[str]
    executable: str
    env: dict[str, str]
    cwd: str
    account: Account
    hook: bool = False
    saved: int | None = None
    first_output: bytes = b""
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A message for the keeper with its descriptors; `kept` are ours too, by name."""

    message: dict[str, Any]
    names: list[str]
    fds: list[int]
    kept: dict[str, int]

    def close_ends(self) -> None:
        """Close the program's own ends, which only it may hold."""
        for fd in set(self.fds) - set(self.kept.values()):
            os.close(fd)

    def abandon(self) -> None:
        """Close what was to be kept, since nothing was started."""
        for fd in self.kept.values():
            os.close(fd)


def with_terminal(command: Command, cols: int, rows: int, kept_output: int) -> Prepared:
    """A program on a new PTY."""
    master, slave = open_pty(cols, rows)
    if command.account.is_other:
        os.fchown(slave, command.account.uid, -1)  # so that it can be opened by its name
    ring = _ring(kept_output, command.first_output)
    kept = {"terminal": master, "output-ring": ring, **_inlet()}
    passed: dict[str, int] = {}
    if command.hook:
        kept["hook"], passed[hook.PIPE] = _hook_pipe()
        if command.saved is not None:
            passed[hook.SAVED] = command.saved
    return _prepared(command, True, [slave, slave, slave], kept, passed)


def with_pipes(command: Command, stdin: bool, kept_output: int) -> Prepared:
    """A program with two pipes and, with `stdin`, a third."""
    ends: list[int] = []
    kept: dict[str, int] = {}
    if stdin:
        end, kept["stdin"] = os.pipe()
        os.set_blocking(kept["stdin"], False)
    else:
        end = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    ends.append(end)
    for name in ("stdout", "stderr"):
        kept[name], end = os.pipe()
        os.set_blocking(kept[name], False)
        kept[f"{name}-ring"] = _ring(kept_output)
        ends.append(end)
    return _prepared(command, False, ends, {**kept, **_inlet()})


def _prepared(
    command: Command,
    tty: bool,
    ends: list[int],
    kept: dict[str, int],
    passed: Mapping[str, int] = MappingProxyType({}),
) -> Prepared:
    message = {
        "type": "spawn",
        "id": command.id,
        "argv": command.argv,
        "executable": command.executable,
        "env": command.env,
        "cwd": command.cwd,
        "user": command.account.as_message(),
        "tty": tty,
        "meta": command.meta,
        "passed": list(passed),
        "names": ["0", "1", "2", *passed, *kept],
    }
    return Prepared(message, list(kept), [*ends, *passed.values(), *kept.values()], kept)


def _hook_pipe() -> tuple[int, int]:
    """Both ends: a shell must wait neither for room in it nor for whoever reads."""
    out, into = os.pipe()
    os.set_blocking(out, False)
    os.set_blocking(into, False)
    with suppress(OSError, AttributeError):
        fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, HOOK_PIPE)
    return out, into


def _ring(size: int, first: bytes = b"") -> int:
    least = 2 * WINDOW + MARGIN
    ring = Ring.create(-(-max(size, least) // PAGE) * PAGE)
    ring.put(first)
    fd = os.dup(ring.fd)
    ring.close()
    return fd


def _inlet() -> dict[str, int]:
    out, into = os.pipe()
    os.set_blocking(out, False)
    os.set_blocking(into, False)
    return {"inlet-out": out, "inlet-in": into}
