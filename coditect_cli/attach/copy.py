"""Files and folders between this machine and a workspace, as a tar stream through an exec."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from coditect_cli.attach.exec import FORWARDED, Source
from coditect_cli.attach.pump import Output
from coditect_cli.errors import CoditectError, Failed, Interrupted, UsageError, from_dict
from coditect_cli.files.pack import archive_name, measure, pack
from coditect_cli.files.tree import LeftOut, Tree, check_replaceable, dangling, errors_about, shown
from coditect_cli.files.unpack import Unpacker
from coditect_cli.protocol.stream import Inbox

BATCH = 64 * 1024  # bytes of input at once
MAX_ANSWER = 1024 * 1024

# Runs one `files` operation of docs/protocol.md in the workspace: the operation, the path, what
# feeds its input (None: nothing), and what takes its stdout and stderr. Returns the exit status,
# raises SessionLost when the link is gone for good.
Run = Callable[[str, str, Source | None, Output, Output], int]

# Called with the number of bytes that went by, and at the start with 0 and the number to expect.
Progress = Callable[[int, int | None], None]


def upload(run: Run, source: str, path: str, progress: Progress | None = None) -> list[LeftOut]:
    """Copies the local file or folder `source` to `path` in the workspace.

    Returns what in the folder was left out: links that could lead out of it, named pipes,
    sockets, devices, and what may not be read.
    Raises NotFound, Forbidden, Conflict or Failed, of either side.
    """
    with _opened(source) as (parent, name):
        if progress is not None:
            progress(0, measure(parent, name))
        left_out: list[LeftOut] = []
        top = archive_name(source)
        archive = pack(parent, name, top, left_out.append, links_to_outside=False)
        packed = _Packed(archive, progress)
        said = _Heard()
        status = run("put", path, packed, _Heard(), said)
        # A source that failed cut the stream short: what the other side says of that is no news.
        if packed.failure is not None:
            raise packed.failure
        said.check(status)
    return left_out


def download(
    run: Run, path: str, destination: str, progress: Progress | None = None
) -> list[LeftOut]:
    """Copies `path` in the workspace to the local `destination`, where `cp -r` would put it.

    Returns what in the folder was left out: links that could lead out of it, named pipes,
    sockets, devices, and what may not be read.
    Raises NotFound, Forbidden, Conflict or Failed, of either side.
    """
    left_out: list[LeftOut] = []
    with _landing(destination, left_out) as unpacker:
        if progress is not None:
            progress(0, _remote_size(run, path))
        unpacked, said = _Unpacked(unpacker, progress), _Heard()
        status = run("get", path, None, unpacked, said)
        if unpacked.failure is not None:
            raise unpacked.failure
        said.check(status)
        unpacker.finish()
    return left_out + said.left_out()


@contextmanager
def _opened(source: str) -> Iterator[tuple[int, str]]:
    """The folder that `source` really is in, opened, and its name there; links are followed."""
    if not source:
        raise UsageError("the source is empty", code="path.invalid", hint="`.` is this folder")
    with errors_about(source):
        info = os.stat(source)
        if not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)):
            raise Failed(f"{shown(source)} is neither a file nor a folder", code="path.unsupported")
        folder, name = os.path.split(os.path.realpath(source))
        parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield parent, name or "."
    finally:
        os.close(parent)


@contextmanager
def _landing(destination: str, left_out: list[LeftOut]) -> Iterator[Unpacker]:
    """What unpacks to `destination`: confined to it, or to the folder that it is to be made in."""
    if not destination:
        raise UsageError("the destination is empty", code="path.invalid", hint="`.` is this folder")
    if os.path.isdir(destination):
        folder, name = destination, "."
    else:
        plain = destination.removesuffix("/.").rstrip("/")
        if os.path.islink(plain) and not os.path.exists(plain):
            raise dangling(plain)
        slash = "/" if destination.endswith(("/", "/.")) else ""
        with errors_about(destination), suppress(FileNotFoundError):
            check_replaceable(os.stat(destination), destination)
        folder, name = os.path.split(os.path.realpath(destination))
        name += slash
    with Tree(folder) as tree, Unpacker(tree, name, left_out=left_out) as unpacker:
        yield unpacker


def _remote_size(run: Run, path: str) -> int | None:
    answer, said = _Heard(), _Heard()
    said.check(run("stat", path, None, answer, said))
    size = _json_object(answer.data).get("size")
    return size if isinstance(size, int) else None


class _Packed:
    """An archive as a source of input. One that fails ends early, without the archive's end."""

    def __init__(self, archive: Iterator[bytes], progress: Progress | None) -> None:
        self.failure: CoditectError | None = None
        self._archive = archive
        self._progress = progress

    def fileno(self) -> None:
        return None

    def read(self) -> bytes:
        batch = bytearray()
        try:
            for data in self._archive:
                batch += data
                if len(batch) >= BATCH:
                    break
        except CoditectError as error:
            self.failure = error
        if self._progress is not None:
            self._progress(len(batch), None)
        return bytes(batch)


class _Taker:
    """An output that takes all it gets at once; there is no descriptor to wait for."""

    waiting = False

    def fileno(self) -> int:
        return -1

    def write(self, data: bytes, inbox: Inbox | None = None) -> None:
        if inbox is not None:
            inbox.wrote(len(data))
        self.take(data)

    def flush(self) -> None:
        """All is taken."""

    def drop(self) -> None:
        """Nothing is queued."""

    def take(self, data: bytes) -> None:
        raise NotImplementedError


class _Unpacked(_Taker):
    """Unpacks what it gets. Once that fails it is broken, as a pipe that nobody reads."""

    def __init__(self, unpacker: Unpacker, progress: Progress | None) -> None:
        self.failure: CoditectError | None = None
        self._unpacker = unpacker
        self._progress = progress

    def take(self, data: bytes) -> None:
        if self.failure is not None:
            return
        try:
            self._unpacker.feed(data)
        except CoditectError as error:
            self.failure = error
            raise BrokenPipeError from error
        if self._progress is not None:
            self._progress(len(data), None)


class _Heard(_Taker):
    """What the other side said, as far as it can matter."""

    def __init__(self) -> None:
        self.data = bytearray()

    def take(self, data: bytes) -> None:
        self.data += data
        del self.data[:-MAX_ANSWER]

    def check(self, status: int) -> None:
        """Raises the error of an operation that ended with `status`, unless that is 0."""
        if status == 0:
            return
        if status - 128 in FORWARDED:
            raise Interrupted.by(status - 128, "what was not whole has been removed")
        lines = self.data.decode("utf-8", "replace").strip().splitlines()
        error = _json_object(lines[-1]) if lines else {}
        if "code" in error:
            raise from_dict(error)
        why = lines[-1] if lines else f"it ended with status {status}"
        raise Failed(f"the workspace's side failed: {why}", code="transfer.failed")

    def left_out(self) -> list[LeftOut]:
        """What the other side says that its archive does not have."""
        said = [_json_object(line) for line in self.data.decode("utf-8", "replace").splitlines()]
        return [
            LeftOut(str(one["leftOut"]), str(one.get("what"))) for one in said if "leftOut" in one
        ]


def _json_object(text: str | bytearray) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
