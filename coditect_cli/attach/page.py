"""A page of this machine's gateway, over its Unix socket: no library is loaded for it."""

from __future__ import annotations

from coditect_cli import __version__
from coditect_cli.attach.link import CHUNK, Address, connect
from coditect_cli.attach.refusal import refusal
from coditect_cli.errors import Unreachable
from coditect_cli.protocol.handshake import WORKSPACE_HEADER

OK = 200


def fetch(url: str, page: str, workspace_id: str, token: str) -> bytes:
    """The page's content. Raises the gateway's error, and Unreachable when none answers."""
    lines = (
        f"GET {page} HTTP/1.1",
        "Host: localhost",
        f"User-Agent: coditect/{__version__}",
        f"{WORKSPACE_HEADER}: {workspace_id}",
        f"Authorization: Bearer {token}",
    )
    received, status, whole = b"", 0, None
    with connect(Address.parse(url)) as sock:
        try:
            sock.sendall("\r\n".join([*lines, "", ""]).encode())
            while (whole is None or len(received) < whole) and (data := sock.recv(CHUNK)):
                received += data
                if whole is None and b"\r\n\r\n" in received:
                    head, _, received = received.partition(b"\r\n\r\n")
                    status, whole = _status_and_length(head)
        except (OSError, ValueError, LookupError) as error:
            raise _no_answer(str(error)) from error
    if whole is None or len(received) < whole:
        raise _no_answer("it hung up")
    if status != OK:
        raise refusal(url, status, received)
    return received


def _status_and_length(head: bytes) -> tuple[int, int]:
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), int(fields["content-length"])


def _no_answer(why: str) -> Unreachable:
    return Unreachable(
        f"the gateway gave no whole answer: {why}", code="gateway.no_answer", retryable=True
    )
