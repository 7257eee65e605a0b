"""Files and folders between this machine and a workspace, as a tar stream through an exec."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from coditect_cli.errors import Failed, UsageError, from_dict
from coditect_cli.files.pack import archive_name, measure, pack
from coditect_cli.files.tree import CHUNK, Tree, errors_about, shown
from coditect_cli.files.unpack import Unpacker

MAX_ANSWER = 64 * 1024

# Runs one `files` operation of docs/protocol.md in the workspace: the operation, the path, and the
# descriptors that are its stdin (None: nothing), stdout and stderr here. Returns the exit status,
# raises SessionLost when the link is gone for good. The descriptors stay open.
Run = Callable[[str, str, int | None, int, int], int]

# Called with the number of bytes that went by, and at the start with 0 and the number to expect.
Progress = Callable[[int, int | None], None]


def upload(run: Run, source: str, path: str, progress: Progress | None = None) -> None:
    """Copies the local file or folder `source` to `path` in the workspace.

    Raises NotFound, Forbidden, Conflict or Failed, of either side.
    """
    with _opened(source) as (parent, name):
        if progress is not None:
            progress(0, measure(parent, name))
        archive = pack(parent, name, archive_name(source))

        def send(fd: int) -> None:
            for data in archive:
                _write(fd, data)
                if progress is not None:
                    progress(len(data), None)

        said = _Heard()
        with (
            open(os.devnull, "wb") as stdout,
            _Worker(said.listen) as stderr,
            _Worker(send, writes=True) as stdin,
        ):
            status = run("put", path, stdin.fd, stdout.fileno(), stderr.fd)
        # A source that failed cut the stream short: what the other side says of that is no news.
        stdin.check()
        said.check(status)


def download(run: Run, path: str, destination: str, progress: Progress | None = None) -> None:
    """Copies `path` in the workspace to the local `destination`, where `cp -r` would put it.

    Raises NotFound, Forbidden, Conflict or Failed, of either side.
    """
    with _landing(destination) as unpacker:
        if progress is not None:
            progress(0, _remote_size(run, path))

        def receive(fd: int) -> None:
            while data := os.read(fd, CHUNK):
                unpacker.feed(data)
                if progress is not None:
                    progress(len(data), None)

        said = _Heard()
        with _Worker(said.listen) as stderr, _Worker(receive) as stdout:
            status = run("get", path, None, stdout.fd, stderr.fd)
        stdout.check()
        said.check(status)
        unpacker.finish()


@contextmanager
def _opened(source: str) -> Iterator[tuple[int, str]]:
    """The folder that `source` really is in, opened, and its name there; links are followed."""
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
def _landing(destination: str) -> Iterator[Unpacker]:
    """What unpacks to `destination`: confined to it, or to the folder that it is to be made in."""
    if not destination:
        raise UsageError("the destination is empty", code="path.invalid", hint="`.` is this folder")
    if os.path.isdir(destination):
        folder, name = destination, "."
    else:
        slash = "/" if destination.endswith(("/", "/.")) else ""
        folder, name = os.path.split(os.path.realpath(destination))
        name += slash
    with Tree(folder) as tree, Unpacker(tree, name, links_within_copy=True) as unpacker:
        yield unpacker


def _remote_size(run: Run, path: str) -> int | None:
    answer, said = _Heard(), _Heard()
    with _Worker(said.listen) as stderr, _Worker(answer.listen) as stdout:
        status = run("stat", path, None, stdout.fd, stderr.fd)
    said.check(status)
    size = _json_object(bytes(answer.data)).get("size")
    return size if isinstance(size, int) else None


class _Worker:
    """Works at one end of a pipe, in a thread, while a transfer has the other end, `fd`."""

    def __init__(self, work: Callable[[int], None], *, writes: bool = False) -> None:
        reader, writer = os.pipe()
        self.fd, self._own = (reader, writer) if writes else (writer, reader)
        self._work = work
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Worker:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self.fd)
        self._thread.join()

    def check(self) -> None:
        """Raises what the work raised."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._work(self._own)
        except BrokenPipeError:
            pass  # the transfer ended first; its status says why
        except BaseException as error:
            self._failure = error
        finally:
            os.close(self._own)


class _Heard:
    """What the other side said, as far as it can matter."""

    def __init__(self) -> None:
        self.data = bytearray()

    def listen(self, fd: int) -> None:
        """Reads all there is, and keeps the end of it."""
        while data := os.read(fd, CHUNK):
            self.data += data
            del self.data[:-MAX_ANSWER]

    def check(self, status: int) -> None:
        """Raises the error of an operation that ended with `status`, unless that is 0."""
        if status == 0:
            return
        lines = self.data.decode("utf-8", "replace").strip().splitlines()
        error = _json_object(lines[-1]) if lines else {}
        if "code" in error:
            raise from_dict(error)
        why = lines[-1] if lines else f"it ended with status {status}"
        raise Failed(f"the workspace's side failed: {why}", code="transfer.failed")


def _json_object(text: str | bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
