"""A cutover in the test cloud."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coditect_cli.migrations import cutover, programs
from coditect_cli.migrations.engine import Engine
from coditect_cli.migrations.settings import MigrateSettings
from coditect_cli.migrations.step import World
from coditect_cli.migrations.target import Target
from coditect_cli.stores.sqlite import SQLiteStore
from coditect_cli.stores.store import SessionStore
from tests.migrations.cutover.quick import CutoverPrograms
from tests.migrations.site import Site
from tests.migrations.toy import any_user, no_cluster
from tests.support.cloud import PROJECT, Cloud

GATEWAY, CLUSTER = "websocket-gateway", "websocket-gateway-cluster"
ZONE, NAME, OLD, NEW = "zone", "ws.example.com.", "192.0.2.1", "203.0.113.9"
REVISION = f"{GATEWAY}-00001-abc"
TARGET = Target("local", "ops@example.com", PROJECT, "--project", PROJECT, "us-central1", None)


class Cutover(Site):
    """The service, the old cluster, the record; clients of both since a minute ago."""

    def __init__(self, store: SessionStore, folder: Path, cloud: Cloud, **settings: Any) -> None:
        chosen: dict[str, Any] = {
            "project": PROJECT,
            "bake": 5.0,
            "hold": 30.0,
            "min_sessions": 2,
            "min_requests": 5,
            "dns_zone": ZONE,
            "dns_name": NAME,
            "dns_new": NEW,
            **settings,
        }
        super().__init__(
            store, folder, World(MigrateSettings(**chosen), TARGET, no_cluster, any_user)
        )
        self.cloud = cloud
        self.clock.now = time.time() - 60  # the log's lines are of now
        cloud.run.deploy(GATEWAY, "gateway@sha256:" + "a" * 64)
        cloud.clusters.add(CLUSTER)
        cloud.dns.add(ZONE, NAME, "A", OLD)
        cloud.url_maps.add("lb", PROJECT, "old-backend")

    def steps(self) -> Any:
        return cutover.steps(self.world)

    def clients(self, *, errors: int = 0, old_errors: int = 0, requests: int = 20) -> None:
        """Both sides answered this many requests; whoever was on the old one is gone again."""
        self.cloud.logs.serve(GATEWAY, REVISION, requests=requests, errors=errors, sessions=5)
        self.cloud.logs.serve_cluster(CLUSTER, requests=requests, errors=old_errors, sessions=3)
        self.cloud.logs.leave_cluster(CLUSTER, sessions=3)

    @property
    def weights(self) -> dict[str, float]:
        return self.cloud.dns.weights(ZONE, NAME, "A")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[CutoverPrograms]:
    """The test cloud, changed without gcloud."""
    cloud = Cloud()
    ran = CutoverPrograms(cloud)
    monkeypatch.setattr(programs, "run", ran.run)
    monkeypatch.setattr(programs, "run_json", ran.run_json)
    yield ran
    cloud.server.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SessionStore]:
    opened = SQLiteStore(tmp_path / "state" / "sessions.db")
    yield opened
    opened.close()


@pytest.fixture
def site(tmp_path: Path, store: SessionStore, quick: CutoverPrograms) -> Cutover:
    return Cutover(store, tmp_path, quick.cloud)


@pytest.fixture
def short(tmp_path: Path, store: SessionStore, quick: CutoverPrograms) -> Cutover:
    """One with each kind of step, and no more shifts than that."""
    return Cutover(store, tmp_path, quick.cloud, shifts=(100,))


def confirming(site: Cutover, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whoever is asked types the name; the questions."""
    asked: list[str] = []
    make: Callable[..., Engine] = site.engine

    def engine(*arguments: object) -> Engine:
        made = make(*arguments)
        made._confirm = lambda question, name: asked.append(name)
        return made

    monkeypatch.setattr(site, "engine", engine)
    return asked
