"""Phase 1 in the test cloud; as a program, for ../far.py."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from coditect_cli.migrations import phase1
from coditect_cli.migrations.cloud_run import CloudRun
from coditect_cli.migrations.settings import MigrateSettings
from coditect_cli.migrations.step import World
from coditect_cli.migrations.target import Target
from coditect_cli.stores.store import SessionStore
from tests.migrations.far import main
from tests.migrations.quick import Programs
from tests.migrations.site import Site
from tests.migrations.toy import any_user, no_cluster
from tests.support.cloud import PROJECT, Cloud

OLD_IMAGE = "old@sha256:" + "a" * 64
GATEWAY, STAGING = "websocket-gateway", "websocket-gateway-staging"
OLD, NEW = f"{GATEWAY}-00001-abc", f"{GATEWAY}-00002-abc"
TARGET = Target("local", "ops@example.com", PROJECT, "--project", PROJECT, "us-central1", None)
RENEWED = f"{GATEWAY}-00003-abc"  # what the way back makes, as the old one was


class Rehearsal(Site):
    """Phase 1 in the test cloud."""

    def __init__(self, store: SessionStore, folder: Path, cloud: Cloud, ran: Programs) -> None:
        (folder / "Dockerfile").touch()
        settings = MigrateSettings(
            project=PROJECT, source=str(folder), tests=("true",), bake=5.0, hold=30.0,
            min_sessions=2, min_requests=5,
        )  # fmt: skip
        super().__init__(store, folder, World(settings, TARGET, no_cluster, any_user))
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


def make(store: SessionStore, folder: Path) -> Rehearsal:
    """One whose own cloud nobody asks."""
    cloud = Cloud()
    return Rehearsal(store, folder / "source", cloud, Programs(cloud))


if __name__ == "__main__":
    main(make)
