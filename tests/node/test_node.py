"""Workspaces on a real node: a kubelet, containerd and runc run the project's own images."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.gateway import until
from tests.support.images import name_of
from tests.support.node import PATIENCE
from tests.support.platform import NAMESPACE, Commands, Platform
from tests.support.terminal import Terminal

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(1200)]

INSECURE = "--insecure"  # the gateway is on this machine's own bridge, before any load balancer


@pytest.fixture(scope="module")
def workspace(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A workspace that runs, made by the command."""
    coditect = Commands(platform.environ(tmp_path_factory.mktemp("creator")))
    made = json.loads(coditect("workspace", "create", "demo", "--wait", "-o", "json"))
    assert made["status"] == "running"
    yield "demo"
    coditect("workspace", "delete", "demo", "--force", "--purge", "--confirm", "demo")


@contextmanager
def attached(coditect: Commands, workspace: str, *options: str) -> Iterator[Terminal]:
    with Terminal(["attach", INSECURE, *options, workspace], coditect.environ) as terminal:
        yield terminal


def test_exec_runs_as_the_images_user_in_the_volume(coditect: Commands, workspace: str) -> None:
    script = "id -un; pwd; grep NoNewPrivs /proc/self/status; echo $USER_ID; cat /proc/1/comm"
    out = coditect("exec", INSECURE, workspace, "--", "sh", "-c", script).split()
    assert out[:4] == ["coder", "/workspace", "NoNewPrivs:", "1"]
    assert out[4] == "ada@example.com"
    assert coditect("exec", INSECURE, workspace, "--", "sh", "-c", "exit 7", status=7) == ""


def test_the_shells_user_can_read_no_secret(coditect: Commands, workspace: str) -> None:
    for path in ("/secrets/fdb.cluster", "/workspace/.coditect/state", "/proc/1/environ"):
        script = f"cat {path} || ls {path}/ || echo refused"
        assert coditect("exec", INSECURE, workspace, "--", "sh", "-c", script) == "refused\n"
    found = coditect("exec", INSECURE, workspace, "--", "ls", "/secrets", "/run")
    assert "fdb.cluster" in found  # it is there
    assert "secrets" not in found.partition("/secrets:")[0]  # and no account of the cluster's


def test_keeper_and_bridge_have_four_capabilities_and_programs_none(
    platform: Platform, coditect: Commands, workspace: str
) -> None:
    """CHOWN, KILL, SETGID and SETUID."""

    def capabilities(status: str) -> set[str]:
        lines = [line.split() for line in status.splitlines()]
        return {line[1].lstrip("0") for line in lines if line[0] in ("CapEff:", "CapPrm:")}

    (keeper,) = platform.node.pids("workspace")
    [*children] = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    for pid in (keeper, *children):
        status = Path(f"/proc/{pid}/status").read_text()
        assert "\nUid:\t0\t0\t" in status
        assert capabilities(status) == {"e1"}
    theirs = coditect("exec", INSECURE, workspace, "--", "cat", "/proc/self/status")
    assert capabilities(theirs) == {""}


def test_no_image_has_a_compiler_or_an_installer(
    platform: Platform, coditect: Commands, workspace: str
) -> None:
    tools = "for tool in cc gcc c99 make pip; do command -v $tool; done; ls /opt/coditect/bin/pip*"
    found = coditect("exec", INSECURE, workspace, "--", "sh", "-c", tools, status=2)
    assert found == ""
    pod = platform.pods("app=gateway")[0]["metadata"]["name"]
    assert platform.run(f"kubectl exec -n {NAMESPACE} {pod} -- sh -c '{tools} || true'") == ""


def test_files_go_in_and_out_as_the_users(
    coditect: Commands, workspace: str, tmp_path: Path
) -> None:
    content = os.urandom(3 << 20)
    (tmp_path / "in.bin").write_bytes(content)
    coditect("cp", INSECURE, str(tmp_path / "in.bin"), f"{workspace}:in.bin")
    owner = coditect("exec", INSECURE, workspace, "--", "stat", "-c", "%U", "in.bin")
    assert owner == "coder\n"
    coditect("cp", INSECURE, f"{workspace}:in.bin", str(tmp_path / "out.bin"))
    assert (tmp_path / "out.bin").read_bytes() == content


def test_the_keeper_reaps_what_is_orphaned(
    platform: Platform, coditect: Commands, workspace: str
) -> None:
    coditect("exec", INSECURE, workspace, "--", "sh", "-c", "(true &) ; (sleep 0.1 &)")
    (keeper,) = platform.node.pids("workspace")
    until(lambda: not zombies(keeper), "no zombie is left", PATIENCE)


def zombies(parent: int) -> list[str]:
    """The names of a process's children that have ended and were not waited for."""
    found = []
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] == "Z":
            found.append(pid)
    return found


def test_a_session_comes_back_when_its_pod_is_deleted_under_it(
    platform: Platform, coditect: Commands, workspace: str
) -> None:
    before = platform.pod(workspace)
    assert before is not None
    with attached(coditect, workspace) as terminal:
        terminal.type(b"mkdir -p deep/er && cd deep/er && export COLOUR=teal && echo re''ady\n")
        terminal.expect(b"ready", PATIENCE)
        platform.cluster.request("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods/{workspace}-0", {})

        def replaced() -> bool:
            pod = platform.pod(workspace)
            return pod is not None and pod["metadata"]["uid"] != before["metadata"]["uid"]

        until(replaced, "another pod", PATIENCE)
        terminal.expect(b"did not survive", PATIENCE)
        terminal.type(b"echo $PWD $COLOUR; history | grep -c 'COLOUR=te''al'\n")
        terminal.expect(b"/workspace/deep/er teal", PATIENCE)
        terminal.expect(b"1", PATIENCE)


def test_a_session_comes_back_when_its_container_is_killed(
    platform: Platform, coditect: Commands, workspace: str
) -> None:
    """Nobody is told: what was recorded until then comes back."""
    with attached(coditect, workspace, "--new") as terminal:
        terminal.type(
            b"mkdir -p /workspace/killed/here && cd /workspace/killed/here && echo re''ady\n"
        )
        terminal.expect(b"ready", PATIENCE)
        store = platform.volume(workspace) / ".coditect" / "state"

        def recorded() -> bool:
            files = store.glob("sessions.db*")
            return any(b"/workspace/killed/here" in file.read_bytes() for file in files)

        until(recorded, "a record of the directory", PATIENCE)
        (keeper,) = platform.node.pids("workspace")
        os.kill(keeper, signal.SIGKILL)
        terminal.expect(b"did not survive", PATIENCE)
        terminal.type(b"echo at: $PWD\n")
        terminal.expect(b"at: /workspace/killed/here", PATIENCE)


def test_a_session_goes_on_when_its_bridge_is_killed(
    platform: Platform, coditect: Commands, workspace: str
) -> None:
    with attached(coditect, workspace) as terminal:
        terminal.type(b"shell=$$; echo re''ady\n")
        terminal.expect(b"ready", PATIENCE)
        (keeper,) = platform.node.pids("workspace")
        children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        bridges = [
            int(pid)
            for pid in children
            if b"coditect_cli.gateway.main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        os.kill(bridges[0], signal.SIGKILL)
        terminal.type(b'[ "$shell" = $$ ] && echo the same sh""ell\n')
        terminal.expect(b"the same shell", PATIENCE)


def test_a_gateway_that_is_replaced_loses_nothing(
    platform: Platform, coditect: Commands, workspace: str
) -> None:
    before = {pod["metadata"]["uid"] for pod in platform.pods("app=gateway")}
    serving = platform.gateways()
    with attached(coditect, workspace) as terminal:
        terminal.type(b"echo re''ady\n")
        terminal.expect(b"ready", PATIENCE)
        for gateway in platform.node.pids("gateway"):
            os.kill(gateway, signal.SIGTERM)  # the kubelet starts the container again, in its pod
        terminal.type(b"echo still he''re\n")
        terminal.expect(b"still here", PATIENCE)
    platform.await_gateways(gone=serving)
    assert before <= {pod["metadata"]["uid"] for pod in platform.pods("app=gateway")}


def test_gateways_whose_pods_go_lose_nothing(
    platform: Platform, coditect: Commands, workspace: str
) -> None:
    """They go on for the time of their preStop, then take leave; others are there by then."""
    serving = platform.gateways()
    with attached(coditect, workspace) as terminal:
        terminal.type(b"echo re''ady\n")
        terminal.expect(b"ready", PATIENCE)
        platform.run(f"kubectl delete pod -l app=gateway -n {NAMESPACE}")
        terminal.type(b"echo still he''re\n")
        terminal.expect(b"still here", PATIENCE)
    platform.await_gateways(gone=serving)
    path = f"/api/v1/namespaces/{NAMESPACE}/events"
    reasons = {event["reason"] for event in platform.cluster.request("GET", path)["items"]}
    assert "Killing" in reasons
    assert "FailedPreStopHook" not in reasons


@pytest.mark.parametrize(
    ("image", "code", "words"),
    [
        ("localhost:1/nowhere:1", "workspace.image", "ailed to pull image"),
        (name_of("gateway"), "workspace.crash", "ack-off restarting failed container"),
    ],
    ids=["no image", "crash loop"],
)
def test_what_a_kubelet_can_not_start_is_told_in_its_words(
    coditect: Commands, image: str, code: str, words: str
) -> None:
    try:
        coditect("workspace", "create", "broken", "--image", image, "-o", "json", status=8)
        error = json.loads(coditect.said.splitlines()[-1])["error"]
        assert error["code"] == code
        assert words in error["message"]
    finally:
        purge = ("--purge", "--confirm", "broken", "--force", "--ignore-not-found")
        coditect("workspace", "delete", "broken", *purge)


def test_stop_and_start_keep_the_data(coditect: Commands, workspace: str) -> None:
    coditect("exec", INSECURE, workspace, "--", "sh", "-c", "echo kept > kept.txt")
    with attached(coditect, workspace) as terminal:
        terminal.type(b"echo re''ady\n")
        terminal.expect(b"ready", PATIENCE)
        coditect("workspace", "stop", workspace, "--force", "--wait")
        terminal.expect(b"workspace demo is stopped", PATIENCE)
        assert terminal.wait() == 255
    coditect("exec", INSECURE, workspace, "--", "true", status=6)
    coditect("exec", INSECURE, "absent", "--", "true", status=3)
    coditect("workspace", "start", workspace, "--wait")
    assert coditect("exec", INSECURE, workspace, "--", "cat", "kept.txt") == "kept\n"


def test_the_gateway_runs_as_nobody_in_particular_and_says_how_it_is(
    platform: Platform, coditect: Commands, workspace: str
) -> None:
    pid, *_ = platform.node.pids("gateway")
    status = Path(f"/proc/{pid}/status").read_text()
    assert "Uid:\t65532" in status
    with urllib.request.urlopen(platform.page("metrics"), timeout=10) as answer:  # noqa: S310
        assert b"coditect_pods 1" in answer.read()
