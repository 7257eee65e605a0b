"""Which processes belong to a session, and ending them; standard library only."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

LADDER = ((signal.SIGHUP, 0.5), (signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0))


class Process(NamedTuple):
    """One line of the process table; `sid` is the id of its Unix session."""

    pid: int
    parent: int
    sid: int


def table() -> list[Process]:
    """Every process that is alive; zombies are not."""
    if os.path.isdir("/proc/self"):
        return [process for name in os.listdir("/proc") if (process := _read(name))]
    listing = subprocess.run(
        ["/bin/ps", "-axo", "pid=,ppid=,sess=,stat="], capture_output=True, text=True, check=True
    ).stdout
    rows = (line.split() for line in listing.splitlines())
    return [Process(int(row[0]), int(row[1]), int(row[2], 16)) for row in rows if row[3][0] != "Z"]


def _read(name: str) -> Process | None:
    if not name.isdigit():
        return None
    try:
        with open(f"/proc/{name}/stat", "rb") as stat:
            state, parent, _, sid, *_ = stat.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if state in (b"Z", b"X") else Process(int(name), int(parent), int(sid))


def members(roots: Iterable[int]) -> set[int]:
    """The living among `roots`, their descendants, and all in their Unix sessions."""
    wanted = set(roots)
    alive = table()
    children: dict[int, list[int]] = {}
    for process in alive:
        children.setdefault(process.parent, []).append(process.pid)
    reached = [process.pid for process in alive if process.pid in wanted or process.sid in wanted]
    found: set[int] = set()
    while reached:
        pid = reached.pop()
        if pid not in found:
            found.add(pid)
            reached += children.get(pid, [])
    return found


def marked(pids: Iterable[int], name: str, values: set[str]) -> set[int]:
    """Those of `pids` that were started with the variable `name` set to one of `values`."""
    wanted = {f"{name}={value}".encode() for value in values}
    found = set()
    for pid in pids:
        with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as environ:
            if wanted.intersection(environ.read().split(b"\0")):
                found.add(pid)
    return found


def left_by(programs: dict[str, int]) -> set[int]:
    """What programs (their sessions' ids, and pids) started, also where they have ended themselves.

    Known by its Unix session, or by its variables, which another user's processes need not show.
    """
    alive = [process for process in table() if process.pid != os.getpid()]
    pids = set(programs.values())
    in_session = {process.pid for process in alive if process.sid in pids}
    others = (process.pid for process in alive)
    return in_session | marked(others, "CODITECT_SESSION", set(programs))


def send(pids: Iterable[int], number: int) -> None:
    """Send a signal to each; those that are gone are passed over."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def end(find: Callable[[], set[int]]) -> None:
    """Hang up every process that `find` finds, then terminate, then kill; waits for their end."""
    for number, patience in LADDER:
        pids = find()
        send(pids, number)
        send(pids, signal.SIGCONT)
        deadline = time.monotonic() + patience
        while pids and time.monotonic() < deadline:
            time.sleep(0.01)
            pids = find()
        if not pids:
            return
