"""Each point at which a bridge may be killed, set by hand in shared memory: nothing by chance."""

from __future__ import annotations

import os
import select
import termios
import tty
from collections.abc import Iterator
from contextlib import suppress

import pytest

from coditect_cli.gateway.inlet import Inlet
from coditect_cli.gateway.pty import fill_from_pty, open_pty, recover_pty
from coditect_cli.gateway.ring import BASE, HEAD, NOTE, PHASE, SLOT, Ring, TornRead

UNREAD = 0xFF
TAKING = 1


@pytest.fixture
def ring() -> Iterator[Ring]:
    made = Ring.create(1 << 20)
    yield made
    made.close()


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    master, slave = open_pty(80, 24)
    tty.setraw(slave)
    with suppress(BlockingIOError):
        os.read(master, 1)  # packet mode's news of the change
    yield master, slave
    os.close(master)
    os.close(slave)


@pytest.fixture
def inlet_ends() -> Iterator[tuple[int, int]]:
    out, into = os.pipe()
    os.set_blocking(out, False)
    os.set_blocking(into, False)
    yield out, into
    os.close(out)
    os.close(into)


def read_exactly(fd: int, count: int) -> bytes:
    """A terminal may give two writes to two reads."""
    data = b""
    while len(data) < count:
        data += os.read(fd, count - len(data))
    return data


def test_a_read_that_took_the_bytes_is_counted(ring: Ring, terminal: tuple[int, int]) -> None:
    master, slave = terminal
    os.write(slave, b"output")
    select.select([master], [], [])
    ring.status[0] = UNREAD
    ring.words[NOTE] = ring.words[HEAD] + 6
    os.readv(master, [ring.status, *ring.room(6)])  # and here the bridge is killed
    recover_pty(ring)
    assert (ring.read(0, 100), ring.words[NOTE]) == (b"output", 0)


def test_a_read_that_was_noted_and_not_begun_is_not_counted(
    ring: Ring, terminal: tuple[int, int]
) -> None:
    master, slave = terminal
    os.write(slave, b"output")
    select.select([master], [], [])
    ring.status[0] = UNREAD
    ring.words[NOTE] = ring.words[HEAD] + 6  # and here the bridge is killed
    recover_pty(ring)
    assert ring.head == 0
    assert (fill_from_pty(ring, master), ring.read(0, 100)) == (6, b"output")


def test_a_read_that_was_counted_and_not_cleared_is_counted_once(ring: Ring) -> None:
    ring.status[0] = termios.TIOCPKT_DATA
    ring.words[NOTE] = ring.words[HEAD] = 6
    recover_pty(ring)
    assert (ring.head, ring.words[NOTE]) == (6, 0)


def test_what_a_pipe_gave_is_counted_by_the_files_position(ring: Ring) -> None:
    out, into = os.pipe()
    os.write(into, b"x" * 1000)
    assert ring.fill_from_pipe(out) == 1000
    os.write(into, b"more")
    os.splice(out, ring.fd, 4)  # and here the bridge is killed
    ring.recover_pipe()
    assert (ring.head, ring.read(1000, 10)) == (1004, b"more")
    ring.recover_pipe()
    assert ring.head == 1004
    os.close(out)
    os.close(into)


def test_what_a_pipe_gave_is_counted_also_where_there_is_no_splice(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "splice", raising=False)  # as on macOS
    out, into = os.pipe()
    os.write(into, b"output")
    assert ring.fill_from_pipe(out) == 6
    ring.recover_pipe()
    assert (ring.head, ring.read(0, 10)) == (6, b"output")
    ring.words[NOTE] = 1  # and here the bridge is killed
    with pytest.raises(TornRead):
        ring.recover_pipe()
    os.close(out)
    os.close(into)


@pytest.mark.parametrize("written", [0, 5])
def test_input_is_taken_exactly_where_it_came_into_the_inlet(
    ring: Ring, terminal: tuple[int, int], inlet_ends: tuple[int, int], written: int
) -> None:
    master, slave = terminal
    slot = ring.slot_of(b"c" * 16, 1)
    ring.words[slot] = 100
    ring.words[BASE], ring.words[SLOT], ring.words[PHASE] = 100, slot, TAKING
    os.write(inlet_ends[1], b"input"[:written])  # and here the bridge is killed
    successor = Inlet(ring, *inlet_ends, master)
    successor.recover()
    assert ring.words[slot] == 100 + written
    assert successor.pump()
    assert successor.uncertain(slot) is None
    successor.put(slot, b"!")
    assert successor.pump()
    assert read_exactly(slave, written + 1) == b"input"[:written] + b"!"


def test_input_that_was_taken_and_not_delivered_is_delivered_once(
    ring: Ring, terminal: tuple[int, int], inlet_ends: tuple[int, int]
) -> None:
    master, slave = terminal
    slot = ring.slot_of(b"c" * 16, 1)
    os.write(inlet_ends[1], b"input")
    ring.words[slot] = 5  # counted, the phase is over, and here the bridge is killed
    successor = Inlet(ring, *inlet_ends, master)
    successor.recover()
    assert successor.pump()
    assert (os.read(slave, 100), ring.words[slot]) == (b"input", 5)
