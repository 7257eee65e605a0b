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
status. Standard library only: it starts for every file that is copied.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from coditect_cli.errors import CoditectError, Failed, Forbidden, LimitReached, NotFound, UsageError
from coditect_cli.files.pack import archive_name, measure, pack
from coditect_cli.files.tree import (
    CHUNK,
    Part,
    Place,
    Tree,
    check_replaceable,
    errors_about,
    open_file,
    open_folder,
    shown,
)
from coditect_cli.files.unpack import Unpacker

STDIN, STDOUT = 0, 1
WORKSPACE = "/workspace"


def put(tree: Tree, path: str) -> None:
    """Unpacks the tar stream on stdin to where `path` leads."""
    with Unpacker(tree, path) as unpacker:
        while data := os.read(STDIN, CHUNK):
            unpacker.feed(data)
        unpacker.finish()


def get(tree: Tree, path: str) -> None:
    """Writes the file or folder `path` as a tar stream to stdout."""
    with tree.resolve(path) as place:
        _existing(place, path)
        for data in pack(place.parent, place.name, archive_name(path)):
            _write_out(data)


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
    with tree.resolve(path) as place, errors_about(path):
        if place.is_folder or path.endswith("/"):
            raise IsADirectoryError(21, "is a folder")
        check_replaceable(place.info, path)
        part = Part(place.parent)
        try:
            while data := os.read(STDIN, CHUNK):
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
    for name in ("TERM", "HUP", "INT", "QUIT", "USR1", "USR2"):  # what a client passes on
        signal.signal(signal.Signals["SIG" + name], _ended_by)
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


def _ended_by(number: int, _frame: object) -> None:
    """A signal unwinds the stack, so that what is not whole is removed."""
    raise SystemExit(128 + number)


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
