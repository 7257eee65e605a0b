"""Who waits for whom: a client that stops reading, a flood, a gap that is too large to keep."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from coditect_cli.paths import Paths
from coditect_cli.protocol.messages import WINDOW
from tests.e2e.conftest import stop_process
from tests.support.gateway import until
from tests.support.proxy import Proxy
from tests.support.tmux import INSIDE, Pane, Tmux

FindClient = Callable[[], psutil.Process]
Status = Callable[[], dict[str, Any]]
MEMORY = 24 * 2**20  # bytes; the ring, the window, socket buffers and the allocator's own


@pytest.fixture
def pane(tmux: Tmux) -> Pane:
    """A terminal that is attached to the workspace demo."""
    return attached(tmux.shell())


def attached(pane: Pane) -> Pane:
    """The terminal, attached; its shell does not take it back from a client that is stopped."""
    pane.enter("set +m")
    pane.coditect("up", "demo")
    return pane


def memory(pids: list[int]) -> int:
    """Bytes that the processes hold, shared memory included."""
    return sum(psutil.Process(pid).memory_info().rss for pid in pids)


def program(paths: Paths, pid_file: str) -> psutil.Process:
    """The program whose pid is in a file of the workspace."""
    file = paths.workspaces / "demo" / "root" / pid_file
    until(lambda: file.exists() and file.read_text().strip(), "a pid")
    return psutil.Process(int(file.read_text()))


def written(process: psutil.Process) -> int:
    """Bytes that it has written."""
    return int(process.io_counters().write_chars)


def waits(process: psutil.Process, calls: int = 20) -> bool:
    """Whether it sleeps in a write that goes no further while others work."""
    before = written(process)
    busy = psutil.Process()
    start = sum(busy.cpu_times()[:2])
    while sum(busy.cpu_times()[:2]) < start + 0.01 * calls:
        pass
    return written(process) == before and process.status() == psutil.STATUS_SLEEPING


def test_a_program_waits_for_a_client_that_stops_reading(
    pane: Pane, paths: Paths, client: FindClient, gateway_status: Status
) -> None:
    status = gateway_status()
    gateway = [status["keeperPid"], status["bridgePid"]]
    pane.enter("bash -c 'echo $$ > pid; exec yes'")
    yes = program(paths, "pid")
    pane.shows("y\ny\ny")
    before = memory(gateway)
    reader = client()
    stop_process(reader)
    until(lambda: waits(yes), "the program waits")
    assert memory(gateway) - before < MEMORY
    at_stop = written(yes)
    reader.resume()
    until(lambda: written(yes) > at_stop + 4 * WINDOW, "it goes on")
    assert memory(gateway) - before < MEMORY
    pane.press("C-c")
    pane.prompts(f"^C\n{INSIDE}")


@pytest.mark.slow
def test_a_minute_without_reading_costs_no_more_than_the_window(
    pane: Pane, paths: Paths, client: FindClient, gateway_status: Status
) -> None:
    status = gateway_status()
    gateway = [status["keeperPid"], status["bridgePid"]]
    pane.enter("bash -c 'echo $$ > pid; exec yes'")
    yes = program(paths, "pid")
    before = memory(gateway)
    reader = client()
    stop_process(reader)
    until(lambda: waits(yes), "the program waits")
    at_stop = written(yes)
    with pytest.raises(psutil.TimeoutExpired):
        yes.wait(60)
    assert written(yes) == at_stop
    assert memory(gateway) - before < MEMORY
    reader.resume()
    pane.press("C-c")
    pane.prompts(f"^C\n{INSIDE}")


def test_ctrl_c_in_a_flood_brings_the_prompt(pane: Pane) -> None:
    for _ in range(3):
        pane.enter("yes")
        pane.shows("y\ny\ny")
        pane.press("C-c")
        pane.prompts(f"^C\n{INSIDE}")
        pane.enter("clear")
        pane.until(lambda text: text == INSIDE, "a clean screen")


def test_a_program_waits_for_nobody_when_nobody_is_attached(pane: Pane, paths: Paths) -> None:
    pane.enter("bash -c 'echo $$ > pid; read -r; exec yes'")
    yes = program(paths, "pid")
    pane.press("Enter")
    pane.press("Enter")
    pane.type("~d")
    pane.shows("detached")
    start = written(yes)
    until(lambda: written(yes) > start + 20 * WINDOW, "the program goes on")
    yes.send_signal(signal.SIGTERM)


def test_a_gap_that_is_too_large_is_counted_and_redrawn(
    monkeypatch: pytest.MonkeyPatch,
    start_proxy: Callable[[], Proxy],
    tmux: Tmux,
    paths: Paths,
    client: FindClient,
) -> None:
    monkeypatch.setenv("CODITECT_RESUME_GRACE", "10ms")
    proxy = start_proxy()
    folder = paths.workspaces / "demo" / "root"
    pane = attached(tmux.shell(CODITECT_GATEWAY_URL=proxy.url))
    line, size = "x" * 1023, 50 * 2**20
    reader = client()
    wait = "touch ready; until [ -e go ]; do sleep 0.01; done"
    flood = f"yes {line} | head -c {size} > f; {wait}; cat f"
    pane.enter(f"{flood}; seq 100; echo en''d; touch done")
    until((folder / "ready").exists, "the program")
    stop_process(reader)
    (folder / "go").touch()
    proxy.drop()
    until((folder / "done").exists, "the end of the flood")
    reader.resume()
    shown = pane.until(lambda text: text.endswith(f"\n99\n100\nend\n{INSIDE}"), "the last screen")
    count = re.search(r"coditect: (\d+) bytes of output were skipped", pane.history())
    assert count, shown
    produced = size + size // 1024  # with the carriage return of each line
    assert produced - 2**20 < int(count[1]) < produced + 4096
