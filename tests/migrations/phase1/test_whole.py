"""Phase 1 as a person runs it: the program, the real gcloud, and a cloud behind it.

One run builds with podman and pushes to a registry. Elsewhere docker is stood for by a script that
says a digest: what is tried there comes after the push.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.migrations.quick import DIGEST
from tests.support.cloud import PROJECT, Cloud
from tests.support.cluster import free_ports
from tests.support.gateway import until
from tests.support.migrating import start_migrate
from tests.support.registry import BASE, PODMAN, Registry, registry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

GATEWAY = "websocket-gateway"
PATIENCE = 240.0  # seconds; gcloud takes some to start, and there are many starts
QUICK = ("--tests=true", "--probe=echo {url}")
PUSHES = f"""#!/bin/sh
[ "$1" = push ] && echo "pty-fix: digest: {DIGEST} size: 528"
exit 0
"""
DOCKERFILE = """\
ARG BASE
FROM ${BASE}
COPY gateway /gateway
RUN ["/bin/busybox", "sh", "-c", "cat /gateway > /built"]
CMD ["/bin/busybox", "cat", "/built"]
"""


class Engineer:
    """Somebody with a terminal, a folder with a Dockerfile, and gcloud logged in."""

    def __init__(self, folder: Path, cloud: Cloud) -> None:
        self.cloud = cloud
        self.source = folder / "source"
        self.source.mkdir()
        (self.source / "Dockerfile").touch()
        programs = folder / "bin"
        programs.mkdir()
        docker = programs / "docker"
        docker.write_text(PUSHES)
        docker.chmod(0o755)
        self.environ = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        self.environ["KUBECONFIG"] = str(folder / "kubeconfig")

    def start(self, *args: str) -> subprocess.Popen[str]:
        return start_migrate(self.environ, *args)

    def run(self, *args: str) -> tuple[int, str, str]:
        process = self.start(*args)
        out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, out, err

    def phase1(self, *args: str) -> list[str]:
        enough = ("--min-requests=5", "--min-sessions=2")
        return ["phase1", f"--source={self.source}", *enough, *args]

    def builds_with(self, yard: Registry) -> list[str]:
        """The flags of somebody who has podman and a registry, and something to build."""
        self.environ |= yard.environ
        (self.source / "Dockerfile").write_text(DOCKERFILE)
        (self.source / "gateway").write_text("the gateway\n")
        return [
            f"--docker={' '.join(PODMAN)}",
            f"--build-flags=--network=none --build-arg=BASE={BASE}",
            f"--image={yard.host}/{PROJECT}/{GATEWAY}",
        ]

    def events(self) -> list[Any]:
        code, out, _ = self.run("status", "--journal", "-o", "json")
        return list(json.loads(out)["items"]) if code == 0 else []


@pytest.fixture
def engineer(home: Path, tmp_path: Path, google: Cloud) -> Iterator[Engineer]:
    yield Engineer(tmp_path, google)


@pytest.fixture
def yard() -> Iterator[Registry]:
    with registry() as running:
        yield running


@pytest.fixture
def staging(engineer: Engineer) -> Iterator[str]:
    """A gateway that answers where the staging service does."""
    (port,) = free_ports(1)
    gateway = subprocess.Popen(
        [sys.executable, "-m", "coditect_cli", "gateway", "serve", f"--listen=127.0.0.1:{port}"],
        env=engineer.environ,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: answers(port), "a gateway")
    yield f"http://127.0.0.1:{port}"
    gateway.terminate()
    gateway.wait(30)


def await_bake(process: subprocess.Popen[str]) -> None:
    """Read what it says until it watches: what was logged before that is not looked at."""
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["type"] == "bake.started":
            return


def answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@pytest.mark.root
def test_it_runs_whole_from_a_real_build_and_what_is_deployed_is_what_the_registry_has(
    engineer: Engineer, yard: Registry, staging: str
) -> None:
    """The bridge is tested and staging is typed into, as when nothing else is asked for."""
    engineer.cloud.run.address = staging
    cloud, flags = engineer.cloud, engineer.builds_with(yard)
    old = cloud.run.deploy(GATEWAY, "old@sha256:" + "a" * 64)
    quick = ("--bake=1s", "--hold=1h", "--gate-interval=1s", "-o", "ndjson")
    process = engineer.start(*engineer.phase1(*flags, *quick))
    await_bake(process)
    (new,) = cloud.run.percents(GATEWAY).keys() - {old}
    assert cloud.run.percents(GATEWAY) == {old: 90, new: 10}
    for revision in (old, new):
        cloud.logs.serve(GATEWAY, revision, requests=20, errors=0, sessions=5)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["state"] == "done"
    assert cloud.run.percents(GATEWAY) == {new: 100}
    name, _, digest = cloud.run.image(new).partition("@")
    assert name == f"{yard.host}/{PROJECT}/{GATEWAY}"
    repository = f"{PROJECT}/{GATEWAY}"
    assert digest == yard.digest(repository, "pty-fix") == yard.digest(repository, digest)


def test_killed_during_the_bake_and_resumed_errors_still_roll_it_back(
    engineer: Engineer,
) -> None:
    cloud = engineer.cloud
    old = cloud.run.deploy(GATEWAY, "old@sha256:" + "a" * 64)
    process = engineer.start(
        *engineer.phase1(*QUICK, "--bake=2s", "--hold=1h", "--gate-interval=1s")
    )
    until(lambda: len(cloud.run.percents(GATEWAY)) == 2, "a share of the traffic", PATIENCE)
    process.kill()
    process.communicate()
    (new,) = cloud.run.percents(GATEWAY).keys() - {old}
    _, out, _ = engineer.run("status", "-o", "json")
    assert json.loads(out)["items"][0]["state"] == "interrupted"
    process = engineer.start("resume")
    until(
        lambda: any(event["type"] == "bake.started" for event in engineer.events()),
        "the bake",
        PATIENCE,
    )
    cloud.logs.serve(GATEWAY, old, requests=20, errors=0, sessions=5)
    cloud.logs.serve(GATEWAY, new, requests=20, errors=15, sessions=5)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 10, err
    service = cloud.run.services[GATEWAY]
    (target,) = service["status"]["traffic"]  # and no tag is left
    assert (target["percent"], target["latestRevision"]) == (100, True)
    assert target["revisionName"] not in (old, new)
    assert cloud.run.image(target["revisionName"]) == cloud.run.image(old)


def test_an_interrupt_stops_at_a_safe_point_and_says_how_to_resume(engineer: Engineer) -> None:
    engineer.cloud.run.deploy(GATEWAY, "old@sha256:" + "a" * 64)
    process = engineer.start(*engineer.phase1(*QUICK, "--bake=1h", "-o", "ndjson"))
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["type"] == "action.started":
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "coditect migrate resume phase1-" in err
    assert json.loads(out.splitlines()[-1])["state"] == "interrupted"


@pytest.mark.parametrize(
    ("method", "path", "status", "message", "code"),
    [
        ("GET", "/services/websocket-gateway$", 403, "Permission 'run.services.get' denied", 5),
        ("PUT", "/services/websocket-gateway$", 429, "Quota exceeded for quota metric", 7),
    ],
)
def test_a_refusal_ends_it_with_its_reason_and_leaves_traffic_alone(
    engineer: Engineer, method: str, path: str, status: int, message: str, code: int
) -> None:
    cloud = engineer.cloud
    old = cloud.run.deploy(GATEWAY, "old@sha256:" + "a" * 64)
    cloud.fail(method, path, status, message)
    found, out, err = engineer.run(*engineer.phase1(*QUICK))
    assert (found, out) == (code, ""), err
    assert "coditect migrate resume phase1-" in err
    assert cloud.run.percents(GATEWAY) == {old: 100}


def test_the_first_deployment_ever_serves_all_at_once_and_goes_back_to_nothing(
    engineer: Engineer,
) -> None:
    cloud = engineer.cloud
    quick = ("--bake=1s", "--hold=1h", "--gate-interval=1s", "-o", "ndjson")
    process = engineer.start(*engineer.phase1(*QUICK, *quick))
    await_bake(process)
    (first,) = cloud.run.percents(GATEWAY)
    cloud.logs.serve(GATEWAY, first, requests=20, errors=20, sessions=5)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 10, err
    assert json.loads(out.splitlines()[-1])["state"] == "rolled back"
    assert GATEWAY not in cloud.run.services
