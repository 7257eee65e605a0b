"""Workspaces on a real control plane and node, beside what kubectl does with the same objects."""

from __future__ import annotations

import copy
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import measures
from table import Table
from ways import Terminal, Way

sys.path.insert(0, str(Path(__file__).parents[2]))

import pytest
import yaml

from tests.support.cluster import assets
from tests.support.node import PATIENCE
from tests.support.platform import NAMESPACE, Platform, running_platform

PATH = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets"
BARE, EDGE, EXEC = "bare PTY", "coditect attach: edge and pod", "kubectl exec -it"
PROMPT = f"PS1='{measures.PROMPT.decode()}' exec bash --norc --noprofile -i"


@dataclass(frozen=True)
class Size:
    workspaces: int = 10_000
    lists: int = 3
    creates: int = 7
    keys: int = 200
    rounds: int = 5


QUICK = Size(20, 1, 1, 20, 1)


def measure(folder: Path, *, quick: bool) -> Table:
    """The whole table; one row that says why where a part is missing."""
    table = Table()
    try:
        with running_platform(folder) as platform:
            Bench(platform, folder, table, QUICK if quick else Size()).run()
    except pytest.skip.Exception as why:
        table.skip("cluster", str(why))
    return table


class Bench:
    """What is measured on one platform."""

    def __init__(self, platform: Platform, folder: Path, table: Table, size: Size) -> None:
        self.platform = platform
        self.table = table
        self.size = size
        self.environ = platform.environ(folder / "home") | {"TERM": "xterm-256color"}
        self.coditect = [sys.executable, "-m", "coditect_cli"]
        self.kubectl = [
            *(str(assets() / "kubectl"), f"--kubeconfig={platform.cluster.kubeconfig}"),
            f"--namespace={NAMESPACE}",
        ]

    def run(self) -> None:
        self.create()
        self.echo()
        self.list()

    def create(self) -> None:
        """From the command to a ready pod, image and node as they are."""
        ours, theirs = [], []
        for number in range(self.size.creates):
            ours.append(self._timed([*self.coditect, "workspace", "create", f"ours-{number}"]))
            manifest = self._manifest(f"theirs-{number}")
            begun = time.perf_counter()
            self._run([*self.kubectl, "apply", "-f", "-"], manifest)
            pod = f"pod/theirs-{number}-0"
            wait = ["wait", "--for=condition=Ready", f"--timeout={PATIENCE:g}s", pod]
            while self._status([*self.kubectl, *wait]):
                time.sleep(0.02)  # it fails at once where there is no pod yet
            theirs.append(time.perf_counter() - begun)
            for id in (f"ours-{number}", f"theirs-{number}"):
                self._run([*self.coditect, "workspace", "delete", id, "--force"])
        base = statistics.median(theirs)
        self.table.add("create: kubectl apply, kubectl wait", base, "s")
        self._add("create: coditect workspace create", statistics.median(ours), "s", base, 1.0)

    def echo(self) -> None:
        """Keystrokes to a shell in a pod, and to one on a PTY here."""
        self._run([*self.coditect, "workspace", "create", "demo"])
        attach = [*self.coditect, "attach", "--insecure", "--new", "demo"]
        exec_ = [*self.kubectl, "exec", "-it", "demo-0", "--", "bash", "-c", PROMPT]
        with ExitStack() as stack:
            ways: dict[str, Way] = {
                BARE: Terminal(["bash", "-c", PROMPT], self.environ),
                EDGE: Terminal(attach, self.environ),
                EXEC: Terminal(exec_, self.environ),
            }
            for way in ways.values():
                stack.callback(way.close)
            ways[EDGE].type(f"{PROMPT}\n".encode())
            ways[EDGE].expect(measures.PROMPT)  # as it is typed
            for way in ways.values():
                measures.at_prompt(way)
            times = measures.keystrokes(ways, self.size.keys, self.size.rounds)
        medians = {name: statistics.median(taken) * 1e6 for name, taken in times.items()}
        for name, median in medians.items():
            goal, met = "", None
            if name == EDGE:
                goal = "<= 6x, 10x ahead of exec"
                met = median <= 6 * medians[BARE] and 10 * median <= medians[EXEC]
            ratio = median / medians[BARE]
            self.table.add(
                f"echo p50: {name}", median, "us", ratio=ratio, than=BARE, goal=goal, met=met
            )
        self._run([*self.coditect, "workspace", "delete", "demo", "--force"])

    def list(self) -> None:
        """Time and memory of listing many workspaces."""
        self._fill()
        commands = {
            "kubectl get sts": [*self.kubectl, "get", "sts"],
            "kubectl get sts -o json": [*self.kubectl, "get", "sts", "-o", "json"],
            "coditect workspace list": [*self.coditect, "workspace", "list"],
            "coditect workspace list -o json": [*self.coditect, "workspace", "list", "-o", "json"],
        }
        costs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(self.size.lists):
            for name, argv in commands.items():
                costs[name].append(self._cost(argv))
        medians = {
            name: [statistics.median(values) for values in zip(*found, strict=True)]
            for name, found in costs.items()
        }
        seconds, memory = medians["kubectl get sts"]
        count = f"{self.size.workspaces:,} workspaces"
        for name, (taken, held) in medians.items():
            ours = name.startswith("coditect")
            self._add(f"{name}, {count}", taken, "s", seconds, 0.5 if ours else None)
            self._add(f"{name}: memory", held, "MB", memory, 0.3 if ours else None)

    def _fill(self) -> None:
        """StatefulSets without replicas: they are listed, and ask nothing of the node."""
        objects = yaml.safe_load(self._manifest("template"))["items"]
        (template,) = (found for found in objects if found["kind"] == "StatefulSet")
        template["spec"]["replicas"] = 0

        def make(number: int) -> None:
            found = copy.deepcopy(template)
            name = f"w{number:05}"
            found["metadata"]["name"] = name
            for labels in (
                found["metadata"]["labels"],
                found["spec"]["selector"]["matchLabels"],
                found["spec"]["template"]["metadata"]["labels"],
            ):
                labels["workspace-id"] = name
            self.platform.cluster.request("POST", PATH, found)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(make, range(self.size.workspaces)))

    def _manifest(self, id: str) -> str:
        dry = ("workspace", "create", id, "--dry-run=client", "-o", "yaml")
        return self._run([*self.coditect, *dry])

    def _add(self, what: str, value: float, unit: str, base: float, most: float | None) -> None:
        ratio = value / base
        self.table.add(
            what,
            value,
            unit,
            ratio=ratio,
            than="kubectl",
            goal=f"<= {most:g}x" if most else "",
            met=ratio <= most if most else None,
        )

    def _timed(self, argv: Sequence[str]) -> float:
        begun = time.perf_counter()
        self._run(argv)
        return time.perf_counter() - begun

    def _run(self, argv: Sequence[str], stdin: str | None = None) -> str:
        done = subprocess.run(
            argv, check=False, env=self.environ, input=stdin, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{argv}: {done.stderr}")
        return done.stdout

    def _status(self, argv: Sequence[str]) -> int:
        return subprocess.run(argv, check=False, env=self.environ, capture_output=True).returncode

    def _cost(self, argv: Sequence[str]) -> tuple[float, float]:
        """Seconds, and the most memory that it held, in MB."""
        begun = time.perf_counter()
        with open(os.devnull, "wb") as nowhere:
            process = subprocess.Popen(argv, env=self.environ, stdout=nowhere)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = 0  # reaped
        if status:
            raise RuntimeError(f"{argv} ended with {os.waitstatus_to_exitcode(status)}")
        return time.perf_counter() - begun, used.ru_maxrss * 1024 / 1e6
