from __future__ import annotations

import io
import json

import pytest

from coditect_cli.errors import UsageError
from coditect_cli.sessions.asciicast import (
    LONGEST_LINE,
    Event,
    Recording,
    Timeline,
    header_line,
)

V3 = b'{"version": 3, "term": {"cols": 80, "rows": 24}}\n'
V2 = b'{"version": 2, "width": 80, "height": 24, "idle_time_limit": 1.5}\n'


def recording(content: bytes) -> Recording:
    return Recording(io.BytesIO(content))


def test_what_is_written_is_read_again() -> None:
    timeline = Timeline(100.0)
    lines = header_line(100, 30, timestamp=5, title="demo é")
    lines += timeline.event_line(100.5, "o", "a\x1b[1mé\r\n日\ud800")
    lines += timeline.event_line(101.25, "r", "90x20")
    lines += timeline.event_line(101.25, "x", "3")
    found = recording(lines)
    assert (found.cols, found.rows, found.idle_time_limit) == (100, 30, None)
    assert list(found.events()) == [
        Event(0.5, "o", "a\x1b[1mé\r\n日?"),
        Event(1.25, "r", "90x20"),
        Event(1.25, "x", "3"),
    ]
    assert not found.cut_off


def test_intervals_do_not_drift_and_have_no_exponents() -> None:
    timeline = Timeline(0.0)
    lines = [timeline.event_line(n / 30_000, "o", "x") for n in range(30_001)]
    assert not any(b"e" in line for line in lines)
    assert round(sum(json.loads(line)[0] for line in lines), 6) == 1.0


def test_a_clock_that_goes_back_makes_no_negative_interval() -> None:
    timeline = Timeline(0.0)
    timeline.event_line(2.0, "o", "a")
    assert timeline.event_line(1.0, "o", "b") == b'[0.000000, "o", "b"]\n'


def test_v2_has_times_and_v3_intervals() -> None:
    events = b'[1, "o", "a"]\n# a comment\n\n[3.5, "i", "b"]\n'
    assert [e.time for e in recording(V3 + events).events()] == [1, 4.5]
    v2 = recording(V2 + events)
    assert v2.idle_time_limit == 1.5
    assert [e.time for e in v2.events()] == [1, 3.5]


def test_a_last_line_that_was_cut_off_ends_it() -> None:
    found = recording(V3 + b'[1, "o", "a"]\n[1, "o", "b')
    assert [event.data for event in found.events()] == ["a"]
    assert found.cut_off


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", 1),
        (b"junk\n", 1),
        (b"[1]\n", 1),
        (b'{"version": 1, "width": 80, "height": 24, "stdout": []}', 1),
        (b'{"version": 3, "term": {"cols": 80}}\n', 1),
        (b'{"version": 3, "term": {"cols": true, "rows": -1}}\n', 1),
        (V3 + b"junk\n", 2),
        (V3 + b'\n[1, "o"]\n', 3),
        (V3 + b'[-1, "o", "a"]\n', 2),
        (V3 + b'["1", "o", "a"]\n', 2),
        (V3 + b'[NaN, "o", "a"]\n', 2),
        (V3 + b'[1, "o", 5]\n', 2),
        (V3 + b"[" * 100_000 + b"\n", 2),
        (V3 + b" " * LONGEST_LINE, 2),
    ],
)
def test_what_is_no_recording_is_told_by_line(content: bytes, line: int) -> None:
    with pytest.raises(UsageError, match=f"^line {line} of ") as caught:
        list(recording(content).events())
    assert caught.value.code == "recording.unreadable"
