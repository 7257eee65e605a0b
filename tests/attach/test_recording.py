from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from coditect_cli.gateway.screen import Screen
from tests.support.gateway import PATIENCE, Client, Gateway, until
from tests.support.proxy import Proxy
from tests.support.terminal import Terminal

COMMAND = [sys.executable, "-m", "coditect_cli", "session", "record"]
Process = subprocess.Popen[bytes]
Start = Callable[..., Process]


@pytest.fixture
def client(gateway: Gateway) -> Client:
    """A person at a session: a shell that answers."""
    client = gateway.attach(session="new")
    client.run("PS1='$ '")
    return client


@pytest.fixture
def start(gateway: Gateway) -> Iterator[Start]:
    """Starts `coditect session record ARGS`; it ends with the test."""
    with ExitStack() as stack:

        def run(*args: str | Path, **options: Any) -> Process:
            process = subprocess.Popen(
                [*COMMAND, *args],
                env=gateway.environ,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                stdout=options.pop("stdout", subprocess.PIPE),
                **options,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield run


def lines(file: Path) -> list[Any]:
    """The whole lines of a recording under way."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_bytes().splitlines(True) if line.endswith(b"\n")]


def output(file: Path) -> str:
    return "".join(line[2] for line in lines(file)[1:] if line[1] == "o")


def shows(file: Path, text: str) -> None:
    until(lambda: text in output(file), f"{text!r} in {output(file)[-500:]!r}")


def begun(file: Path) -> None:
    until(lambda: len(lines(file)) > 1, "the first screen")


def ends(process: Process) -> tuple[int, str]:
    """Its exit status and what it said."""
    _, said = process.communicate(timeout=PATIENCE)
    return process.returncode, said.decode()


@pytest.fixture
def cast(tmp_path: Path) -> Path:
    return tmp_path / "demo.cast"


def test_a_session_is_recorded_from_its_screen_to_its_end(
    client: Client, start: Start, cast: Path
) -> None:
    client.run("clear; echo bef''ore")
    process = start("demo", cast)
    shows(cast, "before")
    client.run("stty -echo; echo 日本; echo typed >/dev/null; printf '\\033[1mbold\\033[m\\n'")
    client.send({"type": "resize", "cols": 100, "rows": 20})
    until(lambda: [line[2] for line in lines(cast)[1:] if line[1] == "r"] == ["100x20"], "a resize")
    client.send(b"exit 3\n")
    assert ends(process)[0] == 0
    header, *events = lines(cast)
    assert header["version"] == 3
    assert header["term"] == {"cols": 80, "rows": 24}
    assert events[-1][1:] == ["x", "3"]
    assert {code for _, code, _ in events} == {"o", "r", "x"}
    screen = Screen(80, 24)
    screen.feed(output(cast).encode())
    assert "日本" in screen.text()
    assert "typed" not in output(cast).rpartition("stty -echo")[2].rpartition("bold")[2]
    assert cast.stat().st_mode & 0o777 == 0o600


def test_secrets_become_bullets(
    client: Client, start: Start, cast: Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gateway.environ, "CODITECT_SECRET_NAMES", "MINE*")
    client.run("API_TOKEN=hun''ter2; MINE_X=hun''ter2; export API_TOKEN; clear")
    process = start("demo", cast)
    begun(cast)
    for key in b"curl http://ada:hunter2@localhost:1/; env | grep API_TOK\r":
        client.send(bytes([key]))
    shows(cast, "API_TOKEN=•••••••\r\n")
    client.send(b"echo MINE_X=$MINE_X\n")
    shows(cast, "MINE_X=•••••••\r\n")
    client.send(b"exit\n")
    assert ends(process)[0] == 0
    assert "hun" not in output(cast).replace("hun''ter2", "")
    assert "ada:•••••••@localhost:1/;" in output(cast)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_recording_and_not_the_session(
    client: Client, start: Start, cast: Path, number: signal.Signals
) -> None:
    process = start("demo", cast, "-o", "json", stdout=subprocess.PIPE)
    begun(cast)
    process.send_signal(number)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    document = json.loads(out)
    assert (document["kind"], document["status"]) == ("Recording", None)
    assert (document["session"], document["file"]) == (client.session, str(cast))
    assert cast.read_bytes().endswith(b"]\n")
    assert client.run("echo alive") == b"alive\r\n"


def test_kill_9_leaves_what_was_recorded(client: Client, start: Start, cast: Path) -> None:
    process = start("demo", cast)
    begun(cast)
    client.run("echo so fa''r")
    shows(cast, "so far")
    process.kill()
    process.wait()
    assert lines(cast)[0]["version"] == 3


def test_a_lost_link_is_resumed_and_nothing_is_missing(
    client: Client, start: Start, start_proxy: Callable[..., Proxy], cast: Path
) -> None:
    proxy = start_proxy()
    process = start("demo", cast)
    begun(cast)
    proxy.refuse()
    client.run("seq -f n%05g 2000")
    proxy.listen_again()
    shows(cast, "n02000")
    client.send(b"exit\n")
    assert ends(process)[0] == 0
    got = output(cast)
    assert all(f"n{n:05}\r\n" in got for n in range(1, 2001))
    assert "m" not in {line[1] for line in lines(cast)[1:]}


def test_what_was_skipped_is_marked_and_the_screen_is_right_again(
    client: Client, start: Start, start_proxy: Callable[..., Proxy], cast: Path
) -> None:
    proxy = start_proxy()
    process = start("demo", cast)
    begun(cast)
    proxy.refuse()
    client.run("yes flood | head -c 3000000; clear; echo af''ter")
    proxy.listen_again()
    shows(cast, "after")
    client.send(b"exit\n")
    assert ends(process)[0] == 0
    marks = [line[2] for line in lines(cast)[1:] if line[1] == "m"]
    assert len(marks) == 1
    assert marks[0].endswith("bytes of output were skipped")
    screen = Screen(80, 24)
    screen.feed(output(cast).encode())
    assert screen.text()[0] == "after"


def test_the_end_of_the_gateway_leaves_the_recording(
    gateway: Gateway, client: Client, start: Start, cast: Path
) -> None:
    process = start("demo", cast)
    begun(cast)
    gateway.keeper.terminate()
    code, said = ends(process)
    assert code == 255
    assert str(cast) in said
    assert lines(cast)[-1][1] == "o"


def test_a_file_that_exists_is_left_alone_without_force(
    client: Client, start: Start, cast: Path
) -> None:
    cast.write_text("mine")
    cast.chmod(0o644)
    code, said = ends(start("demo", cast))
    assert code == 6
    assert "--force" in said
    assert cast.read_text() == "mine"
    process = start("demo", client.session[:8], cast, "--force")
    begun(cast)
    process.terminate()
    assert ends(process)[0] == 0
    assert cast.stat().st_mode & 0o777 == 0o600


def test_without_a_file_it_goes_to_stdout(client: Client, start: Start) -> None:
    process = start("demo")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["version"] == 3
    client.send(b"exit 5\n")
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert json.loads(out.splitlines()[-1])[1:] == ["x", "5"]


def test_a_reader_that_goes_away_ends_it(client: Client, start: Start) -> None:
    process = start("demo")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    client.send(b"echo on\n")
    assert process.wait(PATIENCE) == 141


def test_a_reader_that_does_not_read_slows_it_and_does_not_stop_its_end(
    client: Client, start: Start
) -> None:
    process = start("demo")
    assert process.stdout is not None
    process.stdout.readline()
    client.run("yes flood | head -c 3000000")
    process.terminate()
    assert process.wait(PATIENCE) == 0


def test_a_terminal_is_no_place_for_a_recording(
    client: Client, run_in_terminal: Callable[..., Terminal]
) -> None:
    terminal = run_in_terminal("session", "record", "demo")
    assert terminal.wait() == 2
    assert b"name a FILE" in terminal.seen


def test_a_session_that_is_not_there_is_not_made(
    gateway: Gateway, start: Start, cast: Path
) -> None:
    assert ends(start("demo", cast))[0] == 3
    assert ends(start("demo", "5e0c", cast))[0] == 3
    assert gateway.sessions() == []
    assert not cast.exists()


def test_an_id_that_begins_two_sessions_is_refused(
    gateway: Gateway, client: Client, start: Start, cast: Path
) -> None:
    for _ in range(16):  # of 17 ids, two begin with the same digit
        gateway.attach(session="new")
    firsts = [item["session"][0] for item in gateway.sessions()]
    common = next(first for first in firsts if firsts.count(first) > 1)
    code, said = ends(start("demo", common, cast))
    assert (code, "start with" in said) == (2, True)
    assert not cast.exists()


def test_a_disk_that_is_full_is_told(client: Client, start: Start) -> None:
    code, said = ends(start("demo", "/dev/full", "--force"))
    assert code == 8
    assert "/dev/full" in said


def official_readers() -> list[list[str]]:
    """The commands that play a recording with what asciinema's own makers have written."""
    found = []
    version = (
        subprocess.run(["asciinema", "--version"], capture_output=True, check=False).stdout
        if shutil.which("asciinema")
        else b""
    )
    if version.startswith(b"asciinema 3"):
        found.append(["asciinema", "convert", "-f", "raw"])
    if shutil.which("node") and shutil.which("npm"):
        root = subprocess.run(["npm", "root", "-g"], capture_output=True, check=True, text=True)
        folder = Path(
            os.environ.get("ASCIINEMA_PLAYER") or root.stdout.strip() + "/asciinema-player"
        )
        if folder.is_dir():
            script = Path(__file__).parent.parent / "support" / "asciinema_player.mjs"
            found.append(["node", str(script), str(folder)])
    return found


def test_the_official_player_takes_it(
    client: Client, start: Start, cast: Path, tmp_path: Path
) -> None:
    readers = official_readers()
    if not readers:
        pytest.skip("neither asciinema 3 nor the npm package asciinema-player is installed")
    process = start("demo", cast)
    begun(cast)
    client.run("printf '\\033[?1049h\\033[2J\\033[3;4H日本\\377\\033[?1049l'; echo TOKEN=abc")
    client.send({"type": "resize", "cols": 100, "rows": 20})
    client.send(b"exit 3\n")
    assert ends(process)[0] == 0
    for reader in readers:
        if reader[0] == "asciinema":
            raw = tmp_path / "out.raw"
            subprocess.run([*reader, cast, raw], check=True, timeout=PATIENCE)
            assert raw.read_bytes().endswith(output(cast).encode())
        else:
            played = json.loads(
                subprocess.run(
                    [*reader, cast], check=True, capture_output=True, timeout=PATIENCE
                ).stdout
            )
            assert played["output"].endswith(output(cast))
            assert [100, 20] in played["resizes"]
            assert played["duration"] == pytest.approx(
                sum(line[0] for line in lines(cast)[1:]), abs=0.01
            )
