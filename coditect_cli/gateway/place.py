"""Where there can be one gateway at a time: what its bridges' leases are held for."""

from __future__ import annotations

import hashlib
import socket
import uuid
from contextlib import suppress
from pathlib import Path

from coditect_cli.paths import Paths, write_private

MACHINE_ID = Path("/etc/machine-id")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def place(paths: Paths, role: str) -> str:
    """Names the state folder on this machine: its lock lets one gateway be there at a time.

    It is another one where the folder was made anew at the same path. A pod's machine is its
    node, as long as that runs: an image may hold a machine id. Raises Failed.
    """
    if not paths.gateway_id.exists():
        write_private(paths.gateway_id, f"{uuid.uuid4()}\n".encode())
    machine = "" if role == "workspace" else _first_line(MACHINE_ID)
    parts = (machine or _first_line(BOOT_ID), str(paths.state), _first_line(paths.gateway_id))
    digest = hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{socket.gethostname()}:{digest[:32]}"


def _first_line(path: Path) -> str:
    with suppress(OSError):
        return path.read_text().strip()
    return ""
