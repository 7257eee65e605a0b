"""Copies between this machine and a workspace; the workspace's own program is at the other end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from coditect_cli.attach.copy import download, upload
from coditect_cli.attach.exec import Source
from coditect_cli.attach.pump import Output
from coditect_cli.errors import CoditectError, Conflict, Failed, Forbidden, NotFound, SessionLost
from coditect_cli.files.tree import UNREADABLE, LeftOut
from coditect_cli.protocol.archive import END, Entry, header


class Exec:
    """Runs the program as a gateway would, between the ends that it is given."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(
        self, op: str, path: str, source: Source | None, stdout: Output, stderr: Output
    ) -> int:
        program = [sys.executable, "-m", "coditect_cli.gateway.files"]
        with subprocess.Popen(
            [*program, op, str(self.root), "--", path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdin and process.stdout and process.stderr
            with suppress(BrokenPipeError):
                while source is not None and (data := source.read()):
                    process.stdin.write(data)
                process.stdin.close()
            with suppress(BrokenPipeError):
                while data := os.read(process.stdout.fileno(), 10_000):
                    stdout.write(data)
            process.stdout.close()
            stderr.write(process.stderr.read())
        return process.returncode


def paths(left_out: list[LeftOut]) -> list[str]:
    return [one.path for one in left_out]


@pytest.fixture
def workspace(tmp_path: Path) -> Exec:
    (tmp_path / "root").mkdir()
    return Exec(tmp_path / "root")


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    local = tmp_path / "local"
    (local / "src/sub").mkdir(parents=True)
    (local / "src/sub/f").write_text("content")
    (local / "src/empty").mkdir()
    (local / "src/link").symlink_to("sub/f")
    (local / "file").write_text("a file")
    monkeypatch.chdir(local)
    return local


@pytest.mark.parametrize(
    ("source", "path", "result"),
    [
        ("file", "", "file"),
        ("file", "new", "new"),
        ("file", "there", "there/file"),
        ("src", "", "src/sub/f"),
        ("src/", "there/", "there/src/sub/f"),
        ("src", "new", "new/sub/f"),
        ("src/.", "there", "there/sub/f"),
        (".", "new", "new/src/sub/f"),
        ("src/link", "there", "there/link"),
    ],
)
def test_an_upload_lands_where_cp_would_put_it(
    local: Path, workspace: Exec, source: str, path: str, result: str
) -> None:
    (workspace.root / "there").mkdir()
    upload(workspace, source, path)
    assert (workspace.root / result).read_text() in ("content", "a file")
    assert not (workspace.root / result).is_symlink()


@pytest.mark.parametrize(
    ("path", "destination", "result"),
    [
        ("file", ".", "file"),
        ("file", "new", "new"),
        ("file", "there", "there/file"),
        ("file", "old", "old"),
        ("file", "to-old", "elsewhere/old"),
        ("src", ".", "src/sub/f"),
        ("src", "there/", "there/src/sub/f"),
        ("src", "new/", "new/sub/f"),
        ("src/.", "there", "there/sub/f"),
        ("", "new", "new/src/sub/f"),
        ("/workspace/src", "{local}/there", "there/src/sub/f"),
    ],
)
def test_a_download_lands_where_cp_would_put_it(
    tmp_path: Path, local: Path, path: str, destination: str, result: str
) -> None:
    target = tmp_path / "target"
    (target / "there").mkdir(parents=True)
    (target / "elsewhere").mkdir()
    for old in ("old", "elsewhere/old"):
        (target / old).write_text("old")
    (target / "to-old").symlink_to("elsewhere/old")
    os.chdir(target)
    download(Exec(local), path, destination.format(local=target))
    assert (target / result).read_text() in ("content", "a file")


def test_a_folder_comes_back_as_it_went(tmp_path: Path, local: Path, workspace: Exec) -> None:
    (local / "src/sub/f").chmod(0o751)
    os.utime(local / "src/sub", ns=(1, 1_234_567_890_123_456_789))
    upload(workspace, "src", "copy")
    download(workspace, "copy", str(tmp_path / "back"))
    assert sorted(os.listdir(tmp_path / "back")) == ["empty", "link", "sub"]
    assert os.readlink(tmp_path / "back/link") == "sub/f"
    assert (tmp_path / "back/sub/f").stat().st_mode & 0o777 == 0o751
    assert (tmp_path / "back/sub").stat().st_mtime_ns == 1_234_567_890_123_456_789


@pytest.mark.parametrize(
    ("source", "path", "kind", "code"),
    [
        ("none", "", NotFound, "path.not_found"),
        ("file/", "", Conflict, "path.not_directory"),
        ("file", "none/x", NotFound, "path.not_found"),
        ("file", "none/", NotFound, "path.not_found"),
        ("file", "../x", Forbidden, "path.outside"),
        ("src", "old", Conflict, "path.not_directory"),
        ("file", "pipe", Conflict, "path.not_file"),
        ("/dev/null", "", Failed, "path.unsupported"),
    ],
)
def test_an_upload_that_cannot_be_says_why_and_changes_nothing(
    local: Path, workspace: Exec, source: str, path: str, kind: type[CoditectError], code: str
) -> None:
    (workspace.root / "old").write_text("old")
    os.mkfifo(workspace.root / "pipe")
    with pytest.raises(kind) as caught:
        upload(workspace, source, path)
    assert caught.value.code == code
    assert sorted(os.listdir(workspace.root)) == ["old", "pipe"]
    assert (workspace.root / "pipe").is_fifo()


@pytest.mark.parametrize(
    ("path", "destination", "kind", "code"),
    [
        ("none", "x", NotFound, "path.not_found"),
        ("../x", "x", Forbidden, "path.outside"),
        ("file", "none/x", NotFound, "path.not_found"),
        ("file", "x/", NotFound, "path.not_found"),
        ("src", "old", Conflict, "path.not_directory"),
    ],
)
def test_a_download_that_cannot_be_says_why_and_changes_nothing(
    tmp_path: Path, local: Path, path: str, destination: str, kind: type[CoditectError], code: str
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "old").write_text("old")
    os.chdir(target)
    with pytest.raises(kind) as caught:
        download(Exec(local), path, destination)
    assert caught.value.code == code
    assert os.listdir(target) == ["old"]


def test_links_that_lead_out_of_a_folder_are_left_out_both_ways(
    tmp_path: Path, local: Path, workspace: Exec
) -> None:
    for name, target in (("door", "/usr/bin/env"), ("sub/up", "../../file"), ("sub/in", "../link")):
        (local / "src" / name).symlink_to(target)
    target = tmp_path / "target"
    target.mkdir()
    assert paths(upload(workspace, "src", "")) == ["src/door", "src/sub/up"]
    assert paths(upload(workspace, "src/.", "new")) == ["./door", "./sub/up"]
    assert paths(download(Exec(local), "src", str(target))) == ["src/door", "src/sub/up"]
    for copy in (workspace.root / "src", workspace.root / "new", target / "src"):
        assert sorted(os.listdir(copy)) == ["empty", "link", "sub"]
        assert os.readlink(copy / "sub/in") == "../link"
        assert (copy / "sub/f").read_text() == "content"


def test_what_holds_no_bytes_is_left_out_of_a_folder_both_ways(
    local: Path, workspace: Exec, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a\nb", "na\udcffme", "pipe"]
    for name in names:
        os.mkfifo(local / "src" / name)
    monkeypatch.chdir("src/sub")  # a socket's path has to be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("z")
    monkeypatch.chdir(local)
    named = [*((f"src/{name}", "a named pipe") for name in names), ("src/sub/z", "a socket")]
    for left_out in (
        upload(workspace, "src", "up"),
        download(Exec(local), "src", "down"),
    ):
        assert sorted((one.path, one.what) for one in left_out) == named
    for copy in (workspace.root / "up", local / "down"):
        assert sorted(os.listdir(copy)) == ["empty", "link", "sub"]
        assert os.listdir(copy / "sub") == ["f"]


def test_what_may_not_be_read_or_vanishes_is_left_out_of_a_folder(
    local: Path, workspace: Exec, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (local / "src" / name).write_text("content")

    def refuse(name: str, parent: int) -> int:  # a real refusal is none for root
        if name in ("a", "b", "sub"):
            raise FileNotFoundError(2, "gone") if name == "b" else PermissionError(13, "denied")
        return os.open(name, os.O_RDONLY, dir_fd=parent)

    monkeypatch.setattr("coditect_cli.files.pack.open_file", refuse)
    monkeypatch.setattr("coditect_cli.files.pack.open_folder", refuse)
    left_out = upload(workspace, "src", "", lambda *_: None)
    assert [(one.path, one.what) for one in left_out] == [
        ("src/a", UNREADABLE),
        ("src/sub", UNREADABLE),
    ]
    assert sorted(os.listdir(workspace.root / "src")) == ["empty", "link", "sub"]
    with pytest.raises(Forbidden):
        upload(workspace, "src/a", "")


@pytest.mark.parametrize("slash", ["", "/", "/."])
@pytest.mark.parametrize("source", ["file", "src"])
@pytest.mark.parametrize("target", ["missing", "../missing", "/missing"])
def test_nothing_is_written_through_a_link_to_what_does_not_exist(
    tmp_path: Path, local: Path, workspace: Exec, target: str, source: str, slash: str
) -> None:
    before = sorted(os.listdir(tmp_path))
    for folder in (local, workspace.root):
        (folder / "dangling").symlink_to(target)
    there = sorted(os.listdir(local))
    for copy in (
        lambda: download(Exec(local), source, f"dangling{slash}"),
        lambda: upload(workspace, source, f"dangling{slash}"),
    ):
        with pytest.raises((Conflict, Forbidden)):
            copy()
    assert sorted(os.listdir(local)) == there
    assert os.listdir(workspace.root) == ["dangling"]
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("destination", ["pipe", "to-pipe", "."])
def test_a_named_pipe_here_is_not_replaced(
    tmp_path: Path, local: Path, workspace: Exec, destination: str
) -> None:
    (workspace.root / "pipe").write_text("a file")
    os.mkfifo(local / "pipe")
    (local / "to-pipe").symlink_to("pipe")
    with pytest.raises(Conflict) as caught:
        download(workspace, "pipe", destination)
    assert caught.value.code == "path.not_file"
    assert (local / "pipe").is_fifo()


def test_a_source_that_fails_half_way_leaves_nothing_and_is_the_error(
    local: Path, workspace: Exec
) -> None:
    (local / "src/sub/f").write_bytes(bytes(2**20))

    def shorten(done: int, _total: int | None) -> None:
        if done:
            os.truncate("src/sub/f", 0)

    with pytest.raises(Failed) as caught:
        upload(workspace, "src", "", shorten)
    assert caught.value.code == "path.changed"
    assert not os.listdir(workspace.root)


def answering(data: bytes, status: int = 0, said: bytes = b"") -> Exec:
    """A workspace whose side answers this, whatever it is asked."""

    class Answer(Exec):
        def __call__(
            self, op: str, path: str, source: Source | None, stdout: Output, stderr: Output
        ) -> int:
            with suppress(BrokenPipeError):
                stdout.write(data)
            stderr.write(said)
            return status

    return Answer(Path())


FILE = header(Entry("f", "file", 0o644, 0))


@pytest.mark.parametrize("status", [0, 1, 137])
def test_a_broken_off_download_leaves_nothing(tmp_path: Path, status: int) -> None:
    with pytest.raises(Failed):
        download(answering(FILE, status), "f", str(tmp_path))
    assert not os.listdir(tmp_path)


def test_a_whole_archive_with_a_bad_status_is_not_taken(tmp_path: Path) -> None:
    said = b"a warning\n" + json.dumps({"code": "x.y", "exitCode": 5, "message": "no"}).encode()
    with pytest.raises(Forbidden, match="no"):
        download(answering(FILE + END, 5, said + b"\n"), "f", str(tmp_path))
    assert not os.listdir(tmp_path)


def test_what_is_not_an_answer_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="No module named") as caught:
        download(answering(b"", 1, b"python: No module named x\n"), "f", str(tmp_path))
    assert caught.value.code == "transfer.failed"


@pytest.mark.parametrize("name", ["../evil", "/evil", "f/../../evil", ".."])
def test_a_workspace_cannot_write_elsewhere(tmp_path: Path, name: str) -> None:
    target = tmp_path / "target"
    target.mkdir()
    evil = header(Entry(name, "file", 0o644, 0)) + END
    with pytest.raises(CoditectError):
        download(answering(evil), "f", str(target))
    assert os.listdir(tmp_path) == ["target"]
    assert not os.listdir(target)


@pytest.mark.parametrize("copy", ["upload", "download"])
def test_a_lost_link_ends_the_workers_and_leaves_nothing(
    local: Path, tmp_path: Path, copy: str
) -> None:
    def lose(op: str, path: str, source: Source | None, stdout: Output, stderr: Output) -> int:
        if source is None:
            stdout.write(FILE + END)
        raise SessionLost("gone")

    before = len(os.listdir("/dev/fd"))
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(SessionLost):
        if copy == "upload":
            upload(lose, "src", "")
        else:
            download(lose, "f", str(target))
    assert not os.listdir(target)
    assert len(os.listdir("/dev/fd")) == before


@pytest.mark.parametrize("copy", ["upload", "download"])
def test_progress_counts_to_about_the_total(
    local: Path, workspace: Exec, tmp_path: Path, copy: str
) -> None:
    seen: list[tuple[int, int | None]] = []
    (local / "src/big").write_bytes(bytes(1_000_000))
    if copy == "upload":
        upload(workspace, "src", "", lambda count, total: seen.append((count, total)))
    else:
        download(Exec(local), "src", str(tmp_path / "x"), lambda *step: seen.append(step))
    total = 1_000_000 + len("content")
    assert seen[0] == (0, total)
    assert total < sum(count for count, _ in seen) < total + 20_000
