"""A session's output ring, byte counters and screen checkpoint, in memory shared with the keeper.

The memory outlives the bridge, and a bridge may be killed between any two instructions.
So each word is written by one store, and what is under way is noted before it is begun.
"""

from __future__ import annotations

import mmap
import os
import tempfile

PAGE = 4096
CHECKPOINT = 512 * 1024
LAYOUT = 0x0001_4344_5431_5247  # "GR1TDC", then the layout's version: 1
SLOTS = 64

# Words of the header page, 8 bytes each.
_LAYOUT, _SIZE, HEAD, NOTE, _STATUS, EOF = range(6)
PHASE, SLOT, BASE, UNCERTAIN_AT, UNCERTAIN = range(6, 11)
_CHECKPOINT_HALF, _CHECKPOINT_LENGTH, ACTIVE, HOLDER, HISTORY = 11, 12, 14, 15, 16
_FIRST_SLOT, _SLOT_WORDS = 64, 4
_STATUS_BYTE = _STATUS * 8


class UnknownLayout(Exception):
    """Raised when shared memory was laid out by a release that this one does not know."""


class TornRead(Exception):
    """Raised when bytes may have been taken from a program and not been kept."""


class Ring:
    """`size` bytes of the newest output, `head` bytes having been produced in all.

    Its file's position belongs to it: `fill_from_pipe` keeps it at the head, so that the
    kernel itself notes what was read.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        length = os.fstat(fd).st_size
        if length < PAGE:
            raise UnknownLayout(f"shared memory of {length} bytes has no header")
        self._map = mmap.mmap(fd, length)
        self._bytes = memoryview(self._map)
        self.words = self._bytes[:PAGE].cast("Q")
        if self.words[_LAYOUT] != LAYOUT:
            found = self.words[_LAYOUT]
            self.close()
            raise UnknownLayout(f"shared memory has layout {found:#x}, this release {LAYOUT:#x}")
        self.size = self.words[_SIZE]
        self._data = self._bytes[PAGE : PAGE + self.size]
        self._checkpoints = self._bytes[PAGE + self.size :]
        self.status = self._bytes[_STATUS_BYTE : _STATUS_BYTE + 1]

    @classmethod
    def create(cls, size: int) -> Ring:
        """A new ring of `size` bytes, a multiple of the page; memory is taken as it fills."""
        if size % PAGE or size <= 0:
            raise ValueError(f"a ring's size must be a multiple of {PAGE}")
        fd = _anonymous_file()
        os.ftruncate(fd, PAGE + size + 2 * CHECKPOINT)
        os.pwrite(fd, LAYOUT.to_bytes(8, "little") + size.to_bytes(8, "little"), 0)
        os.lseek(fd, PAGE, os.SEEK_SET)
        return cls(fd)

    def close(self) -> None:
        """Give the memory back; the keeper's own descriptor keeps its contents."""
        for view in ("words", "_data", "_checkpoints", "status", "_bytes"):
            held = getattr(self, view, None)
            if held is not None:
                held.release()
        self._map.close()
        os.close(self.fd)

    @property
    def head(self) -> int:
        return self.words[HEAD]

    @property
    def tail(self) -> int:
        """The offset of the oldest byte that is still kept."""
        return max(0, self.words[HEAD] - self.size)

    def read(self, offset: int, limit: int) -> bytes:
        """At most `limit` bytes from `offset`, which must lie between tail and head."""
        count = min(limit, self.words[HEAD] - offset)
        start = offset % self.size
        end = start + count
        if end <= self.size:
            return bytes(self._data[start:end])
        return b"".join((self._data[start:], self._data[: end - self.size]))

    def room(self, count: int) -> list[memoryview]:
        """The one or two places where the next `count` bytes go."""
        start = self.words[HEAD] % self.size
        end = start + count
        if end <= self.size:
            return [self._data[start:end]]
        return [self._data[start:], self._data[: end - self.size]]

    def put(self, data: bytes) -> None:
        """Append bytes that no program wrote; no more than the ring's size."""
        done = 0
        for place in self.room(len(data)):
            with place:
                place[:] = data[done : done + len(place)]
                done += len(place)
        self.words[HEAD] += done

    def fill_from_pipe(self, fd: int) -> int:
        """Move what a non-blocking pipe holds into the ring; 0 at its end.

        Raises BlockingIOError when the pipe is empty. The kernel moves the bytes and the file's
        position together, so `recover_pipe` in a successor knows about each byte.
        """
        if not hasattr(os, "splice"):
            return self._read_pipe(fd)
        start = self.words[HEAD] % self.size
        if start == 0:
            os.lseek(self.fd, PAGE, os.SEEK_SET)
        moved = os.splice(fd, self.fd, self.size - start, flags=os.SPLICE_F_NONBLOCK)
        self.words[HEAD] += moved
        return moved

    def _read_pipe(self, fd: int) -> int:
        """`fill_from_pipe` where there is no splice; the note makes an interrupted one known."""
        self.words[NOTE] = 1
        try:
            moved = os.readv(fd, self.room(65_536))
            self.words[HEAD] += moved
            return moved
        finally:
            self.words[NOTE] = 0

    def recover_pipe(self) -> None:
        """Count what a killed bridge moved and had no time to count.

        Raises TornRead when that can't be known.
        """
        if self.words[NOTE]:
            raise TornRead("a read from the program's pipe was under way when the bridge died")
        if not hasattr(os, "splice"):
            return
        position = os.lseek(self.fd, 0, os.SEEK_CUR) - PAGE
        self.words[HEAD] += (position - self.words[HEAD]) % self.size

    def checkpoint(self, blob: bytes) -> bool:
        """Keep `blob` in the place of the last one; False when it is too large to keep."""
        if len(blob) > CHECKPOINT:
            return False
        half = self.words[_CHECKPOINT_HALF] % 2  # 0: none yet, 1: first half, 2: second
        self._checkpoints[half * CHECKPOINT : half * CHECKPOINT + len(blob)] = blob
        self.words[_CHECKPOINT_LENGTH + half] = len(blob)
        self.words[_CHECKPOINT_HALF] = half + 1
        return True

    def last_checkpoint(self) -> bytes | None:
        """The newest blob that was kept whole."""
        kept = self.words[_CHECKPOINT_HALF]
        if not kept:
            return None
        start = (kept - 1) * CHECKPOINT
        return bytes(self._checkpoints[start : start + self.words[_CHECKPOINT_LENGTH + kept - 1]])

    def slot_of(self, client: bytes, now: int) -> int:
        """The index of the word that counts the input taken from `client` (16 bytes).

        A client that is not there gets a fresh one, or that of the client unseen for longest.
        """
        words = self.words
        first, second = (int.from_bytes(client[at : at + 8], "little") for at in (0, 8))
        places = range(_FIRST_SLOT, _FIRST_SLOT + SLOTS * _SLOT_WORDS, _SLOT_WORDS)
        for place in places:
            if words[place] == first and words[place + 1] == second:
                words[place + 3] = now
                return place + 2
        place = min(places, key=lambda at: words[at + 3])
        words[place] = words[place + 1] = words[place + 2] = 0
        words[place + 3] = now
        words[place + 1], words[place] = second, first
        return place + 2


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("coditect-ring", os.MFD_CLOEXEC)
    fd, path = tempfile.mkstemp(prefix="coditect-ring-")
    os.unlink(path)
    return fd
