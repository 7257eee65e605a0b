"""Every gcloud command line of every plan is one that the real gcloud takes.

gcloud ends 2 when it can't parse its command line, and before it asks anybody. The cloud refuses
everything here, so what was parsed ends 1 at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coditect_cli.errors import CoditectError, Forbidden, Unreachable, UsageError
from coditect_cli.kube import Kube
from coditect_cli.migrations import gates, programs
from coditect_cli.migrations.cloud_run import CloudRun
from coditect_cli.migrations.phases import steps_of
from coditect_cli.migrations.plan import make_plan
from coditect_cli.migrations.settings import MigrateSettings
from coditect_cli.migrations.step import World
from coditect_cli.migrations.target import Target
from tests.migrations.toy import any_user
from tests.support.cloud import PROJECT, Cloud

TARGET = Target("local", "ops@example.com", PROJECT, "--project", PROJECT, "us-central1", None)
VIA_MAP = {"traffic_via": "url-map", "url_map": "m", "new_backend": "n", "old_backend": "o"}
VIA_DNS = {"dns_zone": "zone", "dns_name": "ws.example.com.", "dns_new": "203.0.113.9"}


def nowhere() -> Kube:
    raise Unreachable("no cluster here")


def planned(phase: str, **settings: Any) -> Iterator[list[str]]:
    """The command lines of a plan, there and back, made where nothing can be looked at."""
    world = World(MigrateSettings(project=PROJECT, **settings), TARGET, nowhere, any_user)
    for step in make_plan(phase, steps_of(phase, world), world, "")["steps"]:
        gate = step["gate"]["actions"] if step["gate"] else ()
        for one in (*step["actions"], *gate, *step["inverse"]):
            if "argv" in one:
                yield one["argv"]


def looks() -> Iterator[tuple[str, ...]]:
    """Those that steps and gates look with."""
    yield from (CloudRun(PROJECT, "us-central1")._argv(*words) for words in (
        ("services", "describe", "s"), ("revisions", "describe", "r"),
    ))  # fmt: skip
    yield CloudRun(PROJECT, "us-central1").tag_argv("s", "pty-fix", "s-00001-abc")
    yield gates.entries_argv(PROJECT, gates.of_service("s", "us-central1"), 0.0, 1.0, 9)


def shape(argv: list[str]) -> tuple[str, ...]:
    """What the parser tells apart: words, and flags without their values."""
    return tuple(re.sub("=.*", "", word, flags=re.S) for word in argv)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_gcloud_takes_each_command_line(
    google: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))

    def no_look(argv: object, **_: object) -> None:
        raise Forbidden("not now")

    with monkeypatch.context() as patch:
        patch.setattr(programs, "run_json", no_look)
        plans = (
            planned("phase1"),
            planned("phase2"),
            planned("cutover", **VIA_DNS),
            planned("cutover", **VIA_MAP),
        )
        lines = [*(line for plan in plans for line in plan), *map(list, looks())]
    shapes = {shape(line): line for line in lines if line[0] == "gcloud"}
    assert len(shapes) > 10
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        google.fail(method, "", 403, "not here")
    for line in shapes.values():
        with pytest.raises(CoditectError) as raised:
            programs.run(line, stdin="name: m\n")
        assert not isinstance(raised.value, UsageError), line


@pytest.mark.slow
def test_the_records_own_command_line_is_not_one(google: Cloud) -> None:
    line = f"gcloud run deploy s --image=i --region=r --project={PROJECT} --tag=t"
    with pytest.raises(UsageError, match=r"gcloud refuses its command line.*--traffic"):
        programs.run([*line.split(), "--traffic=pty-fix=10,LATEST=90"])
