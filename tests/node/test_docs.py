"""docs/kubernetes.md, typed word for word; the platform's own set-up does its first sections."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coditect_cli import tokens
from coditect_cli.signing import PrivateKey
from tests.support.cluster import free_ports
from tests.support.gateway import until
from tests.support.node import PATIENCE
from tests.support.platform import OWNER, Commands, Platform, blocks
from tests.support.terminal import Terminal

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(1200)]


@contextmanager
def running(platform: Platform, line: str) -> Iterator[None]:
    """A line of the page that goes on, in its other terminal."""
    with subprocess.Popen(
        ["bash", "-c", f"exec {line}"],
        cwd=platform.folder,
        env=platform.operator,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert "Forwarding from" in process.stdout.readline()
            yield
        finally:
            process.terminate()


def test_it_leads_to_an_attached_shell(platform: Platform) -> None:
    (port,) = free_ports(1)
    context, trial, forward = (
        block.replace("/path/", f"{platform.folder}/").replace("8080", str(port), 1)
        for block in blocks("4. A context")
    )
    platform.run(context)
    platform.run(trial)
    [block] = blocks("5. A workspace")
    create, attach, *others = [line.partition("  #")[0].strip() for line in block.splitlines()]
    with running(platform, forward):
        report = platform.run("coditect doctor")
        assert "fail" not in report, report
        platform.run(f"{create} --cpu 100m --memory 128Mi")  # there is a small node
        program, *args = attach.split()
        assert program == "coditect"
        with Terminal(args, platform.operator) as terminal:
            terminal.type(b"echo in $(hostname)\n")
            terminal.expect(b"in demo-0", PATIENCE)
            terminal.type(b"exit\n")
            assert terminal.wait() == 0
        assert [line.split()[1] for line in others] == ["workspace"] * 3
        for line in others:
            platform.run(line)
        platform.run("coditect workspace delete demo --purge --confirm demo")


def test_a_key_is_replaced_and_nothing_restarted(platform: Platform, tmp_path: Path) -> None:
    coditect = Commands(platform.environ(tmp_path))
    coditect("workspace", "create", "turn")
    try:
        [block] = blocks("Replacing the key")
        platform.run(block)
        following = PrivateKey.load(str(platform.folder / "next.pem"))

        def admits(key: PrivateKey) -> bool:
            coditect.environ["CODITECT_TOKEN"] = platform.token("turn", key)
            return coditect("exec", "--insecure", "turn", "--", "echo", "in", status=None) == "in\n"

        assert admits(platform.key)
        until(lambda: admits(following), "a kubelet that brought the new key", PATIENCE)
        assert admits(platform.key)
    finally:
        coditect("workspace", "delete", "turn", "--force", "--purge", "--confirm", "turn")


def test_tokens_of_a_shared_secret_are_for_the_edge_alone(
    platform: Platform, tmp_path: Path
) -> None:
    secret = b"the-secret-of-an-earlier-gateway"
    (platform.folder / "jwt_secret").write_bytes(secret)
    coditect = Commands(platform.environ(tmp_path))
    [block] = blocks("Tokens by HS256")
    try:
        platform.run(block)
        coditect("workspace", "create", "shared")
        token = tokens.issue(secret, workspace_id="shared", user_id=OWNER, ttl=600, now=time.time())
        coditect.environ["CODITECT_TOKEN"] = token
        assert coditect("exec", "--insecure", "shared", "--", "echo", "in") == "in\n"
    finally:
        coditect("workspace", "delete", "shared", "--force", "--purge", "--confirm", "shared")
        keys = "kubectl create configmap gateway-keys -n coditect --from-file=jwks.json"
        platform.run(f"{keys} --dry-run=client -o yaml | kubectl apply -f -")
        platform.run("kubectl rollout undo deployment/gateway -n coditect")
        platform.run("kubectl rollout status deployment/gateway -n coditect")
