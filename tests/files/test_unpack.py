"""A tar stream into a folder: where it goes, what is kept, what is refused, what is left."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coditect_cli.errors import CoditectError, Conflict, Failed, Forbidden, NotFound
from coditect_cli.files import unpack as unpack_module
from coditect_cli.files.pack import pack
from coditect_cli.files.tree import LeftOut, Tree
from coditect_cli.files.unpack import MAX_DEPTH, Unpacker
from coditect_cli.protocol.archive import BLOCK, END, Entry, header, padding

Member = tuple[Entry, bytes]


def folder(name: str, mode: int = 0o755) -> Member:
    return Entry(name, "directory", mode, 1_000_000_007), b""


def file(name: str, data: bytes = b"new", mode: int = 0o644) -> Member:
    return Entry(name, "file", mode, 1_234_567_891, len(data)), data


def link(name: str, target: str) -> Member:
    return Entry(name, "symlink", 0o777, 5, target=target), b""


def archive_of(*members: Member) -> bytes:
    return b"".join(header(entry) + data + padding(len(data)) for entry, data in members) + END


def unpack(root: Path, path: str, data: bytes, left_out: list[LeftOut] | None = None) -> None:
    before = len(os.listdir("/dev/fd"))
    try:
        with (
            Tree(str(root), alias="/workspace") as tree,
            Unpacker(tree, path, left_out=left_out) as unpacker,
        ):
            for start in range(0, len(data), 700):
                unpacker.feed(data[start : start + 700])
            unpacker.finish()
    finally:
        assert len(os.listdir("/dev/fd")) == before, "a descriptor was left open"


def found(root: Path) -> dict[str, bytes | str | None]:
    """Everything below: a file's bytes, a link's target, None for a folder."""
    result: dict[str, bytes | str | None] = {}
    for path in sorted(root.rglob("*")):
        value = None if path.is_dir() else path.read_bytes() if path.is_file() else ""
        result[str(path.relative_to(root))] = os.readlink(path) if path.is_symlink() else value
    return result


FILE = archive_of(file("src"))
TREE = archive_of(folder("src"), folder("src/sub"), file("src/sub/f"))
CONTENTS = archive_of(folder("."), folder("sub"), file("sub/f"))


@pytest.mark.parametrize(
    ("data", "path", "result"),
    [
        (FILE, ".", "src"),
        (FILE, "/workspace", "src"),
        (FILE, "there", "there/src"),
        (FILE, "there/", "there/src"),
        (FILE, "to-there", "there/src"),
        (FILE, "new", "new"),
        (FILE, "there/new", "there/new"),
        (FILE, "old", "old"),
        (TREE, ".", "src/sub/f"),
        (TREE, "there", "there/src/sub/f"),
        (TREE, "new", "new/sub/f"),
        (TREE, "new/", "new/sub/f"),
        (CONTENTS, ".", "sub/f"),
        (CONTENTS, "there", "there/sub/f"),
        (CONTENTS, "new", "new/sub/f"),
    ],
)
def test_a_copy_goes_where_cp_would_put_it(
    tmp_path: Path, data: bytes, path: str, result: str
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "to-there").symlink_to("there")
    (tmp_path / "old").write_text("old")
    unpack(tmp_path, path, data)
    assert (tmp_path / result).read_bytes() == b"new"


@pytest.mark.parametrize(
    ("data", "path", "kind"),
    [
        (FILE, "none/", NotFound),
        (FILE, "none/x", NotFound),
        (FILE, "holds-folder", Conflict),
        (TREE, "old", Conflict),
        (TREE, "holds-file", Conflict),
        (CONTENTS, "old", Conflict),
        (TREE, "none/x", NotFound),
        (FILE, "..", Forbidden),
        (FILE, "out", Forbidden),
        (FILE, "out/x", Forbidden),
        (FILE, "/etc", Forbidden),
    ],
)
def test_a_place_that_cannot_be_is_refused_and_nothing_changes(
    tmp_path: Path, data: bytes, path: str, kind: type[CoditectError]
) -> None:
    root = tmp_path / "root"
    (root / "holds-folder/src").mkdir(parents=True)
    (root / "holds-file").mkdir()
    (root / "holds-file/src").write_text("old")
    (root / "old").write_text("old")
    (root / "out").symlink_to("..")
    before = found(tmp_path)
    with pytest.raises(kind):
        unpack(root, path, data)
    assert found(tmp_path) == before


def test_a_folder_is_merged_into_one_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "src/sub").mkdir(parents=True)
    (tmp_path / "src/kept").write_text("old")
    (tmp_path / "src/sub/f").write_text("old")
    unpack(tmp_path, ".", TREE)
    assert found(tmp_path) == {
        "src": None,
        "src/kept": b"old",
        "src/sub": None,
        "src/sub/f": b"new",
    }


def test_modes_and_times_are_kept_but_not_set_ids(tmp_path: Path) -> None:
    members = (
        folder("t", 0o6750),
        folder("t/shut", 0o500),
        file("t/shut/f", mode=0o4755),
        file("t/g", mode=0o2600),
        link("t/l", "g"),
    )
    unpack(tmp_path, ".", archive_of(*members))
    for (entry, _), mode in zip(members, (0o750, 0o500, 0o755, 0o600, 0o777), strict=True):
        info = (tmp_path / entry.name).lstat()
        assert (stat.S_IMODE(info.st_mode), info.st_mtime_ns) == (mode, entry.mtime_ns)
    (tmp_path / "t/shut").chmod(0o700)  # so that the temporary folder can be removed


def test_hard_links_arrive_as_copies(tmp_path: Path) -> None:
    hard = Entry("t/b", "hardlink", 0o644, 0, target="t/sub/a"), b""
    unpack(tmp_path, ".", archive_of(folder("t"), folder("t/sub"), file("t/sub/a"), hard))
    assert (tmp_path / "t/b").read_bytes() == b"new"
    assert (tmp_path / "t/b").stat().st_nlink == 1


@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "secret", "t/out/secret", "t/out"])
def test_a_hard_link_to_outside_is_refused(tmp_path: Path, target: str) -> None:
    root = tmp_path / "root"
    (root / "t").mkdir(parents=True)
    (root / "t/out").symlink_to("../..")
    (tmp_path / "secret").write_text("outside")
    hard = Entry("t/b", "hardlink", 0o644, 0, target=target), b""
    with pytest.raises(CoditectError):
        unpack(root, ".", archive_of(folder("t"), hard))
    assert not (root / "t/b").exists()


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/evil",
        "t/../../evil",
        "t/../evil",
        "..",
        "/workspace/evil",
        "other/evil",
        "other",
    ],
)
def test_a_member_name_cannot_lead_out_of_the_copy(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(CoditectError):
        unpack(root, ".", archive_of(folder("t"), file(name)))
    assert found(tmp_path) == {"root": None}


@pytest.mark.parametrize("first", [link("t", ".."), file("a/b"), folder(".."), folder("/etc")])
def test_the_top_is_one_file_or_folder(tmp_path: Path, first: Member) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(CoditectError):
        unpack(root, ".", archive_of(first))
    assert found(tmp_path) == {"root": None}


@pytest.mark.parametrize("target", ["..", "/", "../..", "{base}"])
def test_nothing_is_written_through_a_link_that_the_archive_brings(
    tmp_path: Path, target: str
) -> None:
    root = tmp_path / "base/root"
    root.mkdir(parents=True)
    bring = link("t/door", target.format(base=root.parent))
    with pytest.raises(Forbidden):
        unpack(root, ".", archive_of(folder("t"), bring, file("t/door/evil")))
    assert found(tmp_path) == {"base": None, "base/root": None}


@pytest.mark.parametrize("make", [file("src/door/evil"), folder("src/door"), folder("src/door/d")])
def test_nothing_is_written_through_a_link_that_was_there(tmp_path: Path, make: Member) -> None:
    root = tmp_path / "root"
    (root / "src").mkdir(parents=True)
    (root / "src/door").symlink_to("../..")
    before = found(tmp_path)
    with pytest.raises(Forbidden) as caught:
        unpack(root, ".", archive_of(folder("src"), make))
    assert caught.value.code == "path.outside"
    assert found(tmp_path) == before


def test_a_folder_swapped_for_a_link_while_it_is_filled_gets_nothing_outside(
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    (root / "t/sub").mkdir(parents=True)
    with Tree(str(root)) as tree, Unpacker(tree, ".") as unpacker:
        unpacker.feed(archive_of(folder("t"), folder("t/sub"))[: -len(END)])
        (root / "t/sub").rename(root / "moved")
        (root / "t/sub").symlink_to(tmp_path)
        unpacker.feed(archive_of(file("t/sub/f")))
        unpacker.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]
    assert (root / "moved/f").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("target", "within_tree", "within_copy"),
    [
        ("f", True, True),
        ("../t/f", True, False),
        ("nowhere", True, True),
        ("../other", True, False),
        ("../..", False, False),
        ("../../..", False, False),
        ("/etc/passwd", False, False),
        ("/workspace/x", True, False),
        ("/workspace/../x", False, False),
        ("sub/../f", False, False),
    ],
)
def test_links_are_kept_as_far_as_they_stay_inside(
    tmp_path: Path, target: str, within_tree: bool, within_copy: bool
) -> None:
    data = archive_of(folder("t"), link("t/l", target), file("t/f"))
    strict, lenient = tmp_path / "strict", tmp_path / "lenient"
    strict.mkdir()
    lenient.mkdir()
    if within_tree:
        unpack(strict, ".", data)
        assert os.readlink(strict / "t/l") == target
    else:
        with pytest.raises(Forbidden, match="t/l is refused: it is a link to"):
            unpack(strict, ".", data)
        assert not found(strict)
    left_out: list[LeftOut] = []
    unpack(lenient, ".", data, left_out)
    assert [one.path for one in left_out] == ([] if within_copy else ["t/l"])
    kept = {"t/l": target} if within_copy else {}
    assert found(lenient) == {"t": None, "t/f": b"new", **kept}


def test_a_link_deeper_in_the_copy_may_climb_to_its_top_and_no_further(tmp_path: Path) -> None:
    left_out: list[LeftOut] = []
    links = link("t/sub/ok", "../f"), link("t/sub/out", "../../f")
    unpack(tmp_path, "new", archive_of(folder("t"), folder("t/sub"), *links), left_out)
    assert [one.path for one in left_out] == ["t/sub/out"]
    assert found(tmp_path) == {"new": None, "new/sub": None, "new/sub/ok": "../f"}


def test_nothing_goes_through_a_link_that_was_left_out(tmp_path: Path) -> None:
    data = archive_of(folder("t"), link("t/door", "../.."), file("t/door/evil"))
    with pytest.raises(NotFound):
        unpack(tmp_path, ".", data, [])
    assert not found(tmp_path)


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (FILE, "pipe"),
        (FILE, "to-pipe"),
        (archive_of(folder("t"), file("t/pipe")), "."),
        (archive_of(folder("t"), link("t/pipe", "f")), "."),
        (TREE, "pipe"),
    ],
)
def test_a_named_pipe_is_not_replaced(tmp_path: Path, data: bytes, path: str) -> None:
    (tmp_path / "t").mkdir()
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "t/pipe")
    (tmp_path / "to-pipe").symlink_to("pipe")
    with pytest.raises(Conflict):
        unpack(tmp_path, path, data)
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "t/pipe").is_fifo()
    assert sorted(os.listdir(tmp_path)) == ["pipe", "t", "to-pipe"]


def cuts(data: bytes) -> list[bytes]:
    return [data[:length] for length in range(0, len(data) - BLOCK + 1, BLOCK // 2)]


@pytest.mark.parametrize("data", cuts(archive_of(file("src", b"x" * 1000))), ids=len)
def test_a_cut_file_leaves_nothing_and_the_old_one(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "src").write_text("old")
    with pytest.raises(Failed) as caught:
        unpack(tmp_path, ".", data)
    assert caught.value.code == "archive.truncated"
    assert found(tmp_path) == {"src": b"old"}


WHOLE = archive_of(
    folder("t", 0o500),
    folder("t/shut", 0),
    file("t/shut/ü"),
    file("t/x", b"x" * 600),
    link("t/l", "x"),
)


@pytest.mark.parametrize("data", cuts(WHOLE), ids=len)
def test_a_cut_new_folder_leaves_nothing(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(Failed):
        unpack(tmp_path, ".", data)
    assert not found(tmp_path)


@pytest.mark.parametrize("data", cuts(WHOLE), ids=len)
def test_a_cut_merge_leaves_only_whole_files(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t/x").write_text("old")
    with pytest.raises(Failed):
        unpack(tmp_path, ".", data)
    left = found(tmp_path)
    assert left["t/x"] in (b"old", b"x" * 600)
    assert not [name for name in left if ".part" in name]


def test_a_new_folder_is_on_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what is asked of the system is seen: no test cuts its power."""
    asked: list[tuple[str, set[str]]] = []

    def note(what: str) -> Callable[[int], None]:
        return lambda _fd: asked.append((what, set(found(tmp_path))))

    monkeypatch.setattr(unpack_module, "sync", note("all"))
    monkeypatch.setattr(os, "fsync", note("one"))
    unpack(tmp_path, ".", TREE)
    ((what, names),) = asked
    assert (what, {Path(name).name for name in names} & {"src", "f"}) == ("all", {"f"})
    unpack(tmp_path, ".", TREE)  # into the one that is there now
    assert [what for what, _ in asked] == ["all", "one"]


def test_an_empty_archive_is_a_broken_one(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="broke off"):
        unpack(tmp_path, ".", END)


def test_a_bottomless_folder_is_refused(tmp_path: Path) -> None:
    paths = ["/".join(["d"] * depth) for depth in range(1, MAX_DEPTH + 3)]
    with pytest.raises(Failed, match="deep"):
        unpack(tmp_path, ".", archive_of(*map(folder, paths)))
    assert not found(tmp_path)


@pytest.fixture
def small_files_only() -> Iterator[int]:
    """No file may grow past this many bytes, as if the disk were full."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, old[1]))
    yield 10_000
    resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_file_that_does_not_fit_is_an_error_and_leaves_nothing(
    tmp_path: Path, small_files_only: int
) -> None:
    with pytest.raises(Failed, match="t/big does not fit") as caught:
        unpack(tmp_path, ".", archive_of(folder("t"), file("t/big", bytes(small_files_only + 1))))
    assert caught.value.code == "disk.full"
    assert not found(tmp_path)


NAMES = st.one_of(
    st.sampled_from(["-rf", " ", "a b", "new\nline", "ü", "…" * 85, "x" * 255, "~", "*", "a:b"]),
    st.binary(min_size=1, max_size=255)
    .filter(lambda name: not {0, ord("/")} & set(name) and name not in (b".", b".."))
    .map(os.fsdecode),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(NAMES, st.binary(max_size=2000), min_size=1, max_size=5), st.data())
def test_any_name_comes_through_unchanged(
    tmp_path: Path, files: dict[str, bytes], data: st.DataObject
) -> None:
    run = tmp_path / str(len(list(tmp_path.iterdir())))
    source, target = run / "source", run / "target"
    source.mkdir(parents=True)
    target.mkdir()
    for name, content in files.items():
        (source / name).write_bytes(content)
    parent = os.open(run, os.O_RDONLY)
    top = data.draw(NAMES)
    stream = b"".join(pack(parent, "source", top, pytest.fail, links_to_outside=True))
    os.close(parent)
    unpack(target, ".", stream)
    got = {os.fsencode(p.name): p.read_bytes() for p in (target / top).iterdir()}
    assert got == {os.fsencode(name): content for name, content in files.items()}
