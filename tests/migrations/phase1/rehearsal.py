"""Phase 1 in the test cloud; run as a program, it is killed by the system at a line of its journal:

python -m tests.migrations.phase1.rehearsal FOLDER RUN LINE SOCKET
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from threading import Thread
from typing import Any

from coditect_cli.errors import CoditectError
from coditect_cli.migrations import phase1, programs
from coditect_cli.migrations.cloud_run import CloudRun
from coditect_cli.migrations.programs import Completed
from coditect_cli.migrations.settings import MigrateSettings
from coditect_cli.migrations.step import World
from coditect_cli.migrations.target import Target
from coditect_cli.stores.sqlite import SQLiteStore
from tests.migrations.quick import Programs
from tests.migrations.site import Site
from tests.migrations.toy import no_cluster
from tests.support.cloud import PROJECT, Cloud

OLD_IMAGE = "old@sha256:" + "a" * 64
GATEWAY, STAGING = "websocket-gateway", "websocket-gateway-staging"
OLD, NEW = f"{GATEWAY}-00001-abc", f"{GATEWAY}-00002-abc"
TARGET = Target("local", "ops@example.com", PROJECT, "--project", PROJECT, "us-central1", None)
RENEWED = f"{GATEWAY}-00003-abc"  # what the way back makes, as the old one was


class Rehearsal(Site):
    """Phase 1 in the test cloud."""

    def __init__(self, store: SQLiteStore, folder: Path, cloud: Cloud, ran: Programs) -> None:
        (folder / "Dockerfile").touch()
        settings = MigrateSettings(
            project=PROJECT, source=str(folder), tests=("true",), bake=5.0, hold=30.0,
            min_sessions=2, min_requests=5,
        )  # fmt: skip
        super().__init__(store, folder, World(settings, TARGET, no_cluster))
        self.cloud, self.programs = cloud, ran
        self.clock.now = time.time() - 60  # the log's lines are of now

    def steps(self) -> Any:
        return phase1.steps(self.world)

    def serve(self, revision: str, errors: int = 0, requests: int = 20) -> None:
        self.cloud.logs.serve(GATEWAY, revision, requests=requests, errors=errors, sessions=5)

    @property
    def is_as_before(self) -> bool:
        """Whether production is what it was: the old image, at the newest revision, no tag."""
        service = CloudRun(PROJECT, "us-central1").describe(GATEWAY)
        assert service is not None
        (serving,) = service.percents
        image = self.cloud.run.image(serving)
        return service.follows_latest and not service.tagged("pty-fix") and image == OLD_IMAGE

    @property
    def traffic(self) -> dict[str, int]:
        return self.cloud.run.percents(GATEWAY)


class Dying(Rehearsal):
    """Nothing runs after its death, not even `finally`, and nobody gives its lock back."""

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


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


def answer_one(listener: Listener, ran: Programs) -> Thread:
    """Run the programs that one other process asks for, until it ends."""

    def answer() -> None:
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

    thread = Thread(target=answer)
    thread.start()
    return thread


def main(folder: Path, run: str, line: int, address: str) -> None:
    with Client(address) as connection:
        far = Far(connection)
        programs.run, programs.run_json = far.run, far.run_json  # type: ignore[assignment]
        cloud = Cloud()  # which nobody asks
        store = SQLiteStore(folder / "sessions.db")
        here = Dying(store, folder / "source", cloud, Programs(cloud))
        here.run = run
        here.go(here.steps(), kill_after=line)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
