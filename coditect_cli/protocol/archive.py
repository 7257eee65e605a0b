"""The tar stream that carries files and folders: one writer, one reader, no I/O.

What is written is POSIX pax (ustar with extended headers). What is read is that and GNU tar's long
names and large numbers. `tarfile` pulls its bytes and takes a missing end for an end; this reader
is fed as bytes arrive and knows whether the end was seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from coditect_cli.errors import Failed

BLOCK = 512
END = bytes(2 * BLOCK)
MAX_EXTENDED = 1024 * 1024

Kind = Literal["file", "directory", "symlink", "hardlink"]

_TYPES: dict[bytes, Kind] = {
    b"0": "file",
    b"\0": "file",
    b"1": "hardlink",
    b"2": "symlink",
    b"5": "directory",
}
_FLAGS: dict[Kind, bytes] = {"file": b"0", "hardlink": b"1", "symlink": b"2", "directory": b"5"}
_SPECIAL = {b"3": "a device", b"4": "a device", b"6": "a named pipe"}
_OCTAL_LIMIT = 8**11
_MTIME_LIMIT = 2**63


@dataclass(frozen=True)
class Entry:
    """One member: `name` is its path in the archive, `size` is in bytes and only a file has one.

    Names and targets are as the file system has them, decoded by `os.fsdecode`.
    """

    name: str
    kind: Kind
    mode: int
    mtime_ns: int
    size: int = 0
    target: str = ""


def header(entry: Entry) -> bytes:
    """The blocks that stand before a member's content, extended header included."""
    records: dict[str, bytes] = {}
    name = os.fsencode(entry.name) + (b"/" if entry.kind == "directory" else b"")
    target = os.fsencode(entry.target)
    seconds, fraction = divmod(entry.mtime_ns, 1_000_000_000)
    if len(name) > 100 or not name.isascii():
        records["path"] = name
    if len(target) > 100 or not target.isascii():
        records["linkpath"] = target
    if entry.size >= _OCTAL_LIMIT:
        records["size"] = b"%d" % entry.size
    if fraction or not 0 <= seconds < _OCTAL_LIMIT:
        records["mtime"] = _decimal(entry.mtime_ns).encode()
    own = _ustar(
        name[:100],
        _FLAGS[entry.kind],
        mode=entry.mode & 0o7777,
        size=entry.size if entry.size < _OCTAL_LIMIT else 0,
        mtime=seconds if 0 <= seconds < _OCTAL_LIMIT else 0,
        target=target[:100],
    )
    if not records:
        return own
    body = b"".join(_record(key, value) for key, value in records.items())
    return _ustar(b"pax", b"x", size=len(body)) + body + padding(len(body)) + own


def padding(size: int) -> bytes:
    """The zero bytes that fill up the last block of `size` bytes."""
    return bytes(-size % BLOCK)


def _ustar(
    name: bytes, flag: bytes, *, size: int, mode: int = 0o644, mtime: int = 0, target: bytes = b""
) -> bytes:
    parts = (
        name.ljust(100, b"\0"),
        b"%07o\0" % mode,
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        b"%011o\0" % size,
        b"%011o\0" % mtime,
        b" " * 8,
        flag,
        target.ljust(100, b"\0"),
        b"ustar\x0000",
    )
    block = b"".join(parts).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _record(key: str, value: bytes) -> bytes:
    body = b" " + key.encode() + b"=" + value + b"\n"
    length = len(body)
    while length != len(body) + len(str(length)):
        length = len(body) + len(str(length))
    return b"%d" % length + body


def _decimal(ns: int) -> str:
    sign = "-" if ns < 0 else ""
    seconds, fraction = divmod(abs(ns), 1_000_000_000)
    return f"{sign}{seconds}.{fraction:09d}"


class Reader:
    """Takes a tar stream in pieces of any size; `ended` tells whether its end was seen."""

    def __init__(self) -> None:
        self.ended = False
        self._buffer = bytearray()
        self._need = BLOCK
        self._content = 0
        self._skip = 0
        self._extended = b""
        self._shared: dict[str, bytes] = {}
        self._records: dict[str, bytes] = {}
        self._zero_seen = False

    def feed(self, data: bytes) -> Iterator[Entry | memoryview]:
        """Each entry that begins in `data`, and each piece of a file's content.

        Raises Failed (`archive.invalid`) on what is not tar, or holds what we don't carry.
        """
        view = memoryview(data)
        while view:
            if self.ended:
                if any(view):
                    raise _invalid("data follows its end")
                return
            if self._content:
                piece, view = view[: self._content], view[self._content :]
                self._content -= len(piece)
                yield piece
            elif self._skip:
                skipped = min(self._skip, len(view))
                self._skip -= skipped
                view = view[skipped:]
            else:
                missing = self._need - len(self._buffer)
                self._buffer += view[:missing]
                view = view[missing:]
                if len(self._buffer) < self._need:
                    return
                block = bytes(self._buffer)
                self._buffer.clear()
                self._need = BLOCK
                if self._extended:
                    self._extend(block)
                elif entry := self._header(block):
                    yield entry

    def _header(self, block: bytes) -> Entry | None:
        if not any(block):
            self.ended = self._zero_seen
            self._zero_seen = True
            return None
        if self._zero_seen:
            raise _invalid("data follows its end")
        if _number(block[148:156]) != sum(block[:148]) + 8 * 32 + sum(block[156:]):
            raise _invalid("a header's checksum is wrong")
        flag = block[156:157]
        if flag in (b"x", b"g", b"L", b"K"):
            size = _number(block[124:136])
            if not 0 < size <= MAX_EXTENDED:
                raise _invalid(f"an extended header of {size} bytes")
            self._extended = flag
            self._need = size
            self._skip = 0
            return None
        return self._entry(block, flag)

    def _extend(self, body: bytes) -> None:
        flag, self._extended = self._extended, b""
        self._skip = -len(body) % BLOCK
        if flag == b"L":
            self._records["path"] = body.rstrip(b"\0")
        elif flag == b"K":
            self._records["linkpath"] = body.rstrip(b"\0")
        else:
            (self._shared if flag == b"g" else self._records).update(_parse_records(body))

    def _entry(self, block: bytes, flag: bytes) -> Entry:
        records = {**self._shared, **self._records}
        self._records = {}
        name = records.get("path") or _ustar_name(block)
        target = records.get("linkpath") or _text(block[157:257])
        if not name or b"\0" in name or b"\0" in target:
            raise _invalid("a member without a proper name")
        shown = name.decode("utf-8", "backslashreplace")
        kind = _TYPES.get(flag)
        if kind is None or any(key.startswith("GNU.sparse") for key in records):
            what = _SPECIAL.get(flag, f"a member of type {flag!r}")
            raise _invalid(f"{shown} is {what}; only files, folders and links are carried")
        if kind == "file" and name.endswith(b"/"):
            kind = "directory"
        size = _integer(records["size"]) if "size" in records else _number(block[124:136])
        if size < 0 or (size and kind != "file"):
            raise _invalid(f"{shown} has a size of {size}")
        mtime = records.get("mtime")
        mtime_ns = _nanoseconds(mtime) if mtime else _number(block[136:148]) * 1_000_000_000
        if abs(mtime_ns) >= _MTIME_LIMIT:
            raise _invalid(f"{shown} has a time that no clock shows")
        self._content = size
        self._skip = -size % BLOCK
        return Entry(
            name=os.fsdecode(name),
            kind=kind,
            mode=_number(block[100:108]) & 0o7777,
            mtime_ns=mtime_ns,
            size=size,
            target=os.fsdecode(target),
        )


def _invalid(why: str) -> Failed:
    return Failed(f"the archive is broken: {why}", code="archive.invalid")


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _ustar_name(block: bytes) -> bytes:
    name, prefix = _text(block[:100]), _text(block[345:500])
    return prefix + b"/" + name if block[257:263] == b"ustar\0" and prefix else name


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # GNU: base 256, two's complement under the marker bit
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        return value - (1 << (8 * len(field) - 1)) if field[0] == 0xFF else value
    return _integer(field.strip(b"\0 ") or b"0", base=8)


def _integer(text: bytes, base: int = 10) -> int:
    if not text.isdigit() or len(text) > 30:
        raise _invalid("a number in a header is not one")
    try:
        return int(text, base)
    except ValueError as error:
        raise _invalid("a number in a header is not one") from error


def _nanoseconds(text: bytes) -> int:
    seconds, _, fraction = text.removeprefix(b"-").partition(b".")
    ns = _integer(seconds) * 1_000_000_000 + _integer(fraction[:9].ljust(9, b"0"))
    return -ns if text.startswith(b"-") else ns


def _parse_records(body: bytes) -> dict[str, bytes]:
    records: dict[str, bytes] = {}
    while body:
        length_text, _, _ = body.partition(b" ")
        length = _integer(length_text)
        record, body = body[:length], body[length:]
        key, equals, value = record[len(length_text) + 1 : -1].partition(b"=")
        if len(record) != length or not record.endswith(b"\n") or not equals:
            raise _invalid("a record in an extended header is broken")
        records[key.decode("utf-8", "replace")] = value
    return records
