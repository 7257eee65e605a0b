"""A phase in another process, which the system kills at a line of its journal.

python -m MODULE FOLDER RUN LINE SOCKET: the cloud stays where the socket was opened.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from threading import Thread
from typing import Any

from coditect_cli.errors import CoditectError
from coditect_cli.migrations import programs
from coditect_cli.migrations.programs import Completed
from coditect_cli.stores.sqlite import SQLiteStore
from coditect_cli.stores.store import SessionStore
from tests.migrations.quick import Programs
from tests.migrations.site import Site


class Far:
    """Stands for programs.run and programs.run_json, in a process that has no cloud of its own."""

    def __init__(self, line: Connection) -> None:
        self._line = line

    def run(self, argv: Sequence[str], **_: object) -> Completed:
        self._line.send(list(argv))
        answer = self._line.recv()
        if isinstance(answer, CoditectError):
            raise answer
        return Completed(tuple(argv), str(answer), "")

    def run_json(self, argv: Sequence[str], **_: object) -> Any:
        return json.loads(self.run(argv).stdout)


def store_in(folder: Path) -> SQLiteStore:
    """The store that both processes use, one after the other."""
    return SQLiteStore(folder / "sessions.db")


def killed_at(module: str, run: str, ran: Programs, folder: Path, line: int) -> bool:
    """Whether the module, run as a program, was killed at that line; else the run ended."""
    address = str(folder / "programs")
    with Listener(address) as listener:
        thread = Thread(target=_answer, args=(listener, ran))
        thread.start()
        argv = (sys.executable, "-m", module, folder, run, line, address)
        done = subprocess.run([*map(str, argv)], check=False, capture_output=True, text=True)
        if thread.is_alive():
            Client(address).close()  # it may never have come so far
        thread.join()
    ended = ("GateFailed" in done.stderr) if done.returncode else True
    assert ended or done.returncode == -signal.SIGKILL, done.stderr
    return done.returncode == -signal.SIGKILL


def _answer(listener: Listener, ran: Programs) -> None:
    """Run the programs that one other process asks for, until it ends."""
    with listener.accept() as line:
        while True:
            try:
                argv = line.recv()
            except EOFError:
                return
            try:
                line.send(ran.run(argv).stdout)
            except CoditectError as error:
                line.send(error)


def main(make: Callable[[SessionStore, Path], Site]) -> None:
    """Run a site's run as the command line says, and die there: not even `finally` is run."""
    folder, run, line, address = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    with Client(address) as connection:
        far = Far(connection)
        programs.run, programs.run_json = far.run, far.run_json  # type: ignore[assignment]
        site = make(store_in(folder), folder)
        site.run = run
        site.die = lambda: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
        site.go(site.steps(), kill_after=line)
