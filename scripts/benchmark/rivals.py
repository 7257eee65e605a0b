"""Other ways to a shell, where they are installed: sshd, ttyd, terminado."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ways import Socket, Terminal, Way, free_port, until_open

Open = Callable[[], Way]

_TERMINADO = """
import asyncio, sys, terminado, tornado.web
async def main():
    terms = terminado.UniqueTermManager(shell_command=[sys.argv[1]])
    route = (r"/ws", terminado.TermSocket, {"term_manager": terms})
    tornado.web.Application([route]).listen(int(sys.argv[2]), "127.0.0.1")
    await asyncio.Event().wait()
asyncio.run(main())
"""


class Absent(Exception):
    """Raised where a program is not installed; its text says which."""


@contextmanager
def _serving(argv: list[str], port: int) -> Iterator[None]:
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as server:
        try:
            until_open(port, lambda: server.poll() is None)
            yield
        except ConnectionRefusedError:
            server.terminate()
            said = server.stderr.read().decode().strip() if server.stderr else ""
            raise Absent(f"it does not start: {said}") from None
        finally:
            server.terminate()


def _program(name: str) -> str:
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
    if path is None:
        raise Absent(f"{name} is not installed")
    return path


@contextmanager
def ssh(shell: str, folder: Path) -> Iterator[Open]:
    """ssh to an sshd of our own on loopback, with keys of its own."""
    sshd, client, keygen = _program("sshd"), _program("ssh"), _program("ssh-keygen")
    port = free_port()
    for name in ("host", "user"):
        file = str(folder / name)
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    config = folder / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
        f"PasswordAuthentication no\nPermitRootLogin yes\nForceCommand {shell}\n"
    )
    argv = [client, "-tt", "-F", "none", "-i", f"{folder}/user", "-p", str(port)]
    argv += ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={folder}/known"]
    argv += ["-o", "LogLevel=ERROR", "127.0.0.1"]
    with _serving([sshd, "-D", "-f", str(config)], port):
        yield lambda: Terminal(argv, os.environ)


@contextmanager
def ttyd(shell: str, folder: Path) -> Iterator[Open]:
    """ttyd's WebSocket: binary frames whose first byte is the command."""
    port = free_port()
    argv = [_program("ttyd"), "-W", "-i", "127.0.0.1", "-p", str(port), "-w", str(folder), shell]

    def open_socket() -> Way:
        way = Socket(
            f"ws://127.0.0.1:{port}/ws",
            "tty",
            lambda data: b"0" + data,
            lambda data: data[1:] if data[:1] == b"0" else b"",
        )
        way.send(json.dumps({"AuthToken": "", "columns": 80, "rows": 24}).encode())
        return way

    with _serving(argv, port):
        yield open_socket


@contextmanager
def terminado(shell: str, folder: Path) -> Iterator[Open]:
    """terminado's WebSocket: JSON arrays in text frames."""
    if importlib.util.find_spec("terminado") is None:
        raise Absent("the package terminado is not installed")
    port = free_port()

    def unwrap(data: bytes) -> bytes:
        kind, *rest = json.loads(data)
        return rest[0].encode() if kind == "stdout" else b""

    def open_socket() -> Way:
        return Socket(
            f"ws://127.0.0.1:{port}/ws",
            None,
            lambda data: json.dumps(["stdin", data.decode()]),
            unwrap,
        )

    with _serving([sys.executable, "-c", _TERMINADO, shell, str(port)], port):
        yield open_socket


ALL = {"ssh": ssh, "ttyd": ttyd, "terminado": terminado}
