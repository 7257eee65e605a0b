"""The workspace's own program for files, started as the keeper starts it."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from coditect_cli.protocol.archive import END, Entry, header


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "a/b").mkdir(parents=True)
    (root / "a/file").write_text("inside")
    (root / "a/in").symlink_to("file")
    (root / "out").symlink_to("..")
    (tmp_path / "secret").write_text("outside")
    return root


def command(op: str, root: Path, path: str, limit: int | None = None) -> list[str]:
    options = [] if limit is None else ["--limit", str(limit)]
    program = [sys.executable, "-m", "coditect_cli.gateway.files"]
    return [*program, *options, op, str(root), "--", path]


def run(
    op: str, root: Path, path: str, data: bytes = b"", limit: int | None = None
) -> tuple[int, bytes, dict[str, Any]]:
    """Exit status, stdout, and the error as stderr's only line has it."""
    done = subprocess.run(
        command(op, root, path, limit), input=data, capture_output=True, check=False
    )
    error = json.loads(done.stderr) if done.stderr else {}
    return done.returncode, done.stdout, error


def tar_of(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(mode="w", fileobj=stream) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def test_what_is_put_can_be_got(root: Path, tmp_path: Path) -> None:
    assert run("put", root, "a", tar_of(new=b"content")) == (0, b"", {})
    status, out, _ = run("get", root, "a/new")
    with tarfile.open(fileobj=io.BytesIO(out)) as tar:
        content = tar.extractfile("new")
        assert content is not None
        assert (status, content.read()) == (0, b"content")


def test_the_systems_tar_can_be_at_the_other_end(root: Path, tmp_path: Path) -> None:
    packed = subprocess.run(["tar", "-C", root, "-c", "a"], capture_output=True, check=True).stdout
    assert run("put", root, "copy", packed)[0] == 0
    _, out, _ = run("get", root, "copy")
    subprocess.run(["tar", "-C", tmp_path, "-x"], input=out, check=True)
    assert (tmp_path / "copy/file").read_text() == "inside"
    assert os.readlink(tmp_path / "copy/in") == "file"
    assert (tmp_path / "copy/b").is_dir()


@pytest.mark.parametrize(("path", "top"), [("a", "a"), ("a/.", "."), (".", "."), ("a/in", "in")])
def test_a_copy_is_named_as_the_path_names_it(root: Path, path: str, top: str) -> None:
    (root / "out").unlink()
    _, out, _ = run("get", root, path)
    with tarfile.open(fileobj=io.BytesIO(out)) as tar:
        assert tar.getnames()[0] == top


def test_a_truncated_stream_is_an_error_even_behind_a_whole_member(root: Path) -> None:
    whole = tar_of(new=b"content")
    status, _, error = run("put", root, "a", whole[: 2 * 512])
    assert (status, error["code"], error["exitCode"]) == (8, "archive.truncated", 8)
    assert sorted(os.listdir(root / "a")) == ["b", "file", "in"]


@pytest.mark.parametrize("op", ["put", "get", "stat", "read", "write", "list", "mkdir", "remove"])
@pytest.mark.parametrize("path", ["../x", "out/x", "/etc/x", "a/../../x", "/workspace/../x"])
def test_no_operation_leaves_the_workspace(root: Path, op: str, path: str) -> None:
    before = sorted(os.listdir(root.parent))
    status, out, error = run(op, root, path, tar_of(x=b"evil"))
    assert (status, out, error["code"]) == (5, b"", "path.outside")
    assert sorted(os.listdir(root.parent)) == before


@pytest.mark.parametrize("op", ["get", "read", "list", "remove"])
def test_what_is_not_there_is_not_found(root: Path, op: str) -> None:
    status, _, error = run(op, root, "a/none")
    assert (status, error["code"]) == (3, "path.not_found")
    assert "a/none does not exist" in error["message"]


def test_stat_tells_a_file_a_folder_and_nothing(root: Path) -> None:
    (root / "a/file").chmod(0o640)
    (root / "a/b/more").write_bytes(bytes(10))
    answers = [json.loads(run("stat", root, path)[1]) for path in ("a/in", "a", "none", "no/ne")]
    assert answers == [
        {"exists": True, "type": "file", "size": 6, "mode": "0640"},
        {"exists": True, "type": "directory", "size": 16, "mode": "0755"},
        {"exists": False},
        {"exists": False},
    ]


def test_read_gives_the_bytes_up_to_the_limit(root: Path) -> None:
    assert run("read", root, "a/file", limit=6) == (0, b"inside", {})
    status, out, error = run("read", root, "a/file", limit=5)
    assert (status, out, error["code"]) == (7, b"", "file.too_large")


def test_write_replaces_a_file_and_keeps_its_mode(root: Path) -> None:
    (root / "a/file").chmod(0o600)
    assert run("write", root, "a/in", b"new")[0] == 0
    assert run("write", root, "a/made", b"made")[0] == 0
    assert (root / "a/file").read_bytes() == b"new"
    assert (root / "a/file").stat().st_mode & 0o777 == 0o600
    assert (root / "a/in").is_symlink()
    assert (root / "a/made").read_bytes() == b"made"


def test_write_does_not_replace_a_named_pipe(root: Path) -> None:
    os.mkfifo(root / "pipe")
    assert run("write", root, "pipe", b"new")[2]["code"] == "path.not_file"
    assert (root / "pipe").is_fifo()


def test_list_has_each_entry_with_what_it_is(root: Path) -> None:
    os.utime(root / "a/file", (0, 0))
    items = json.loads(run("list", root, "a")[1])
    assert [(item["name"], item["type"]) for item in items] == [
        ("b", "directory"),
        ("file", "file"),
        ("in", "symlink"),
    ]
    assert items[1] == {
        "name": "file",
        "type": "file",
        "size": 6,
        "mode": "0644",
        "mtime": "1970-01-01T00:00:00Z",
    }


def test_mkdir_and_remove(root: Path) -> None:
    assert run("mkdir", root, "new")[0] == 0
    assert run("mkdir", root, "new")[2]["code"] == "path.exists"
    assert run("remove", root, "new")[0] == 0
    assert run("remove", root, "a")[2]["code"] == "path.not_empty"
    assert run("remove", root, "out")[0] == 0
    assert run("remove", root, ".")[2]["code"] == "path.forbidden"
    assert sorted(os.listdir(root)) == ["a"]


@pytest.mark.parametrize("name", ["-rf", "--", "new\nline", "ü", "x" * 255])
def test_any_name_can_be_a_path(root: Path, name: str) -> None:
    assert run("write", root, name, b"data")[0] == 0
    assert run("read", root, name)[1] == b"data"


def test_a_name_that_is_not_utf8_can_be_a_path(root: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    assert run("write", root, name, b"data")[0] == 0
    assert run("read", root, name)[1] == b"data"
    assert "caf\\xe9" in run("mkdir", root, name)[2]["message"]


@pytest.mark.parametrize("arguments", [[], ["put"], ["evil", "/", "--", "x"], ["put", "/", "x"]])
def test_a_wrong_call_is_a_usage_error(arguments: list[str]) -> None:
    program = [sys.executable, "-m", "coditect_cli.gateway.files"]
    done = subprocess.run([*program, *arguments], capture_output=True, check=False)
    assert (done.returncode, json.loads(done.stderr)["code"]) == (2, "usage")


def test_a_named_pipe_is_refused_and_left_out_of_a_folder(root: Path) -> None:
    os.mkfifo(root / "a/b/pipe")
    status, _, error = run("get", root, "a/b/pipe")
    assert (status, error["code"]) == (8, "path.unsupported")
    assert "pipe is a named pipe" in error["message"]
    status, _, said = run("get", root, "a")
    assert (status, said) == (0, {"leftOut": "a/b/pipe", "what": "a named pipe"})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_put_that_is_ended_leaves_nothing(root: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(command("put", root, "."), stdin=subprocess.PIPE)
    assert process.stdin is not None
    folder = Entry("t", "directory", 0o755, 0)
    process.stdin.write(header(folder) + header(Entry("t/f", "file", 0o644, 0, 2**20)))
    process.stdin.flush()
    while not list(root.glob(".coditect-*/.coditect-*")):
        assert process.poll() is None
    process.send_signal(number)
    assert process.wait() == 128 + number
    process.stdin.close()
    assert sorted(os.listdir(root)) == ["a", "out"]


def test_a_large_file_passes_in_constant_memory(root: Path) -> None:
    """100 MB of holes go out and come in; each side may use 64 MB more than it starts with."""
    with open(root / "a/big", "wb") as file:
        file.truncate(100 * 2**20)

    limited = ["sh", "-c", 'ulimit -d 65536; exec "$@"', "sh"]
    get_command = [*limited, *command("get", root, "a/big")]
    with subprocess.Popen(get_command, stdout=subprocess.PIPE) as get:
        put_command = [*limited, *command("put", root, "copy")]
        put = subprocess.run(put_command, stdin=get.stdout, check=False)
    assert (get.returncode, put.returncode) == (0, 0)
    assert (root / "copy").stat().st_size == 100 * 2**20


@pytest.mark.root
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root, to mount a small file system")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount")
    try:
        status, _, error = run("put", tmp_path, ".", tar_of(big=bytes(2 * 2**20)))
        assert (status, error["code"]) == (8, "disk.full")
        assert not os.listdir(tmp_path)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_the_end_of_the_archive_is_enough(root: Path) -> None:
    """A tar that pads its last record, as GNU tar does, and one that doesn't, are both whole."""
    member = header(Entry("f", "file", 0o644, 0))
    assert run("put", root, ".", member + END)[0] == 0
    assert run("put", root, ".", member + END + bytes(8192))[0] == 0
