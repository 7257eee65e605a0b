"""Gates: the error rate of what is new against that of what served before, in one window.

Cloud Run writes a line per request (https://cloud.google.com/run/docs/logging#request_logs), also
for a WebSocket: status 101 when it was let in. The gateway's own lines say which of them became
sessions. A line of the gateway has its level in it, because on Google Kubernetes Engine everything
on stderr counts as an error.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from coditect_cli.errors import Failed
from coditect_cli.migrations import programs
from coditect_cli.migrations.step import Verdict, Watch
from coditect_cli.sessions.session import NANOSECONDS, format_time, parse_time

if TYPE_CHECKING:
    from coditect_cli.migrations.settings import MigrateSettings

MOST_ENTRIES = 20_000  # the newest ones, of a look: 20 requests of the 60 that a minute's quota has
CHANCE = 3.0  # standard deviations of a number of failures that come one by one
TRY = 60.0  # seconds of a look that only tries whether one may look
_FIELDS = (
    "timestamp,severity,insertId,trace,resource.type,resource.labels.revision_name,"
    "httpRequest.status,httpRequest.requestUrl,textPayload,jsonPayload.message"
)
_STARTED = re.compile(r"\b(?:session_started|joined) ")
_OUR_LINE = re.compile(r"^\S+ \S+ coditect\S* (?P<level>[A-Z]+) ")
_ERRORS = ("ERROR", "CRITICAL", "ALERT", "EMERGENCY")
# The same to Cloud Logging: a line on stderr has no severity on Cloud Run, whatever it says.
_OUR_ERRORS = 'textPayload=~"^[^ ]+ [^ ]+ coditect[^ ]* (ERROR|CRITICAL) "'
_TERMINALS = ("/ws", "/ws/terminal")
SERVER_ERROR = 500
SWITCHING_PROTOCOLS = 101


@dataclass(frozen=True)
class Sample:
    """What happened in a window. `sessions` started, `failed_sessions` were asked for in vain."""

    requests: int = 0
    errors: int = 0
    sessions: int = 0
    failed_sessions: int = 0

    @property
    def starts(self) -> int:
        """The sessions that were asked for."""
        return self.sessions + self.failed_sessions

    def as_dict(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "errors": self.errors,
            "errorRate": round(_ratio(self.errors, self.requests), 6),
            "sessions": self.sessions,
            "failedSessions": self.failed_sessions,
        }


@dataclass(frozen=True)
class Window:
    """What each of some sources wrote from `since` on (nanoseconds since 1970): all of it.

    It is cut where a source wrote more than one look brings: it then begins where the look that
    reaches back least has its oldest entry, for all of them.
    """

    since: int
    is_cut: bool
    entries: tuple[list[dict[str, Any]], ...]

    def later(self, since: int) -> Window:
        """What is left of it from then on."""
        kept = tuple([one for one in look if _at(one) >= since] for look in self.entries)
        return replace(self, since=since, entries=kept)

    def named_in(self, verdict: Verdict) -> Verdict:
        """The verdict with the window that it is about; in its words too, where that was cut."""
        since = format_time(self.since)
        numbers = {**verdict.numbers, "since": since, "isCut": self.is_cut}
        reason = verdict.reason
        if self.is_cut:
            reason += f" (since {since}: a look brings {MOST_ENTRIES:,} lines, and there were more)"
        return replace(verdict, reason=reason, numbers=numbers)


@dataclass(frozen=True)
class Limits:
    """What a decision needs: a sample of at least this size; and the increase it still passes,
    and the rate of errors that it fails where there is too little to compare it with.
    """

    min_sessions: int
    min_requests: int
    max_error_increase: float
    max_error_rate: float


def decide(new: Sample, serving: Sample | None, limits: Limits) -> Verdict:
    """Whether the new one may have more traffic. `serving` is None where nothing else serves:
    then it is measured against one without errors.

    Too small a sample never passes, and what is worse than allowed never does. It fails once there
    are more failures than CHANCE would give a full sample, or all that was tried, at the rate that
    is allowed; until then it holds. With too few requests on what served before, only a rate fails
    that is too high whatever it would be compared with.
    """
    base = serving or Sample()
    has_base = serving is None or base.requests >= limits.min_requests
    numbers = {
        "new": new.as_dict(),
        "serving": serving.as_dict() if serving is not None else None,
        "maxErrorIncrease": limits.max_error_increase,
    }
    compared = (
        ("requests", new.errors, new.requests, base.errors, base.requests, limits.min_requests),
        (
            "session starts",
            new.failed_sessions,
            new.starts,
            base.failed_sessions,
            base.starts,
            limits.min_sessions,
        ),
    )
    told, missing = [], []
    for what, failed, tried, base_failed, base_tried, least in compared:
        against = f"against {_rate(base_failed, base_tried)} before"
        told.append(
            f"{_rate(failed, tried, what)} failed, "
            + (against if serving is not None else "and nothing else serves")
        )
        # Few of a kind before say nothing of its rate: one failure of one would excuse any.
        before = _ratio(base_failed, base_tried) if base_tried >= least else 0.0
        allowed = (before + limits.max_error_increase) * max(tried, least)
        by_chance = allowed + CHANCE * math.sqrt(allowed)
        if not has_base:
            by_chance = max(allowed, limits.max_error_rate * max(tried, least))
        if failed > by_chance:
            return Verdict("fail", told[-1], numbers)
        if failed > allowed:
            missing.append(f"{told[-1]}, which may be chance")
    if new.sessions < limits.min_sessions:
        missing.append(f"{new.sessions} new sessions of {limits.min_sessions}")
    if new.requests < limits.min_requests:
        missing.append(f"{new.requests} requests of {limits.min_requests}")
    if not has_base:
        missing.append(f"{base.requests} requests of {limits.min_requests} on what served before")
    if missing:
        return Verdict("hold", "; ".join(missing), numbers)
    return Verdict("pass", "; ".join(told), numbers)


def _ratio(part: int, whole: int) -> float:
    """From 0 to 1; errors without a request are as bad as can be."""
    return min(1.0, part / whole) if whole else float(part > 0)


def _rate(part: int, whole: int, what: str = "") -> str:
    percent = f" ({part / whole:.2%})" if whole else ""
    return f"{part:,} of {whole:,}{what and ' ' + what}{percent}"


def sample(entries: Iterable[Mapping[str, Any]]) -> Sample:
    """What log entries, as `gcloud logging read --format=json` gives them, amount to."""
    requests = failed_starts = upgrades = started = 0
    failures = set()  # a request and what the program said of it share a trace
    for entry in entries:
        status = (entry.get("httpRequest") or {}).get("status")
        text = str(entry.get("textPayload") or (entry.get("jsonPayload") or {}).get("message", ""))
        if isinstance(status, int):
            requests += 1
            is_failure = status >= SERVER_ERROR
            upgrades += status == SWITCHING_PROTOCOLS
            url = str(entry["httpRequest"].get("requestUrl", ""))
            failed_starts += is_failure and urlsplit(url).path in _TERMINALS
        else:
            line = _OUR_LINE.match(text)
            is_failure = (line["level"] if line else entry.get("severity")) in _ERRORS
            started += bool(_STARTED.search(text))
        if is_failure:
            failures.add(entry.get("trace") or entry.get("insertId") or id(entry))
    return Sample(requests, len(failures), max(upgrades, started), failed_starts)


def read_entries(
    project: str, source: str, since: float, until: float | None = None
) -> list[dict[str, Any]]:
    """What a source (a filter of Cloud Logging) wrote in a window, the newest MOST_ENTRIES of it.

    Raises what programs.run_json() raises, and Failed for an answer of another kind.
    """
    entries = programs.run_json(entries_argv(project, source, since, until, MOST_ENTRIES))
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Failed("gcloud logging read did not answer with a list", code="gate.unknown_answer")
    return entries


def check_readable(project: str, sources: Iterable[str]) -> None:
    """Try whether one may look at each source. Raises as read_entries()."""
    for source in sources:
        programs.run_json(entries_argv(project, source, time.time() - TRY, None, 1))


def read_window(
    project: str, sources: Iterable[str], since: float, until: float | None = None
) -> Window:
    """What each source wrote in the longest window of which all is at hand. As read_entries()."""
    looks = [read_entries(project, source, since, until) for source in sources]
    begin = int(since * NANOSECONDS)
    # There may be more of the oldest entry's moment, so a cut look is whole only after it.
    cuts = [1 + min(map(_at, look)) for look in looks if len(look) >= MOST_ENTRIES]
    window = Window(begin, bool(cuts), tuple(looks))
    return window.later(max(begin, *cuts)) if cuts else window


def _at(entry: Mapping[str, Any]) -> int:
    try:
        return parse_time(entry.get("timestamp"))
    except ValueError as rule:
        raise Failed(f"a time in the log is {rule}", code="gate.unknown_time") from None


def watch(
    settings: MigrateSettings,
    project: str,
    sources: Iterable[str],
    pages: Sequence[str] = (),
    until: str | None = None,
) -> Watch:
    """A gate that reads these sources, for a plan."""
    return Watch(
        [entries_argv(project, source, "{since}", until, MOST_ENTRIES) for source in sources],
        pages,
        {
            "minSessions": settings.min_sessions,
            "minRequests": settings.min_requests,
            "maxErrorIncrease": settings.max_error_increase,
            "maxErrorRate": settings.max_error_rate,
            "intervalSeconds": settings.gate_interval,
            "holdSeconds": settings.hold,
        },
    )


def limits_of(settings: MigrateSettings) -> Limits:
    """What the settings ask of a decision."""
    return Limits(
        settings.min_sessions,
        settings.min_requests,
        settings.max_error_increase,
        settings.max_error_rate,
    )


def entries_argv(
    project: str, source: str, since: float | str, until: float | str | None, most: int
) -> tuple[str, ...]:
    """The command line of such a look, at the newest `most` entries.

    Times are in seconds since 1970, or a name for one to come.
    """
    window = f'timestamp>="{_moment(since)}"'
    if until is not None:
        window += f' AND timestamp<="{_moment(until)}"'
    return (
        "gcloud",
        "logging",
        "read",
        f"({source}) AND {window}",
        f"--limit={most}",
        f"--project={project}",
        f"--format=json({_FIELDS})",
    )


def _moment(seconds: float | str) -> str:
    if isinstance(seconds, str):
        return seconds
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


def of_service(service: str, region: str) -> str:
    """The source that is a Cloud Run service: its requests, its errors, the gateway's lines."""
    return (
        f'resource.type="cloud_run_revision" AND resource.labels.service_name="{service}" AND '
        f'resource.labels.location="{region}" AND (log_id("run.googleapis.com/requests") OR '
        f"severity>=ERROR OR {_OUR_ERRORS} OR "
        'textPayload:"session_started " OR textPayload:"joined ")'
    )


def of_cluster(cluster: str, region: str) -> str:
    """The source that is a cluster's gateway: its containers' lines, its load balancer's."""
    return (
        f'resource.type="k8s_container" AND resource.labels.cluster_name="{cluster}" AND '
        f'resource.labels.location="{region}" AND (severity>=ERROR OR httpRequest.status>=100 OR '
        'textPayload:"session_started " OR textPayload:"joined ")'
    )


def compare_revisions(window: Window, new: str) -> tuple[Sample, Sample]:
    """What happened in a service's window on a revision, and on all others of it together."""
    (entries,) = window.entries
    of_new = [entry for entry in entries if _revision(entry) == new]
    of_others = [entry for entry in entries if _revision(entry) != new]
    return sample(of_new), sample(of_others)


def _revision(entry: Mapping[str, Any]) -> Any:
    return ((entry.get("resource") or {}).get("labels") or {}).get("revision_name")
