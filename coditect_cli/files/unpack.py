"""A tar stream into a folder: fed as it comes, and nothing half-done is left when it breaks."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import takewhile

from coditect_cli.errors import Conflict, Failed, Forbidden, NotFound
from coditect_cli.files.tree import (
    CHUNK,
    LINK_TO_OUTSIDE,
    LeftOut,
    Part,
    Place,
    Tree,
    check_replaceable,
    dangling,
    errors_about,
    lstat,
    open_file,
    open_folder,
    outside,
    part_name,
    remove_folder,
    shown,
    stays_below,
    sync,
)
from coditect_cli.protocol.archive import Entry, Reader

MAX_DEPTH = 256


@dataclass
class _Level:
    """An open folder that entries go into; `made` is its own entry if it is new."""

    fd: int
    name: str
    made: Entry | None


@dataclass
class _File:
    """The file that is arriving, and how many of its bytes are still to come."""

    entry: Entry
    name: str
    part: Part
    left: int

    def commit(self, *, on_disk: bool) -> None:
        mode, mtime_ns = self.entry.mode & 0o777, self.entry.mtime_ns
        self.part.commit(self.name, mode, mtime_ns, on_disk=on_disk)


class Unpacker:
    """Unpacks one file or folder to where `path` leads in `tree`, as `cp -r` places it.

    An existing folder takes the copy in under the name that it has in the archive; else the copy
    is made as `path`, whose parent must exist. An archive whose top is `.` holds the contents of a
    folder, and they go into the folder `path` itself.

    A new top appears under its name only when all of it arrived (`finish`); in a folder that was
    there before, each file is replaced when it is whole. A link that could lead out of the tree is
    refused; with `left_out`, one that could lead out of what is copied is left out instead, and
    it is added there. `close` removes what is not finished.

    Raises what `Tree.resolve` raises about `path`, and Conflict (`path.dangling`) where that is a
    link to what does not exist.
    """

    def __init__(self, tree: Tree, path: str, *, left_out: list[LeftOut] | None = None) -> None:
        self._tree = tree
        self._path = path
        self._left_out = left_out
        self._reader = Reader()
        self._top: list[str] | None = None  # the top's name in the archive; [] for contents
        self._levels: list[_Level] = []
        self._file: _File | None = None
        self._staged: str | None = None
        self._narrow: list[tuple[list[str], int]] = []
        with tree.resolve(path) as place:
            if place.info is None:
                _check_not_a_link(tree, path)
            self._place = replace(place, parent=os.dup(place.parent))

    def __enter__(self) -> Unpacker:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def feed(self, data: bytes) -> None:
        """Takes the next piece of the stream, of any size.

        Raises Failed (`archive.invalid`, `disk.full`, ...), Forbidden (`path.outside`, ...),
        Conflict (`path.exists`, ...), NotFound; after that only `close` may be called.
        """
        for event in self._reader.feed(data):
            if isinstance(event, Entry):
                with errors_about(event.name):
                    self._begin(event)
            elif self._file is not None:
                with errors_about(self._file.entry.name):
                    self._content(self._file, event)

    def finish(self) -> None:
        """Puts the copy in its place; to be called when the stream is over.

        Raises Failed (`archive.truncated`) unless the archive's end was seen.
        """
        if not self._reader.ended or self._top is None:
            raise Failed(
                "the transfer broke off before its end",
                code="archive.truncated",
                hint="copy it again; what was not whole has been removed",
            )
        with errors_about(self._path):
            if self._file is not None:
                self._file.commit(on_disk=True)
            else:
                self._finish_folder()

    def close(self) -> None:
        """Removes what is not finished. An error in that is not reported over an earlier one."""
        with suppress(OSError):
            if self._file is not None:
                self._file.part.close()
        while self._levels:
            os.close(self._levels.pop().fd)
        with suppress(OSError):
            if self._staged is not None:
                remove_folder(self._staged, self._place.parent)
        os.close(self._place.parent)

    def _begin(self, entry: Entry) -> None:
        parts = _parts(entry.name)
        if self._top is None:
            self._begin_top(entry, parts)
        elif below := self._below_top(entry.name):
            self._enter(below[:-1])
            self._create(entry, self._levels[-1].fd, below[-1])

    def _begin_top(self, entry: Entry, parts: list[str]) -> None:
        if len(parts) > 1 or entry.kind not in ("file", "directory"):
            raise _invalid("it has to hold one file or one folder")
        self._top = parts
        self._settle(entry, parts)
        place = self._place
        if entry.kind == "file":
            self._create(entry, place.parent, place.name)
        elif place.info is None:
            self._staged = part_name()
            os.mkdir(self._staged, 0o700, dir_fd=place.parent)
            self._levels.append(_Level(open_folder(self._staged, place.parent), place.name, entry))
        elif place.is_folder:
            self._levels.append(_Level(open_folder(place.name, place.parent), place.name, None))
        else:
            named = shown("/".join(place.real))
            raise Conflict(f"{named} is there and is not a folder", code="path.not_directory")

    def _settle(self, entry: Entry, parts: list[str]) -> None:
        """Makes `_place` the copy's own place: in the folder that `path` is, or `path` itself."""
        given = self._place
        if given.is_folder and parts:
            parent = open_folder(given.name, given.parent)
            self._place = Place(parent, given.real, parts[0], lstat(parts[0], parent))
            os.close(given.parent)
        elif entry.kind == "file" and (not parts or self._path.endswith(("/", "/."))):
            raise NotFound(f"no folder {shown(self._path)}", code="path.not_found")

    def _below_top(self, name: str) -> list[str]:
        """A member's path from the top on; empty for the top itself."""
        parts, top = _parts(name), self._top or []
        if not self._levels or parts[: len(top)] != top:
            raise _invalid(f"{shown(name)} is not in the one folder that it holds")
        return parts[len(top) :]

    def _enter(self, folders: list[str]) -> None:
        """Makes the last level the folder `folders`, counted from the top."""
        if len(folders) >= MAX_DEPTH:
            raise _invalid(f"its folders are more than {MAX_DEPTH} deep")
        pairs = zip(self._below(), folders, strict=False)
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        while len(self._levels) > common + 1:
            self._leave()
        for name in folders[common:]:
            self._levels.append(_Level(_open_below(name, self._levels[-1].fd), name, None))

    def _below(self) -> list[str]:
        """The last level's path from the top."""
        return [level.name for level in self._levels[1:]]

    def _leave(self) -> None:
        """Closes the last level and gives it, if it is new, its time and mode.

        Access that its owner is not to have goes at the very end: till then it may be removed.
        """
        path, level = self._below(), self._levels.pop()
        try:
            if level.made is not None:
                mode = level.made.mode & 0o777
                os.fchmod(level.fd, mode | stat.S_IRWXU)
                os.utime(level.fd, ns=(level.made.mtime_ns, level.made.mtime_ns))
                if mode & stat.S_IRWXU != stat.S_IRWXU:
                    self._narrow.append((path, mode))
        finally:
            os.close(level.fd)

    def _create(self, entry: Entry, parent: int, name: str) -> None:
        if entry.kind == "directory":
            try:
                os.mkdir(name, 0o700, dir_fd=parent)
            except FileExistsError:
                self._levels.append(_Level(_open_below(name, parent), name, None))
            else:
                self._levels.append(_Level(open_folder(name, parent), name, entry))
            return
        info = lstat(name, parent)
        if info and stat.S_ISDIR(info.st_mode):
            raise Conflict(f"{shown(entry.name)} is a folder there", code="path.is_directory")
        check_replaceable(info, entry.name)
        if entry.kind == "symlink":
            self._make_link(entry, parent, name)
            return
        self._file = _File(entry, name, Part(parent), entry.size)
        if entry.kind == "hardlink":
            self._copy(entry, self._file.part)
        self._content(self._file, memoryview(b""))

    def _make_link(self, entry: Entry, parent: int, name: str) -> None:
        if not self._may_be_made(entry.target):
            if self._left_out is None:
                why = f"it is a link to {shown(entry.target)}, which is outside"
                raise outside(entry.name, why)
            self._left_out.append(LeftOut(entry.name, LINK_TO_OUTSIDE))
            return
        temporary = part_name()
        os.symlink(entry.target, temporary, dir_fd=parent)
        try:
            times = (entry.mtime_ns, entry.mtime_ns)
            os.utime(temporary, ns=times, dir_fd=parent, follow_symlinks=False)
            os.replace(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            os.unlink(temporary, dir_fd=parent)
            raise

    def _may_be_made(self, target: str) -> bool:
        """Whether a link to `target` in the last level cannot lead outside."""
        depth = len(self._below())
        if self._left_out is not None:
            return stays_below(target, depth)
        try:
            absolute, parts = self._tree.components(target)
        except Forbidden:
            return False
        return stays_below("/".join(parts), 0 if absolute else len(self._place.real) + depth)

    def _copy(self, entry: Entry, part: Part) -> None:
        """The content of the file that a hard link names, which came earlier in the archive."""
        *folders, name = self._below_top(entry.target) or [""]
        folder = self._open_folder(folders)
        try:
            fd = open_file(name, folder)
        finally:
            os.close(folder)
        try:
            while data := os.read(fd, CHUNK):
                part.write(data)
        finally:
            os.close(fd)

    def _open_folder(self, folders: list[str]) -> int:
        fd = os.dup(self._levels[0].fd)
        for name in folders:
            try:
                below = _open_below(name, fd)
            finally:
                os.close(fd)
            fd = below
        return fd

    def _content(self, file: _File, data: memoryview) -> None:
        file.part.write(data)
        file.left -= len(data)
        if file.left or not self._levels:  # a single file waits for the archive's end
            return
        file.commit(on_disk=self._staged is None)  # else all at once, at the end
        file.part.close()
        self._file = None

    def _finish_folder(self) -> None:
        while len(self._levels) > 1:
            self._leave()
        if self._staged is not None:
            sync(self._levels[0].fd)
            parent = self._place.parent
            os.rename(self._staged, self._place.name, src_dir_fd=parent, dst_dir_fd=parent)
            self._staged = None
        for folders, mode in self._narrow:
            fd = self._open_folder(folders)
            os.fchmod(fd, mode)
            os.close(fd)
        top = self._levels[0]
        if top.made is not None:
            os.utime(top.fd, ns=(top.made.mtime_ns, top.made.mtime_ns))
            os.fchmod(top.fd, top.made.mode & 0o777)


def _check_not_a_link(tree: Tree, path: str) -> None:
    with tree.resolve(path, follow_last=False) as place:
        if place.info is not None:
            raise dangling(path)


def _parts(name: str) -> list[str]:
    """A member's name as components; never up, never from the root."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise outside(name, "the archive may not lead out of its folder")
    return parts


def _open_below(name: str, parent: int) -> int:
    """A folder that the archive puts things into; a link in its place is not followed."""
    try:
        return open_folder(name, parent)
    except OSError as error:
        info = lstat(name, parent)
        if info and stat.S_ISLNK(info.st_mode):
            raise outside(name, "it is a link there, and a copy goes through no link") from error
        raise


def _invalid(why: str) -> Failed:
    return Failed(f"the archive is broken: {why}", code="archive.invalid")
