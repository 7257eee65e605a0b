"""The gateways' own /metrics, where their pages were named: gauges, and counters of a window.

A page must be one process's. Which one answered is told by when it started: where another one does,
behind a load balancer or after a restart, the counters can't be compared and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress

from coditect_cli.errors import CoditectError, Failed, Unreachable
from coditect_cli.migrations.gates import Sample

STARTED = "coditect_start_time_seconds"
COUNTERS = ("coditect_admitted_total", "coditect_refused_total", "coditect_failed_total")
PATIENCE = 10.0  # seconds for a page

Counts = Mapping[str, Mapping[str, float]]  # by page, by name


def note_counters(pages: Iterable[str]) -> dict[str, dict[str, float]]:
    """What the counters are now; without the pages that can't be read or are another program's."""
    noted = {}
    for page in pages:
        with suppress(CoditectError):
            found = read_metrics(page)
            if STARTED in found:
                noted[page] = {name: found.get(name, 0.0) for name in (STARTED, *COUNTERS)}
    return noted


def counted_since(before: Counts) -> Sample:
    """What happened since the counters were noted, where the same processes still count."""
    now = note_counters(before)
    admitted, refused, failed = (
        int(
            sum(
                found[name] - before[page][name]
                for page, found in now.items()
                if found[STARTED] == before[page][STARTED]
            )
        )
        for name in COUNTERS
    )
    return Sample(
        requests=admitted + refused, errors=failed, sessions=admitted, failed_sessions=failed
    )


def read_metrics(url: str) -> dict[str, float]:
    """A gateway's /metrics: each family's samples added up, without the histograms.

    Raises Unreachable, and Failed when the page is no Prometheus text (format 0.0.4).
    """
    from http.client import HTTPException
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 (the setting admits http alone)
            text = answer.read(4 << 20).decode()
    except (HTTPException, OSError, UnicodeDecodeError) as error:
        raise Unreachable(
            f"cannot read {url}: {error}", code="gate.no_metrics", retryable=True
        ) from None
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([a-zA-Z_:][\w:]*)(?:\{[^{}]*\})? (\S+)", line)
            try:
                name, value = (match[1], float(match[2])) if match else ("", float("nan"))
            except ValueError:
                name, value = "", float("nan")
            if not name:
                raise Failed(f"{url} is not Prometheus text: {line[:80]!r}", code="gate.no_metrics")
            found[name] = found.get(name, 0.0) + value
    return found
