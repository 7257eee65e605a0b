"""asciicast v3, which is written, and v2, which is read too: one JSON text a line.

<https://docs.asciinema.org/manual/asciicast/v3/>: first the header, then events
[interval, code, data]; in v2 [time, code, data]. Times are seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any, BinaryIO

from coditect_cli.errors import UsageError

OUTPUT, MARKER, RESIZE, EXIT = "o", "m", "r", "x"
LONGEST_LINE = 16 * 1024 * 1024  # bytes
MICROSECONDS = 1_000_000


def header_line(cols: int, rows: int, *, timestamp: int, title: str) -> bytes:
    """The first line of a v3 recording; `timestamp` is seconds since 1970."""
    term = {"cols": cols, "rows": rows}
    header = {"version": 3, "term": term, "timestamp": timestamp, "title": title}
    return _json(header).encode("utf-8", "replace") + b"\n"


class Timeline:
    """Writes events with their intervals, in whole microseconds so that no error adds up."""

    def __init__(self, start: float) -> None:
        self._start = start
        self._last = 0

    def event_line(self, now: float, code: str, data: str) -> bytes:
        """The line of what happened at `now`, seconds of the clock that `start` was read from."""
        moment = max(self._last, round((now - self._start) * MICROSECONDS))
        interval, self._last = moment - self._last, moment
        seconds = f"{interval / MICROSECONDS:.6f}"  # json would write 5e-05, not all read that
        return f"[{seconds}, {_json(code)}, {_json(data)}]\n".encode("utf-8", "replace")


@dataclass(frozen=True)
class Event:
    """`time` is seconds since the start of the recording."""

    time: float
    code: str
    data: str


class Recording:
    """A recording that is read as it is asked for, one line in memory at a time.

    Raises UsageError (recording.unreadable), with the number of the line.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._number = 0
        self.cut_off = False  # whether the last line was found to be only the start of one
        header = self._parsed(self._line() or b"")
        self._version = header.get("version") if isinstance(header, dict) else None
        if self._version not in (2, 3):
            raise self._unreadable(
                f"it is asciicast v{self._version}"
                if isinstance(self._version, int)
                else "it does not start with an asciicast header"
            )
        size = header.get("term") if self._version == 3 else header
        names = ("cols", "rows") if self._version == 3 else ("width", "height")
        cols, rows = (size.get(name) if isinstance(size, dict) else None for name in names)
        if not (isinstance(cols, int) and isinstance(rows, int) and cols > 0 and rows > 0):
            raise self._unreadable("its header has no terminal size")
        self.cols, self.rows = cols, rows
        limit = header.get("idle_time_limit")
        self.idle_time_limit: float | None = limit if _is_time(limit) else None

    def events(self) -> Iterator[Event]:
        """The events that are left, in order."""
        time = 0.0
        while (line := self._line()) is not None:
            if line.startswith(b"#") or not line.strip():
                continue
            try:
                found = self._parsed(line)
            except UsageError:
                if line.endswith(b"\n"):
                    raise
                self.cut_off = True
                return
            match found:
                case [when, str(code), str(data)] if _is_time(when):
                    time = time + when if self._version == 3 else max(time, when)
                    yield Event(time, code, data)
                case _:
                    raise self._unreadable("it is not [seconds, code, data]")

    def _line(self) -> bytes | None:
        line = self._file.readline(LONGEST_LINE)
        self._number += 1
        if len(line) == LONGEST_LINE:
            raise self._unreadable(f"it is longer than {LONGEST_LINE:,} bytes")
        return line or None

    def _parsed(self, line: bytes) -> Any:
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            raise self._unreadable("it is not JSON") from None

    def _unreadable(self, why: str) -> UsageError:
        return UsageError(
            f"line {self._number} of the recording cannot be read: {why}",
            code="recording.unreadable",
            hint="asciicast v2 and v3 are read; `asciinema convert` makes v3 of others",
        )


def _is_time(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and isfinite(value)
        and value >= 0
    )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
