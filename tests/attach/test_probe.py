from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from coditect_cli.attach import probe
from coditect_cli.attach.link import Link
from coditect_cli.errors import Failed
from coditect_cli.paths import Paths
from coditect_cli.workspaces.local import LocalWorkspaces
from tests.conftest import RunCli
from tests.support.gateway import Gateway, running_gateway

TWICE = (
    "stty raw -echo; printf ready; "
    'while mark=$(dd bs=10 count=1 2>/dev/null); do printf "%s%s" "$mark" "$mark"; done'
)
# Each second copy comes with the next echo: the last one only with that of the last mark.
LATE = (
    "stty raw -echo; printf ready; "
    'while mark=$(dd bs=10 count=1 2>/dev/null); do printf "%s%s" "$old" "$mark"; old=$mark; done'
)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with running_gateway(tmp_path / "served") as running:
        yield running


def dial(gateway: Gateway) -> Link:
    gateway.workspace()
    return Link.open(f"ws+unix:{gateway.paths.gateway_socket}", "demo", gateway.token("demo"))


def test_every_write_comes_back_once_and_in_order(gateway: Gateway) -> None:
    echoes = probe.probe(dial(gateway), 50)
    assert echoes.ok
    assert (echoes.lost, echoes.doubled, len(echoes.times)) == (0, 0, 50)
    assert gateway.sessions() == []


@pytest.mark.parametrize(
    ("program", "lost", "doubled"),
    [
        ("stty raw -echo; printf ready; dd bs=10 count=3 2>/dev/null; exec sleep 1000", 7, 0),
        (TWICE, 0, 10),
        (LATE, 0, 10),
    ],
    ids=["swallowed", "printed twice", "printed again later"],
)
def test_what_is_lost_or_doubled_is_counted(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, program: str, lost: int, doubled: int
) -> None:
    monkeypatch.setattr(probe, "ECHO", ("sh", "-c", program))
    monkeypatch.setattr("coditect_cli.attach.conversation.TIMEOUT", 1.0)
    echoes = probe.probe(dial(gateway), 10)
    assert (echoes.lost, echoes.doubled, echoes.ok) == (lost, doubled, False)


def test_other_bytes_and_another_order_are_not_ok() -> None:
    assert probe.Echoes(3, (0, 1, 2), (0.1, 0.2, 0.3), True).ok
    assert not probe.Echoes(3, (0, 1, 2), (0.1, 0.2, 0.3), False).ok
    assert not probe.Echoes(3, (0, 2, 1), (0.1, 0.2, 0.3), True).ok


def test_percentiles_are_in_milliseconds() -> None:
    echoes = probe.Echoes(4, (0, 1, 2, 3), (0.004, 0.001, 0.003, 0.002), True)
    assert (echoes.percentile(50), echoes.percentile(99)) == (3.0, 4.0)
    assert probe.Echoes(1, (), (), True).percentile(50) is None


def test_a_lost_link_is_a_failure(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = probe.Conversation.type

    def cut(conversation: probe.Conversation, data: bytes) -> None:
        gateway.kill_bridge()
        begin(conversation, data)

    monkeypatch.setattr(probe.Conversation, "type", cut)
    with pytest.raises(Failed) as caught:
        probe.probe(dial(gateway), 1)
    assert caught.value.code == "probe.link_lost"


def test_the_command_reports_and_leaves_nothing(run_cli: RunCli, paths: Paths) -> None:
    code, out, err = run_cli("gateway", "probe", "-o", "json")
    assert (code, out) == (9, "")
    assert json.loads(err)["error"]["code"] == "gateway.not_running"
    assert run_cli("up", "demo", "--detach")[0] == 0
    code, out, _ = run_cli("gateway", "probe", "--writes", "5", "-o", "json")
    report = json.loads(out)
    assert code == 0
    fields = ["apiVersion", "kind", "gatewayUrl", "writes", "lost", "doubled"]
    assert list(report) == [*fields, "p50Ms", "p99Ms", "ok"]
    assert (report["kind"], report["writes"], report["ok"]) == ("GatewayProbe", 5, True)
    assert LocalWorkspaces(paths).ids() == ["demo"]
    assert not (paths.workspaces / "probe").exists()


def test_the_command_fails_when_an_echo_does(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "ECHO", ("sh", "-c", TWICE))
    assert run_cli("up", "demo", "--detach")[0] == 0
    code, out, _ = run_cli("gateway", "probe", "--writes", "5", "--workspace", "demo")
    assert (code, out.startswith("5 writes: 0 lost, 5 doubled;")) == (8, True)


def test_a_kept_directory_survives_the_probe(run_cli: RunCli, paths: Paths) -> None:
    workspaces = LocalWorkspaces(paths)
    root = workspaces.create("probe", "somebody").root
    (root / "work").write_text("mine")
    workspaces.delete("probe")
    assert run_cli("gateway", "probe")[0] == 9
    assert (root / "work").read_text() == "mine"
    assert workspaces.ids() == []
