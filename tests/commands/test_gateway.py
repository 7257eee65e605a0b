from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from coditect_cli import __version__
from coditect_cli.paths import Paths
from tests.conftest import RunCli
from tests.support.gateway import until


@contextmanager
def serving(*args: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "coditect_cli", "gateway", "serve", *args]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.communicate()


def status(run_cli: RunCli) -> Any:
    code, out, _ = run_cli("gateway", "status", "-o", "json")
    return json.loads(out) if code == 0 else None


def test_where_none_runs_everything_says_so(run_cli: RunCli) -> None:
    for verb in ("status", "stop", "restart"):
        code, out, err = run_cli("gateway", verb, "-o", "json")
        assert (code, out) == (3, "")
        assert json.loads(err)["error"]["code"] == "gateway.not_running"
    assert run_cli("gateway", "logs")[0] == 3


def test_serve_status_restart_stop(
    run_cli: RunCli, paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.sock"
    monkeypatch.setenv("CODITECT_TOKEN", "secret")
    with serving("--listen", f"unix:{other}") as process:
        monkeypatch.delenv("CODITECT_TOKEN")
        before = until(lambda: status(run_cli), "a gateway")
        fields = {"gatewayUrl", "role", "version", "keeperPid", "bridgePid", "sessions"}
        fields |= {"connections", "startedAt", "log", "listen", "notSaved"}
        fields |= {"apiVersion", "kind"}
        assert set(before) == fields
        assert (before["role"], before["version"]) == ("local", __version__)
        assert before["gatewayUrl"] == f"ws+unix:{paths.gateway_socket}"
        assert before["keeperPid"] == process.pid
        assert f"unix:{other}" in before["listen"]
        for pid in (before["keeperPid"], before["bridgePid"]):
            assert "CODITECT_TOKEN" not in psutil.Process(pid).environ()
        code, out, _ = run_cli("gateway", "restart", "-o", "json")
        after = json.loads(out)
        assert code == 0
        assert after["keeperPid"] == before["keeperPid"]
        assert after["bridgePid"] != before["bridgePid"]
        assert run_cli("gateway", "stop")[0] == 0
        assert process.wait() == 0
    assert status(run_cli) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_can_be_ended_while_it_starts(
    run_cli: RunCli, paths: Paths, number: signal.Signals
) -> None:
    with serving() as process:
        keeper = psutil.Process(process.pid)
        until(lambda: "coditect_cli.gateway.keeper" in keeper.cmdline(), "the keeper's program")
        process.send_signal(number)
        assert process.stderr is not None
        said = process.stderr.read()
        assert (process.wait(), "Traceback" in said) == (0, False), said
    assert not paths.gateway_socket.exists()


def test_a_gateway_with_sessions_is_stopped_only_when_meant(run_cli: RunCli) -> None:
    assert run_cli("up", "demo")[0] == 0
    command = [sys.executable, "-m", "coditect_cli", "exec", "demo", "--", "sh", "-c"]
    with subprocess.Popen(
        [*command, "echo up; exec sleep 1000"], stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdout is not None
        client.stdout.readline()
        code, out, err = run_cli("gateway", "stop", "-o", "json")
        assert (code, out, json.loads(err)["error"]["code"]) == (6, "", "gateway.in_use")
        assert status(run_cli)["sessions"] == 1
        assert run_cli("gateway", "stop", "--yes")[0] == 0
        assert client.wait() != 0
    assert status(run_cli) is None
    assert "\n" in run_cli("gateway", "logs", "-n", "2")[1]


@pytest.mark.parametrize(
    "args",
    [
        ("--listen", "nowhere"),
        ("--listen", "unix:relative"),
        ("--listen", "host:99999"),
        ("--listen", "192.0.2.1:8080"),
        ("--listen", "unix:/nonexistent/socket"),
        ("--listen", "unix:/etc/passwd"),
        ("--listen", f"unix:/tmp/{'x' * 200}"),
        ("--role", "edge", "--listen", "127.0.0.1:0"),
        ("--role", "nonsense"),
        ("--role", "workspace"),
        ("--role", "workspace", "--listen", "127.0.0.1:1"),
        ("--workspace-id", "demo"),
        ("--role", "workspace", "--workspace-id", "../x", "--listen", "127.0.0.1:1"),
        ("--role", "workspace", "--workspace-id", "demo", "--listen", "127.0.0.1:1"),
        ("--role", "edge", "--workspace-id", "demo"),
        ("--role", "edge", "--listen", "unix:/tmp/edge.sock"),
    ],
)
def test_serve_refuses_what_it_cannot_do(run_cli: RunCli, args: tuple[str, ...]) -> None:
    code, out, err = run_cli("gateway", "serve", *args)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and "None" not in err


def test_it_serves_an_ipv6_address(run_cli: RunCli) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.xfail("no IPv6 here")
    with serving("--listen", "[::1]:0"):
        listen = until(lambda: status(run_cli), "a gateway")["listen"]
        (address,) = [one for one in listen if one.startswith("[::1]:")]
        assert run_cli("gateway", "probe", "--url", f"ws://{address}", "--writes", "3")[0] == 0


def test_serve_says_when_an_address_is_taken(run_cli: RunCli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        code, _, err = run_cli("gateway", "serve", "--listen", address, "-o", "json")
    assert (code, json.loads(err)["error"]["code"]) == (6, "gateway.listen")


def test_a_clusters_gateways_are_not_asked_after(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODITECT_PROVIDER", "kubernetes")
    monkeypatch.setenv("CODITECT_GATEWAY_URL", "ws://127.0.0.1:1/ws")
    for verb in ("status", "stop", "restart"):
        code, out, err = run_cli("gateway", verb)
        assert (code, out) == (2, "")
        assert "kubectl get pods -l app=gateway -n coditect" in err
