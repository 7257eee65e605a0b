"""The bridge may die at any moment: kill -9, and an upgrade, which takes the same path."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from coditect_cli.gateway.handover import REFUSED, VERSION
from coditect_cli.gateway.main import main
from coditect_cli.gateway.ring import LAYOUT, Ring, UnknownLayout
from tests.support.gateway import Client, Gateway, running_gateway, until

GONE = (ConnectionClosed, ConnectionError, InvalidHandshake, OSError, EOFError)


class Returning:
    """A client that resumes by itself, as the real one does, and never repeats what was taken."""

    def __init__(self, gateway: Gateway, **exec_fields: object) -> None:
        self.gateway = gateway
        self.id = uuid.uuid4().hex
        self.session: str | None = None
        self.exec_fields = exec_fields
        self.received: dict[str, bytearray] = {}
        self.offsets: dict[str, int] | None = None
        self.input = b""
        self.closed_input = False
        self.exit: dict[str, object] | None = None
        self.heard: list[dict[str, object]] = []
        self.client: Client | None = None

    def join(self) -> Client:
        def attempt() -> Client | None:
            with suppress(*GONE):
                client = self.gateway.connect("demo")
                if self.exec_fields:
                    argv = self.exec_fields["argv"]
                    assert isinstance(argv, list)
                    client.exec(*argv, client=self.id, resume=self.offsets)
                else:
                    session = self.session or "new"
                    client.attach(session, client=self.id, resume=self.offsets)
                return client
            return None

        client: Client = until(attempt, "a resumed session")
        self.session = client.session
        client.received = self.received
        self.offsets = client.offsets
        self.client = client
        client.connection.send(self.input[client.sent :]) if self.input[client.sent :] else None
        if self.closed_input:
            client.send({"type": "eof", "offset": len(self.input)})
        return client

    def type(self, data: bytes) -> None:
        self.input += data
        with suppress(*GONE):
            assert self.client is not None
            self.client.connection.send(data)

    def step(self) -> None:
        """One frame more; a lost link is resumed."""
        client = self.client or self.join()
        try:
            message = client.step()
        except GONE:
            self.client = None
            self.join()
            return
        if message is not None:
            self.heard.append(message)
            assert message["type"] not in ("error", "redraw", "uncertain"), message
            if message["type"] == "exit":
                self.exit = message

    def run_to_exit(self) -> dict[str, object]:
        while self.exit is None:
            self.step()
        return self.exit


def numbered_lines(count: int) -> bytes:
    return b"".join(b"%d\r\n" % number for number in range(1, count + 1))


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_output_of_a_terminal_is_byte_exact_over_kills_of_the_bridge(
    gateway: Gateway, kills: int
) -> None:
    chance = random.Random(kills)  # noqa: S311 - where to kill, not a secret
    client = Returning(gateway)
    client.join()
    count = 400_000 * kills // 5
    client.type(f"PS1=; stty -echo; echo be''gin; seq {count}; exit 7\n".encode())
    while b"begin\r\n" not in client.received.get("output", b""):
        client.step()
    total = len(numbered_lines(count))
    for kill in range(kills):
        goal = total * kill // kills + chance.randrange(total // kills // 2)
        while len(client.received["output"]) < goal:
            client.step()
        gateway.kill_bridge()
    exit_message = client.run_to_exit()
    output = bytes(client.received["output"]).partition(b"begin\r\n")[2]
    assert hashlib.sha256(output.partition(b"exit")[0]).digest() == (
        hashlib.sha256(numbered_lines(count)).digest()
    )
    assert exit_message["status"] == 7


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_exec_goes_on_over_kills_of_the_bridge(gateway: Gateway, kills: int) -> None:
    """Both ways at once: what went in comes out, once and in order."""
    chance = random.Random(kills)  # noqa: S311
    client = Returning(gateway, argv=["sh", "-c", "tee /dev/stderr; exit 3"])
    data = os.urandom(1_000_000 * kills)
    client.input = data[:200_000]
    client.join()
    at = 200_000
    goals = sorted(chance.randrange(len(data)) for _ in range(kills))
    while client.exit is None:
        client.step()
        taken = len(client.received.get("stdout", b""))
        if goals and taken >= goals[0]:
            gateway.kill_bridge()
            goals.pop(0)
        if at < len(data) and at - taken < 150_000:
            client.type(data[at : at + 50_000])
            at += 50_000
        if at >= len(data) and not client.closed_input:
            client.closed_input = True
            with suppress(*GONE):
                assert client.client is not None
                client.client.send({"type": "eof", "offset": len(data)})
    assert not goals
    assert bytes(client.received["stdout"]) == data
    assert bytes(client.received["stderr"]) == data
    assert client.exit["status"] == 3


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_input_is_never_lost_nor_doubled_over_kills_of_the_bridge(
    gateway: Gateway, kills: int
) -> None:
    chance = random.Random(kills)  # noqa: S311
    client = Returning(gateway)
    client.join()
    data = os.urandom(500_000 * kills)
    client.type(f"stty raw -echo; echo be''gin; head -c {len(data)} | sha256sum\n".encode())
    while b"begin" not in client.received.get("output", b""):
        client.step()
    typed_before = len(client.input)
    goals = sorted(chance.randrange(len(data)) for _ in range(kills))
    digest = hashlib.sha256(data).hexdigest().encode()
    at = 0
    while digest not in client.received["output"]:
        acked = [m["offset"] for m in client.heard if m["type"] == "ack"]
        taken = max([0, *(int(str(offset)) for offset in acked)]) - typed_before
        if at < len(data) and at - taken <= 130_000:
            client.type(data[at : at + 65_536])
            at += 65_536
            if goals and at >= goals[0]:
                gateway.kill_bridge()
                goals.pop(0)
        else:
            client.step()
    assert not goals


def test_an_upgrade_loses_nothing_and_says_so(gateway: Gateway) -> None:
    client = Returning(gateway)
    client.join()
    client.type(b"PS1=; stty -echo; echo be''gin; seq 300000; echo en''d\n")
    while b"begin\r\n" not in client.received.get("output", b""):
        client.step()
    before = gateway.status()
    idle = gateway.attach(session="new")
    assert gateway.request("_gateway", type="gateway", action="restart", force=False) == {
        "type": "accepted",
        "action": "restart",
        "notSaved": [],
    }
    while b"end\r\n" not in client.received["output"]:
        client.step()
    body = bytes(client.received["output"]).partition(b"begin\r\n")[2]
    assert body.startswith(numbered_lines(300_000) + b"end\r\n")
    assert idle.closed() == 1012
    assert idle.heard[-1] == {"type": "drain", "reason": "restart"}
    after = gateway.status()
    assert after["bridgePid"] != before["bridgePid"]
    assert after["keeperPid"] == before["keeperPid"]


def test_exit_statuses_are_kept_while_there_is_no_bridge(gateway: Gateway) -> None:
    client = Returning(gateway, argv=["sh", "-c", "read line; kill -15 $$"])
    client.join()
    pid = gateway.kill_bridge()
    client.type(b"go\n")
    assert client.run_to_exit() == {"type": "exit", "status": 143, "signal": 15}
    assert gateway.bridge_pid() != pid


def test_an_end_that_a_killed_bridge_had_begun_is_the_next_ones(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "home", exec_linger="10ms") as gateway:
        client = gateway.connect()
        hung_up = tmp_path / "hung-up"
        ignores = f"trap 'touch {hung_up}' HUP; trap '' TERM; while :; do sleep 0.05; done"
        client.exec("sh", "-c", ignores)
        client.drop()
        until(hung_up.exists, "the beginning of its end")
        gateway.kill_bridge()
        until(lambda: gateway.status()["sessions"] == 0, "the end of the program")


def test_the_screen_and_its_modes_come_back_after_a_kill(gateway: Gateway) -> None:
    client = gateway.attach()
    client.send(b"printf '\\033[?1049h\\033[?1000h\\033[?2004h\\033[3;5HHere''Iam'; cat\n")
    client.expect(b"HereIam")
    until(lambda: b"cat" in proc_names(gateway), "cat")
    gateway.kill_bridge()
    again = Returning(gateway)
    again.session = client.session
    other = again.join()
    while not other.drawing:
        other.step()
    assert b"HereIam" in other.drawing
    for mode in (b"\x1b[?1000h", b"1049h"):
        assert mode in other.drawing


def proc_names(gateway: Gateway) -> set[bytes]:
    children = psutil.Process(gateway.keeper.pid).children(recursive=True)
    return {child.name().encode() for child in children}


def test_kill_of_the_keeper_ends_everything_and_clients_are_told(gateway: Gateway) -> None:
    client = gateway.attach()
    client.send(b"sleep 1000 & (setsid sleep 1001 &) ; echo star''ted\n")
    client.expect(b"started\r\n")
    everyone = [
        psutil.Process(gateway.keeper.pid),
        *psutil.Process(gateway.keeper.pid).children(recursive=True),
    ]
    os.kill(gateway.keeper.pid, signal.SIGKILL)
    assert client.closed() == 1013
    assert {"type": "drain", "reason": "stop"} in client.heard
    _, alive = psutil.wait_procs(everyone[1:], 20)
    assert not alive


def test_a_release_that_can_not_take_over_says_so_when_asked() -> None:
    assert main(["--check-handover", str(VERSION), "--check-layout", str(LAYOUT)]) == 0
    assert main(["--check-handover", str(VERSION), "--check-layout", "1"]) == REFUSED
    assert main(["--check-handover", "99", "--check-layout", str(LAYOUT)]) == REFUSED


def test_memory_of_an_unknown_layout_is_refused() -> None:
    ring = Ring.create(1 << 20)
    os.pwrite(ring.fd, bytes(8), 0)
    with pytest.raises(UnknownLayout, match="layout 0x0"):
        Ring(os.dup(ring.fd))
    ring.close()


def test_programs_outlive_a_release_that_is_half_installed(tmp_path: Path) -> None:
    wrapper, missing = tmp_path / "bridge.py", tmp_path / "missing"
    wrapper.write_text(
        "import os, sys\n"
        f"if os.path.exists({str(missing)!r}):\n"
        "    sys.exit('there is no such package')\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'coditect_cli.gateway.main']"
        " + sys.argv[1:])\n"
    )
    with running_gateway(tmp_path / "home", bridge=[str(wrapper)]) as gateway:
        gateway.attach().run("mark=kept")
        missing.touch()
        gateway.kill_bridge()
        until(lambda: "keeper waiting" in gateway.log.read_text(), "a keeper that waits")
        missing.unlink()
        until(gateway.bridge_pid, "another bridge")
        assert gateway.attach().run("echo $mark") == b"kept\r\n"


def test_a_bridge_that_can_not_be_started_is_told(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "coditect_cli.gateway.keeper", "--lock", str(tmp_path / "lock")]
    argv += ["--listen", f"unix:{tmp_path / 'socket'}", "--", str(tmp_path / "no-python")]
    ended = subprocess.run(argv, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    assert "keeper giving_up" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_refused_upgrade_leaves_everything_running(tmp_path: Path) -> None:
    """A keeper whose next bridge would refuse: the one that serves goes on."""
    wrapper = tmp_path / "bridge.py"
    wrapper.write_text(
        "import os, sys\n"
        "if '--check-handover' in sys.argv:\n"
        "    sys.exit('this release has another layout')\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'coditect_cli.gateway.main']"
        " + sys.argv[1:])\n"
    )
    with running_gateway(tmp_path / "home", bridge=[str(wrapper)]) as gateway:
        client = gateway.attach()
        client.run("true")
        pid = gateway.status()["bridgePid"]
        answer = gateway.request("_gateway", type="gateway", action="restart", force=False)
        assert answer["code"] == "gateway.upgrade_refused"
        assert "another layout" in answer["message"]
        assert client.run("echo still here") == b"still here\r\n"
        assert gateway.status()["bridgePid"] == pid
