from __future__ import annotations

import json
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from coditect_cli.errors import CoditectError, Conflict, Failed, NotFound, UsageError
from coditect_cli.paths import Paths
from coditect_cli.workspaces.local import LocalWorkspaces


@pytest.fixture
def workspaces(paths: Paths) -> LocalWorkspaces:
    return LocalWorkspaces(paths)


def test_a_new_workspace_has_a_private_directory_and_a_record(
    workspaces: LocalWorkspaces, paths: Paths
) -> None:
    record = workspaces.create("demo", "ada")
    assert record.root == paths.workspaces / "demo" / "root"
    assert stat.S_IMODE(record.root.stat().st_mode) == 0o700
    assert (record.id, record.owner, record.desired) == ("demo", "ada", "running")
    assert workspaces.get("demo") == record
    assert workspaces.ids() == ["demo"]
    file = paths.workspaces / "demo" / "workspace.json"
    assert json.loads(file.read_bytes()) == {
        "id": "demo",
        "owner": "ada",
        "createdAt": record.created_at,
        "desired": "running",
    }


def test_a_second_one_of_that_id_is_a_conflict(workspaces: LocalWorkspaces) -> None:
    first = workspaces.create("demo", "ada")
    with pytest.raises(Conflict) as caught:
        workspaces.create("demo", "eve")
    assert caught.value.code == "workspace.exists"
    assert workspaces.get("demo") == first


def test_of_racing_creates_one_wins(workspaces: LocalWorkspaces) -> None:
    def create(_: int) -> str:
        try:
            workspaces.create("demo", "ada")
        except Conflict as error:
            return error.code
        return "created"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(create, range(16)))
    assert sorted(outcomes) == ["created"] + ["workspace.exists"] * 15


def test_what_is_not_there_is_not_found(workspaces: LocalWorkspaces) -> None:
    assert workspaces.ids() == []
    calls: list[Callable[[], object]] = [
        lambda: workspaces.get("demo"),
        lambda: workspaces.root("demo"),
        lambda: workspaces.set_desired("demo", "stopped"),
        lambda: workspaces.delete("demo"),
        lambda: workspaces.delete("demo", purge=True),
    ]
    for call in calls:
        with pytest.raises(NotFound) as caught:
            call()
        assert caught.value.code == "workspace.not_found"


def test_each_door_checks_the_id(workspaces: LocalWorkspaces) -> None:
    calls: list[Callable[[], object]] = [
        lambda: workspaces.create("../x", "ada"),
        lambda: workspaces.get("../x"),
        lambda: workspaces.root("../x"),
        lambda: workspaces.set_desired("../x", "stopped"),
        lambda: workspaces.delete("../x", purge=True),
    ]
    for call in calls:
        with pytest.raises(UsageError):
            call()


def test_the_wish_is_kept(workspaces: LocalWorkspaces) -> None:
    workspaces.create("demo", "ada")
    assert workspaces.set_desired("demo", "stopped").desired == "stopped"
    assert workspaces.get("demo").desired == "stopped"


def test_a_deleted_workspace_keeps_its_files_for_the_next(workspaces: LocalWorkspaces) -> None:
    (workspaces.create("demo", "ada").root / "file").write_text("kept")
    workspaces.delete("demo")
    assert workspaces.ids() == []
    assert (workspaces.root("demo") / "file").read_text() == "kept"
    assert (workspaces.create("demo", "ada").root / "file").read_text() == "kept"


def test_purge_removes_everything_also_what_is_read_only_and_what_delete_kept(
    workspaces: LocalWorkspaces, paths: Paths
) -> None:
    outside = paths.data.parent / "outside"
    for kept in (False, True):
        root = workspaces.create("demo", "ada").root
        (root / "a" / "b").mkdir(parents=True)
        (root / "a" / "b" / "file").touch()
        outside.mkdir(exist_ok=True, mode=0o755)
        (root / "a" / "link").symlink_to(outside)
        (root / "a" / "b").chmod(0o500)
        (root / "a").chmod(0o500)
        if kept:
            workspaces.delete("demo")
        workspaces.delete("demo", purge=True)
        assert list(paths.workspaces.iterdir()) == []
        assert stat.S_IMODE(outside.stat().st_mode) == 0o755


def test_a_killed_purge_is_finished_by_the_next(workspaces: LocalWorkspaces, paths: Paths) -> None:
    workspaces.create("demo", "ada")
    (paths.workspaces / ".purged-old-00" / "root").mkdir(parents=True)
    assert workspaces.ids() == ["demo"]
    workspaces.delete("demo", purge=True)
    assert list(paths.workspaces.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"id":"other"}'])
def test_a_damaged_record_is_told_and_its_files_left(
    workspaces: LocalWorkspaces, content: bytes
) -> None:
    root = workspaces.create("demo", "ada").root
    (root.parent / "workspace.json").write_bytes(content)
    with pytest.raises(Failed) as caught:
        workspaces.get("demo")
    assert caught.value.code == "workspace.damaged"
    assert root.is_dir()
    assert workspaces.ids() == ["demo"]
    workspaces.mend("demo", "ada")
    assert workspaces.get("demo").owner == "ada"


def test_a_folder_in_the_place_of_a_record_is_told_too(workspaces: LocalWorkspaces) -> None:
    record = workspaces.create("demo", "ada").root.parent / "workspace.json"
    record.unlink()
    record.mkdir()
    with pytest.raises(Failed) as caught:
        workspaces.get("demo")
    assert caught.value.code == "workspace.damaged"
    assert workspaces.ids() == ["demo"]


def test_only_a_damaged_record_is_mended(workspaces: LocalWorkspaces) -> None:
    record = workspaces.create("demo", "ada")
    workspaces.mend("demo", "eve")
    assert workspaces.get("demo") == record
    with pytest.raises(NotFound):
        workspaces.mend("none", "eve")


def test_readers_never_see_half_a_record(workspaces: LocalWorkspaces) -> None:
    workspaces.create("demo", "ada")

    def write(_: int) -> None:
        for _ in range(20):
            workspaces.set_desired("demo", "stopped")
            workspaces.set_desired("demo", "running")

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, n) for n in range(2)]
        while not all(writer.done() for writer in writers):
            try:
                workspaces.get("demo")
            except CoditectError as error:
                pytest.fail(error.message)
        for writer in writers:
            writer.result()
