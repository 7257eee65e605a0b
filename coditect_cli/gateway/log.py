"""The gateway's log: lines on stderr, which the background gateway's keeper made a file."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from pathlib import Path

from coditect_cli.paths import Paths

LARGEST = 10_000_000  # bytes; then the file moves to NAME.1, in the place of the one before


class BoundedLog(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to stderr, and bounds it where it is `file`.

    The keeper and every bridge append to the same open file: it is copied and emptied, not renamed.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(sys.stderr)
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        if os.fstat(2).st_size > LARGEST and log_path() == str(self._file.resolve()):
            turn_over(self._file)


def turn_over(file: Path) -> None:
    """Move what stderr has written to `file` so far to NAME.1."""
    old = os.open(f"{file}.1", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(file, "rb") as log, open(old, "wb") as copy:
        shutil.copyfileobj(log, copy)
    os.ftruncate(2, 0)


def log_path() -> str | None:
    """The file that stderr goes to, if it is one."""
    try:
        path = os.readlink("/proc/self/fd/2")
    except OSError:
        return None
    return path if Path(path).is_file() else None


def set_up_logging(level: str, paths: Paths) -> None:
    """Lines on stderr: time, logger, event, fields. Never a token, never a terminal's byte."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        handlers=[BoundedLog(paths.gateway_log)],
        level=logging.DEBUG if level.lower() == "debug" else logging.INFO,
        format="%(asctime)s %(name)s %(levelname)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%SZ",
    )
    logging.getLogger("coditect.websockets").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
