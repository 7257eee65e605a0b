"""Paths that cannot leave their folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coditect_cli.errors import CoditectError, Conflict, Failed, Forbidden, NotFound, UsageError
from coditect_cli.files import tree as tree_module
from coditect_cli.files.tree import Part, Tree, open_file, shown


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "a/b").mkdir(parents=True)
    (root / "a/file").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    return root


def read(root: Path, path: str) -> bytes:
    with Tree(str(root), alias="/workspace") as tree, tree.resolve(path) as place:
        fd = open_file(place.name, place.parent)
        with open(fd, "rb") as file:
            return file.read()


@pytest.mark.parametrize(
    "path",
    ["a/file", "./a//file", "/workspace/a/file", "a/b/../file", "{root}/a/file", "a/../a/file"],
)
def test_paths_inside_are_found(root: Path, path: str) -> None:
    assert read(root, path.format(root=root)) == b"inside"


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../secret",
        "a/../../secret",
        "/etc/passwd",
        "/workspace/../secret",
        "/workspacex",
        "/",
    ],
)
def test_paths_outside_are_refused(root: Path, path: str) -> None:
    with pytest.raises(Forbidden) as caught:
        read(root, path)
    assert caught.value.code == "path.outside"


@pytest.mark.parametrize(
    "target", ["file", "../a/file", "./b/../file", "/workspace/a/file", "{root}/a/file"]
)
def test_a_link_that_stays_inside_is_followed(root: Path, target: str) -> None:
    (root / "a/link").symlink_to(target.format(root=root))
    assert read(root, "a/link") == b"inside"


@pytest.mark.parametrize("target", ["../../secret", "/etc/passwd", "b/../../../secret"])
def test_a_link_that_leads_outside_is_refused(root: Path, target: str) -> None:
    (root / "a/link").symlink_to(target)
    with pytest.raises(Forbidden, match="outside"):
        read(root, "a/link")


def test_a_folder_link_that_leads_outside_is_refused_on_the_way(root: Path) -> None:
    (root / "out").symlink_to("..")
    with pytest.raises(Forbidden, match="outside"):
        read(root, "out/secret")


def test_a_chain_of_links_climbs_from_where_they_really_lead(root: Path) -> None:
    (root / "a/here").symlink_to("..")
    with pytest.raises(Forbidden, match="outside"):
        read(root, "a/here/../secret")


def test_a_loop_of_links_ends(root: Path) -> None:
    (root / "x").symlink_to("y")
    (root / "y").symlink_to("x")
    with pytest.raises(Failed, match="too many links"):
        read(root, "x")


def test_a_missing_folder_and_a_file_on_the_way_are_named(root: Path) -> None:
    with pytest.raises(NotFound, match="a/none does not exist"):
        read(root, "a/none/file")
    with pytest.raises(Conflict, match="a/file/below is not a folder"):
        read(root, "a/file/below")
    with pytest.raises(UsageError, match="NUL"):
        read(root, "a\0b")


def test_a_folder_swapped_for_a_link_meanwhile_is_not_followed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check sees a folder, and the very next call finds a link to outside in its place."""
    open_folder = tree_module.open_folder

    def swap_then_open(name: str, parent: int) -> int:
        (root / "a").rename(root / "moved")
        (root / "a").symlink_to("..")
        return open_folder(name, parent)

    monkeypatch.setattr(tree_module, "open_folder", swap_then_open)
    with pytest.raises(CoditectError):
        read(root, "a/secret")


def test_a_file_swapped_for_a_link_meanwhile_is_not_followed(root: Path) -> None:
    with Tree(str(root)) as tree, tree.resolve("a/file") as place:
        (root / "a/file").unlink()
        (root / "a/file").symlink_to("../../secret")
        with pytest.raises(OSError, match="symbolic"):
            open_file(place.name, place.parent)


def test_opening_a_named_pipe_is_refused_and_does_not_wait(root: Path) -> None:
    os.mkfifo(root / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read(root, "pipe")


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b", "in", "up", "out", "abs"]), max_size=12))
def test_no_mix_of_links_and_dots_leads_outside(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    base = tmp_path_factory.getbasetemp() / "maze"
    root = base / "root"
    if not base.exists():
        (root / "a/b").mkdir(parents=True)
        (root / "a/in").symlink_to("b")
        (root / "in").symlink_to("a/b")
        (root / "a/up").symlink_to("..")
        (root / "a/b/up").symlink_to("../..")
        (root / "out").symlink_to("..")
        (root / "a/abs").symlink_to(base)
    with Tree(str(root)) as tree:
        try:
            with tree.resolve("/".join(parts)) as place:
                where = os.path.realpath(os.readlink(f"/proc/self/fd/{place.parent}"))
        except CoditectError:
            return
    assert Path(where) == root or root in Path(where).parents


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


@pytest.mark.parametrize("path", ["a/file", "a/b/../..", "a/none/x", "..", "a/file/x", "/etc"])
def test_no_descriptor_is_left_open(root: Path, path: str) -> None:
    before = descriptors()
    with Tree(str(root)) as tree:
        try:
            with tree.resolve(path):
                pass
        except CoditectError:
            pass
    assert descriptors() == before


def test_a_part_is_private_until_it_is_committed(tmp_path: Path) -> None:
    parent = os.open(tmp_path, os.O_RDONLY)
    part = Part(parent)
    part.write(b"half")
    (found,) = tmp_path.iterdir()
    assert found.name.startswith(".coditect-")
    assert stat.S_IMODE(found.stat().st_mode) == 0o600
    part.commit("whole", 0o640, 5)
    part.close()
    os.close(parent)
    (whole,) = tmp_path.iterdir()
    info = whole.stat()
    assert (whole.name, whole.read_bytes()) == ("whole", b"half")
    assert (stat.S_IMODE(info.st_mode), info.st_mtime_ns) == (0o640, 5)


def test_a_part_that_is_not_committed_leaves_nothing(tmp_path: Path) -> None:
    parent = os.open(tmp_path, os.O_RDONLY)
    part = Part(parent)
    part.write(b"half")
    part.close()
    os.close(parent)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_not_utf8_can_be_shown() -> None:
    assert shown(os.fsdecode(b"caf\xe9")) == "caf\\xe9"
