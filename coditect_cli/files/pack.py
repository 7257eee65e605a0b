"""A file or a folder as a tar stream, made as it is read: memory does not grow with size."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from coditect_cli.errors import Failed
from coditect_cli.files.tree import (
    CHUNK,
    LINK_TO_OUTSIDE,
    UNREADABLE,
    LeftOut,
    errors_about,
    open_file,
    open_folder,
    shown,
    special,
    stays_below,
)
from coditect_cli.protocol import archive

T = TypeVar("T")
LeaveOut = Callable[[LeftOut], None]


@dataclass
class _Level:
    fd: int
    path: str
    names: list[str]


def pack(
    parent: int,
    name: str,
    path: str,
    leave_out: LeaveOut,
    *,
    links_to_outside: bool,
    without: Collection[str] = (),
) -> Iterator[bytes]:
    """The archive of `name` in the open folder `parent`, in pieces; `path` is its name inside.

    It is as if the folder had none of the names `without` right in it.

    `leave_out` is told of what is in a folder and is not carried: named pipes, sockets, devices,
    what may not be read, and, without `links_to_outside`, links that could lead out of the folder.
    Raises Failed where `name` itself is such a thing, or a file got shorter while it was read;
    NotFound, Forbidden.
    """
    for file_parent, file_name, file_path, info in walk(parent, name, path, leave_out, without):
        if file_path == path:
            yield from _member(file_parent, file_name, file_path, info)
        elif what := special(info.st_mode):
            leave_out(LeftOut(file_path, what))
        elif not links_to_outside and _leads_out(file_parent, file_name, file_path, info):
            leave_out(LeftOut(file_path, LINK_TO_OUTSIDE))
        elif not stat.S_ISREG(info.st_mode):
            yield from _member(file_parent, file_name, file_path, info)
        else:
            look = partial(open_file, file_name, file_parent)
            if (fd := _unless_kept_from(look, file_path, leave_out)) is not None:
                yield from _file(fd, file_path)
    yield archive.END


def archive_name(path: str) -> str:
    """The name that a copy of `path` gets in a folder; `.` where its contents are meant."""
    name = os.path.basename(path.rstrip("/"))
    return "." if name in ("", ".", "..") else name


def measure(parent: int, name: str) -> int:
    """How many bytes all files of `name` in the open folder `parent` have together."""
    everything = walk(parent, name, ".", lambda _: None)
    return sum(info.st_size for *_, info in everything if stat.S_ISREG(info.st_mode))


def walk(
    parent: int, name: str, path: str, leave_out: LeaveOut, without: Collection[str] = ()
) -> Iterator[tuple[int, str, str, os.stat_result]]:
    """Each entry from `name` down: its open folder, its name there, its path, what it is.

    A folder comes before what is in it. What vanishes meanwhile is passed over, and what in the
    folder may not be looked at is left out.
    """
    with errors_about(path):
        info = os.stat(name, dir_fd=parent, follow_symlinks=False)
    yield parent, name, path, info
    if not stat.S_ISDIR(info.st_mode):
        return
    with errors_about(path):
        levels = [_enter(parent, name, path)]
    levels[0].names = [child for child in levels[0].names if child not in without]
    try:
        while levels:
            level = levels[-1]
            if not level.names:
                os.close(levels.pop().fd)
                continue
            child = level.names.pop()
            child_path = f"{level.path}/{child}"
            look = partial(os.stat, child, dir_fd=level.fd, follow_symlinks=False)
            if (found := _unless_kept_from(look, child_path, leave_out)) is None:
                continue
            yield level.fd, child, child_path, found
            if stat.S_ISDIR(found.st_mode):
                enter = partial(_enter, level.fd, child, child_path)
                if below := _unless_kept_from(enter, child_path, leave_out):
                    levels.append(below)
    finally:
        for level in levels:
            os.close(level.fd)


def _leads_out(parent: int, name: str, path: str, info: os.stat_result) -> bool:
    if not stat.S_ISLNK(info.st_mode):
        return False
    with errors_about(path):
        return not stays_below(os.readlink(name, dir_fd=parent), path.count("/") - 1)


def _enter(parent: int, name: str, path: str) -> _Level:
    fd = open_folder(name, parent)
    return _Level(fd, path, sorted(os.listdir(fd), reverse=True))


def _unless_kept_from(look: Callable[[], T], path: str, leave_out: LeaveOut) -> T | None:
    """What `look` gives, if `path` is still there and may be read."""
    with errors_about(path):
        try:
            return look()
        except FileNotFoundError:
            return None
        except PermissionError:
            leave_out(LeftOut(path, UNREADABLE))
            return None


def _member(parent: int, name: str, path: str, info: os.stat_result) -> Iterator[bytes]:
    mode, mtime = stat.S_IMODE(info.st_mode), info.st_mtime_ns
    if stat.S_ISDIR(info.st_mode):
        yield archive.header(archive.Entry(path, "directory", mode, mtime))
    elif stat.S_ISLNK(info.st_mode):
        with errors_about(path):
            target = os.readlink(name, dir_fd=parent)
        yield archive.header(archive.Entry(path, "symlink", mode, mtime, target=target))
    elif stat.S_ISREG(info.st_mode):
        with errors_about(path):
            fd = open_file(name, parent)
        yield from _file(fd, path)
    else:
        raise Failed(
            f"{shown(path)} is {special(info.st_mode)}",
            code="path.unsupported",
            hint="only files, folders and links can be copied",
        )


def _file(fd: int, path: str) -> Iterator[bytes]:
    try:
        info = os.fstat(fd)
        mode = stat.S_IMODE(info.st_mode)
        yield archive.header(archive.Entry(path, "file", mode, info.st_mtime_ns, info.st_size))
        left = info.st_size
        while left:
            with errors_about(path):
                data = os.read(fd, min(CHUNK, left))
            if not data:
                message = f"{shown(path)} got shorter while it was read"
                raise Failed(message, code="path.changed", hint="copy it again")
            left -= len(data)
            yield data
        yield archive.padding(info.st_size)
    finally:
        os.close(fd)
