from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from coditect_cli.errors import Failed
from coditect_cli.paths import Paths, locked, make_private, write_private


def test_coditect_home_holds_all_three_folders() -> None:
    paths = Paths.from_environ({"CODITECT_HOME": "/x", "XDG_DATA_HOME": "/elsewhere"})
    assert paths == Paths(Path("/x/config"), Path("/x/data"), Path("/x/state"))
    assert paths.gateway_socket == Path("/x/state/gateway.sock")
    assert paths.workspaces == Path("/x/data/workspaces")


def test_xdg_folders_are_used_and_relative_ones_ignored() -> None:
    environ = {"HOME": "/h", "XDG_CONFIG_HOME": "/c", "XDG_DATA_HOME": "relative"}
    paths = Paths.from_environ(environ)
    assert paths.config == Path("/c/coditect")
    assert paths.data == Path("/h/.local/share/coditect")
    assert paths.state == Path("/h/.local/state/coditect")


@pytest.mark.parametrize("environ", [{}, {"HOME": ""}])
def test_without_a_home_variable_the_users_own_home_is_used(environ: dict[str, str]) -> None:
    home = pwd.getpwuid(os.getuid()).pw_dir
    assert Paths.from_environ(environ).config == Path(home) / ".config" / "coditect"


def test_folders_that_are_made_are_private_and_parents_that_exist_stay(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    old_mask = os.umask(0)
    try:
        make_private(tmp_path / "a" / "b")
    finally:
        os.umask(old_mask)
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (tmp_path, tmp_path / "a", tmp_path / "a/b")]
    assert modes == [0o755, 0o700, 0o700]


def test_an_open_folder_is_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_private(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failed) as caught:
        make_private(tmp_path / "file" / "folder")
    assert caught.value.code == "path.unusable"
    assert str(tmp_path / "file") in caught.value.message


def test_a_written_file_is_private_and_replaces_the_old_one_whole(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    file.chmod(0o644)
    with open(file, "rb") as before:
        write_private(file, b"new")
        assert before.read() == b"old"
    assert file.read_bytes() == b"new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_the_lock_excludes_a_second_holder(tmp_path: Path) -> None:
    import fcntl

    with locked(tmp_path):
        second = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(second)
