"""Paths that cannot leave their folder.

Each path is walked from the folder's own descriptor, one component at a time, and no step follows
a link: links are read and resolved here. A component that is swapped for a link while we work is
met by O_NOFOLLOW, so a race can make an operation fail but not make it land outside.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import dropwhile

from coditect_cli.errors import CoditectError, Conflict, Failed, Forbidden, NotFound, UsageError

CHUNK = 256 * 1024
MAX_LINKS = 40
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def shown(path: str) -> str:
    """A path as a message can carry it: bytes that are not UTF-8 become backslash escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace") or "."


def outside(path: str, why: str = "it leads outside") -> Forbidden:
    """The error for a path that would leave its folder."""
    return Forbidden(f"{shown(path)} is refused: {why}", code="path.outside")


def file_error(error: OSError, path: str) -> CoditectError:
    """What the operating system said about `path`, as the user's error."""
    name = shown(path)
    number = error.errno
    said = os.strerror(number) if number else str(error)
    if number == errno.ENOENT:
        return NotFound(f"{name} does not exist", code="path.not_found")
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Forbidden(f"{name}: {said}", code="path.forbidden")
    if number == errno.ENOTEMPTY:
        return Conflict(f"{name} is a folder that is not empty", code="path.not_empty")
    if number == errno.EEXIST:
        return Conflict(f"{name} exists already", code="path.exists")
    if number == errno.EISDIR:
        return Conflict(f"{name} is a folder", code="path.is_directory")
    if number == errno.ENOTDIR:
        return Conflict(f"{name} is not a folder", code="path.not_directory")
    if number == errno.ELOOP:
        return Failed(f"{name} became a link while it was in use", code="path.changed")
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Failed(f"{name} does not fit: {said}", code="disk.full", hint="free some space")
    if number in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
        return UsageError(f"{name}: {said}", code="path.invalid")
    return Failed(f"{name}: {said}", code="path.failed")


@contextmanager
def errors_about(path: str) -> Iterator[None]:
    """Turns an OSError inside into the user's error about `path`."""
    try:
        yield
    except OSError as error:
        raise file_error(error, path) from error


def lstat(name: str, parent: int) -> os.stat_result | None:
    """What `name` in the folder `parent` is, links not followed; None where there is nothing."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


@dataclass(frozen=True)
class LeftOut:
    """What a copy of a folder does not have: its path in the archive, and what it is."""

    path: str
    what: str


LINK_TO_OUTSIDE = "a link that may lead out of the folder"
UNREADABLE = "it may not be read"
_SPECIAL = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


def special(mode: int) -> str | None:
    """What something of this `st_mode` is that holds no bytes of its own; else None."""
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
        return None
    return _SPECIAL.get(stat.S_IFMT(mode), "a device")


def dangling(path: str) -> Conflict:
    """The error for a destination that is a link to what does not exist."""
    return Conflict(
        f"{shown(path)} is a link to what does not exist, and is not written through",
        code="path.dangling",
        hint="remove the link, or make what it leads to",
    )


def check_replaceable(info: os.stat_result | None, path: str) -> None:
    """Raises Conflict (`path.not_file`) where `path` is a device, a socket or a named pipe."""
    if info and (what := special(info.st_mode)):
        raise Conflict(
            f"{shown(path)} is {what}, and is not replaced",
            code="path.not_file",
            hint="give the name of a file",
        )


def stays_below(target: str, depth: int) -> bool:
    """Whether a link to `target`, `depth` folders down, cannot lead up from where these begin.

    `..` may only stand at the beginning: there it climbs real folders, which can be counted.
    After a name it would climb from wherever another link leads.
    """
    parts = [part for part in target.split("/") if part not in ("", ".")]
    names = list(dropwhile("..".__eq__, parts))
    climbs = len(parts) - len(names)
    return not target.startswith("/") and climbs <= depth and ".." not in names


def open_folder(name: str, parent: int) -> int:
    """A descriptor of the folder `name` in `parent`; OSError where that is a link or no folder."""
    return os.open(name, _FOLDER, dir_fd=parent)


def open_file(name: str, parent: int) -> int:
    """A descriptor to read the regular file `name` in `parent`; never waits, never a link."""
    # O_NONBLOCK: opening a named pipe must not hang.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(name, flags, dir_fd=parent)
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.ENXIO, "not a regular file")


@dataclass(frozen=True)
class Place:
    """Where a path leads: `name` in the open folder `parent`; `info` is None if nothing is there.

    `folder` is the parent's real path from the root, without links. `name` is "." where the path
    ended in a folder that was entered already (the root, or after `..`).
    """

    parent: int
    folder: tuple[str, ...]
    name: str
    info: os.stat_result | None

    @property
    def is_folder(self) -> bool:
        return self.info is not None and stat.S_ISDIR(self.info.st_mode)

    @property
    def real(self) -> tuple[str, ...]:
        """The path from the root, without links."""
        return self.folder if self.name == "." else (*self.folder, self.name)


class Tree:
    """The folder `root` and all below it; `alias` is another absolute path that means the root."""

    def __init__(self, root: str, alias: str | None = None) -> None:
        with errors_about(root):
            self._fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._names = {os.path.normpath(root), os.path.realpath(root)}
        if alias is not None:
            self._names.add(alias)

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def components(self, path: str) -> tuple[bool, list[str]]:
        """Whether `path` starts at the root, and its components without the `.` ones.

        Raises Forbidden (`path.outside`) for an absolute path that is not in this tree.
        """
        if "\0" in path:
            raise UsageError("a path cannot hold a NUL byte", code="path.invalid")
        absolute = path.startswith("/")
        if absolute:
            inside = next((n for n in self._names if path == n or path.startswith(f"{n}/")), None)
            if inside is None:
                raise outside(path, "it is an absolute path outside the workspace")
            path = path[len(inside) :]
        return absolute, [part for part in path.split("/") if part not in ("", ".")]

    @contextmanager
    def resolve(self, path: str, *, follow_last: bool = True) -> Iterator[Place]:
        """Where `path` leads, links that stay inside followed; the last one only on request.

        Raises NotFound (a folder on the way), Forbidden (`path.outside`), Conflict, Failed.
        """
        with errors_about(path):
            place = self._walk(path, follow_last)
        try:
            yield place
        finally:
            os.close(place.parent)

    def _walk(self, path: str, follow_last: bool) -> Place:
        pending = deque(self.components(path)[1])
        names: list[str] = []
        links = 0
        fd = os.dup(self._fd)
        try:
            while pending:
                part = pending.popleft()
                if part == "..":
                    if not names:
                        raise outside(path)
                    names.pop()
                    fd = self._reopen(fd, names)
                    continue
                info = lstat(part, fd)
                if info and stat.S_ISLNK(info.st_mode) and (pending or follow_last):
                    links += 1
                    if links > MAX_LINKS:
                        raise Failed(f"{shown(path)}: too many links", code="path.loop")
                    absolute, parts = self._link(part, fd, path)
                    pending.extendleft(reversed(parts))
                    if absolute:
                        names.clear()
                        fd = self._reopen(fd, names)
                    continue
                if not pending:
                    return Place(fd, tuple(names), part, info)
                if info is None:
                    where = "/".join([*names, part])
                    raise NotFound(f"{shown(where)} does not exist", code="path.not_found")
                fd = _step(fd, part)
                names.append(part)
            return Place(fd, tuple(names), ".", os.fstat(fd))
        except BaseException:
            os.close(fd)
            raise

    def _link(self, name: str, parent: int, path: str) -> tuple[bool, list[str]]:
        target = os.readlink(name, dir_fd=parent)
        try:
            return self.components(target)
        except Forbidden as error:
            raise outside(path, f"it is a link to {shown(target)}, which is outside") from error

    def _reopen(self, fd: int, names: list[str]) -> int:
        """The folder `names`, walked anew from the root; `fd` is closed once it is open."""
        anew = os.dup(self._fd)
        try:
            for name in names:
                anew = _step(anew, name)
        except BaseException:
            os.close(anew)
            raise
        os.close(fd)
        return anew


def _step(fd: int, name: str) -> int:
    """Goes down one folder: `fd` is closed once `name` is open."""
    below = open_folder(name, fd)
    os.close(fd)
    return below


class Part:
    """A file under a temporary name beside its final one, 0600 until it is whole."""

    def __init__(self, parent: int) -> None:
        self._parent = os.dup(parent)
        self._name: str | None = part_name()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(self._name, flags, 0o600, dir_fd=self._parent)
        except BaseException:
            os.close(self._parent)
            raise

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def commit(
        self, name: str, mode: int, mtime_ns: int | None = None, *, on_disk: bool = True
    ) -> None:
        """Puts the file, whole and `on_disk`, in the place of whatever file `name` was."""
        if mtime_ns is not None:
            os.utime(self._fd, ns=(mtime_ns, mtime_ns))
        os.fchmod(self._fd, mode)
        if on_disk:
            os.fsync(self._fd)
        assert self._name is not None  # noqa: S101 - committed once
        os.replace(self._name, name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
        self._name = None

    def close(self) -> None:
        """Removes the file if it was not committed."""
        with suppress(FileNotFoundError):
            if self._name is not None:
                os.unlink(self._name, dir_fd=self._parent)
        os.close(self._fd)
        os.close(self._parent)


def sync(folder: int) -> None:
    """Waits until all of this folder's file system is on disk."""
    import ctypes

    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:  # Linux alone has it
        os.sync()
    elif syncfs(folder) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def part_name() -> str:
    """A name for what is not whole yet."""
    return f".coditect-{os.urandom(6).hex()}.part"


def remove_folder(name: str, parent: int) -> None:
    """Removes a folder of ours and all in it; follows no link."""
    fd = open_folder(name, parent)
    try:
        with os.scandir(fd) as entries:
            below = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for child, is_folder in below:
            if is_folder:
                remove_folder(child, fd)
            else:
                os.unlink(child, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)
