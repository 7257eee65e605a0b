"""One real node for all of these tests, with our images on it and an edge gateway before it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.platform import Commands, Platform, running_platform


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    if os.geteuid() != 0:
        pytest.skip("a node needs root")
    with running_platform(tmp_path_factory.mktemp("node")) as running:
        yield running


@pytest.fixture
def coditect(platform: Platform, tmp_path: Path) -> Commands:
    return Commands(platform.environ(tmp_path / "home"))
