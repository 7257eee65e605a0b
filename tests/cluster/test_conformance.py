from __future__ import annotations

from tests.workspaces.conformance import WorkspaceConformance


class TestKubernetes(WorkspaceConformance): ...
