"""The workspace that a pod is: it has one, and Kubernetes says whether it is to run."""

from __future__ import annotations

import time
from pathlib import Path

from coditect_cli.errors import NotFound
from coditect_cli.workspaces.spec import Desired, WorkspaceRecord


class PodWorkspace:
    """One workspace with its volume at `root`; a `Workspaces`."""

    def __init__(self, id: str, owner: str, root: Path) -> None:
        started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._record = WorkspaceRecord(id, owner, started_at, "running", root)

    def get(self, id: str) -> WorkspaceRecord:
        """The workspace. Raises NotFound (workspace.not_found) for another."""
        if id != self._record.id:
            raise NotFound(f"no workspace {id} in this pod", code="workspace.not_found")
        return self._record

    def set_desired(self, id: str, desired: Desired) -> WorkspaceRecord:
        """The workspace as it is: its pod runs until the StatefulSet is scaled down."""
        return self.get(id)
