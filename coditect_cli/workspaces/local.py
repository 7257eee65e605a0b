"""Workspaces of the local context: a directory and a record for each."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coditect_cli.errors import Failed, NotFound, TimedOut, UsageError
from coditect_cli.paths import Paths, locked, make_private, unusable, write_private
from coditect_cli.workspaces.backend import Condition, Item, Tell, exists, not_found, silent
from coditect_cli.workspaces.spec import Desired, WorkspaceRecord, check_workspace_id

POLL = 0.1  # seconds


class LocalWorkspaces:
    """The workspaces below one data folder; a `WorkspaceBackend`.

    Changes are serialised between processes.
    """

    def __init__(self, paths: Paths) -> None:
        self._folder = paths.workspaces

    def create(self, id: str, owner: str, tell: Tell = silent) -> WorkspaceRecord:
        """Record a running workspace; a directory that `delete` kept is adopted with its files.

        Raises Conflict (workspace.exists) when there is one of that id.
        """
        home = self._home(id)
        make_private(self._folder)
        with locked(self._folder):
            if (home / "workspace.json").exists():
                raise exists(id)
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
            raise not_found(id) from None
        except IsADirectoryError:
            raise _damaged(home) from None
        except OSError as error:
            raise unusable(home / "workspace.json", error) from error
        return self._record(home, content)

    def root(self, id: str) -> Path:
        """A workspace's directory, also one that `delete` kept. Raises NotFound."""
        root = self._home(id) / "root"
        if not root.is_dir():
            raise not_found(id)
        return root

    def ids(self, owner: str | None = None) -> list[str]:
        """Every workspace's id in order, also of those whose records are damaged.

        With an owner, the ids of theirs.
        """
        ids = sorted(file.parent.name for file in self._folder.glob("[a-z]*/workspace.json"))
        return ids if owner is None else [id for id in ids if self._belongs(id, owner)]

    def details(self, id: str) -> Item:
        """What a directory has of it: no pod, no volume."""
        desired = self.get(id).desired
        return {"desired": desired, "pod": None, "conditions": [], "volume": None, "events": []}

    def pages(
        self, selector: str | None, tell: Tell, *, whole: bool, owner: str | None = None
    ) -> Iterator[list[Item]]:
        """All in one; of one whose record is damaged it has the id alone."""
        if selector is not None:
            raise UsageError("--selector goes with workspaces on Kubernetes, which have labels")
        yield list(self._items(tell, owner).values())

    def watch(
        self, selector: str | None, tell: Tell, *, whole: bool, owner: str | None = None
    ) -> Iterator[list[Item]]:
        """As `pages`, then each workspace that changes, for ever; a deleted one has that status."""
        [page] = self.pages(selector, tell, whole=whole, owner=owner)
        yield page
        before = {item["id"]: item for item in page}
        while True:
            time.sleep(POLL)
            now = self._items(lambda _: None, owner)
            changed = [item for id, item in now.items() if before.get(id) != item]
            gone = [item | {"status": "deleted"} for id, item in before.items() if id not in now]
            if changed or gone:
                yield [*changed, *gone]
            before = now

    def purgeable(self, id: str) -> str:
        """What a purge would remove, in words. Raises NotFound."""
        return f"all its files in {self.root(id)}"

    def wait(
        self, id: str, condition: Condition, limit: float, tell: Tell
    ) -> WorkspaceRecord | None:
        """The workspace once it is so. Raises NotFound, TimedOut (workspace.timeout)."""
        import logging

        log = logging.getLogger("coditect.workspace")
        log.info("waiting until workspace %s is %s", id, condition)
        deadline = time.monotonic() + limit
        while not self._holds(id, condition):
            if time.monotonic() >= deadline:
                raise TimedOut(
                    f"workspace {id} is not {condition} after {limit:g} s",
                    code="workspace.timeout",
                    retryable=True,
                )
            time.sleep(POLL)
        return None if condition == "deleted" else self.get(id)

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
            raise not_found(id)
        with locked(self._folder):
            try:
                if not purge:
                    (home / "workspace.json").unlink()
                    return
                purged = self._folder / f".purged-{id}-{os.urandom(4).hex()}"
                home.rename(purged)
            except FileNotFoundError:
                raise not_found(id) from None
        for left in self._folder.glob(".purged-*"):  # also those of a purge that was killed
            _remove_tree(left)
        if purged.exists():
            raise Failed(
                f"workspace {id} is gone, but not all of its files could be removed",
                code="workspace.purge_incomplete",
                hint=f"remove {purged} by hand",
            )

    def _items(self, tell: Tell, owner: str | None = None) -> dict[str, Item]:
        items: dict[str, Item] = {}
        for id in self.ids(owner):
            try:
                items[id] = self.get(id).as_dict()
            except NotFound:
                continue  # deleted since the ids were read
            except Failed as error:
                tell(f"warning: {error.message}")
                items[id] = dict.fromkeys(self._new(id, "").as_dict())
                items[id] |= {"id": id, "status": "damaged"}
        return items

    def _belongs(self, id: str, owner: str) -> bool:
        try:
            return self.get(id).owner == owner
        except (NotFound, Failed):  # deleted meanwhile, or damaged: `workspace list` says
            return False

    def _holds(self, id: str, condition: Condition) -> bool:
        try:
            return self.get(id).desired == condition
        except NotFound:
            if condition == "deleted":
                return True
            raise

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
            raise _damaged(home) from None
        return WorkspaceRecord(home.name, str(owner), str(created_at), desired, home / "root")


def _damaged(home: Path) -> Failed:
    return Failed(
        f"the record of workspace {home.name} is damaged: {home / 'workspace.json'}",
        code="workspace.damaged",
        hint=f"its files in {home / 'root'} are untouched; to keep them, remove the "
        f"record, then run: coditect workspace create {home.name}",
    )


def _remove_tree(folder: Path) -> None:
    # Read-only folders (Go's module cache has them) would keep their files.
    for parent, names, _ in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)
