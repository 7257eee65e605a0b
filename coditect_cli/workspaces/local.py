"""Workspaces of the local context: a directory and a record for each."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from coditect_cli.errors import Conflict, Failed, NotFound
from coditect_cli.paths import Paths, locked, make_private, unusable, write_private
from coditect_cli.workspaces.spec import Desired, WorkspaceRecord, check_workspace_id


class LocalWorkspaces:
    """The workspaces below one data folder. Changes are serialised between processes."""

    def __init__(self, paths: Paths) -> None:
        self._folder = paths.workspaces

    def create(self, id: str, owner: str) -> WorkspaceRecord:
        """Record a running workspace; a directory that `delete` kept is adopted with its files.

        Raises Conflict (workspace.exists) when there is one of that id.
        """
        home = self._home(id)
        make_private(self._folder)
        with locked(self._folder):
            if (home / "workspace.json").exists():
                raise Conflict(
                    f"workspace {id} exists already",
                    code="workspace.exists",
                    hint="choose another id, or pass --if-not-exists",
                )
            make_private(home / "root")
            record = self._new(id, owner)
            self._write(record)
        return record

    def get(self, id: str) -> WorkspaceRecord:
        """The record of one workspace. Raises NotFound (workspace.not_found)."""
        home = self._home(id)
        try:
            content = (home / "workspace.json").read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise _not_found(id) from None
        except OSError as error:
            raise unusable(home / "workspace.json", error) from error
        return self._record(home, content)

    def root(self, id: str) -> Path:
        """A workspace's directory, also one that `delete` kept. Raises NotFound."""
        root = self._home(id) / "root"
        if not root.is_dir():
            raise _not_found(id)
        return root

    def ids(self) -> list[str]:
        """Every workspace's id in order, also of those whose records are damaged."""
        return sorted(file.parent.name for file in self._folder.glob("[a-z]*/workspace.json"))

    def mend(self, id: str, owner: str) -> None:
        """Put a new record in the place of a damaged one, so that the workspace can be deleted.

        Raises NotFound (workspace.not_found).
        """
        try:
            self.get(id)
        except Failed as error:
            if error.code != "workspace.damaged":
                raise
            with locked(self._folder):
                self._write(self._new(id, owner))

    def set_desired(self, id: str, desired: Desired) -> WorkspaceRecord:
        """Say whether a workspace is to run. Raises NotFound (workspace.not_found)."""
        self.get(id)
        with locked(self._folder):
            old = self.get(id)
            record = WorkspaceRecord(old.id, old.owner, old.created_at, desired, old.root)
            self._write(record)
        return record

    def delete(self, id: str, purge: bool = False) -> None:
        """Remove a workspace's record, and with `purge` its directory too, kept ones included.

        Raises NotFound (workspace.not_found), and Failed when files cannot be removed.
        """
        home = self._home(id)
        if not (home if purge else home / "workspace.json").exists():
            raise _not_found(id)
        with locked(self._folder):
            try:
                if not purge:
                    (home / "workspace.json").unlink()
                    return
                purged = self._folder / f".purged-{id}-{os.urandom(4).hex()}"
                home.rename(purged)
            except FileNotFoundError:
                raise _not_found(id) from None
        for left in self._folder.glob(".purged-*"):  # also those of a purge that was killed
            _remove_tree(left)
        if purged.exists():
            raise Failed(
                f"workspace {id} is gone, but not all of its files could be removed",
                code="workspace.purge_incomplete",
                hint=f"remove {purged} by hand",
            )

    def _home(self, id: str) -> Path:
        return self._folder / check_workspace_id(id)

    def _new(self, id: str, owner: str) -> WorkspaceRecord:
        created_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return WorkspaceRecord(id, owner, created_at, "running", self._home(id) / "root")

    def _write(self, record: WorkspaceRecord) -> None:
        fields = {
            "id": record.id,
            "owner": record.owner,
            "createdAt": record.created_at,
            "desired": record.desired,
        }
        content = json.dumps(fields, indent=2).encode() + b"\n"
        write_private(record.root.parent / "workspace.json", content)

    def _record(self, home: Path, content: bytes) -> WorkspaceRecord:
        try:
            fields: dict[str, Any] = json.loads(content)
            owner, created_at, desired = fields["owner"], fields["createdAt"], fields["desired"]
            if fields["id"] != home.name or desired not in ("running", "stopped"):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise Failed(
                f"the record of workspace {home.name} is damaged: {home / 'workspace.json'}",
                code="workspace.damaged",
                hint=f"its files in {home / 'root'} are untouched; to keep them, remove the "
                f"record, then run: coditect workspace create {home.name}",
            ) from None
        return WorkspaceRecord(home.name, str(owner), str(created_at), desired, home / "root")


def _not_found(id: str) -> NotFound:
    return NotFound(
        f"no workspace {id}",
        code="workspace.not_found",
        hint=f"coditect workspace list shows them; coditect workspace create {id} makes it",
    )


def _remove_tree(folder: Path) -> None:
    # Read-only folders (Go's module cache has them) would keep their files.
    for parent, names, _ in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)
