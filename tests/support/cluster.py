"""A real Kubernetes control plane: etcd, API server, controller manager, scheduler.

The programs come from KUBEBUILDER_ASSETS, as `setup-envtest use -p path` fills it (the controller
manager and the scheduler are beside them, or the tests that need them skip).
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.authority import Authority, public_pem, write_key
from tests.support.gateway import until

PATIENCE = 120.0  # seconds for a control plane on a loaded machine
VOLUMES = Path("/tmp/hostpath_pv")  # noqa: S108 (the controller manager knows no other)
MANIFESTS = Path(__file__).parents[2] / "manifests"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")


def assets() -> Path:
    """Where the programs are; skips the test where they are not."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder:
        pytest.skip("KUBEBUILDER_ASSETS names no folder with etcd, kube-apiserver and kubectl")
    missing = [name for name in PROGRAMS if not os.access(Path(folder) / name, os.X_OK)]
    if missing:
        pytest.skip(f"{folder} (KUBEBUILDER_ASSETS) has no {', '.join(missing)}")
    return Path(folder).absolute()


class ApiError(Exception):
    """An answer that is no success: its status, and the Status object it carried."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body[:2000]}")
        self.status = status


class Cluster:
    """A control plane that runs, as its users see it; FOLDER holds its authority.

    `kubeconfig` is its administrator's.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.authority = Authority(folder)

    @cached_property
    def kubeconfig(self) -> Path:
        return self.user("admin", "system:masters")

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """The administrator's."""
        files = self.authority.issue(uuid.uuid4().hex, "admin", ["system:masters"])
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.load_cert_chain(*files)
        return context

    def user(self, name: str, *groups: str) -> Path:
        """A kubeconfig for a user of that name, who may do what is granted to it or its groups."""
        file = uuid.uuid4().hex
        certificate, key = self.authority.issue(file, name, groups)
        return self.write_kubeconfig(
            file, {"client-certificate": str(certificate), "client-key": str(key)}
        )

    def service_account(self, namespace: str, name: str) -> Path:
        """A kubeconfig with a fresh token of that service account."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        answer = self.request("POST", path, {"spec": {"expirationSeconds": 7200}})
        return self.write_kubeconfig(uuid.uuid4().hex, {"token": answer["status"]["token"]})

    def write_kubeconfig(
        self, file: str, user: dict[str, Any], url: str | None = None, namespace: str = "default"
    ) -> Path:
        """A kubeconfig (0600) whose only context is `test`; `url` may be a proxy's."""
        authority = base64.b64encode(self.authority.certificate.read_bytes()).decode()
        server = {"server": url or self.url, "certificate-authority-data": authority}
        names = {"cluster": "test", "user": "test", "namespace": namespace}
        path = self.folder / f"{file}.kubeconfig"
        path.touch(0o600)
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "clusters": [{"name": "test", "cluster": server}],
                    "users": [{"name": "test", "user": user}],
                    "contexts": [{"name": "test", "context": names}],
                }
            )
        )
        return path

    def request(
        self, method: str, path: str, body: Any = None, kind: str = "application/json"
    ) -> Any:
        """One call as administrator, and its answer. Raises ApiError."""
        request = urllib.request.Request(  # noqa: S310 (https, and our own)
            self.url + path,
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": kind},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE, context=self.tls) as answer:  # noqa: S310
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise ApiError(error.code, error.read().decode()) from None

    def open(self, path: str) -> Iterator[bytes]:
        """The lines of an answer, as they come: a watch's events."""
        url = self.url + path
        with urllib.request.urlopen(url, timeout=PATIENCE, context=self.tls) as answer:  # noqa: S310
            yield from answer

    def patch(self, path: str, body: Any) -> Any:
        return self.request("PATCH", path, body, "application/merge-patch+json")

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl as administrator; its stdout (with `check` False: stderr too)."""
        done = subprocess.run(
            [assets() / "kubectl", "--kubeconfig", self.kubeconfig, *args],
            check=False,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={"HOME": str(self.folder), "PATH": os.environ["PATH"]},
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout if check else done.stdout + done.stderr

    def namespace(self) -> str:
        """A new namespace with its default service account."""
        name = f"test-{uuid.uuid4().hex[:10]}"
        self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        until(lambda: self._exists(account), "a default service account", PATIENCE)
        return name

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(  # noqa: S310 (https, and our own)
                f"{self.url}/readyz", timeout=5, context=self.tls
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _exists(self, path: str) -> bool:
        try:
            self.request("GET", path)
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        return True


class ControlPlane:
    """The processes of a control plane below `folder`; `cluster` is how to use it.

    `hosts` are further names and addresses for the API server's certificate.
    """

    def __init__(
        self,
        folder: Path,
        address: str = "127.0.0.1",
        hosts: Sequence[str] = (),
        apiserver_flags: Sequence[str] = (),
    ) -> None:
        self._programs = assets()
        self.folder = folder
        self._address = address
        self._hosts = hosts
        self._flags = apiserver_flags
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._alive: int | None = None  # holds a lock that says so
        self._etcd, self._etcd_peer, self._port = free_ports(3)
        folder.mkdir(parents=True, exist_ok=True)
        self.cluster = Cluster(folder, f"https://{address}:{self._port}")

    def start(self) -> None:
        self._alive = os.open(self._programs, os.O_RDONLY)
        self._remove_volumes(self._alive)
        fcntl.flock(self._alive, fcntl.LOCK_SH)
        self.start_etcd()
        self.start_apiserver()
        self.start_controllers()

    def start_etcd(self) -> None:
        client = f"http://127.0.0.1:{self._etcd}"
        peer = f"http://127.0.0.1:{self._etcd_peer}"
        self.run(
            "etcd",
            "--unsafe-no-fsync",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        )

    def start_apiserver(self) -> None:
        certificate, key = self.cluster.authority.issue(
            "apiserver", "kube-apiserver", hosts=["localhost", self._address, *self._hosts]
        )
        signing, public = self.folder / "accounts.key", self.folder / "accounts.pub"
        if not signing.exists():
            public.write_bytes(public_pem(write_key(signing)))
        self.run(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd}",
            f"--bind-address={self._address}",
            f"--secure-port={self._port}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={self.cluster.authority.certificate}",
            f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={signing}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            *self._flags,
        )
        until(self._ready, f"an API server, see {self.folder}/kube-apiserver.log,", PATIENCE)

    def start_controllers(self) -> None:
        """The controller manager (with volumes in folders of this machine) and the scheduler."""
        self.cluster.request("POST", "/apis/storage.k8s.io/v1/storageclasses", STORAGE_CLASS)
        self.run(
            "kube-controller-manager",
            f"--kubeconfig={self.cluster.kubeconfig}",
            f"--service-account-private-key-file={self.folder / 'accounts.key'}",
            f"--root-ca-file={self.cluster.authority.certificate}",
            "--use-service-account-credentials",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_ports(1)[0]}",
            "--leader-elect=false",
            "--enable-hostpath-provisioner",
        )
        self.run(
            "kube-scheduler",
            f"--kubeconfig={self.cluster.kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_ports(1)[0]}",
            "--leader-elect=false",
        )

    def run(self, program: str, *flags: str) -> None:
        """Start one of the programs; its output goes to PROGRAM.log in the cluster's folder."""
        with open(self.folder / f"{program}.log", "ab") as log:
            self._processes[program] = subprocess.Popen(
                [self._programs / program, *flags],
                cwd=self.folder,
                env={"HOME": str(self.folder), "PATH": os.environ["PATH"]},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, program: str) -> None:
        process = self._processes.pop(program)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """Kill every process, the last one first; the last control plane removes all volumes."""
        for program in reversed(list(self._processes)):
            self.kill(program)
        if self._alive is not None:
            self._remove_volumes(self._alive)
            os.close(self._alive)
            self._alive = None

    def _remove_volumes(self, alive: int) -> None:
        """Remove what this and earlier, killed runs left, where no other control plane runs now."""
        with suppress(BlockingIOError):
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(VOLUMES, ignore_errors=True)

    def _ready(self) -> bool:
        process = self._processes["kube-apiserver"]
        assert process.poll() is None, (self.folder / "kube-apiserver.log").read_text()[-4000:]
        return self.cluster.is_ready()


STORAGE_CLASS = {
    "metadata": {"name": "standard-rwo"},
    "provisioner": "kubernetes.io/host-path",
    "volumeBindingMode": "WaitForFirstConsumer",
}


@contextmanager
def control_plane(plane: ControlPlane) -> Iterator[Cluster]:
    """Run a control plane for as long as the block runs."""
    try:
        plane.start()
        yield plane.cluster
    finally:
        plane.stop()


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
