"""A store with many sessions: the commands that scan it, beside a bare SQLite cursor.

Where FDB_CLUSTER_FILE is set, a scan of that cluster too, beside the binding's own.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from table import Table

from coditect_cli.paths import Paths
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.sessions.session import SessionOutput, SessionState
from coditect_cli.stores.sqlite import SQLiteStore
from coditect_cli.stores.store import prefix_end, scan

VALUE = 600  # bytes
BELOW = b"coditect-bench/"  # in a cluster that others may use too
STATE = SessionState(
    id="0" * 36,
    workspace_id="w00000",
    started_at=1_735_689_600_000_000_000,
    last_active=1_735_689_661_123_456_789,
    shell_type="bash",
    working_directory="/home/ada/projects/demo",
    environment_vars={"LANG": "C.UTF-8", "EDITOR": "vim", "PATH": "/usr/local/bin:/usr/bin:/bin"},
    command_history=["git status", "make test", "vim notes.txt", "cd /tmp", "ls -la"],
)
BARE = """
import sqlite3, sys
cursor = sqlite3.connect(sys.argv[1]).execute("SELECT key, value FROM entries ORDER BY key")
for key, value in cursor:
    pass
"""
# What the listing itself reads of each value, with its own decoder: not a whole decoding, which
# would take twice as long and flatter what is left.
DECODER = """
from msgspec.json import Decoder
from coditect_cli.sessions.listing import SavedState
decode = Decoder(SavedState).decode
"""
DECODING = DECODER + BARE.replace("pass", "decode(value)")


@dataclass(frozen=True)
class Size:
    sessions: int = 1_000_000
    workspaces: int = 10_000
    runs: int = 3
    starts: int = 15
    saves: int = 200
    keys: int = 200_000  # of FoundationDB


QUICK = Size(2_000, 20, 1, 1, 5, 2_000)


@dataclass(frozen=True)
class Cost:
    """Of one process, in CPU seconds and bytes."""

    seconds: float
    memory: int


def measure(folder: Path, *, quick: bool) -> Table:
    """Everything about the store, in a folder of its own."""
    bench = Bench(folder, QUICK if quick else Size())
    bench.fill()
    bench.scans()
    bench.starts()
    bench.layer()
    if cluster_file := os.environ.get("FDB_CLUSTER_FILE"):
        bench.foundationdb(cluster_file)
    return bench.table


class Bench:
    def __init__(self, folder: Path, size: Size) -> None:
        self.size = size
        self.table = Table()
        unwanted = ("CODITECT_", "PYTHONDONT")
        kept = {name: text for name, text in os.environ.items() if not name.startswith(unwanted)}
        self.environ = {**kept, "CODITECT_HOME": str(folder / "home")}
        self.file = Paths.from_environ(self.environ).session_store
        self.coditect = str(Path(sys.executable).with_name("coditect"))

    def fill(self) -> None:
        """The sessions, in the order of their keys."""
        SQLiteStore(self.file).close()
        with sqlite3.connect(self.file) as connection:
            connection.executemany("INSERT INTO entries VALUES (?, ?)", self.rows())
        connection.close()

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        padding = "x" * (VALUE - len(STATE.encode()))
        directory = STATE.working_directory + padding
        value = replace(STATE, working_directory=directory).encode()
        each = self.size.sessions // self.size.workspaces
        for workspace in range(self.size.workspaces):
            name = f"w{workspace:05}"
            for session in range(each):
                id = f"{workspace:08x}-0000-4000-8000-{session:012x}"
                key = f"{name}/terminal_sessions/{id}".encode()
                ours = value.replace(STATE.id.encode(), id.encode(), 1)
                yield key, ours.replace(STATE.workspace_id.encode(), name.encode(), 1)

    def scans(self) -> None:
        """What reads every session, without what the same program takes to start."""
        python = self.cost([sys.executable, "-c", "import sqlite3, sys"])
        start = self.cost([self.coditect, "context", "show"])
        bare = self.cost([sys.executable, "-c", BARE, str(self.file)])
        decoder = self.cost([sys.executable, "-c", "import sqlite3, sys" + DECODER])
        decoding = self.cost([sys.executable, "-c", DECODING, str(self.file)])
        cursor = bare.seconds - python.seconds
        apart = decoding.seconds - decoder.seconds - cursor
        count = f"{self.size.sessions:,}"
        self.table.add(f"bare SQLite cursor, {count} sessions", cursor, "s CPU")
        self.table.add("decoding of their JSON what a listing shows", apart, "s CPU")
        commands = {
            "session list --all -o ndjson": apart,
            "keys ls -o ndjson": 0.0,
            "keys du": 0.0,
        }
        for words, not_counted in commands.items():
            cost = self.cost([self.coditect, *words.split()])
            seconds = cost.seconds - start.seconds - not_counted
            ratio = seconds / cursor
            self.table.add(
                words + (", decoding apart" if not_counted else ""),
                seconds,
                "s CPU",
                ratio=ratio,
                than="bare SQLite cursor",
                goal="<= 2x",
                met=ratio <= 2,
            )
            megabytes = cost.memory / 1e6
            goal = megabytes <= 100
            self.table.add(f"{words}: memory", megabytes, "MB", goal="<= 100 MB", met=goal)

    def starts(self) -> None:
        """A listing of one workspace, beside the shortest command with settings."""
        shortest = self.cost([self.coditect, "context", "show"], self.size.starts)
        self.table.add("context show", shortest.seconds * 1000, "ms CPU")
        self.listing("session list ID", shortest)
        self.run("up", "bench", "--detach")
        try:
            self.listing("session list ID, asking a gateway", shortest)
        finally:
            self.run("gateway", "stop")

    def listing(self, what: str, shortest: Cost) -> None:
        listing = self.cost([self.coditect, "session", "list", "w00007"], self.size.starts)
        self.table.add(
            what,
            listing.seconds * 1000,
            "ms CPU",
            ratio=listing.seconds / shortest.seconds,
            than="context show",
            goal="<= context show + 20",
            met=listing.seconds <= shortest.seconds + 0.02,
        )

    def run(self, *words: str) -> None:
        run = [self.coditect, *words]
        subprocess.run(run, env=self.environ, check=True, capture_output=True)

    def layer(self) -> None:
        """What a bridge does."""
        store = SQLiteStore(self.file)
        layer = SessionLayer(store)
        begun = time.process_time()
        for _ in range(self.size.runs):
            list(layer.workspaces())
        taken = (time.process_time() - begun) / self.size.runs * 1000
        self.table.add(
            f"{self.size.workspaces:,} distinct workspaces",
            taken,
            "ms CPU",
            goal="<= 200 ms",
            met=taken <= 200,
        )
        output = SessionOutput(STATE.id, ["a line of output"] * 24, (0, 23), (80, 24))
        saves, loads = [], []
        for number in range(self.size.saves):
            state = replace(STATE, workspace_id="w00007", last_active=number)
            saves.append(_timed(lambda state=state: layer.save(state, output)))
            loads.append(_timed(lambda: layer.load("w00007", STATE.id)))
        self.table.add("one durable save", statistics.median(saves) * 1000, "ms")
        self.table.add("one restore", statistics.median(loads) * 1000, "ms")
        store.close()

    def foundationdb(self, cluster_file: str) -> None:
        """A scan of a real cluster through the store, and as one range of the binding."""
        from coditect_cli.stores.foundationdb import FoundationDBStore

        store = FoundationDBStore(cluster_file)
        import fdb

        rows = [(BELOW + b"%08d" % n, b"x" * VALUE) for n in range(self.size.keys)]
        for at in range(0, len(rows), 5_000):
            some = rows[at : at + 5_000]
            store.transact(lambda transaction, some=some: [transaction.set(*row) for row in some])
        begin, end = BELOW, prefix_end(BELOW)
        database = fdb.open(cluster_file)
        own, ours = (
            statistics.median(_timed(way) for _ in range(self.size.runs))
            for way in (
                lambda: list(database.get_range(begin, end)),
                lambda: [page.rows for page in scan(store, begin, end)],
            )
        )
        database.clear_range(begin, end)
        count = f"FoundationDB, {self.size.keys:,} keys of {VALUE} bytes: "
        self.table.add(count + "the binding's own range", own, "s")
        self.table.add(
            count + "the store's scan",
            ours,
            "s",
            ratio=ours / own,
            than="the binding's own range",
            goal="<= 2x",
            met=ours <= 2 * own,
        )

    def cost(self, argv: Sequence[str], runs: int = 0) -> Cost:
        """The median of some runs, and the most memory of any."""
        costs = []
        for _ in range(runs or self.size.runs):
            process = self.start(argv)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise subprocess.CalledProcessError(process.returncode, argv)
            costs.append(Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024))
        seconds = statistics.median(cost.seconds for cost in costs)
        return Cost(seconds, max(cost.memory for cost in costs))

    def start(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        quiet = subprocess.DEVNULL
        return subprocess.Popen(argv, stdin=quiet, stdout=quiet, stderr=quiet, env=self.environ)


def _timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun
