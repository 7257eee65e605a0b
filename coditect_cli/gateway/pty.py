"""A PTY: the one reader of its master, its size, and how it is opened."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
import termios
import tty

from coditect_cli.gateway.ring import HEAD, NOTE, Ring

# What a master has to read; on macOS FIONREAD tells of the slave's input there too.
_PRINTED = termios.TIOCOUTQ if sys.platform == "darwin" else termios.FIONREAD
_UNREAD = 0xFF
_ZERO = bytes(4)
_IUTF8 = 0o40000  # in Linux and macOS; termios has no name for it


def open_pty(cols: int, rows: int) -> tuple[int, int]:
    """A new PTY as (master, slave): UTF-8 line editing, packet mode, a non-blocking master."""
    master, slave = os.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[tty.IFLAG] |= _IUTF8
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    set_size(master, cols, rows)
    fcntl.ioctl(master, termios.TIOCPKT, struct.pack("i", 1))
    os.set_blocking(master, False)
    return master, slave


def set_size(master: int, cols: int, rows: int) -> None:
    """Set the window size; the kernel sends SIGWINCH when it differs."""
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


def size(master: int) -> tuple[int, int]:
    """The window size in effect as (columns, rows)."""
    rows, cols, _, _ = struct.unpack("HHHH", fcntl.ioctl(master, termios.TIOCGWINSZ, bytes(8)))
    return cols, rows


def fill_from_pty(ring: Ring, master: int) -> int:
    """Read what the PTY has into the ring; 0 when it was only a packet-mode status.

    Raises BlockingIOError when there is nothing, EOFError when every slave is closed.
    Where that ends is noted first and the kernel writes the packet's status byte with the data, so
    `recover_pty` in a successor knows whether a read that was under way took the bytes.
    """
    words = ring.words
    waiting = int.from_bytes(fcntl.ioctl(master, _PRINTED, _ZERO), "little")
    ring.status[0] = _UNREAD
    words[NOTE] = words[HEAD] + waiting
    try:
        got = os.readv(master, [ring.status, *ring.room(waiting)]) - 1
    except OSError as error:
        words[NOTE] = 0
        if error.errno == errno.EIO:
            raise EOFError from None
        raise
    if got < 0:
        words[NOTE] = 0
        raise EOFError
    if got != waiting:
        words[NOTE] = words[HEAD] + got
    words[HEAD] = words[NOTE]
    words[NOTE] = 0
    return got


def recover_pty(ring: Ring) -> None:
    """Count what a killed bridge read and had no time to count."""
    if ring.words[NOTE] and ring.status[0] == termios.TIOCPKT_DATA:
        ring.words[HEAD] = ring.words[NOTE]
    ring.words[NOTE] = 0
