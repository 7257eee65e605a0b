"""What the gateway counts, in Prometheus' text exposition format (version 0.0.4)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from http import HTTPStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
ECHO_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Admissions:
    """Counts requests that were admitted or refused, since this process started."""

    def __init__(self) -> None:
        self.admitted = 0
        self.failed = 0
        self.refused: dict[str, int] = {}
        self._started = time.time()

    def refuse(self, code: str, status: int) -> None:
        """A request was refused with this error, answered as this HTTP status."""
        self.refused[code] = self.refused.get(code, 0) + 1
        self.failed += status >= HTTPStatus.INTERNAL_SERVER_ERROR

    def lines(self) -> list[str]:
        refused = [(f'code="{code}"', count) for code, count in sorted(self.refused.items())]
        started = [("", round(self._started, 3))]
        return [
            *_family("start_time_seconds", "gauge", "When this process started.", started),
            *_family("admitted_total", "counter", "Requests admitted.", [("", self.admitted)]),
            *_family("refused_total", "counter", "Requests refused, by error.", refused),
            *_family("failed_total", "counter", "Those answered from 500 on.", [("", self.failed)]),
        ]


class EdgeMetrics(Admissions):
    """Counters of an edge gateway, which sees connections and bytes, and nothing in them."""

    def __init__(self) -> None:
        super().__init__()
        self.input_bytes = 0
        self.output_bytes = 0

    def expose(self, connections: int, pods: int, version: str) -> str:
        """The page that is scraped; `pods` is how many clients can be sent to."""
        lines = [
            *_family("build_info", "gauge", "The release.", [(f'version="{version}"', 1)]),
            *_family("connections", "gauge", "Open connections.", [("", connections)]),
            *_family("pods", "gauge", "Pods to send clients to.", [("", pods)]),
            *_family("input_bytes_total", "counter", "From clients.", [("", self.input_bytes)]),
            *_family("output_bytes_total", "counter", "To clients.", [("", self.output_bytes)]),
            *self.lines(),
        ]
        return "\n".join(lines) + "\n"


class Metrics(Admissions):
    """Counters of one bridge; a successor begins at zero, as Prometheus expects."""

    def __init__(self) -> None:
        super().__init__()
        self.input_bytes = 0
        self.output_bytes = 0
        self._echoes = [0] * (len(ECHO_BUCKETS) + 1)
        self._echo_seconds = 0.0

    def echo(self, seconds: float) -> None:
        """Output came this long after the first input since the last output."""
        self._echo_seconds += seconds
        for index, bound in enumerate(ECHO_BUCKETS):
            if seconds <= bound:
                self._echoes[index] += 1
                return
        self._echoes[-1] += 1

    def expose(self, sessions: Mapping[str, int], connections: int, version: str) -> str:
        """The page that is scraped; `sessions` is the number of live ones by kind."""
        kinds = {kind: sessions.get(kind, 0) for kind in ("terminal", "exec")}
        lines = [
            *_family("build_info", "gauge", "The release.", [(f'version="{version}"', 1)]),
            *_family(
                "sessions",
                "gauge",
                "Live sessions.",
                [(f'kind="{k}"', n) for k, n in kinds.items()],
            ),
            *_family("connections", "gauge", "Open connections.", [("", connections)]),
            *_family("input_bytes_total", "counter", "Input received.", [("", self.input_bytes)]),
            *_family("output_bytes_total", "counter", "Output read.", [("", self.output_bytes)]),
            *self.lines(),
            *self._echo_lines(),
        ]
        return "\n".join(lines) + "\n"

    def _echo_lines(self) -> list[str]:
        samples = []
        total = 0
        for bound, count in zip((*ECHO_BUCKETS, "+Inf"), self._echoes, strict=True):
            total += count
            samples.append(f'coditect_echo_seconds_bucket{{le="{bound}"}} {total}')
        return [
            "# HELP coditect_echo_seconds From input to the output that follows.",
            "# TYPE coditect_echo_seconds histogram",
            *samples,
            f"coditect_echo_seconds_sum {self._echo_seconds:.6f}",
            f"coditect_echo_seconds_count {total}",
        ]


def _family(name: str, kind: str, meaning: str, samples: Iterable[tuple[str, float]]) -> list[str]:
    name = f"coditect_{name}"
    lines = [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        lines.append(f"{name}{{{labels}}} {value}" if labels else f"{name} {value}")
    return lines
