"""What a place for workspaces can do; `tests/workspaces/conformance.py` holds both to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

from coditect_cli.errors import CoditectError, Conflict, Interrupted, NotFound, TimedOut
from coditect_cli.workspaces.spec import Desired, WorkspaceRecord

LOOK = 10.0  # seconds that one look may take, also where there is no time to wait
Condition = Literal["running", "stopped", "deleted"]
Item = dict[str, Any]  # a workspace as the JSON contract shows it
Tell = Callable[[str], None]


def silent(_: str) -> None:
    """A `Tell` for who needs no talk."""


class WorkspaceBackend(Protocol):
    """The workspaces of a context. Each method checks the id (UsageError), and may be repeated.

    Where a workspace is needed and there is none, NotFound (workspace.not_found) is raised. What
    a delete kept is no workspace. Changes are made when a method returns, and take effect later:
    `wait` says when.
    """

    def create(self, id: str, owner: str, tell: Tell = silent) -> WorkspaceRecord:
        """A new workspace that is to run; files that `delete` kept are taken over.

        Where they lie is told when that is not as it was asked for. Raises Conflict:
        workspace.exists, workspace.volume_foreign when what was kept belongs to somebody else, or
        workspace.volume_differs when it can't be what the command line asks for.
        """

    def get(self, id: str) -> WorkspaceRecord:
        """One workspace."""

    def details(self, id: str) -> Item:
        """What `show` says beside the record: always the same keys."""

    def ids(self, owner: str | None = None) -> list[str]:
        """Every workspace's id, or of those with that owner, in order."""

    def pages(
        self, selector: str | None, tell: Tell, *, whole: bool, owner: str | None = None
    ) -> Iterator[list[Item]]:
        """The workspaces in order of their ids; with an owner, theirs.

        `whole` asks for what takes further lists: the field `node`, and `storage` as it really is.

        What is wrong with one of them is told. Raises UsageError for a selector that can't be.
        """

    def watch(
        self, selector: str | None, tell: Tell, *, whole: bool, owner: str | None = None
    ) -> Iterator[list[Item]]:
        """As `pages`, then each workspace that changes, for ever; a deleted one has that status."""

    def set_desired(self, id: str, desired: Desired) -> WorkspaceRecord:
        """Say whether a workspace is to run."""

    def purgeable(self, id: str) -> str:
        """What a purge would remove, in words, also of a workspace that was deleted already."""

    def delete(self, id: str, purge: bool = False) -> None:
        """Remove a workspace, and with `purge` its files too, also those that were kept."""

    def wait(
        self, id: str, condition: Condition, limit: float, tell: Tell
    ) -> WorkspaceRecord | None:
        """The workspace once it is so, within `limit` seconds (None: deleted); progress is told.

        Raises TimedOut (workspace.timeout), and at once what waiting can't cure.
        """


def await_running(
    workspaces: WorkspaceBackend, record: WorkspaceRecord, limit: float, tell: Tell
) -> WorkspaceRecord:
    """A workspace that was made, once it runs. Raises as `wait`, and says what is there by then."""
    try:
        return workspaces.wait(record.id, "running", limit, tell) or record
    except CoditectError as error:
        if not isinstance(error, Interrupted | TimedOut):  # they say how to look at it
            exists = (
                f"the workspace and its volume exist: coditect workspace delete {record.id} "
                "removes the one, with --purge both"
            )
            error.hint = f"{error.hint}; {exists}" if error.hint else exists
        raise


def exists(id: str, state: str = "") -> Conflict:
    """The error for a second create; `state` says how the first one's workspace is, if not well."""
    look = f"coditect workspace show {id} says why; --if-not-exists goes on waiting for it"
    return Conflict(
        f"workspace {id} exists already{state and f': {state}'}",
        code="workspace.exists",
        hint=look if state else "choose another id, or pass --if-not-exists",
    )


def stopped(id: str) -> Conflict:
    return Conflict(
        f"workspace {id} is stopped",
        code="workspace.stopped",
        hint=f"coditect workspace start {id}",
    )


def not_found(id: str) -> NotFound:
    return NotFound(
        f"no workspace {id}",
        code="workspace.not_found",
        hint=f"coditect workspace list shows them; coditect workspace create {id} makes it",
    )
