"""What a workspace is: its record, and the rules for the ids that users type."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from coditect_cli.errors import UsageError

Desired = Literal["running", "stopped"]

GATEWAY = "_gateway"  # stands where a workspace id does in what is asked of the gateway itself
MAX_WORKSPACE_ID = 52  # past that a StatefulSet's controller cannot label its pods
_WORKSPACE_ID = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,127}")


class WorkspaceRecord(NamedTuple):
    """A workspace as it was asked for; `created_at` is RFC 3339 in UTC, `root` its directory.

    `status` is what was observed, where that may differ from what is desired; the fields behind
    it are a cluster's: Kubernetes quantities as they were asked for, but `storage` as the volume
    has it once that was looked at.
    """

    id: str
    owner: str
    created_at: str
    desired: Desired
    root: Path
    status: str | None = None
    node: str | None = None
    image: str | None = None
    cpu: str | None = None
    memory: str | None = None
    storage: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """The workspace as the JSON contract shows it."""
        return {
            "id": self.id,
            "status": self.status or self.desired,
            "owner": self.owner,
            "createdAt": self.created_at,
            "root": str(self.root),
            "node": self.node,
            "image": self.image,
            "cpu": self.cpu,
            "memory": self.memory,
            "storage": self.storage,
        }


class Workspaces(Protocol):
    """The workspaces that a gateway serves: a machine's own, or the one that its pod is."""

    def get(self, id: str) -> WorkspaceRecord:
        """The record of one workspace. Raises NotFound (workspace.not_found)."""

    def set_desired(self, id: str, desired: Desired) -> WorkspaceRecord:
        """Say whether a workspace is to run. Raises NotFound (workspace.not_found)."""


def is_workspace_id(text: str) -> bool:
    """Whether a workspace can have this id."""
    return len(text) <= MAX_WORKSPACE_ID and _WORKSPACE_ID.fullmatch(text) is not None


def check_workspace_id(text: str) -> str:
    """`text` itself, when it is a legal workspace id; else raises UsageError."""
    if is_workspace_id(text):
        return text
    raise UsageError(
        f"{_shown(text)} is not a workspace id",
        code="workspace.invalid_id",
        hint="use 1 to 52 lower-case letters, digits and dashes; start with a letter and "
        "do not end with a dash",
    )


def check_session_id(text: str) -> str:
    """`text` itself, when it is a legal session id; else raises UsageError."""
    if _SESSION_ID.fullmatch(text):
        return text
    raise UsageError(
        f"{_shown(text)} is not a session id",
        code="session.invalid_id",
        hint="use 1 to 128 letters, digits and dashes; do not start with a dash",
    )


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 60 else text[:57] + "...")
