"""The user that a workspace's programs run as: this process's own, or in a pod another one."""

from __future__ import annotations

import ctypes
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coditect_cli.errors import UsageError


@dataclass(frozen=True)
class Account:
    """A user as the system's table has it; `groups` are the ids of all of its groups."""

    name: str
    uid: int
    groups: list[int]
    home: str
    shell: str

    @classmethod
    def find(cls, run_as: str | None) -> Account:
        """The user `run_as`, a name or a uid, or this process's own where it is None.

        Raises UsageError where there is none, where it is uid 0, or where this process must not
        become it.
        """
        try:
            if run_as is None:
                entry = pwd.getpwuid(os.getuid())
            elif run_as.isdecimal():
                entry = pwd.getpwuid(int(run_as))
            else:
                entry = pwd.getpwnam(run_as)
        except KeyError:
            if run_as is None:  # a container may run as any number
                return cls._without_entry()
            raise _unusable(run_as, "there is no such user") from None
        if run_as is not None and entry.pw_uid == 0:
            raise _unusable(run_as, "that is uid 0, which programs are to be kept from")
        if run_as is not None and os.geteuid() not in (0, entry.pw_uid):
            raise _unusable(run_as, "only uid 0 can start programs as another user")
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        return cls(entry.pw_name, entry.pw_uid, groups, entry.pw_dir, entry.pw_shell)

    @classmethod
    def _without_entry(cls) -> Account:
        uid, groups = os.getuid(), [os.getgid(), *os.getgroups()]
        return cls(str(uid), uid, groups, os.environ.get("HOME") or "/", "/bin/bash")

    @property
    def is_other(self) -> bool:
        """Whether programs have to change to this user."""
        return self.uid != os.getuid()

    def as_message(self) -> dict[str, Any] | None:
        """What the keeper is told, where it has to change to this user."""
        return {"uid": self.uid, "groups": self.groups} if self.is_other else None

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look at files with this user's rights; for the calling thread, and never across a wait.

        setfsuid(2): uid 0 without CAP_DAC_OVERRIDE sees less of a user's folders than the user.
        """
        if not self.is_other:
            yield
            return
        libc = ctypes.CDLL(None)
        libc.setfsgid(self.groups[0])
        libc.setfsuid(self.uid)
        try:
            yield
        finally:
            libc.setfsuid(os.geteuid())
            libc.setfsgid(os.getegid())

    def let_into(self, volume: Path) -> None:
        """Let this user write to a volume of this process's, but not replace what lies in it.

        That is the sticky bit. Raises UsageError where the volume can't be changed so.
        """
        try:
            os.chown(volume, -1, self.groups[0])
            volume.chmod(0o1770)
        except OSError as error:
            raise UsageError(
                f"the volume {volume} can't be prepared for {self.name}: {error.strerror}",
                code="gateway.volume",
                hint="it has to belong to uid 0, as Kubernetes makes it, without fsGroup",
            ) from error


def _unusable(run_as: str, why: str) -> UsageError:
    return UsageError(
        f"programs can't run as {run_as}: {why}",
        code="gateway.run_as",
        hint="set run_as to a user of this system",
    )
