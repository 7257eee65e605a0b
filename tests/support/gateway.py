"""A real gateway (keeper and bridge) in a folder of its own, and a plain client to drive it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, unix_connect

from coditect_cli import tokens
from coditect_cli.gateway.address import short_path
from coditect_cli.paths import Paths, make_private
from coditect_cli.protocol.messages import WINDOW
from coditect_cli.signing import Key
from coditect_cli.workspaces.local import LocalWorkspaces
from tests.support.shell import plain_shell

PATIENCE = 30.0  # seconds until a test gives up on something that should come


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """The condition's first true value."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen in {patience:g} s")
        time.sleep(0.005)
    return value


def local_keys(paths: Paths) -> list[Key]:
    """What verifies the local context's tokens."""
    return [Key("HS256", tokens.local_key(paths))]


class Gateway:
    """A keeper with its bridge; `user` owns every workspace."""

    user = "tester"

    def __init__(
        self,
        home: Path,
        bridge: list[str] | None = None,
        role: Sequence[str] = ("--role", "local"),
        listen: str | None = None,
        **settings: object,
    ) -> None:
        self.listen = ["--listen", listen] if listen else []
        self.bridge = [*(bridge or ["-m", "coditect_cli.gateway.main"]), *role]
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("CODITECT_")},
            "CODITECT_HOME": str(home),
            "PYTHONWARNINGS": "default",
            "CODITECT_ATTACH_RATE": "1000",  # `until` asks up to 200 times a second
            **{f"CODITECT_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self.paths = Paths.from_environ(self.environ)
        for folder in (self.paths.config, self.paths.data, self.paths.state):
            make_private(folder)
        self.socket = self.paths.gateway_socket
        self.workspaces = LocalWorkspaces(self.paths)
        self.environ.setdefault("CODITECT_SHELL", str(plain_shell(self.paths.state)))
        self.log = self.paths.gateway_log
        self._stack = ExitStack()
        self._start()

    def _start(self) -> None:
        with open(self.log, "ab") as log:
            keeper = ["-m", "coditect_cli.gateway.keeper", "--lock", str(self.paths.gateway_lock)]
            listen = ["--listen", f"unix:{self.paths.gateway_socket}", "--"]
            bridge = [sys.executable, *self.bridge]
            self.keeper = subprocess.Popen(
                [sys.executable, *keeper, *self.listen, *listen, *bridge],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(self._accepts, "a listening socket")

    def _accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe, short_path(str(self.socket)) as path:
            return probe.connect_ex(path) == 0

    def stop(self) -> None:
        self._stack.close()
        if self.keeper.poll() is None:
            self.keeper.terminate()
        self.keeper.wait(PATIENCE)
        said = self.log.read_text()
        print(said[-5000:])
        assert "Traceback" not in said, "a traceback in the gateway's log is a bug"

    def token(self, workspace: str, user: str | None = None, **claims: Any) -> str:
        key = claims.pop("key", None) or tokens.local_key(self.paths)
        now = claims.pop("now", time.time())
        ttl = claims.pop("ttl", 60)
        return tokens.issue(
            key,
            workspace_id=workspace,
            user_id=user or (tokens.local_user() if workspace == "_gateway" else self.user),
            ttl=ttl,
            now=now,
            **claims,
        )

    def workspace(self, id: str = "demo") -> str:
        """The id of a workspace that is there."""
        if not (self.paths.workspaces / id / "workspace.json").exists():
            self.workspaces.create(id, self.user)
        return id

    def connect(
        self, workspace: str = "demo", *, token: str | None = None, **options: Any
    ) -> Client:
        if not workspace.startswith("_"):
            self.workspace(workspace)
        bearer = token if token is not None else self.token(workspace)
        headers = {"Authorization": f"Bearer {bearer}", **options.pop("headers", {})}
        options.setdefault("subprotocols", ["coditect.v2"])
        connection = self._stack.enter_context(
            unix_connect(
                str(self.paths.gateway_socket),
                uri=options.pop("uri", "ws://localhost/ws"),
                additional_headers=headers,
                compression=None,
                max_size=None,
                **options,
            )
        )
        return Client(connection)

    def attach(self, workspace: str = "demo", **fields: Any) -> Client:
        client = self.connect(workspace)
        client.attach(**fields)
        return client

    def request(self, workspace: str, **message: Any) -> dict[str, Any]:
        client = self.connect(workspace)
        client.send(message)
        return client.message()

    def sessions(self, workspace: str = "demo") -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.request(workspace, type="sessions")["items"]
        return items

    def status(self) -> dict[str, Any]:
        return self.request("_gateway", type="status")

    def kill_bridge(self) -> int:
        """kill -9 the bridge; its pid. `bridge_pid` is another's, or none, from then on."""
        pid = until(self.bridge_pid, "a bridge")
        os.kill(pid, signal.SIGKILL)
        until(lambda: self.bridge_pid() != pid, "the bridge's end")
        return int(pid)

    def bridge_pid(self) -> int | None:
        """The bridge's pid; the keeper's only child that runs gateway.main."""
        with suppress(psutil.Error):
            for child in psutil.Process(self.keeper.pid).children():
                if "coditect_cli.gateway.main" in child.cmdline():
                    return child.pid
        return None


class Client:
    """A coditect.v2 client of a few lines: counts, acknowledges, and keeps all that it hears."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.heard: list[dict[str, Any]] = []
        self.received: dict[str, bytearray] = {}
        self.offsets: dict[str, int] = {}
        self.acked: dict[str, int] = {}
        self.stream = "output"
        self.sent = 0
        self.drawing = b""
        self.acknowledges = True
        self._redraw = False

    def send(self, message: dict[str, Any] | bytes) -> None:
        if isinstance(message, bytes):
            self.sent += len(message)
            self.connection.send(message)
        else:
            self.connection.send(json.dumps(message))

    def attach(
        self,
        session: str | None = None,
        client: str | None = None,
        resume: dict[str, int] | None = None,
        size: tuple[int, int] = (80, 24),
        read_only: bool = False,
    ) -> dict[str, Any]:
        self.id = client or uuid.uuid4().hex
        cols, rows = size
        message = {"type": "attach", "client": self.id, "session": session, "resume": resume}
        message |= {"cols": cols, "rows": rows, "term": "xterm-256color", "readOnly": read_only}
        self.send(message)
        self.answer = self.message("attached")
        self.session = self.answer["session"]
        self.sent = self.answer["input"]
        self.stream = "output"
        self.offsets["output"] = self.acked["output"] = self.answer["output"]
        return self.answer

    def exec(self, *argv: str, client: str | None = None, **fields: Any) -> dict[str, Any]:
        self.id = client or uuid.uuid4().hex
        message = {"type": "exec", "client": self.id, "argv": list(argv), "env": {}}
        message |= {"workdir": None, "stdin": True, "tty": None, "resume": None, **fields}
        self.send(message)
        self.answer = self.message("started")
        self.session = self.answer["session"]
        self.sent = self.answer["input"]
        names = [name for name in ("output", "stdout", "stderr") if name in self.answer]
        self.stream = names[0]
        for name in names:
            self.offsets[name] = self.acked[name] = self.answer[name]
        return self.answer

    def step(self, patience: float = PATIENCE) -> dict[str, Any] | None:
        """Receive one frame; a control message is returned."""
        received = self.connection.recv(timeout=patience)
        if isinstance(received, str):
            message: dict[str, Any] = json.loads(received)
            self.heard.append(message)
            if message["type"] == "stream":
                self.stream = message["stream"]
            elif message["type"] == "redraw":
                self._redraw = True
                self.offsets["output"] = message["offset"]
            return message
        if self._redraw:
            self._redraw = False
            self.drawing = received
            return None
        self.received.setdefault(self.stream, bytearray()).extend(received)
        self.offsets[self.stream] += len(received)
        if self.acknowledges:
            self.acknowledge()
        return None

    def acknowledge(self) -> None:
        for name, offset in self.offsets.items():
            if offset - self.acked.get(name, 0) >= WINDOW // 4:
                self.acked[name] = offset
                self.send({"type": "ack", "stream": name, "offset": offset})

    def message(self, kind: str | None = None) -> dict[str, Any]:
        """The next control message, or the next of this type."""
        while True:
            message = self.step()
            if message is not None and kind in (None, message["type"]):
                return message
            if message is not None and message["type"] == "error":
                raise AssertionError(message)

    @property
    def output(self) -> bytes:
        return bytes(self.received.get("output", b""))

    def expect(self, wanted: bytes, stream: str = "output") -> bytes:
        """Receive until the stream has `wanted`; everything up to it is taken off."""
        while wanted not in self.received.get(stream, b""):
            message = self.step()
            if message and message["type"] in ("exit", "error"):
                raise AssertionError((message, bytes(self.received.get(stream, b""))[-2000:]))
        got = self.received[stream]
        end = got.index(wanted) + len(wanted)
        before = bytes(got[:end])
        del got[:end]
        return before

    def run(self, command: str) -> bytes:
        """Type a command line and return its output, by marks that typing does not produce."""
        mark = uuid.uuid4().hex[:12]
        self.send(f"echo {mark[:6]}''{mark[6:]}; {command}; echo {mark[6:]}''{mark[:6]}\n".encode())
        self.expect(mark.encode() + b"\r\n")
        end = (mark[6:] + mark[:6]).encode()
        return self.expect(end + b"\r\n")[: -len(end) - 2]

    def exit(self) -> dict[str, Any]:
        """Receive to the end of the program, and say that we have heard."""
        message = self.message("exit")
        self.send({"type": "done"})
        self.closed()
        return message

    def closed(self) -> int | None:
        """The close code."""
        with suppress(ConnectionClosed):
            while True:
                self.step()
        return self.connection.close_code

    def detach(self) -> None:
        self.send({"type": "detach"})
        assert self.closed() == 1000

    def drop(self) -> None:
        """Break the connection without a word."""
        with suppress(OSError):  # the gateway may have hung up first
            self.connection.socket.shutdown(socket.SHUT_RDWR)
        self.connection.close_socket()


@contextmanager
def running_gateway(home: Path, **settings: Any) -> Iterator[Gateway]:
    gateway = Gateway(home, **settings)
    try:
        yield gateway
    finally:
        gateway.stop()


def get(gateway: Gateway, path: str, token: str | None) -> tuple[int, bytes]:
    """A plain HTTP request; its status and body."""
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    with socket.socket(socket.AF_UNIX) as link, short_path(str(gateway.socket)) as name:
        link.connect(name)
        link.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n".encode())
        answer = b"".join(iter(lambda: link.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def samples(page: bytes) -> dict[str, float]:
    lines = [line for line in page.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
