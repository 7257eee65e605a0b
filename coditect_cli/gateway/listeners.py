"""The sockets that a gateway listens on: the keeper opens and holds them, its bridges accept."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress

from coditect_cli.gateway.address import short_path


def listen(address: str) -> socket.socket:
    """A listening socket on `unix:PATH` or `HOST:PORT`. Raises OSError, ValueError."""
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise ValueError(f"{path} is there already and is not a socket")
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX)
        try:
            with short_path(path) as bindable:
                listener.bind(bindable)
                os.chmod(bindable, 0o600)
        except OSError:
            listener.close()
            raise
    else:
        host, _, port = address.rpartition(":")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host.strip("[]"), int(port)), family=family)
    listener.listen(1024)
    return listener


def bound_address(asked: str, listener: socket.socket) -> str:
    """What was asked for, with the port that was given for port 0."""
    if asked.startswith("unix:"):
        return asked
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
