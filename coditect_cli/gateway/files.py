"""The file operations of a workspace, as a program that runs there as the workspace's user.

    python -m coditect_cli.gateway.files [--limit BYTES] OP ROOT -- PATH

| op | what |
|---|---|
| `put` | unpacks the tar stream on stdin to where PATH leads |
| `get` | writes PATH as a tar stream to stdout |
| `stat` | one JSON object: `exists`, and `type`, `size` (a folder's: of all files in it), `mode` |
| `read` | writes the file PATH to stdout; one that is larger than `--limit` is refused |
| `write` | makes stdin the content of the file PATH, whole or not at all |
| `list` | a JSON array of what is in the folder: `name`, `type`, `size`, `mode`, `mtime` |
| `mkdir` | makes the folder PATH; its parent must exist |
| `remove` | removes the file, link or empty folder PATH |

PATH is relative to ROOT; an absolute one has to lie in ROOT, or in `/workspace`, which is another
name for it. An error is one JSON object on the last line of stderr, and its `exitCode` is the exit
status. `get` leaves out what a folder has besides files, folders and links, and what may not be
read, and says so on stderr, one JSON object a line: `leftOut`, its path in the stream, and `what`
it is. Standard library only: it starts for every file that is copied.
"""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from coditect_cli.errors import CoditectError, Failed, Forbidden, LimitReached, NotFound, UsageError
from coditect_cli.files.pack import archive_name, measure, pack
from coditect_cli.files.tree import (
    CHUNK,
    LeftOut,
    Part,
    Place,
    Tree,
    check_replaceable,
    errors_about,
    lstat,
    open_file,
    open_folder,
    shown,
)
from coditect_cli.files.unpack import Unpacker

STDIN, STDOUT = 0, 1
SIGNALS = ("TERM", "HUP", "INT", "QUIT", "USR1", "USR2")  # what a client passes on
WORKSPACE = "/workspace"


class _Input:
    """stdin in pieces; a signal ends it between two of them, and what is not whole is removed.

    No signal may raise anywhere else, where what was made just now is not yet known to be ours.
    """

    def __init__(self) -> None:
        self._woken, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup)
        for name in SIGNALS:
            signal.signal(signal.Signals["SIG" + name], lambda *_: None)

    def __iter__(self) -> Iterator[bytes]:
        while True:
            ready = select.select([STDIN, self._woken], [], [])[0]
            if self._woken in ready:
                raise SystemExit(128 + os.read(self._woken, 1)[0])
            if not (data := os.read(STDIN, CHUNK)):
                return
            yield data


def put(tree: Tree, path: str) -> None:
    """Unpacks the tar stream on stdin to where `path` leads."""
    arriving = _Input()
    with Unpacker(tree, path) as unpacker:
        for data in arriving:
            unpacker.feed(data)
        unpacker.finish()


def get(tree: Tree, path: str) -> None:
    """Writes the file or folder `path` as a tar stream to stdout."""
    with tree.resolve(path) as place:
        _existing(place, path)
        name, without = archive_name(path), _of_the_volume(place)
        for data in pack(
            place.parent, place.name, name, _leave_out, links_to_outside=True, without=without
        ):
            _write_out(data)


def _of_the_volume(place: Place) -> list[str]:
    """What lies in the top of a pod's volume and is no file of the workspace: the gateway's state,
    and lost+found. All of it is uid 0's, as the top is, and shells run as another user.
    """
    if place.real or os.geteuid() == 0 or place.info is None or place.info.st_uid != 0:
        return []
    looked_at = {name: lstat(name, place.parent) for name in os.listdir(place.parent)}
    return [
        name
        for name, info in looked_at.items()
        if info is not None and info.st_uid == 0 and not info.st_mode & 0o077
    ]


def _leave_out(one: LeftOut) -> None:
    sys.stderr.write(json.dumps({"leftOut": one.path, "what": one.what}) + "\n")


def stat_(tree: Tree, path: str) -> None:
    """Writes what `path` is, as JSON; a path that leads nowhere is not an error."""
    document: dict[str, Any] = {"exists": False}
    with suppress(NotFound), tree.resolve(path) as place:
        if place.info is not None:
            size = measure(place.parent, place.name) if place.is_folder else place.info.st_size
            document = {"exists": True, **_described(place.info), "size": size}
    _write_out(json.dumps(document).encode() + b"\n")


def read(tree: Tree, path: str, limit: int | None) -> None:
    """Writes the file `path` to stdout; raises LimitReached (`file.too_large`) past `limit`."""
    with tree.resolve(path) as place, errors_about(path):
        fd = open_file(place.name, place.parent)
        try:
            size = os.fstat(fd).st_size
            if limit is not None and size > limit:
                message = f"{shown(path)} has {size} bytes, the limit is {limit}"
                raise LimitReached(message, code="file.too_large", hint="use `coditect cp`")
            while size > 0 and (data := os.read(fd, min(CHUNK, size))):
                _write_out(data)
                size -= len(data)
        finally:
            os.close(fd)


def write(tree: Tree, path: str) -> None:
    """Makes stdin the content of the file `path`, which keeps its mode if it was there."""
    arriving = _Input()
    with tree.resolve(path) as place, errors_about(path):
        if place.is_folder or path.endswith("/"):
            raise IsADirectoryError(21, "is a folder")
        check_replaceable(place.info, path)
        part = Part(place.parent)
        try:
            for data in arriving:
                part.write(data)
            part.commit(place.name, stat.S_IMODE(place.info.st_mode) if place.info else 0o644)
        finally:
            part.close()


def list_(tree: Tree, path: str) -> None:
    """Writes what is in the folder `path` as a JSON array, by name; links are not followed."""
    items = []
    with tree.resolve(path) as place, errors_about(path):
        fd = open_folder(place.name, place.parent)
        try:
            for name in sorted(os.listdir(fd)):
                with suppress(FileNotFoundError):
                    info = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    seconds = time.gmtime(info.st_mtime)
                    mtime = time.strftime("%Y-%m-%dT%H:%M:%SZ", seconds)
                    items.append({"name": name, **_described(info), "mtime": mtime})
        finally:
            os.close(fd)
    _write_out(json.dumps(items).encode() + b"\n")


def mkdir(tree: Tree, path: str) -> None:
    """Makes the folder `path`."""
    with tree.resolve(path) as place, errors_about(path):
        os.mkdir(place.name, dir_fd=place.parent)


def remove(tree: Tree, path: str) -> None:
    """Removes the file, the link (not what it leads to) or the empty folder `path`."""
    with tree.resolve(path, follow_last=False) as place, errors_about(path):
        if place.name == ".":
            raise Forbidden(f"{shown(path)} is not removed", code="path.forbidden")
        if place.is_folder:
            os.rmdir(place.name, dir_fd=place.parent)
        else:
            os.unlink(place.name, dir_fd=place.parent)


OPERATIONS: dict[str, Callable[[Tree, str], None]] = {
    "put": put,
    "get": get,
    "stat": stat_,
    "write": write,
    "list": list_,
    "mkdir": mkdir,
    "remove": remove,
}


def main(argv: list[str]) -> int:
    """Runs one operation; the exit status is 0 or the error's."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        _run(argv)
    except CoditectError as error:
        return _report(error)
    except BrokenPipeError:
        return _report(Failed("the receiver has gone away", code="transfer.broken"))
    except OSError as error:
        return _report(Failed(error.strerror or str(error), code="path.failed"))
    return 0


def _run(argv: list[str]) -> None:
    limit = None
    if argv[:1] == ["--limit"] and len(argv) > 1 and argv[1].isdecimal():
        limit, argv = int(argv[1]), argv[2:]
    if len(argv) != 4 or argv[2] != "--" or argv[0] not in (*OPERATIONS, "read"):
        raise UsageError("usage: [--limit BYTES] OP ROOT -- PATH")
    operation, root, _, path = argv
    with Tree(root, alias=WORKSPACE) as tree:
        if operation == "read":
            read(tree, path, limit)
        else:
            OPERATIONS[operation](tree, path)


def _report(error: CoditectError) -> int:
    sys.stderr.write(json.dumps(error.as_dict()) + "\n")
    return error.exit_code


def _existing(place: Place, path: str) -> None:
    if place.info is None:
        raise NotFound(f"{shown(path)} does not exist", code="path.not_found")


def _described(info: os.stat_result) -> dict[str, Any]:
    kind = "other"
    if stat.S_ISREG(info.st_mode):
        kind = "file"
    elif stat.S_ISDIR(info.st_mode):
        kind = "directory"
    elif stat.S_ISLNK(info.st_mode):
        kind = "symlink"
    return {"type": kind, "size": info.st_size, "mode": f"{stat.S_IMODE(info.st_mode):04o}"}


def _write_out(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(STDOUT, view) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
