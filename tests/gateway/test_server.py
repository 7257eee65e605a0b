"""Keystrokes go past the library's queue, and never past what came before them."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios

import pytest

from tests.support.gateway import Client, Gateway, until

KEY = b"\x82\x81\0\0\0\0k"  # a whole frame


def send(sock: socket.socket, data: bytes) -> None:
    """Send it, and return once it was read at the other end."""
    sock.sendall(data)

    def unread() -> int:
        return int(struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0])

    until(lambda: not unread(), "the reading of it")


@pytest.fixture
def echo(gateway: Gateway) -> Client:
    """A client of a program that gives back what it gets."""
    client = gateway.connect()
    size = {"cols": 80, "rows": 24, "term": "xterm"}
    client.exec("sh", "-c", "stty raw -echo; echo ready; exec cat", tty=size)
    client.expect(b"ready\n")
    return client


@pytest.mark.parametrize("cut", [8, 15])
def test_what_looks_like_a_key_inside_of_a_message_is_none(echo: Client, cut: int) -> None:
    # Not masked, in effect: what is sent is what is typed.
    message = b"\x82\xfe\0\xc8\0\0\0\0" + KEY * 28 + b"last"
    sock = echo.connection.socket
    for part in (message[:cut], message[cut : cut + 7], message[cut + 7 :], KEY):
        send(sock, part)
    assert echo.expect(b"lastk") == KEY * 28 + b"lastk"


@pytest.mark.parametrize("paste", [126, 70_000])
def test_a_key_stays_behind_what_was_pasted_before_it(echo: Client, paste: int) -> None:
    for _ in range(5):
        echo.send(b"p" * paste)
        send(echo.connection.socket, KEY)
    assert echo.expect((b"p" * paste + b"k") * 5) == (b"p" * paste + b"k") * 5
