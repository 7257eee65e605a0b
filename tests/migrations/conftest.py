"""What tests of migrations share: a cloud that the real gcloud talks to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cloud import Cloud, cloud
from tests.support.stores import place, store  # noqa: F401 - fixtures


@pytest.fixture
def google(tmp_path: Path) -> Iterator[Cloud]:
    """An empty cloud; gcloud started from this process, or one of its children, finds it alone."""
    if shutil.which("gcloud") is None:
        pytest.skip("gcloud is not installed: https://cloud.google.com/sdk/docs/install")
    folder = tmp_path / "cloud"
    folder.mkdir()
    with cloud(folder) as running:
        yield running
