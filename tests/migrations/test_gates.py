"""Gates: the decision by its properties, the reading through the real gcloud."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coditect_cli.migrations import gates, programs
from coditect_cli.migrations.gates import (
    Limits,
    Sample,
    check_readable,
    compare_revisions,
    decide,
    of_cluster,
    of_service,
    read_entries,
    read_window,
    sample,
)
from coditect_cli.migrations.step import Verdict
from tests.support.cloud import PROJECT, Cloud

LIMITS = Limits(50, 500, max_error_increase=0.01, max_error_rate=0.5)
GOOD = Sample(requests=1000, errors=3, sessions=100)


def rate(part: int, whole: int) -> float:
    return min(1.0, part / whole) if whole else float(part > 0)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    requests = draw(st.integers(0, 3000))
    failed = draw(st.integers(0, requests))
    return Sample(
        requests, draw(st.integers(0, requests)), draw(st.integers(0, 200)), min(failed, 200)
    )


limits = st.builds(
    Limits,
    st.integers(0, 100),
    st.integers(0, 1000),
    st.floats(0, 1, allow_nan=False),
    st.just(0.5),
)


@given(samples(), st.none() | samples(), limits)
def test_too_little_data_never_passes(new: Sample, serving: Sample | None, limits: Limits) -> None:
    verdict = decide(new, serving, limits)
    if new.sessions < limits.min_sessions or new.requests < limits.min_requests:
        assert verdict.decision != "pass"
    if serving is not None and serving.requests < limits.min_requests:
        is_hopeless = (
            new.errors > max(new.requests, limits.min_requests) / 2
            or new.failed_sessions > max(new.starts, limits.min_sessions) / 2
        )
        assert verdict.decision in (("hold", "fail") if is_hopeless else ("hold",))


@given(samples(), samples(), limits)
def test_what_passes_is_not_worse_than_allowed(
    new: Sample, serving: Sample, limits: Limits
) -> None:
    if decide(new, serving, limits).decision == "pass":
        most = rate(serving.errors, serving.requests) + limits.max_error_increase
        assert new.errors <= most * new.requests + 1e-9
        most = rate(serving.failed_sessions, serving.starts) + limits.max_error_increase
        assert new.failed_sessions <= most * max(new.starts, limits.min_sessions) + 1e-9


@given(samples(), st.none() | samples(), limits, st.integers(1, 500))
def test_one_more_error_never_turns_a_fail_into_anything_else(
    new: Sample, serving: Sample | None, limits: Limits, more: int
) -> None:
    if decide(new, serving, limits).decision == "fail":
        worse = Sample(new.requests, new.errors + more, new.sessions, new.failed_sessions)
        assert decide(worse, serving, limits).decision == "fail"


@given(samples(), st.none() | samples(), limits)
def test_an_early_fail_would_also_be_one_with_a_full_sample(
    new: Sample, serving: Sample | None, limits: Limits
) -> None:
    """Whatever comes, if all of it succeeds, up to the smallest sample that decides."""
    if decide(new, serving, limits).decision == "fail":
        tried = new.starts
        full = Sample(
            max(new.requests, limits.min_requests),
            new.errors,
            new.sessions + max(0, limits.min_sessions - tried),
            new.failed_sessions,
        )
        assert decide(full, serving, limits).decision == "fail"


@pytest.mark.parametrize(
    ("new", "serving", "decision", "reason"),
    [
        (
            GOOD,
            GOOD,
            "pass",
            "3 of 1,000 requests (0.30%) failed, against 3 of 1,000 (0.30%) before; 0 of 100",
        ),
        (GOOD, None, "pass", "and nothing else serves"),
        (Sample(1000, 24, 100), GOOD, "fail", "24 of 1,000 requests (2.40%) failed"),
        (Sample(1000, 14, 100), GOOD, "hold", "0.30%) before, which may be chance"),
        (Sample(4000, 80, 100), GOOD, "fail", "80 of 4,000"),
        (Sample(3, 1, 2, 1), GOOD, "hold", "1 of 3 session starts (33.33%) failed"),
        (Sample(3, 3, 0, 3), GOOD, "fail", "3 of 3 session starts"),
        (Sample(60, 1, 59, 1), GOOD, "hold", "which may be chance; 60 requests of 500"),
        (Sample(1000, 13, 100), GOOD, "pass", "13 of 1,000"),
        (Sample(1000, 200, 100), Sample(9000, 1800, 900), "pass", "200 of 1,000"),
        (
            Sample(1000, 0, 90, 10),
            GOOD,
            "fail",
            "10 of 100 session starts (10.00%) failed, against 0 of 100",
        ),
        (Sample(499, 0, 49), GOOD, "hold", "49 new sessions of 50; 499 requests of 500"),
        (GOOD, Sample(10), "hold", "10 requests of 500 on what served before"),
        (Sample(1000, 501, 100), Sample(10), "fail", "501 of 1,000 requests (50.10%) failed"),
        (Sample(1000, 500, 100), Sample(10), "hold", "10 requests of 500 on what served before"),
        (Sample(1000, 900, 100), Sample(10, 10), "fail", "900 of 1,000"),
        (Sample(600, 0, 60, 60), Sample(600, 0, 0, 1), "fail", "60 of 120 session starts"),
        (Sample(1000, 0, 40, 60), Sample(), "fail", "60 of 100 session starts (60.00%) failed"),
        (Sample(499, 250, 100), Sample(10), "hold", "499 requests of 500"),
        (Sample(20, 20, 0), GOOD, "fail", "20 of 20 requests"),
        (Sample(20, 2, 0), GOOD, "hold", "0 new sessions"),
        (Sample(), Sample(), "hold", "0 new sessions of 50"),
    ],
)
def test_decisions(new: Sample, serving: Sample | None, decision: str, reason: str) -> None:
    verdict = decide(new, serving, LIMITS)
    assert verdict.decision == decision
    assert reason in verdict.reason
    assert verdict.numbers["new"]["requests"] == new.requests


def test_the_rate_that_fails_by_itself_is_a_setting() -> None:
    strict = replace(LIMITS, max_error_rate=0.2)
    assert decide(Sample(1000, 201, 100), Sample(10), strict).decision == "fail"
    assert decide(Sample(1000, 201, 100), Sample(10), LIMITS).decision == "hold"


def request(status: int, url: str = "https://g/api", **fields: Any) -> dict[str, Any]:
    return {"httpRequest": {"status": status, "requestUrl": url}, **fields}


def test_a_request_and_what_the_program_said_of_it_are_one_error() -> None:
    entries = [
        request(500, trace="t1"),
        {"severity": "ERROR", "textPayload": "panic", "trace": "t1"},
        {"severity": "ERROR", "textPayload": "panic", "insertId": "a"},
        {"severity": "ERROR", "jsonPayload": {"message": "no"}, "insertId": "b"},
        {"severity": "WARNING", "textPayload": "hm", "insertId": "c"},
        request(404),
    ]
    assert sample(entries) == Sample(requests=2, errors=3)


def test_a_line_of_the_gateway_is_as_bad_as_it_says_itself() -> None:
    """On Google Kubernetes Engine every line on stderr has severity ERROR."""
    line = "2026-01-02 03:04:05,678 coditect.gateway {} refused why=x"
    entries = [
        {"severity": "ERROR", "insertId": level, "textPayload": line.format(level)}
        for level in ("INFO", "WARNING", "ERROR")
    ]
    assert sample(entries) == Sample(errors=1)


def test_sessions_are_counted_once_however_they_are_told() -> None:
    told = "2026-01-02 03:04:05,678 coditect.gateway INFO "
    entries = [
        request(101, "https://g/ws"),
        request(101, "https://g/ws/terminal"),
        request(503, "https://g/ws"),
        request(503, "https://g/healthz"),
        {"textPayload": told + "session_started id=a workspace=w"},
        {"textPayload": told + "joined workspace=w"},
        {"textPayload": told + "joined workspace=v"},
        {"textPayload": told + "left workspace=w"},
    ]
    assert sample([{**entry, "insertId": str(n)} for n, entry in enumerate(entries)]) == Sample(
        requests=4, errors=2, sessions=3, failed_sessions=1
    )


def test_no_look_counts_more_of_the_window_than_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy side's 20,000 lines were once its last minute, and were set against an hour."""
    monkeypatch.setattr(gates, "MOST_ENTRIES", 4)
    seconds = {"busy": [9, 8, 7, 7], "quiet": [9, 8, 7, 1]}

    def read(argv: Sequence[str], **_: object) -> Any:
        name = "busy" if "busy" in argv[3] else "quiet"
        moments = seconds[name]
        return [{"timestamp": f"2026-01-01T00:00:0{second}Z"} for second in moments]

    monkeypatch.setattr(programs, "run_json", read)
    window = read_window(PROJECT, ["busy", "quiet"], 0.0)
    assert [len(look) for look in window.entries] == [2, 2]
    verdict = window.named_in(Verdict("pass", "all well"))
    assert "since 2026-01-01T00:00:07.000000001Z" in verdict.reason
    assert verdict.numbers["isCut"] is True

    seconds["busy"].pop()
    seconds["quiet"].pop()
    window = read_window(PROJECT, ["busy", "quiet"], 0.0)
    assert [len(look) for look in window.entries] == [3, 3]
    assert window.named_in(Verdict("pass", "all well")).reason == "all well"


@pytest.mark.slow
def test_revisions_are_compared_in_one_window(google: Cloud) -> None:
    google.logs.serve("websocket-gateway", "new", requests=30, errors=3, sessions=5)
    google.logs.serve("websocket-gateway", "old", requests=70, errors=1, sessions=9)
    google.logs.serve("another", "new", requests=9, errors=9, sessions=0)
    start = time.time() - 60
    google.logs.add(
        {"type": "cloud_run_revision", "labels": {"service_name": "websocket-gateway"}}, ago=600
    )
    window = read_window(PROJECT, [of_service("websocket-gateway", "us-central1")], start)
    new, old = compare_revisions(window, "new")
    assert new == Sample(30, 3, 5, 3)
    assert old == Sample(70, 1, 9, 1)
    looks = [one for one in google.server.requests if one.path == "/v2/entries:list"]
    assert len(looks) == 1
    check_readable(PROJECT, [of_service("websocket-gateway", "us-central1")])
    assert google.server.requests[-1].body["pageSize"] == 1  # it only tries whether one may

    google.logs.serve_cluster("old-cluster", requests=8, errors=2, sessions=3)
    entries = read_entries(PROJECT, of_cluster("old-cluster", "us-central1"), start)
    assert sample(entries) == Sample(8, 2, 3, 2)
