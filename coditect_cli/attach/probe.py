"""Whether a gateway gives back what is typed, once and in order, and how fast."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from coditect_cli.attach.conversation import Conversation
from coditect_cli.attach.link import Link, LinkLost
from coditect_cli.errors import Failed

# Raw, and the program writes each byte back: no line editing and no echo of the terminal's own.
ECHO = ("sh", "-c", "stty raw -echo && printf ready && exec cat")
LAST = b"<the last>"  # what was typed twice, or came late, comes before its echo
_MARK = re.compile(rb"<(\d{8})>")


@dataclass(frozen=True)
class Echoes:
    """`seen` are the writes' numbers as they came back, `times` the seconds each one took."""

    writes: int
    seen: tuple[int, ...]
    times: tuple[float, ...]
    clean: bool  # nothing came back that was not written

    @property
    def lost(self) -> int:
        return self.writes - len(set(self.seen))

    @property
    def doubled(self) -> int:
        return len(self.seen) - len(set(self.seen))

    @property
    def ok(self) -> bool:
        """All came back, once and in order, and nothing else did."""
        return self.clean and self.seen == tuple(range(self.writes))

    def percentile(self, percent: float) -> float | None:
        """Milliseconds within which so many percent of the echoes came; None without any."""
        ordered = sorted(self.times)
        if not ordered:
            return None
        at = min(len(ordered) - 1, int(len(ordered) * percent / 100))
        return round(ordered[at] * 1000, 3)


def probe(link: Link, writes: int) -> Echoes:
    """Type `writes` marks into a program of our own, one after the other's echo.

    Stops at the first that does not come back. Raises the gateway's error when it refuses, and
    Failed when the connection is lost.
    """
    try:
        return _measure(link, writes)
    except LinkLost as lost:
        raise Failed(
            f"the connection was lost during the probe (close code {lost.close_code})",
            code="probe.link_lost",
            hint="coditect gateway logs may say why",
        ) from lost
    finally:
        link.close()


def _measure(link: Link, writes: int) -> Echoes:
    conversation = Conversation.run(link, ECHO)
    conversation.expect(b"ready")
    echoed = bytearray()
    times = []
    for mark in (*(b"<%08d>" % number for number in range(writes)), LAST):
        begun = time.perf_counter()
        conversation.type(mark)
        try:
            echoed += conversation.expect(mark)
        except Failed:
            break
        times.append(time.perf_counter() - begun)
    conversation.end()
    echoed += conversation.output
    seen = tuple(int(found) for found in _MARK.findall(echoed))
    others = _MARK.sub(b"", echoed)
    clean = others == (LAST if len(times) >= writes else b"")
    return Echoes(writes, seen, tuple(times[:writes]), clean)
