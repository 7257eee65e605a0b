"""What tests of migrations share: a cloud that the real gcloud talks to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coditect_cli.stores.store import SessionStore
from tests.migrations.site import Site
from tests.migrations.toy import world
from tests.support.cloud import Cloud, cloud, skip_without_gcloud
from tests.support.stores import place, store  # noqa: F401 - fixtures


@pytest.fixture
def google(tmp_path: Path) -> Iterator[Cloud]:
    """An empty cloud; gcloud started from this process, or one of its children, finds it alone."""
    skip_without_gcloud()
    folder = tmp_path / "cloud"
    folder.mkdir()
    with cloud(folder) as running:
        yield running


@pytest.fixture
def site(store: SessionStore, tmp_path: Path) -> Site:  # noqa: F811 - the fixture
    """An empty folder, and what runs a toy migration there."""
    folder = tmp_path / "world"
    folder.mkdir()
    return Site(store, folder, world(gate_interval=10.0, hold=60.0))
