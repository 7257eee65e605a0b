"""A real node for a control plane: containerd, runc and a kubelet; needs root.

Pods and Services get addresses that this machine reaches. There is no cluster DNS. Everything is
taken down without a trace.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster import ControlPlane, free_ports
from tests.support.gateway import until
from tests.support.images import run

BRIDGE = "cni0"
ADDRESS = "10.244.0.1"
RANGE = "10.244.0.0/24"
NAME = "node1"
PAUSE = "localhost/pause:1"
PLUGINS = Path("/usr/lib/cni")
PROGRAMS = ("containerd", "ctr", "runc", "ip", "iptables", "busybox")
FIREWALLS = ("iptables", "ip6tables")  # a service is a rule
TRACES = ("/run/containerd", "/var/lib/cni/results", "/var/lib/kubelet", "/var/log/containers")
PATIENCE = 120.0  # seconds


class Node(ControlPlane):
    """A control plane on the bridge's address, and one node that it schedules on."""

    def __init__(self, folder: Path) -> None:
        missing = [name for name in PROGRAMS if shutil.which(name) is None]
        if missing or not PLUGINS.is_dir():
            pytest.skip(f"a node needs {', '.join(missing) or 'containernetworking-plugins'}")
        super().__init__(folder, address=ADDRESS, hosts=("10.96.0.1", "127.0.0.1"))
        certificate, key = self.cluster.authority.issue(
            "kubelet-client", "apiserver", ["system:masters"]
        )
        self._flags = (
            f"--advertise-address={ADDRESS}",
            f"--kubelet-client-certificate={certificate}",
            f"--kubelet-client-key={key}",
            "--kubelet-preferred-address-types=InternalIP",
        )
        self.socket = folder / "containerd.sock"
        self._turn: int | None = None

    def start(self) -> None:
        """Wait for the end of another test run's node, since there is one bridge, and start."""
        self._turn = os.open(PLUGINS, os.O_RDONLY)
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        self._traces_before = _traces()
        self._rules_before = {tool: _rules(tool) for tool in FIREWALLS}
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "addr", "add", f"{ADDRESS}/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        self.start_containerd()
        super().start()
        self.start_kubelet()
        self.start_proxy()

    def start_containerd(self) -> None:
        (self.folder / "cni").mkdir()
        (self.folder / "cni" / "10-bridge.conflist").write_text(
            json.dumps(NETWORK).replace("{folder}", str(self.folder))
        )
        config = self.folder / "containerd.toml"
        config.write_text(
            CONTAINERD.format(folder=self.folder, socket=self.socket, pause=PAUSE, cni=PLUGINS)
        )
        self._run_system("containerd", "--config", str(config))
        until(lambda: self._ctr("version", check=False) == 0, "containerd", PATIENCE)
        self.load(_pause_image(self.folder))

    def load(self, archive: Path) -> None:
        """Bring the images of an archive to the node."""
        self._ctr("image", "import", str(archive))

    def tag(self, image: str, name: str) -> None:
        """Give an image another name, as if it had been pulled by that."""
        self._ctr("image", "tag", image, name)

    def start_kubelet(self) -> None:
        kubeconfig = self.cluster.user(f"system:node:{NAME}", "system:nodes")
        config = self.folder / "kubelet.yaml"
        config.write_text(yaml.safe_dump(self._kubelet_config()))
        self.run(
            "kubelet",
            f"--config={config}",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={NAME}",
            f"--node-ip={ADDRESS}",
            f"--root-dir={self.folder / 'kubelet'}",
            f"--cert-dir={self.folder / 'kubelet-pki'}",
            "--node-labels=cloud.google.com/gke-spot=true",
        )
        until(self._is_ready, f"a ready node, see {self.folder}/kubelet.log,", PATIENCE)

    def start_proxy(self) -> None:
        """So that a Service's address leads to its pods, also from here."""
        self.run(
            "kube-proxy",
            f"--kubeconfig={self.cluster.kubeconfig}",
            f"--hostname-override={NAME}",
            "--proxy-mode=iptables",
            f"--cluster-cidr={RANGE}",
            "--conntrack-max-per-core=0",
        )

    def _kubelet_config(self) -> dict[str, Any]:
        healthz, port = free_ports(2)
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": False},
                "x509": {"clientCAFile": str(self.cluster.authority.certificate)},
            },
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": "/",
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "failCgroupV1": False,
            "resolvConf": "",
            "podLogsDir": str(self.folder / "pod-logs"),
            "evictionHard": {"nodefs.available": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
            "makeIPTablesUtilChains": False,
            "healthzPort": healthz,
            "port": port,
            "syncFrequency": "2s",
        }

    def _is_ready(self) -> bool:
        process = self._processes["kubelet"]
        assert process.poll() is None, (self.folder / "kubelet.log").read_text()[-4000:]
        with suppress(Exception):
            node = self.cluster.request("GET", f"/api/v1/nodes/{NAME}")
            conditions = {one["type"]: one["status"] for one in node["status"]["conditions"]}
            return conditions.get("Ready") == "True"
        return False

    def stop(self) -> None:
        """Take down the node, then the control plane; nothing of it stays on this machine."""
        if self._turn is None:
            return
        for program in ("kube-proxy", "kubelet", "kube-scheduler", "kube-controller-manager"):
            if program in self._processes:
                self.kill(program)
        if "containerd" in self._processes:
            self._kill_tasks()
            self.kill("containerd")
        super().stop()
        for shim in _processes_below(self.folder):
            with suppress(ProcessLookupError):
                os.kill(shim, signal.SIGKILL)
        for target in _mounts_below(self.folder):
            run("umount", "--lazy", target, check=False)
        _remove_cgroups()
        for path in _traces() - self._traces_before:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        run("ip", "link", "delete", BRIDGE, check=False)
        for tool, rules in self._rules_before.items():
            subprocess.run([f"{tool}-restore"], check=False, input=rules, text=True)
        os.close(self._turn)

    def _kill_tasks(self) -> None:
        for task in self._tasks():
            self._ctr("task", "kill", "--signal", "SIGKILL", task, check=False)
        with suppress(AssertionError):
            until(lambda: not self._running(), "the end of every container", 30)
        for task in self._tasks():
            self._ctr("task", "delete", "--force", task, check=False)

    def _tasks(self) -> list[str]:
        return self._ctr_output("task", "list", "--quiet").split()

    def _running(self) -> bool:
        return "RUNNING" in self._ctr_output("task", "list")

    def pids(self, container: str) -> list[int]:
        """The first processes of the containers of this name."""
        found = []
        for line in self._ctr_output("task", "list").splitlines()[1:]:
            id, pid, *_ = line.split()
            labels = json.loads(self._ctr_output("container", "info", id))["Labels"]
            if labels.get("io.kubernetes.container.name") == container:
                found.append(int(pid))
        return found

    def _ctr(self, *args: str, check: bool = True) -> int:
        argv = ("ctr", "--address", str(self.socket), "--namespace", "k8s.io", *args)
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=PATIENCE)
        assert not check or done.returncode == 0, done.stderr
        return done.returncode

    def _ctr_output(self, *args: str) -> str:
        argv = ("ctr", "--address", str(self.socket), "--namespace", "k8s.io", *args)
        return subprocess.run(
            argv, check=False, capture_output=True, text=True, timeout=PATIENCE
        ).stdout

    def _run_system(self, program: str, *flags: str) -> None:
        """As `run`, for a program of the system."""
        with open(self.folder / f"{program}.log", "ab") as log:
            self._processes[program] = subprocess.Popen(
                [program, *flags], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )


def _pause_image(folder: Path) -> Path:
    """The sandbox's image: a program that waits."""
    archive = folder / "pause.tar"
    layer = BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(shutil.which("busybox") or "busybox", "busybox")
    command = ["/busybox", "sleep", "2147483647"]
    config = {"architecture": "amd64", "os": "linux", "config": {"Entrypoint": command}}
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config["rootfs"] = {"type": "layers", "diff_ids": [f"sha256:{digest}"]}
    manifest = [{"Config": "config.json", "RepoTags": [PAUSE], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as tar:
        for name, content in (
            ("config.json", json.dumps(config).encode()),
            ("manifest.json", json.dumps(manifest).encode()),
            ("layer.tar", layer.getvalue()),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, BytesIO(content))
    return archive


def _processes_below(folder: Path) -> list[int]:
    """Processes whose command lines name the folder: shims, when containerd was killed."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            if str(folder).encode() in line and b"containerd-shim" in line:
                found.append(int(entry.name))
    return found


def _mounts_below(folder: Path) -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    targets = [line.split()[1] for line in lines]
    return sorted((one for one in targets if one.startswith(f"{folder}/")), reverse=True)


def _remove_cgroups() -> None:
    """The kubelet's tree in each hierarchy; it is empty now."""
    for top in {
        *Path("/sys/fs/cgroup").glob("kubepods"),
        *Path("/sys/fs/cgroup").glob("*/kubepods"),
    }:
        deadline = time.monotonic() + 10
        while top.exists() and time.monotonic() < deadline:
            for folder, _, _ in os.walk(top, topdown=False):
                with suppress(OSError):
                    os.rmdir(folder)


def _rules(tool: str) -> str:
    """What TOOL-restore makes the firewall as it is now of; also a table that is not there yet."""
    saved = subprocess.run([f"{tool}-save"], check=True, capture_output=True, text=True).stdout
    absent = [table for table in ("filter", "nat", "mangle") if f"*{table}\n" not in saved]
    return saved + "".join(f"*{table}\nCOMMIT\n" for table in absent)


def _traces() -> set[Path]:
    """What kubelet, containerd and the network plugins put where nothing can tell them not to."""
    folders = [Path(name) for name in TRACES]
    return {path for folder in folders for path in (folder, *folder.glob("*")) if path.exists()} | {
        path for folder in folders for path in folder.glob("*") if path.is_symlink()
    }


NETWORK = {
    "cniVersion": "0.4.0",
    "name": "coditect-tests",
    "plugins": [
        {
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": "{folder}/addresses",
                "ranges": [[{"subnet": RANGE, "rangeStart": "10.244.0.10"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
    ],
}

CONTAINERD = """\
version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-state"
[grpc]
address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{cni}"
conf_dir = "{folder}/cni"
[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"
"""


@contextmanager
def running_node(folder: Path) -> Iterator[Node]:
    node = Node(folder)
    try:
        node.start()
        yield node
    finally:
        node.stop()
