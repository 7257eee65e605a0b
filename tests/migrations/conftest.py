"""What tests of migrations share: a cloud that the real gcloud talks to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
