"""kill -9 of the bridge while people are at work: nobody's terminal or program notices."""

from __future__ import annotations

import hashlib
import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from coditect_cli.paths import Paths
from tests.support.gateway import until
from tests.support.tmux import INSIDE, OUTSIDE, Tmux, needs

PIECE = 4 * 2**20  # bytes of the jobs' output in each round
# For each line that it reads, as many bytes of that line.
JOB = f"while read -r n; do yes $n | head -c {PIECE}; done"


def _clients(home: Path) -> set[psutil.Process]:
    """Whoever is attached or runs a program."""
    found = set()
    for process in psutil.process_iter(["cmdline"]):
        with suppress(psutil.Error):
            words = process.info["cmdline"] or []
            if process.environ().get("CODITECT_HOME") == str(home) and (
                {"up", "attach", "exec"} & set(words[1:3])
            ):
                found.add(process)
    return found


class Bridges:
    """The bridges of one keeper, one after the other."""

    def __init__(self, keeper: int) -> None:
        self._keeper = psutil.Process(keeper)
        self._killed: set[int] = set()

    def kill(self) -> None:
        """kill -9 the one that serves, as soon as there is one."""

        def next_one() -> int | None:
            for child in self._keeper.children():
                with suppress(psutil.Error):
                    if "coditect_cli.gateway.main" in child.cmdline():
                        return child.pid if child.pid not in self._killed else None
            return None

        pid = until(next_one, "a bridge")
        os.kill(pid, signal.SIGKILL)
        self._killed.add(pid)


@needs("vim")
@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_vim_and_jobs_go_on_and_no_client_leaves_over_kills_of_the_bridge(
    tmux: Tmux,
    paths: Paths,
    home: Path,
    gateway_status: Callable[[], dict[str, Any]],
    kills: int,
) -> None:
    chance = random.Random(kills)  # noqa: S311 - when to kill, not a secret
    editing, working, piping = tmux.shell(), tmux.shell(), tmux.shell()
    editing.coditect("up", "demo")
    working.coditect("attach", "demo", "--new")
    folder = paths.workspaces / "demo" / "root"
    for name in ("inside", "outside"):
        os.mkfifo(folder / name)
    working.enter(f"{JOB} < inside | sha256sum")
    piping.enter(f"coditect exec demo -- sh -c '{JOB} < outside' | sha256sum")
    editing.enter("vim -u NONE -N notes.txt")
    editing.shows("notes.txt")
    editing.type("i")
    editing.shows("-- INSERT --")
    bridges = Bridges(gateway_status()["keeperPid"])
    lines = [f"{number} grüße, 日本 {'🙂' * (number + 1)}" for number in range(kills)]
    with open(folder / "inside", "w") as inside, open(folder / "outside", "w") as outside:
        before = _clients(home)
        assert len(before) == 3
        for number, line in enumerate(lines):
            for job in (inside, outside):
                print(number, file=job, flush=True)
            cut = chance.randrange(len(line) + 1)
            editing.type(line[:cut])
            bridges.kill()
            editing.type(line[cut:] + "\r")
            editing.shows(f"\n{line}" if number else line)
        assert _clients(home) == before
    expected = b"".join((b"%d\n" % number * PIECE)[:PIECE] for number in range(kills))
    checksum = hashlib.sha256(expected).hexdigest()
    assert f"{checksum}  -\n{INSIDE}" in working.prompts(INSIDE)
    assert f"{checksum}  -\n{OUTSIDE}" in piping.prompts(OUTSIDE)
    editing.press("Escape")
    editing.enter(":w")
    editing.shows("written")
    assert editing.screen()[:-1] == [*lines, "", *["~"] * (22 - kills)]
    editing.enter(":q")
    editing.prompts(INSIDE)
    assert (folder / "notes.txt").read_text().splitlines() == [*lines, ""]
