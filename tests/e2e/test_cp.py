"""`coditect cp` against a real gateway: results, exit codes, and what breaks transfers."""

from __future__ import annotations

import ctypes
import json
import os
import pty
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.support.gateway import Gateway, get, running_gateway, samples, until

Copying = subprocess.Popen[bytes]
Start = Callable[..., Copying]

BIG = 300 * 2**20  # bytes; takes long enough to be interrupted


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A real gateway with the workspace `demo`; it ends with the test."""
    with running_gateway(tmp_path / "home", exec_linger="1s") as running:
        running.workspace("demo")
        yield running


@pytest.fixture
def inside(gateway: Gateway) -> Path:
    """The workspace's own folder."""
    return gateway.workspaces.get("demo").root


@pytest.fixture
def local(tmp_path: Path) -> Path:
    local = tmp_path / "local"
    (local / "src/sub").mkdir(parents=True)
    (local / "src/sub/f").write_text("content")
    (local / "src/link").symlink_to("sub/f")
    (local / "src/sub/f").chmod(0o751)
    return local


@pytest.fixture
def sparse(local: Path) -> str:
    """A large file that takes no room."""
    with open(local / "big", "wb") as file:
        file.truncate(BIG)
    return "big"


@pytest.fixture
def start(gateway: Gateway, local: Path) -> Iterator[Start]:
    """Starts `coditect cp` in the local folder; it ends with the test."""
    environ = {**gateway.environ, "CODITECT_TOKEN": gateway.token("demo"), "TERM": "xterm"}
    with ExitStack() as stack:

        def start(
            *args: str,
            stderr: int = subprocess.PIPE,
            before: Callable[[], None] | None = None,
        ) -> Copying:
            process = subprocess.Popen(
                [sys.executable, "-m", "coditect_cli", "cp", *args],
                cwd=local,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                preexec_fn=before,  # noqa: PLW1509 - no thread of a test starts programs
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def finished(process: Copying) -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    out, err = process.communicate()
    return process.returncode, out.decode(), err.decode()


def wait_for_part(process: Copying, folder: Path, size: int) -> None:
    """Returns when more than `size` bytes have arrived in `folder`, or the copy has ended."""

    def there() -> bool:
        with suppress(FileNotFoundError):
            return any(part.stat().st_size > size for part in parts(folder))
        return False

    until(lambda: there() or process.poll() is not None, "some of the file")


def parts(folder: Path) -> list[Path]:
    return list(folder.glob(".coditect-*.part"))


def test_a_folder_goes_in_and_comes_back(start: Start, inside: Path, local: Path) -> None:
    assert finished(start("src", "demo:")) == (0, "", "")
    assert (inside / "src/sub/f").read_text() == "content"
    assert finished(start("demo:/workspace/src", "back")) == (0, "", "")
    assert (local / "back/sub/f").read_text() == "content"
    assert (local / "back/sub/f").stat().st_mode & 0o777 == 0o751
    assert os.readlink(local / "back/link") == "sub/f"


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (("src", "other"), 2, "exactly one"),
        (("demo:a", "demo:b"), 2, "exactly one"),
        (("none", "demo:"), 3, "none does not exist"),
        (("", "demo:"), 2, "the source is empty"),
        (("demo:none", "."), 3, "none does not exist"),
        (("src", "demo:../x"), 5, "leads outside"),
        (("demo:/etc/passwd", "."), 5, "outside the workspace"),
        (("demo:none", "/dev/stdout"), 6, "is not replaced"),  # a pipe, here
        (("src", "Demo:x"), 2, "not a workspace id"),
        (("demo:src", "src/sub/f"), 3, "src does not exist"),
    ],
)
def test_what_cannot_be_copied_ends_with_its_own_code(
    start: Start, inside: Path, local: Path, args: tuple[str, str], status: int, words: str
) -> None:
    code, out, err = finished(start(*args))
    assert (code, out) == (status, "")
    assert words in err
    assert not list(inside.iterdir())
    assert sorted(os.listdir(local)) == ["src"]


def test_json_is_one_document_and_an_error_too(start: Start, local: Path) -> None:
    code, out, err = finished(start("src", "demo:", "-o", "json"))
    assert (code, json.loads(out)["kind"], err) == (0, "Copy", "")
    code, out, err = finished(start("demo:none", ".", "-o", "json"))
    error = json.loads(err)["error"]
    assert (code, out, error["code"]) == (3, "", "path.not_found")


def test_a_folder_is_copied_without_its_links_to_outside(
    start: Start, inside: Path, local: Path
) -> None:
    for number in range(12):
        (local / f"src/env{number:02}").symlink_to("/usr/bin/env")
    assert finished(start("src/link", "demo:"))[0] == 0  # a link that is SRC itself is followed
    code, out, err = finished(start("src", "demo:"))
    assert (code, out, len(err.splitlines())) == (0, "", 11)
    assert err.startswith("warning: src/env00 is left out")
    assert err.endswith("warning: left out besides these: 2\n")
    assert sorted(os.listdir(inside / "src")) == ["link", "sub"]
    (inside / "src/env").symlink_to("/usr/bin/env")
    os.mkfifo(inside / "src/pipe")
    code, out, err = finished(start("demo:src", "back", "-o", "json"))
    assert (code, json.loads(out)["skipped"]) == (0, ["src/env", "src/pipe"])
    assert sorted(os.listdir(local / "back")) == ["link", "sub"]


def read_as_others_do() -> None:
    """uid 0 reads everything, but not without these capabilities."""
    for capability in (1, 2) if os.geteuid() == 0 else ():  # CAP_DAC_OVERRIDE, _READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def test_what_may_not_be_read_is_named_and_all_else_copied(
    start: Start, inside: Path, local: Path
) -> None:
    (local / "mixed/listed").mkdir(parents=True)
    for name in ("plain", "secret", "listed/file"):
        (local / "mixed" / name).touch()
    (local / "mixed/secret").chmod(0)
    (local / "mixed/closed").mkdir(0)
    (local / "mixed/listed").chmod(0o400)
    code, out, err = finished(start("mixed", "demo:", before=read_as_others_do))
    assert (code, out) == (8, "")
    named = [line.split()[1] for line in err.splitlines() if line.startswith("warning:")]
    assert named == ["mixed/closed", "mixed/listed/file", "mixed/secret"]
    assert sorted(os.listdir(inside / "mixed")) == ["closed", "listed", "plain"]


def test_a_download_that_fails_here_does_not_read_on(
    start: Start, gateway: Gateway, inside: Path, local: Path, sparse: str
) -> None:
    os.rename(local / sparse, inside / sparse)
    copying = start(f"demo:{sparse}", ".")
    resource.prlimit(copying.pid, resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    code, out, err = finished(copying)
    assert (code, out) == (8, "")
    assert "File too large" in err
    assert sorted(os.listdir(local)) == ["src"]
    page = get(gateway, "/metrics", gateway.token("_gateway"))[1]
    assert sum(value for name, value in samples(page).items() if "output_bytes" in name) < BIG / 2


def test_the_bridge_may_die_while_files_go_in_and_come_out(
    gateway: Gateway, start: Start, inside: Path, local: Path
) -> None:
    content = os.urandom(48 * 2**20)
    (local / "data").write_bytes(content)
    for source, destination, folder in (("data", "demo:", inside), ("demo:data", "back", local)):
        process = start(source, destination)
        for megabytes in (2, 12, 24):
            wait_for_part(process, folder, megabytes * 2**20)
            gateway.kill_bridge()
            assert process.poll() is None, "it was over before the bridge was killed"
        _, err = process.communicate()
        assert process.returncode == 0, err
    assert (inside / "data").read_bytes() == content
    assert (local / "back").read_bytes() == content


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
@pytest.mark.parametrize("way", ["in", "out"])
def test_an_interrupted_copy_leaves_nothing_at_either_end(
    start: Start, inside: Path, local: Path, sparse: str, number: signal.Signals, way: str
) -> None:
    (local / sparse).rename(inside / sparse if way == "out" else local / sparse)
    source, destination = (f"demo:{sparse}", "copy") if way == "out" else (sparse, "demo:copy")
    process = start(source, destination)
    until(lambda: parts(local if way == "out" else inside), "the beginning of the file")
    process.send_signal(number)
    process.communicate()
    assert process.returncode == 128 + number
    assert not parts(local)
    assert not parts(inside)
    assert not (local / "copy").exists()
    assert not (inside / "copy").exists()


def test_a_client_that_is_killed_leaves_no_half_file(
    start: Start, inside: Path, local: Path, sparse: str
) -> None:
    process = start(sparse, "demo:")
    until(lambda: parts(inside), "the beginning of the file")
    process.kill()
    finished(process)
    until(lambda: not parts(inside), "the removal of the half file")
    assert not (inside / sparse).exists()


def test_a_gateway_that_is_gone_ends_the_copy_with_255(
    gateway: Gateway, start: Start, inside: Path, local: Path, sparse: str
) -> None:
    (local / sparse).rename(inside / sparse)
    process = start(f"demo:{sparse}", "copy")
    until(lambda: parts(local), "the beginning of the file")
    gateway.keeper.terminate()
    assert finished(process)[0] == 255
    assert sorted(os.listdir(local)) == ["src"]


def test_a_bar_is_drawn_on_a_terminal_only_and_cleans_up(
    start: Start, inside: Path, local: Path, sparse: str
) -> None:
    master, slave = pty.openpty()
    process = start(sparse, "demo:", stderr=slave)
    os.close(slave)
    drawn = bytearray()
    try:
        while data := os.read(master, 4096):
            drawn += data
    except OSError:  # how a PTY says that nobody has it any more
        pass
    os.close(master)
    out, _ = process.communicate()
    assert (process.returncode, out) == (0, b"")
    assert b" MB/s  big" in drawn
    assert drawn.endswith(b"\r\x1b[K")
