from __future__ import annotations

from pathlib import Path

import pytest

from tests.workspaces.conformance import WorkspaceConformance


class TestLocal(WorkspaceConformance):
    @pytest.fixture
    def provider(self, home: Path) -> None: ...
