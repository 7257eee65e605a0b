"""A release engineer's desk, for the tests of `coditect migrate`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coditect_cli.migrations import programs
from coditect_cli.paths import Paths
from tests.conftest import RunCli
from tests.migrations.quick import Programs
from tests.support.cloud import Cloud

GATEWAY = "websocket-gateway"
OLD, NEW = f"{GATEWAY}-00001-abc", f"{GATEWAY}-00002-abc"
RENEWED = f"{GATEWAY}-00003-abc"  # what the way back makes, as the old one was


class Desk:
    """A release engineer's machine: the command line, and the cloud behind it."""

    def __init__(self, run_cli: RunCli, folder: Path, paths: Paths) -> None:
        self.run_cli, self.paths = run_cli, paths
        self.cloud = Cloud()
        self.programs = Programs(self.cloud)
        folder.mkdir()
        (folder / "Dockerfile").touch()
        self.flags = [
            f"--source={folder}", "--tests=true", "--probe=true", "--bake=0", "--hold=0",
            "--min-requests=5", "--min-sessions=2",
        ]  # fmt: skip

    def run(self, *args: str) -> tuple[int, str, str]:
        return self.run_cli("migrate", *args)

    def phase1(self, *args: str) -> tuple[int, str, str]:
        return self.run("phase1", *self.flags, *args)

    def serve(self, *, requests: int, sessions: int) -> None:
        """The old revision and the new one did this much without errors, whenever one looks."""
        for revision in (OLD, NEW):
            self.cloud.logs.serve(GATEWAY, revision, requests=requests, errors=0, sessions=sessions)
        for entry in self.cloud.logs.entries:
            entry["timestamp"] = "2126-01-01T00:00:00Z"

    def held(self) -> str:
        """A run that a gate holds: nothing was logged."""
        code, _, err = self.phase1()
        assert (code, "0 new sessions of 2" in err) == (12, True), err
        return str(self.document("status")["items"][-1]["id"])

    def document(self, *args: str) -> Any:
        code, out, err = self.run(*args, "-o", "json")
        assert code == 0, err
        return json.loads(out)

    @property
    def traffic(self) -> dict[str, int]:
        return self.cloud.run.percents(GATEWAY)


@pytest.fixture
def desk(
    run_cli: RunCli, tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    monkeypatch.delenv("CLOUDSDK_CORE_PROJECT", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    desk = Desk(run_cli, tmp_path / "source", paths)
    monkeypatch.setattr(programs, "run", desk.programs.run)
    monkeypatch.setattr(programs, "run_json", desk.programs.run_json)
    desk.cloud.run.deploy(GATEWAY, "old@sha256:" + "a" * 64)
    yield desk
    desk.cloud.server.close()
