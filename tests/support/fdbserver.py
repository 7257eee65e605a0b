"""A FoundationDB server of a test's own, which it may stop, kill and start again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.gateway import until
from tests.support.stores import need_library

PLACES = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


@dataclass(frozen=True)
class Identity:
    """What one end of mutual TLS has: PEM files."""

    certificate: Path
    key: Path
    authority: Path

    @property
    def flags(self) -> list[str]:
        return [
            f"--tls_certificate_file={self.certificate}",
            f"--tls_key_file={self.key}",
            f"--tls_ca_file={self.authority}",
        ]


class FDBServer:
    """One process on loopback, its data below `folder`; with an identity it speaks TLS only."""

    def __init__(self, folder: Path, identity: Identity | None = None) -> None:
        (folder / "data").mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.cluster_file = folder / "fdb.cluster"
        self._address = f"127.0.0.1:{port}{':tls' if identity else ''}"
        self.cluster_file.write_text(f"test:test@{self._address}\n")
        self._folder = folder
        self._flags = identity.flags if identity else []

    def start(self) -> None:
        """Start it, also where it was killed: what was committed is there again."""
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [
                    _program("fdbserver"),
                    *(f"--public-address={self._address}", "--listen-address=public"),
                    *(f"--cluster-file={self.cluster_file}", f"--datadir={self._folder}/data"),
                    *(f"--logdir={self._folder}/data", *self._flags),
                ],
                stdout=log,
                stderr=log,
            )

    def pause(self) -> None:
        """Let it be silent, with its connections open."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def fdbcli(self, command: str) -> str:
        """What fdbcli says to a command, once the server answers."""

        def answer() -> str | None:
            done = subprocess.run(
                [
                    *(_program("fdbcli"), "-C", str(self.cluster_file), *self._flags),
                    *("--timeout", "20", "--exec", command),
                ],
                capture_output=True,
                check=False,
                text=True,
            )
            return done.stdout if done.returncode == 0 else None

        said: str = until(answer, f"fdbcli {command}")
        return said


def _program(name: str) -> str:
    return shutil.which(name, path=PLACES) or name


@contextmanager
def running_fdbserver(folder: Path, identity: Identity | None = None) -> Iterator[FDBServer]:
    """A server that ends with the block; the test skips where there is no fdbserver."""
    need_library()
    for name in ("fdbserver", "fdbcli"):
        if shutil.which(name, path=PLACES) is None:
            pytest.skip(f"{name} is not there: https://github.com/apple/foundationdb/releases")
    server = FDBServer(folder, identity)
    server.start()
    try:
        server.fdbcli("configure new single memory")
        yield server
    finally:
        server.kill()
        print((folder / "log").read_text())
