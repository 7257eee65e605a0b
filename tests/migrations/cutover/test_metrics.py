"""The gateways' own pages: what they tell, and what their counters rose by."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from coditect_cli.errors import Failed, Unreachable
from coditect_cli.gateway.metrics import EdgeMetrics, Metrics
from coditect_cli.migrations import gates
from coditect_cli.migrations.cutover.metrics import counted_since, note_counters, read_metrics
from coditect_cli.migrations.gates import Sample
from coditect_cli.migrations.step import Verdict
from coditect_cli.stores.store import SessionStore
from tests.migrations.cutover.conftest import GATEWAY, NEW, OLD, REVISION, Cutover
from tests.migrations.cutover.quick import CutoverPrograms

NOBODY = "http://127.0.0.1:1/metrics"


class Page:
    """Whatever is asked is answered with `content`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.content = b""


@pytest.fixture
def page() -> Iterator[Page]:
    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith("/raw"):
                self.send_response(200)
                self.end_headers()
            self.wfile.write(found.content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answering)
    found = Page(f"http://127.0.0.1:{server.server_port}/metrics")
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def shown(metrics: EdgeMetrics) -> bytes:
    return metrics.expose(0, 0, "1").encode()


def test_the_gateways_own_page_is_read(page: Page) -> None:
    metrics = Metrics()
    metrics.echo(0.002)
    metrics.refuse("token.expired", 401)
    metrics.refuse("limit", 429)
    page.content = metrics.expose({"terminal": 3, "exec": 1}, 2, "1.0").encode()
    found = read_metrics(page.url)
    assert found["coditect_sessions"] == 4
    assert found["coditect_connections"] == 2
    assert found["coditect_refused_total"] == 2


def test_another_page_is_an_error(page: Page) -> None:
    page.content = b"<html>Sign in</html>"
    with pytest.raises(Failed, match="not Prometheus text"):
        read_metrics(page.url)


def test_no_page_is_unreachable(page: Page) -> None:
    page.content = b"SSH-2.0-server\r\n"
    with pytest.raises(Unreachable, match="cannot read"):
        read_metrics(page.url.replace("/metrics", "/raw"))
    with pytest.raises(Unreachable, match="cannot read"):
        read_metrics(NOBODY)


def test_what_the_counters_rose_by_is_what_happened(page: Page) -> None:
    metrics = EdgeMetrics()
    metrics.admitted = 7
    page.content = shown(metrics)
    noted = note_counters([page.url, NOBODY])
    assert list(noted) == [page.url]
    metrics.admitted += 3
    metrics.refuse("token.expired", 401)
    metrics.refuse("workspace.not_ready", 503)
    page.content = shown(metrics)
    assert counted_since(noted) == Sample(requests=5, errors=1, sessions=3, failed_sessions=1)


def test_another_processs_counters_are_not_compared(page: Page) -> None:
    page.content = shown(EdgeMetrics())
    noted = note_counters([page.url])
    another = EdgeMetrics()
    another._started += 60
    another.admitted = 9
    page.content = shown(another)
    assert counted_since(noted) == Sample()


def test_another_programs_page_tells_nothing(page: Page) -> None:
    page.content = b"up 1\n"
    assert note_counters([page.url]) == {}


def test_a_gate_counts_what_served_before_by_its_own_pages(
    store: SessionStore,
    tmp_path: Path,
    quick: CutoverPrograms,
    page: Page,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Many clusters log no requests; without their pages each gate would hold."""
    site = Cutover(store, tmp_path, quick.cloud, old_metrics=(page.url,))
    site.cloud.logs.serve(GATEWAY, REVISION, requests=20, errors=0, sessions=5)
    metrics = EdgeMetrics()
    page.content = shown(metrics)
    scale, step, *_ = site.steps()
    decide = step.gate

    def gate(*arguments: object) -> object:
        metrics.admitted = 20
        page.content = shown(metrics)
        return decide(*arguments)

    monkeypatch.setattr(step, "gate", gate)
    assert site.go([scale, step]).state == "done"
    assert site.weights == {NEW: 10, OLD: 90}
    numbers = [event.data["numbers"] for event in site.events() if event.type == "gate.read"]
    assert numbers[-1]["serving"]["requests"] == 20


def test_counters_are_compared_with_a_cut_log_only_where_both_begin_at_once(
    store: SessionStore,
    tmp_path: Path,
    quick: CutoverPrograms,
    page: Page,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All errors since the shift were once set against the log's last minute of requests."""
    monkeypatch.setattr(gates, "MOST_ENTRIES", 30)
    site = Cutover(store, tmp_path, quick.cloud, old_metrics=(page.url,))
    site.cloud.logs.serve(GATEWAY, REVISION, requests=40, errors=0, sessions=30)
    metrics = EdgeMetrics()
    page.content = shown(metrics)
    shift = site.steps()[1]
    site.world.outputs["old_counters_at_10"] = note_counters([page.url])

    def look(admitted: int) -> Verdict:
        metrics.admitted += admitted
        page.content = shown(metrics)
        return shift.gate(site.world, site.clock.now)  # type: ignore[no-any-return]

    first = look(1000)
    assert (first.decision, first.numbers["isCut"]) == ("hold", True)
    assert first.numbers["serving"]["requests"] == 0
    site.cloud.logs.serve(GATEWAY, REVISION, requests=40, errors=0, sessions=30)
    site.cloud.logs.serve(GATEWAY, REVISION, requests=20, errors=0, sessions=15)
    assert look(7).numbers["serving"]["requests"] == 0  # the note is older than the log's window
    site.cloud.logs.serve(GATEWAY, REVISION, requests=20, errors=0, sessions=15)
    third = look(9)
    assert (third.decision, third.numbers["serving"]["requests"]) == ("pass", 9)
