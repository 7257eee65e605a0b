"""Phase 2 in the namespace that a folder's file names; as a program, for ../far.py."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from coditect_cli.kube import Kube
from coditect_cli.migrations import phase2
from coditect_cli.migrations.lock import hold
from coditect_cli.migrations.run import Run
from coditect_cli.migrations.settings import MigrateSettings
from coditect_cli.migrations.step import Step, World
from coditect_cli.migrations.target import Target
from coditect_cli.settings import Settings
from coditect_cli.stores.store import SessionStore
from tests.migrations.far import main
from tests.migrations.site import Site
from tests.migrations.toy import any_user
from tests.support.cloud import PROJECT

TARGET = Target("prod", "ops@example.com", PROJECT, "--project", PROJECT, "us-central1", "test")


class Phase2(Site):
    """Phase 2 on the control plane of KUBECONFIG, where `folder` has the files it needs."""

    def __init__(self, store: SessionStore, folder: Path, **settings: Any) -> None:
        self.namespace = (folder / "namespace").read_text()
        self.file = folder / "fdb.cluster"
        chosen = MigrateSettings(
            project=PROJECT, namespace=self.namespace, kube_context="test", ready_timeout=60.0,
            cluster_file=str(self.file), **settings,
        )  # fmt: skip

        @cache
        def kube() -> Kube:
            kubeconfig = os.environ["KUBECONFIG"]
            return Kube(Settings(kubeconfig=kubeconfig, namespace=self.namespace))

        super().__init__(store, folder, World(chosen, TARGET, kube, any_user))

    def steps(self) -> list[Step]:
        return phase2.steps(self.world)

    def roll_back(self, to: str | None = None, kill_after: int = 0) -> None:
        with hold(self.store, self.run, "me") as lock:
            self.engine(lock, self.steps(), kill_after).roll_back("asked", "to see", to)


class ThereAndBack(Phase2):
    """One whose run, once it has come there, goes back."""

    def go(self, steps: Sequence[Step], *, kill_after: int = 0) -> Run:
        if not self.events() or self.state().state != "done":
            return super().go(steps, kill_after=kill_after)
        self.roll_back(kill_after=kill_after)
        return self.state()


if __name__ == "__main__":
    main(ThereAndBack)
