"""Medians with ratios, all of one run, in one table."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path

import cluster
import measures
import rivals
import store
from table import Table
from ways import Gateway, Terminal, Way

from coditect_cli import tokens
from coditect_cli.attach.link import Link
from coditect_cli.attach.request import request
from coditect_cli.config import load
from coditect_cli.paths import Paths
from coditect_cli.tokens import local_user
from coditect_cli.workspaces.local import LocalWorkspaces

BARE, NESTED, OURS, SOCKET = "bare PTY", "PTY in a PTY (script)", "coditect attach", "our socket"


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    keys: int = 300
    rounds: int = 5
    megabytes: int = 32
    floods: int = 5
    flood_seconds: float = 0.5
    runs: int = 15
    starts: int = 5
    sessions: int = 200
    flood_megabytes: int = 100
    killed: int = 100


QUICK = Size(40, 1, 4, 1, 0.1, 2, 1, 5, 4, 2)


class Bench:
    """A gateway in a folder of its own, and what is measured on it."""

    def __init__(self, folder: Path, size: Size) -> None:
        self.size = size
        self.table = Table()
        self.folder = folder
        self.shell = measures.make_shell(folder)
        # An installed package is compiled: measure that, not the compiler.
        unwanted = ("CODITECT_", "PYTHONDONT")
        kept = {name: text for name, text in os.environ.items() if not name.startswith(unwanted)}
        home = {"CODITECT_HOME": str(folder / "home"), "CODITECT_SHELL": self.shell}
        self.environ = {**kept, **home, "TERM": "xterm-256color"}
        self.paths = Paths.from_environ(self.environ)
        self.coditect = str(Path(sys.executable).with_name("coditect"))

    def run(self) -> None:
        self.startup()
        self.first_prompts()
        LocalWorkspaces(self.paths).create("demo", local_user())
        self.interactive()
        self.sessions()
        self.redraw()
        self.resume()
        self.restore()

    def startup(self) -> None:
        """Short commands against the interpreter alone."""
        programs: dict[str, Sequence[str]] = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "coditect --version": [self.coditect, "--version"],
            "coditect --help": [self.coditect, "--help"],
            "coditect context list": [self.coditect, "context", "list"],
            "coditect workspace list": [self.coditect, "workspace", "list"],
        }
        kubectl = shutil.which("kubectl")
        if kubectl:
            programs["kubectl version --client"] = [kubectl, "version", "--client"]
        measures.run_times(programs, 1, self.environ)
        times = measures.run_times(programs, self.size.runs, self.environ)
        base = statistics.median(times["python -c pass"])
        most = {"coditect --version": 3}
        for name, taken in times.items():
            ratio = statistics.median(taken) / base
            limit = most.get(name, 7) if name.startswith("coditect") else None
            self.table.add(
                name,
                ratio * base * 1000,
                "ms",
                ratio=ratio,
                than="python -c pass",
                goal=f"<= {limit}x" if limit else "",
                met=ratio <= limit if limit else None,
            )
        if not kubectl:
            self.table.skip("kubectl version --client", "kubectl is not installed")

    def first_prompts(self) -> None:
        """`up` with no gateway running, then with one."""
        up = [self.coditect, "up", "demo-up"]
        cold = []
        for _ in range(self.size.starts):
            cold.append(measures.first_prompt(up, self.environ))
            self.stop_gateway()
        measures.first_prompt(up, self.environ)
        warm = measures.repeated(lambda: measures.first_prompt(up, self.environ), self.size.starts)
        self.table.add("up to first prompt, no gateway yet", _ms(cold), "ms")
        self.table.add("up to first prompt, gateway runs", _ms(warm), "ms")

    def interactive(self) -> None:
        """Keystrokes, bulk output and Ctrl-C, through every way there is."""
        file = self.folder / "bulk"
        file.write_bytes(measures.LINE * (self.size.megabytes * 1_000_000 // len(measures.LINE)))
        with ExitStack() as stack:
            ways = self.open_ways(stack)
            for way in ways.values():
                measures.at_prompt(way)
            size = self.size
            self.report_keys(measures.keystrokes(ways, size.keys, size.rounds))
            self.report_bulk(measures.bulk(ways, file, max(1, size.rounds)))
            times = measures.interrupts(ways, size.floods, size.flood_seconds)
            for name, taken in times.items():
                ours = name in (OURS, SOCKET)
                self.table.add(
                    f"Ctrl-C in a flood: {name}",
                    _ms(taken),
                    "ms",
                    goal="<= 100 ms" if ours else "",
                    met=_ms(taken) <= 100 if ours else None,
                )

    def open_ways(self, stack: ExitStack) -> dict[str, Way]:
        ways: dict[str, Way] = {
            BARE: Terminal([self.shell], self.environ),
            OURS: Terminal([self.coditect, "attach", "demo", "--new"], self.environ),
            SOCKET: Gateway(self.dial()),
        }
        if script := shutil.which("script"):
            quiet = ["-q", "-c", self.shell, "/dev/null"]
            ways[NESTED] = Terminal([script, *quiet], self.environ)
        else:
            self.table.skip(NESTED, "script is not installed")
        for name, rival in rivals.ALL.items():
            folder = self.folder / name
            folder.mkdir()
            try:
                ways[name] = stack.enter_context(rival(self.shell, folder))()
            except (rivals.Absent, OSError) as why:
                self.table.skip(name, str(why))
        for way in ways.values():
            stack.callback(way.close)
        return ways

    def report_keys(self, times: dict[str, list[float]]) -> None:
        medians = {name: statistics.median(taken) for name, taken in times.items()}
        for name, taken in times.items():
            goal, met = "", None
            if name == OURS:
                goal, met = "<= 3x", medians[OURS] <= 3 * medians[BARE]
                if "ssh" in medians:
                    goal, met = goal + ", ahead of ssh", met and medians[OURS] < medians["ssh"]
            self.table.add(
                f"echo p50: {name}",
                medians[name] * 1e6,
                "us",
                ratio=medians[name] / medians[BARE],
                than=BARE,
                goal=goal,
                met=met,
            )
            self.table.add(f"echo p99: {name}", measures.percentile(taken, 99) * 1e6, "us")
        self.as_a_user_has_it("echo p50", medians, 1e6, "us", most=3)

    def report_bulk(self, rates: dict[str, list[float]]) -> None:
        medians = {name: statistics.median(found) for name, found in rates.items()}
        others = [medians[name] for name in ("ttyd", "terminado") if name in medians]
        for name, rate in medians.items():
            goal, met = "", None
            if name == OURS:
                goal, met = ">= 0.65x", rate >= 0.65 * medians[BARE]
            elif name == SOCKET:
                goal, met = ">= 0.65x", rate >= 0.65 * medians[BARE]
                if others:
                    goal += ", 1.5x ttyd, terminado"
                    met = met and rate >= 1.5 * max(others)
            self.table.add(
                f"bulk: {name}",
                rate,
                "MB/s",
                ratio=rate / medians[BARE],
                than=BARE,
                goal=goal,
                met=met,
            )

        self.as_a_user_has_it("bulk", medians, 1, "MB/s", least=0.65)

    def as_a_user_has_it(
        self,
        what: str,
        medians: dict[str, float],
        scale: float,
        unit: str,
        *,
        least: float = 0,
        most: float = inf,
    ) -> None:
        """The client against a PTY inside of another: both have the user's terminal too."""
        if NESTED in medians:
            ratio = medians[OURS] / medians[NESTED]
            self.table.add(
                f"{what}: coditect attach, as a user has it",
                medians[OURS] * scale,
                unit,
                ratio=ratio,
                than="PTY in a PTY",
                goal=f">= {least}x" if least else f"<= {most}x",
                met=least <= ratio <= most,
            )

    def sessions(self) -> None:
        """Memory beside the shells, of sessions that nobody is attached to."""
        if not Path("/proc/self/smaps_rollup").exists():
            self.table.skip("memory per idle session", "this system has no /proc")
            return
        pids = self.gateway_pids()
        before = measures.memory(pids)
        for number in range(self.size.sessions):
            way = measures.at_prompt(Gateway(self.dial()))
            way.close()
            if number % 50 == 49:
                time.sleep(1)  # attach_rate
        after = measures.memory(pids)
        each = (after - before) / self.size.sessions / 1e6
        self.table.add(
            f"memory per idle session, of {self.size.sessions}",
            each,
            "MB",
            goal="<= 1 MB",
            met=each <= 1,
        )
        self.ask("demo", {"type": "stop", "force": True})
        LocalWorkspaces(self.paths).set_desired("demo", "running")

    def redraw(self) -> None:
        """From asking for a session that printed a lot to its screen."""
        way = Gateway(self.dial())
        measures.at_prompt(way)
        megabytes = self.size.flood_megabytes
        way.type(f"yes 0123456789 | head -c {megabytes}000000\n".encode())
        way.expect(measures.PROMPT)
        way.close()
        taken = []
        for _ in range(self.size.floods):
            link = self.dial()
            begun = time.perf_counter()
            other = Gateway(link, way.session)
            other.read()
            taken.append(time.perf_counter() - begun)
            other.close()
        self.table.add(
            f"redraw after {megabytes} MB",
            _ms(taken),
            "ms",
            goal="<= 100 ms",
            met=_ms(taken) <= 100,
        )

    def resume(self) -> None:
        """From kill -9 of the bridge to the echo of a key typed at once."""
        way = Terminal([self.coditect, "attach", "demo", "--new"], self.environ)
        measures.at_prompt(way)
        keeper = self.gateway_pids()[0]
        taken = []
        for _ in range(self.size.floods):
            begun = time.perf_counter()
            measures.kill_bridge(keeper)
            way.type(b"k")
            way.expect(b"k")
            taken.append(time.perf_counter() - begun)
        self.table.add(
            "resume after kill -9 of the bridge",
            _ms(taken),
            "ms",
            goal="<= 1000 ms",
            met=_ms(taken) <= 1000,
        )
        way.close()

    def restore(self) -> None:
        """Attaching to what was saved, after kill -9 of keeper and bridge: the shell's prompt."""
        ways = []
        for number in range(self.size.killed):
            ways.append(measures.at_prompt(Gateway(self.dial())))
            if number % 50 == 49:
                time.sleep(1)  # attach_rate
        time.sleep(1)  # what changed is saved by then
        for pid in self.gateway_pids():
            os.kill(pid, signal.SIGKILL)
        attach = [self.coditect, "attach", "demo", "--session"]
        taken = [
            measures.first_prompt([*attach, way.session], self.environ, b"restored: ")
            for way in ways[: self.size.floods + 1]
        ]
        for what, found in (
            ("the first, which starts a gateway", taken[:1]),
            ("others", taken[1:]),
        ):
            worst = max(found, default=taken[0]) * 1000
            self.table.add(
                f"attach after kill -9 of it all, {what}: worst",
                worst,
                "ms",
                goal="<= 1000 ms",
                met=worst <= 1000,
            )

    def dial(self) -> Link:
        key = tokens.local_key(self.paths)
        now = time.time()
        token = tokens.issue(key, workspace_id="demo", user_id=local_user(), ttl=60, now=now)
        return Link.open(f"ws+unix:{self.paths.gateway_socket}", "demo", token)

    def ask(self, workspace: str, message: dict[str, object]) -> dict[str, object]:
        return request(load(self.paths, {}), self.paths, workspace, message)

    def gateway_pids(self) -> list[int]:
        status = self.ask("_gateway", {"type": "status"})
        return [int(str(status[name])) for name in ("keeperPid", "bridgePid")]

    def stop_gateway(self) -> None:
        if self.paths.gateway_socket.exists():
            keeper = self.gateway_pids()[0]
            self.ask("_gateway", {"type": "gateway", "action": "stop", "force": True})
            while Path(f"/proc/{keeper}").exists():
                time.sleep(0.01)


def _ms(seconds: Sequence[float]) -> float:
    return statistics.median(seconds) * 1000


@contextmanager
def _bench(folder: Path, size: Size) -> Iterator[Bench]:
    bench = Bench(folder, size)
    try:
        yield bench
    finally:
        bench.stop_gateway()


def _terminals(folder: Path, *, quick: bool) -> Table:
    with _bench(folder, QUICK if quick else Size()) as bench:
        bench.run()
        return bench.table


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "what",
        nargs="?",
        choices=("terminals", "store", "cluster"),
        default="terminals",
        help="what to measure",
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test of the benchmark itself")
    parser.add_argument("--json", action="store_true", help="the table for machines")
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    measure = {"terminals": _terminals, "store": store.measure, "cluster": cluster.measure}[
        options.what
    ]
    with tempfile.TemporaryDirectory(prefix="coditect-bench-") as folder:
        table = measure(Path(folder), quick=options.quick)
    load_after = os.getloadavg()[0]
    if options.json:
        loads = {"before": load_before, "after": load_after}
        print(json.dumps({"rows": table.rows, "cpus": os.cpu_count(), "load": loads}, indent=2))
    else:
        print(table.text())
        print(f"\n{os.cpu_count()} CPUs, load {load_before:.1f} before and {load_after:.1f} after")


if __name__ == "__main__":
    main()
