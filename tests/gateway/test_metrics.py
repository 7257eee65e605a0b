from __future__ import annotations

import json
from collections.abc import Callable

from coditect_cli import __version__
from coditect_cli.gateway.metrics import EdgeMetrics, Metrics
from tests.support.gateway import Gateway, get, samples


def test_the_pages_need_a_token_on_the_local_gateway(gateway: Gateway) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        status, body = get(gateway, path, None)
        assert (status, json.loads(body)["error"]["code"]) == (401, "token.missing")
        assert get(gateway, path, gateway.token("_gateway"))[0] == 200


def test_sessions_connections_bytes_and_echoes_are_counted(gateway: Gateway) -> None:
    client = gateway.attach()
    client.run("true")
    status, page = get(gateway, "/metrics", gateway.token("_gateway"))
    found = samples(page)
    assert status == 200
    assert found[f'coditect_build_info{{version="{__version__}"}}'] == 1
    assert found['coditect_sessions{kind="terminal"}'] == 1
    assert found["coditect_connections"] == found["coditect_admitted_total"] == 1
    assert found["coditect_input_bytes_total"] == client.sent
    assert found["coditect_output_bytes_total"] >= client.offsets["output"] > 0
    assert found["coditect_echo_seconds_count"] >= 1
    assert 0 < found["coditect_echo_seconds_sum"] < 60


def test_a_histogram_counts_what_is_at_most_each_bound() -> None:
    metrics = Metrics()
    for seconds in (0.0005, 0.002, 0.002, 7.0):
        metrics.echo(seconds)
    found = samples(metrics.expose({}, 0, "1").encode())
    assert found['coditect_echo_seconds_bucket{le="0.001"}'] == 1
    assert found['coditect_echo_seconds_bucket{le="0.0025"}'] == 3
    assert found['coditect_echo_seconds_bucket{le="5.0"}'] == 3
    assert found['coditect_echo_seconds_bucket{le="+Inf"}'] == 4
    assert found["coditect_echo_seconds_count"] == 4


def test_refusals_are_counted_by_their_error(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway()
    get(gateway, "/ws", None)
    page = get(gateway, "/metrics", gateway.token("_gateway"))[1]
    assert samples(page)['coditect_refused_total{code="token.missing"}'] == 1
    assert samples(page)["coditect_failed_total"] == 0  # it is the client's fault


def test_what_failed_here_is_counted_apart_from_what_was_refused() -> None:
    metrics = EdgeMetrics()
    metrics.refuse("token.missing", 401)
    metrics.refuse("workspace.not_ready", 503)
    metrics.refuse("by_pod", 500)
    found = samples(metrics.expose(0, 0, "1").encode())
    assert found["coditect_failed_total"] == 2
    assert found["coditect_admitted_total"] == 0
    assert found["coditect_start_time_seconds"] > 0
