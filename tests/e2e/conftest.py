from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from coditect_cli.paths import Paths
from tests.support.gateway import until
from tests.support.proxy import Proxy, proxy
from tests.support.tmux import Tmux, needs

Coditect = Callable[..., "subprocess.CompletedProcess[bytes]"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tmux" in getattr(item, "fixturenames", ()):
            item.add_marker(needs("tmux"))


@pytest.fixture
def coditect(home: Path) -> Coditect:
    """Run the installed program, away from any terminal."""
    program = str(Path(sys.executable).parent / "coditect")

    def run(*args: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [program, *args], input=input, capture_output=True, check=False, timeout=100
        )

    return run


@pytest.fixture
def tmux(home: Path) -> Iterator[Tmux]:
    """A terminal multiplexer whose shells use the test's home."""
    with Tmux(dict(os.environ)) as running:
        yield running


@pytest.fixture
def gateway_status(coditect: Coditect) -> Callable[[], dict[str, Any]]:
    """What `coditect gateway status` says."""

    def status() -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(coditect("gateway", "status", "-o", "json").stdout)
        return shown

    return status


@pytest.fixture
def start_proxy(paths: Paths, tmp_path: Path, coditect: Coditect) -> Iterator[Callable[[], Proxy]]:
    """Starts the gateway with the workspace demo, and a proxy in front of it."""
    with ExitStack() as stack:

        def start() -> Proxy:
            assert coditect("up", "demo", "--detach").returncode == 0
            return stack.enter_context(proxy(tmp_path / "p.sock", paths.gateway_socket))

        yield start


@pytest.fixture
def client(home: Path) -> Callable[[], psutil.Process]:
    """The one client that is attached now."""

    def find() -> psutil.Process:
        def clients() -> list[psutil.Process]:
            found = []
            for process in psutil.process_iter(["cmdline"]):
                with suppress(psutil.Error):
                    words = process.info["cmdline"] or []
                    ours = process.environ().get("CODITECT_HOME") == str(home)
                    if ours and {"up", "attach"} & set(words[1:3]):
                        found.append(process)
            return found

        until(lambda: len(clients()) == 1, "one client")
        return clients()[0]

    return find


def stop_process(process: psutil.Process) -> None:
    """Stop it, and wait until it has stopped."""
    os.kill(process.pid, signal.SIGSTOP)
    until(lambda: process.status() == psutil.STATUS_STOPPED, "the stop")
