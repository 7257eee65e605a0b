"""The edge: a real API server tells it of pods, whose gateways are real too, on 127.0.0.0/8."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.utils import accept_key

from coditect_cli import tokens
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.signing import PrivateKey
from coditect_cli.stores.sqlite import SQLiteStore
from tests.gateway.test_access import refused
from tests.gateway.test_pod import Pod
from tests.sessions.test_session import output, state
from tests.support.cluster import ApiError, Cluster, free_ports
from tests.support.gateway import PATIENCE, Client, until
from tests.support.stores import refusing
from tests.test_signing import key_set, private_key
from tests.workspaces.conformance import EntryConformance, document, refusal

NODE = "edge-test"
SHARED = b"the-secret-of-an-earlier-gateway"


class EdgePod(Pod):
    """A pod's gateway at an address of its own, as the cluster knows it."""

    def __init__(self, home: Path, address: str, workspace: str, **settings: object) -> None:
        self.address = address
        role = ("--role", "workspace", "--workspace-id", workspace)
        super().__init__(home, role=role, listen=address, **settings)


class Edge:
    """An edge gateway of a namespace, and a client for it."""

    def __init__(self, cluster: Cluster, folder: Path, **settings: object) -> None:
        self.cluster = cluster
        self.folder = folder
        self.namespace = settings.get("namespace") or cluster.namespace()
        self.sets = f"/apis/apps/v1/namespaces/{self.namespace}/statefulsets"
        with suppress(ApiError):  # it is there already
            cluster.request("POST", "/api/v1/nodes", {"metadata": {"name": NODE}})
        self.key = private_key(folder)
        self.keys = folder / "jwks.json"
        self.keys.write_bytes(key_set(self.key))
        self.log = folder / "edge.log"
        self.stack = ExitStack()
        self.temporary = folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        self.environ = {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(self.temporary),
            "CODITECT_HOME": str(folder / "edge"),
            "CODITECT_KUBECONFIG": str(cluster.kubeconfig),
            "CODITECT_NAMESPACE": self.namespace,
            "CODITECT_TOKEN_JWKS": str(self.keys),
            **{f"CODITECT_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self.pods: dict[str, EdgePod] = {}
        self.address = f"127.0.0.1:{free_ports(1)[0]}"

    def start(self) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "coditect_cli", "gateway", "serve", "--role", "edge"]
        with open(self.log, "ab") as log:
            process = subprocess.Popen(
                [*argv, "--listen", self.address], env=self.environ, stdout=log, stderr=log
            )
        self.stack.callback(self.end, process)
        until(lambda: self.page("/readyz") == 200 or process.poll() is not None, "a ready edge")
        assert process.poll() is None, self.log.read_text()
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        process.wait(PATIENCE)

    def page(self, path: str) -> int:
        """The HTTP status of a page."""
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=5) as answer:
                self.body = answer.read().decode()
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def pod(self, workspace: str = "demo", address: str | None = None) -> EdgePod:
        """A pod that runs, with its gateway; one of that workspace before it is replaced."""
        host = f"127.0.{uuid.uuid4().int % 200 + 1}.{uuid.uuid4().int % 200 + 1}"
        port = free_ports(1)[0]
        volume = self.folder / f"volume-{workspace}"
        volume.mkdir(exist_ok=True)
        gateway = EdgePod(
            self.folder / uuid.uuid4().hex[:6],
            f"{host}:{port}",
            workspace,
            token_jwks=self.keys,
            workspace_root=volume,
            resume_grace=300,  # an edge takes long to start where the machine is busy
        )
        self.stack.callback(gateway.stop)
        self.create(workspace, host, port)
        self.pods[workspace] = gateway
        return gateway

    def create(self, workspace: str, host: str, port: int, owner: str = Pod.user) -> None:
        labels = {"app": "workspace", "workspace-id": workspace, "user-id": owner}
        name = f"{workspace}-0"
        metadata = {
            "name": name,
            "labels": labels,
            "annotations": {"coditect.dev/owner": owner},
        }
        container = {
            "name": "workspace",
            "image": "localhost/none:1",
            "ports": [{"name": "websocket", "containerPort": port}],
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        # A node without a kubelet: nothing but this test changes the pod.
        spec = {"containers": [container], "nodeName": NODE, "terminationGracePeriodSeconds": 0}
        self.cluster.request("POST", path, {"metadata": metadata, "spec": spec})
        status = {"phase": "Running", "podIP": host, "podIPs": [{"ip": host}]}
        self.cluster.patch(f"{path}/{name}/status", {"status": status})

    def declare(
        self, workspace: str = "demo", owner: str = Pod.user, image: str = "localhost/none:1"
    ) -> None:
        """A workspace that is to run; its controller's pods are others than ours."""
        labels = {"of": workspace}
        container = {"name": "workspace", "image": image}
        spec = {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            "ordinals": {"start": 1},
        }
        metadata = {
            "name": workspace,
            "labels": {"app": "workspace"},
            "annotations": {"coditect.dev/owner": owner},
        }
        self.cluster.request("POST", self.sets, {"metadata": metadata, "spec": spec})

    def scale(self, replicas: int, workspace: str = "demo") -> None:
        self.cluster.patch(f"{self.sets}/{workspace}", {"spec": {"replicas": replicas}})

    def refusal(self, workspace: str = "demo", **options: Any) -> tuple[int, str, bool] | None:
        """How a connection is refused: HTTP status, code, and whether it is worth another try.

        None where it is let in.
        """
        try:
            self.connect(self.token(workspace, **options))
        except InvalidStatus as refusal:
            error = json.loads(refusal.response.body or b"")["error"]
            return refusal.response.status_code, error["code"], error["retryable"]
        return None

    def settings(self) -> dict[str, str]:
        """A client's context, in variables."""
        names = ("CODITECT_KUBECONFIG", "CODITECT_NAMESPACE")
        return {name: self.environ[name] for name in names} | {
            "CODITECT_PROVIDER": "kubernetes",
            "CODITECT_GATEWAY_URL": f"ws://{self.address}/ws",
            "CODITECT_TOKEN": self.token(),
        }

    def declare_to_commands(self, monkeypatch: pytest.MonkeyPatch, **options: str) -> None:
        """Declare `demo`, and let commands here be those of its owner."""
        for name, value in self.settings().items():
            monkeypatch.setenv(name, value)
        self.declare(**options)

    def delete(self, workspace: str, grace: int = 0) -> None:
        path = f"/api/v1/namespaces/{self.namespace}/pods/{workspace}-0"
        body = {"gracePeriodSeconds": grace}
        self.cluster.request("DELETE", path, body)

    def token(self, workspace: str = "demo", user: str = Pod.user, key: Any = None) -> str:
        return tokens.issue(
            key or self.key, workspace_id=workspace, user_id=user, ttl=60, now=time.time()
        )

    def connect(self, token: str | None = None, **options: Any) -> Client:
        headers = {"Authorization": f"Bearer {token or self.token()}", **options.pop("headers", {})}
        options.setdefault("subprotocols", ["coditect.v2"])
        uri = f"ws://{self.address}{options.pop('path', '/ws')}"
        return Client(
            self.stack.enter_context(
                connect(uri, additional_headers=headers, compression=None, max_size=None, **options)
            )
        )

    def join(self, workspace: str = "demo") -> Client:
        """Connect as soon as the edge has learned of the pod."""
        client: Client = until(lambda: self._try(workspace), "a way to the pod")
        return client

    def _try(self, workspace: str) -> Client | None:
        try:
            return self.connect(self.token(workspace))
        except Exception:
            return None

    def stop(self) -> None:
        self.stack.close()
        print(self.log.read_text()[-5000:])
        assert not list(self.temporary.iterdir())  # a kubeconfig's certificates and keys


@pytest.fixture
def start_edge(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Edge]]:
    monkeypatch.setenv("USER_ID", Pod.user)
    with ExitStack() as stack:

        def start(**settings: object) -> Edge:
            edge = Edge(cluster, tmp_path, **settings)
            stack.callback(edge.stop)
            edge.process = edge.start()
            return edge

        yield start


@pytest.fixture
def edge(start_edge: Callable[..., Edge]) -> Edge:
    return start_edge()


def test_a_client_gets_to_a_shell_in_its_pod(edge: Edge) -> None:
    edge.pod()
    client = edge.join()
    client.attach()
    assert client.run("echo $WORKSPACE_ID; pwd").split() == [
        b"demo",
        str(edge.folder / "volume-demo").encode(),
    ]
    client.detach()
    log = edge.log.read_text()
    assert "joined workspace=demo" in log
    assert "eyJ" not in log


def test_bytes_come_through_whole_in_both_directions_and_a_slow_client_is_waited_for(
    edge: Edge,
) -> None:
    edge.pod()
    client = edge.join()
    client.exec("sha256sum")
    data = os.urandom(1 << 20)
    for at in range(0, len(data), 65_536):
        client.send(data[at : at + 65_536])
        while client.sent - (client.heard[-1].get("offset", 0)) > 131_072:
            client.step()
    client.send({"type": "eof", "offset": len(data)})
    client.expect(hashlib.sha256(data).hexdigest().encode(), "stdout")
    assert client.exit()["status"] == 0
    flood = edge.connect()
    flood.exec("head", "-c", "30000000", "/dev/zero", stdin=False)
    assert flood.exit()["status"] == 0
    assert len(flood.received["stdout"]) == 30_000_000
    assert edge.page("/metrics") == 200
    sent = [line for line in edge.body.splitlines() if "output_bytes_total " in line]
    assert int(sent[-1].split()[1]) > 30_000_000


def test_only_the_owner_with_a_good_token_gets_in(edge: Edge) -> None:
    edge.pod()
    edge.join()
    for token, status, code in (
        (edge.token(user="eve"), 403, "workspace.forbidden"),
        (edge.token("absent"), 404, "workspace.not_found"),
        (edge.token("_gateway"), 401, "token.claims"),
        (edge.token(key=private_key(edge.folder)), 401, "token.unknown_key"),
        (edge.token(key=SHARED), 401, "token.algorithm"),
        ("garbage", 401, "token.invalid"),
    ):
        found = refused(edge.connect, token)
        assert (found[0], found[1]["code"]) == (status, code)
    assert refused(edge.connect, path="/elsewhere")[1]["code"] == "path.not_found"
    assert edge.page("/metrics") == 200
    counted = [line for line in edge.body.splitlines() if re.match(r"\w+(admitted|failed)_", line)]
    assert counted == ["coditect_admitted_total 1", "coditect_failed_total 0"]
    for path in ("/ws", "/metrics"):
        assert refused(edge.connect, origin="http://x", path=path)[1]["code"] == "origin.forbidden"
    named = refused(edge.connect, headers={"Coditect-Workspace": "other"})
    assert named[1]["code"] == "workspace.forbidden"


def test_a_pods_refusal_reaches_the_client(edge: Edge) -> None:
    edge.pod()
    edge.join()
    status, error = refused(edge.connect, subprotocols=["coditect.v9"])
    assert (status, error["code"]) == (400, "protocol.unsupported")


def test_the_edge_signs_for_pods_where_it_admits_tokens_of_a_shared_secret(
    start_edge: Callable[..., Edge], tmp_path: Path
) -> None:
    secret, pem = tmp_path / "jwt_secret", tmp_path / "EdDSA.pem"
    secret.touch(0o600)
    secret.write_bytes(SHARED + b"\n")
    edge = start_edge(token_secret_file=secret, token_key_file=pem)
    pod = edge.pod()
    edge.join()
    client = edge.connect(edge.token(key=SHARED))
    client.attach()
    client.run("true")
    assert refused(edge.connect, edge.token(key=SHARED, user="eve"))[1]["code"] == (
        "workspace.forbidden"
    )
    assert refused(pod.connect, token=edge.token(key=SHARED))[1]["code"] == "token.algorithm"
    assert isinstance(edge.key, PrivateKey)


def test_when_the_pod_is_replaced_its_connections_end_and_new_ones_find_the_next(
    edge: Edge,
) -> None:
    """A node that died takes leave of nobody: the watch tells."""
    edge.declare()
    first = edge.pod()
    client = edge.join()
    client.attach()
    os.kill(first.keeper.pid, signal.SIGSTOP)
    bridge = until(first.bridge_pid, "a bridge")
    os.kill(bridge, signal.SIGSTOP)
    try:
        edge.delete("demo")
        assert client.closed() == 1006
    finally:
        os.kill(bridge, signal.SIGCONT)
        os.kill(first.keeper.pid, signal.SIGCONT)
    assert edge.refusal() == (503, "workspace.not_running", True)
    edge.pod()
    again = edge.join()
    again.attach()
    again.run("true")


def test_a_pod_that_does_not_answer_yet_is_worth_another_try(edge: Edge) -> None:
    edge.create("demo", "127.0.0.1", free_ports(1)[0])
    not_ready = (503, "workspace.not_ready", True)
    until(lambda: edge.refusal() == not_ready, "the pod is known")


def test_a_workspace_that_is_stopped_or_gone_is_said_to_be_so(
    edge: Edge, run_cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a gateway without a cluster says it, to its owner alone."""
    edge.declare_to_commands(monkeypatch)
    edge.pod()
    client = edge.join()
    client.attach()
    edge.scale(0)
    stopped = (409, "workspace.stopped", False)
    until(lambda: edge.refusal() == stopped, "the workspace is known to be stopped")
    client.run("true")  # who is in stays, until the pod ends
    edge.delete("demo")
    assert client.closed() == 1006
    assert edge.refusal() == stopped
    assert edge.refusal(user="eve") == (403, "workspace.forbidden", False)
    code, out, err = run_cli("session", "list", "demo", "-o", "name")
    assert (code, out) == (0, "")
    saved = "workspace demo is stopped, and its sessions are saved on its volume\n"
    hint = "hint: coditect workspace start demo shows them; with the setting store=foundationdb "
    assert f"warning: what is saved is not shown: {saved}{hint}" in err
    assert refusal(run_cli, "session", "history", "demo", "s1") == (6, "workspace.stopped")
    code, _, err = run_cli("attach", "demo", "--session", "s1")
    assert (code, saved in err) == (6, True)
    edge.scale(1)
    until(lambda: edge.refusal() == (503, "workspace.not_running", True), "it is to run")
    edge.cluster.request("DELETE", f"{edge.sets}/demo")
    until(lambda: edge.refusal() == (404, "workspace.not_found", False), "it is gone")
    code, out, err = run_cli("session", "list", "demo")
    assert (code, out) == (3, "")
    assert "no workspace demo" in err


def test_what_a_pod_saved_on_its_volume_is_shown_through_the_edge(
    edge: Edge, run_cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge.declare_to_commands(monkeypatch)
    store = SQLiteStore(edge.pod().paths.session_store)
    layer = SessionLayer(store)
    for id in ("s1", "t2"):
        saved = state(id=id, workspace_id="demo", command_history=["make"])
        layer.save(saved, replace(output(["done"]), session_id=id))
    store.close()
    client = edge.join()
    client.attach("new")
    listed = document(run_cli, "session", "list", "demo")["items"]
    assert {item["session"]: item["state"] for item in listed} == {
        **{"s1": "saved", "t2": "saved"},
        client.session: "live",
    }
    assert document(run_cli, "session", "show", "demo", "s")["historyCount"] == 1
    asked = edge.folder / "asked"
    monkeypatch.setenv("CODITECT_TOKEN_COMMAND", f"sh -c 'echo >> {asked}; echo {edge.token()}'")
    monkeypatch.delenv("CODITECT_TOKEN")
    assert run_cli("session", "history", "demo", "s1")[1].endswith("make\n")
    assert asked.read_text() == "\n"  # once for all that the gateway was asked
    assert run_cli("session", "output", "demo", "t")[1] == "done\n"
    assert refusal(run_cli, "session", "show", "demo", "x") == (3, "session.not_found")
    assert refusal(run_cli, "session", "delete", "demo", "s1") == (2, "context.remote")


def test_a_workspace_with_what_cannot_be_saved_is_stopped_only_when_that_is_meant(
    edge: Edge, run_cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge.declare_to_commands(monkeypatch)
    pod = edge.pod()
    client = edge.join()
    client.attach("new")
    until(pod.paths.session_store.exists, "a store")

    def why() -> str | None:
        found: str | None = document(run_cli, "session", "show", "demo", client.session)["notSaved"]
        return found

    until(lambda: why() is None, "the first save")
    with refusing(pod.paths.session_store):
        client.run("echo precious")
        assert "no room" in until(why, "the news that it is not saved")
        client.detach()
        assert refusal(run_cli, "workspace", "stop", "demo") == (8, "session.not_saved")
        status, _, said = run_cli("workspace", "stop", "demo", "--force", "--no-wait")
        assert status == 0
        assert f"warning: sessions that could not be saved: 1 (demo/{client.session})" in said


def test_a_workspace_is_stopped_by_force_also_where_nobody_can_be_asked(
    edge: Edge, run_cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge.declare_to_commands(monkeypatch)
    edge.pod()
    monkeypatch.setenv("CODITECT_GATEWAY_URL", f"ws://127.0.0.1:{free_ports(1)[0]}/ws")
    assert refusal(run_cli, "workspace", "stop", "demo") == (9, "gateway.unreachable")
    status, _, said = run_cli("workspace", "stop", "demo", "--force", "--no-wait")
    assert status == 0
    assert "warning: nobody said what cannot be saved: no gateway answers" in said


def test_a_workspace_that_is_not_ready_is_asked_who_is_attached(
    edge: Edge, run_cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge.declare_to_commands(monkeypatch, image="localhost/slow:1")
    edge.pod()
    edge.join().attach()
    assert document(run_cli, "workspace", "show", "demo")["status"] == "starting"
    assert refusal(run_cli, "workspace", "stop", "demo") == (6, "workspace.in_use")
    edge.delete("demo")
    unknown = lambda: edge.refusal() == (503, "workspace.not_running", True)  # noqa: E731
    until(unknown, "the news that the pod is gone")
    status, _, said = run_cli("workspace", "stop", "demo", "--no-wait")
    assert (status, "warning" in said) == (0, False)


def test_a_draining_edge_tells_clients_to_come_back_and_they_miss_nothing(edge: Edge) -> None:
    edge.pod()
    client = edge.join()
    client.attach()
    client.acknowledges = False  # so the flood waits in the middle
    client.send(b"seq 300000; echo the''end\n")
    client.expect(b"\r\n1000\r\n")
    edge.process.send_signal(signal.SIGTERM)
    assert client.closed() == 1012
    assert client.heard[-1] == {"type": "drain", "reason": "restart"}
    assert edge.process.wait(PATIENCE) == 0
    edge.process = edge.start()
    again = edge.join()
    again.attach(session=client.session, client=client.id, resume=dict(client.offsets))
    assert again.answer["output"] == client.offsets["output"]
    whole = client.output + again.expect(b"theend")
    numbers = whole[: whole.rindex(b"theend")].replace(b"\r\n", b"\n").split(b"\n")
    expected = [str(n).encode() for n in range(1001, 300_001)]
    assert numbers[: len(expected)] == expected


def test_an_edge_that_ends_is_not_ready(edge: Edge) -> None:
    with pod_in_the_middle(edge) as finish:
        client = edge.join()  # of whom the edge can't take leave yet
        edge.process.send_signal(signal.SIGTERM)
        until(lambda: edge.page("/readyz") == 503, "an edge that is not ready")
        assert edge.page("/healthz") == 200
        assert edge.refusal() == (503, "gateway.not_ready", True)
        finish()
        assert client.closed() == 1012
    assert edge.process.wait(PATIENCE) == 0


@contextmanager
def pod_in_the_middle(edge: Edge) -> Iterator[Callable[[], None]]:
    """A pod in the middle of a message, which a real one would finish; and how to finish it."""
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:

        def answer() -> None:
            pod = stack.enter_context(server.accept()[0])
            [key] = re.findall(rb"Sec-WebSocket-Key: (\S+)", pod.recv(1 << 16))
            pod.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Protocol: coditect.v2\r\n"
                b"Sec-WebSocket-Accept: " + accept_key(key.decode()).encode() + b"\r\n\r\n"
                b'\x81\x0c{"type":"x"'
            )
            pods.append(pod)

        pods: list[socket.socket] = []
        server.settimeout(PATIENCE)
        thread = Thread(target=answer)
        thread.start()
        edge.create("demo", *server.getsockname())
        yield lambda: pods[0].sendall(b"}")
        thread.join()


def test_an_edge_without_keys_or_without_a_signer_does_not_start(
    cluster: Cluster, tmp_path: Path, run_cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = ("gateway", "serve", "--role", "edge", "--listen", "127.0.0.1:0")
    monkeypatch.setenv("CODITECT_KUBECONFIG", str(cluster.kubeconfig))
    code, _, err = run_cli(*serve, "-o", "json")
    assert (code, "gateway.no_keys" in err) == (2, True)
    secret = tmp_path / "jwt_secret"
    secret.touch(0o600)
    secret.write_bytes(SHARED)
    monkeypatch.setenv("CODITECT_TOKEN_SECRET_FILE", str(secret))
    code, _, err = run_cli(*serve, "-o", "json")
    assert (code, "gateway.no_signer" in err) == (2, True)


class TestEntry(EntryConformance):
    @pytest.fixture
    def provider(self, home: Path, edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in edge.settings().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("CODITECT_IMAGE", "localhost/workspace:1")


def test_pages_answer_anyone(edge: Edge, run_cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [edge.page(path) for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 200]
    assert edge.page("/") == 401  # who has no token does not learn what is where
    for name, value in edge.settings().items():
        monkeypatch.setenv(name, value)
    assert f"ws://{edge.address}/ws is ready" in run_cli("doctor")[1]
