"""Where coditect keeps its files, and how they are written."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from coditect_cli.errors import Failed, UsageError


class Paths(NamedTuple):
    """The three folders that hold everything, each 0700."""

    config: Path
    data: Path
    state: Path

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Paths:
        """`CODITECT_HOME`'s three folders where it is set, else XDG's."""
        if home := environ.get("CODITECT_HOME"):
            base = Path(home).expanduser().absolute()
            return cls(base / "config", base / "data", base / "state")
        return cls(
            _xdg(environ, "XDG_CONFIG_HOME", ".config"),
            _xdg(environ, "XDG_DATA_HOME", ".local/share"),
            _xdg(environ, "XDG_STATE_HOME", ".local/state"),
        )

    @property
    def config_file(self) -> Path:
        return self.config / "config.toml"

    @property
    def key_file(self) -> Path:
        return self.config / "token.key"

    @property
    def workspaces(self) -> Path:
        return self.data / "workspaces"

    @property
    def session_store(self) -> Path:
        return self.state / "sessions.db"

    @property
    def gateway_socket(self) -> Path:
        return self.state / "gateway.sock"

    @property
    def gateway_lock(self) -> Path:
        return self.state / "gateway.lock"

    @property
    def gateway_id(self) -> Path:
        return self.state / "gateway.id"

    @property
    def gateway_log(self) -> Path:
        return self.state / "gateway.log"


def _xdg(environ: Mapping[str, str], variable: str, default: str) -> Path:
    base = environ.get(variable, "")
    if not os.path.isabs(base):  # the specification says to ignore a relative one
        base = os.path.join(environ.get("HOME") or _own_home(), default)
    return Path(base) / "coditect"


def _own_home() -> str:
    """What the system's list of users says, where HOME is unset or empty."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        raise UsageError(
            f"there is no home folder for user {os.getuid()}",
            code="home.unknown",
            hint="set HOME, or CODITECT_HOME to a folder for all of coditect's files",
        ) from None


def make_private(directory: Path) -> None:
    """Make `directory` a folder that only its owner can enter (0700), and the parents it lacks.

    Parents that exist stay as they are. Raises Failed when it cannot be made, is no folder,
    or belongs to somebody else.
    """
    try:
        missing = [directory, *directory.parents]
        for folder in reversed([folder for folder in missing if not folder.exists()]):
            folder.mkdir(mode=0o700, exist_ok=True)
        status = directory.stat()
        if status.st_uid != os.geteuid():
            raise Failed(
                f"{directory} belongs to another user (uid {status.st_uid})",
                code="path.foreign",
                hint="set CODITECT_HOME to a folder of your own",
            )
        if status.st_mode & 0o077:
            directory.chmod(0o700)
    except OSError as error:
        raise unusable(directory, error) from error


def write_private(path: Path, content: bytes) -> None:
    """Write `path` (0600) in one step: readers see the old content or the new, never a part.

    Raises Failed when it cannot be written, or is a device or pipe, which would be gone then.
    """
    path = path.resolve()
    check_replaceable(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise unusable(path, error) from error


def check_replaceable(path: Path) -> None:
    """Raises Failed where something is there that is no regular file."""
    if path.exists() and not path.is_file():
        raise Failed(
            f"{path} is there, and no regular file: it is not replaced",
            code="file.special",
            hint="name another file",
        )


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of an existing folder; the kernel frees it when the process ends."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def unusable(path: Path, error: OSError) -> Failed:
    """What to raise when the system refuses `path`."""
    return Failed(
        f"cannot use {path}: {error.strerror}",
        code="path.unusable",
        hint="check the folder's owner, mode and free space, or set CODITECT_HOME to another one",
    )
