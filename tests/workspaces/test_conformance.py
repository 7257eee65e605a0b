from __future__ import annotations

from pathlib import Path

import pytest

from tests.workspaces.conformance import EntryConformance, WorkspaceConformance


class TestLocal(WorkspaceConformance, EntryConformance):
    @pytest.fixture
    def provider(self, home: Path) -> None: ...
