"""The tar stream: what other tars read and write, and what is refused."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coditect_cli.errors import CoditectError, Failed
from coditect_cli.protocol.archive import BLOCK, END, Entry, Reader, header, padding

NAMES = st.binary(min_size=1, max_size=255).filter(
    lambda name: not {0, ord("/")} & set(name) and name not in (b".", b"..")
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda parts: os.fsdecode(b"/".join(parts)))
MTIMES = st.integers(-(2**61), 2**61)
FILES = st.tuples(PATHS, st.integers(0, 0o7777), MTIMES, st.binary(max_size=1500))


def archive_of(*files: tuple[Entry, bytes]) -> bytes:
    members = (header(entry) + data + padding(len(data)) for entry, data in files)
    return b"".join(members) + END


def read(data: bytes, step: int) -> tuple[list[tuple[Entry, bytes]], bool]:
    reader = Reader()
    found: list[tuple[Entry, bytes]] = []
    for start in range(0, len(data), step):
        for event in reader.feed(data[start : start + step]):
            if isinstance(event, Entry):
                found.append((event, b""))
            else:
                found[-1] = (found[-1][0], found[-1][1] + bytes(event))
    return found, reader.ended


@given(st.lists(FILES, max_size=4), st.integers(1, 2000))
def test_what_is_written_is_read_back_whatever_the_pieces(
    files: list[tuple[str, int, int, bytes]], step: int
) -> None:
    members = [
        (Entry(name, "file", mode, mtime, len(data)), data) for name, mode, mtime, data in files
    ]
    assert read(archive_of(*members), step) == (members, True)


@given(PATHS, PATHS)
def test_a_link_and_its_target_are_read_back(name: str, target: str) -> None:
    link = Entry(name, "symlink", 0o777, 0, target=target)
    assert read(archive_of((link, b"")), BLOCK)[0] == [(link, b"")]


@given(FILES)
def test_pythons_tarfile_reads_what_we_write(file: tuple[str, int, int, bytes]) -> None:
    name, mode, mtime, data = file
    stream = io.BytesIO(archive_of((Entry(name, "file", mode, mtime, len(data)), data)))
    with tarfile.open(fileobj=stream, encoding="utf-8", errors="surrogateescape") as tar:
        (member,) = tar.getmembers()
        content = tar.extractfile(member)
        assert content is not None
        assert (member.name, member.mode, content.read()) == (name, mode, data)


@given(FILES, st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_we_read_what_pythons_tarfile_writes(
    file: tuple[str, int, int, bytes], tar_format: int
) -> None:
    name, mode, mtime, data = file
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), mode, mtime // 1_000_000_000
    stream = io.BytesIO()
    with tarfile.open(
        mode="w", fileobj=stream, format=tar_format, encoding="utf-8", errors="surrogateescape"
    ) as tar:
        tar.addfile(info, io.BytesIO(data))
    expected = Entry(name, "file", mode, mtime // 1_000_000_000 * 1_000_000_000, len(data))
    assert read(stream.getvalue(), 700) == ([(expected, data)], True)


def test_sizes_beyond_eight_gigabytes_are_carried() -> None:
    entry = Entry("big", "file", 0o600, 0, size=2**40)
    assert next(Reader().feed(header(entry))) == entry


def test_the_systems_tar_lists_what_we_write() -> None:
    names = ["plain", "-rf", "with space", "new\nline", "ü" * 127, "x" * 255]
    data = archive_of(*((Entry(name, "file", 0o644, 0), b"") for name in names))
    result = subprocess.run(
        ["tar", "--list", "--quoting-style=literal", "--null"],
        input=data,
        capture_output=True,
        check=True,
    )
    assert result.stdout.decode().strip("\n") == "\n".join(names)


def cut_at_each_block() -> list[bytes]:
    entry = Entry("ü", "file", 0o644, 1, size=600)
    data = archive_of((entry, b"x" * 600))
    return [data[:length] for length in range(0, len(data), BLOCK)]


@pytest.mark.parametrize("data", cut_at_each_block(), ids=len)
def test_a_cut_archive_has_no_end(data: bytes) -> None:
    assert not read(data, BLOCK)[1]


PLAIN = header(Entry("a", "file", 0o644, 0))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"x" * BLOCK, "a number"),
        (bytes([PLAIN[0] ^ 1]) + PLAIN[1:], "checksum"),
        (bytes(BLOCK) + PLAIN, "data follows"),
        (END + bytes(BLOCK) + PLAIN, "data follows"),
        (header(Entry("a", "directory", 0o755, 0, size=5)), "size of 5"),
        (header(Entry("", "file", 0o644, 0)), "proper name"),
    ],
)
def test_what_is_not_a_proper_archive_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(Failed, match=why) as caught:
        read(data, BLOCK)
    assert caught.value.code == "archive.invalid"


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_devices_and_pipes_are_refused(kind: bytes) -> None:
    info = tarfile.TarInfo("thing")
    info.type = kind
    with pytest.raises(Failed, match="thing is a"):
        read(info.tobuf(), BLOCK)


@given(st.binary(max_size=3000), st.integers(1, 600))
def test_any_bytes_give_entries_or_our_own_error(data: bytes, step: int) -> None:
    try:
        read(data, step)
    except CoditectError as error:
        assert error.code == "archive.invalid"


@given(st.binary(max_size=600), st.integers(0, 8), st.binary(min_size=1, max_size=12))
def test_any_header_field_gives_entries_or_our_own_error(
    body: bytes, place: int, field: bytes
) -> None:
    at = [0, 100, 108, 124, 136, 156, 157, 257, 345][place]
    flag = b"x" if place % 2 else b"0"
    block = bytearray(header(Entry("n", "file", 0o644, 0, size=len(body))))
    block[156:157] = flag
    block[at : at + len(field)] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    try:
        read(bytes(block) + body + padding(len(body)) + PLAIN + END, 512)
    except CoditectError as error:
        assert error.code == "archive.invalid"
