"""Names for Unix sockets that fit in a socket address (108 bytes on Linux, 104 on macOS)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 100


@contextmanager
def short_path(path: str) -> Iterator[str]:
    """A name for `path` to bind or connect to; one through its folder's descriptor if need be."""
    if len(os.fsencode(path)) <= LONGEST or not os.path.isdir("/proc/self/fd"):
        yield path
        return
    folder, name = os.path.split(path)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)
