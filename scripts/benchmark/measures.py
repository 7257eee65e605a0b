"""What is measured; each function takes ways that are already open, or opens them."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from ways import Terminal, Way

PROMPT = b"<prompt>"
LINE_KEYS = 40  # keys in one line, a comment
LINE = b"The quick brown fox jumps over the lazy dog, again and again and again. 0123\n"


def make_shell(folder: Path) -> str:
    """A program that is bash with a prompt that can be told from everything else."""
    shell = folder / "shell"
    shell.write_text(f"#!/bin/sh\nPS1='{PROMPT.decode()}' exec bash --norc --noprofile -i\n")
    shell.chmod(0o755)
    return str(shell)


def at_prompt(way: Way) -> Way:
    """The way itself, once its shell asks for a command."""
    way.expect(PROMPT)
    return way


def keystrokes(ways: dict[str, Way], keys: int, rounds: int) -> dict[str, list[float]]:
    """Seconds from a key typed at the prompt to its echo; the ways take turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            for number in range(keys):
                if number % LINE_KEYS == 0:
                    way.type(b"#")
                    way.expect(b"#")
                begun = time.perf_counter()
                way.type(b"k")
                way.expect(b"k")
                times[name].append(time.perf_counter() - begun)
                if number % LINE_KEYS == LINE_KEYS - 1 or number == keys - 1:
                    way.type(b"\n")
                    way.expect(PROMPT)
    return times


def bulk(ways: dict[str, Way], file: Path, rounds: int) -> dict[str, list[float]]:
    """MB/s of a file that `cat` prints."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            way.type(f"cat {file}\n".encode())
            begun = time.perf_counter()
            count = way.expect(PROMPT)
            rates[name].append(count / (time.perf_counter() - begun) / 1e6)
    return rates


def interrupts(ways: dict[str, Way], rounds: int, flood: float) -> dict[str, list[float]]:
    """Seconds from Ctrl-C to the prompt, after `yes` has printed for `flood` seconds."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            way.type(b"yes\n")
            until = time.perf_counter() + flood
            while time.perf_counter() < until:
                way.read()
            begun = time.perf_counter()
            way.type(b"\x03")
            way.expect(PROMPT)
            times[name].append(time.perf_counter() - begun)
    return times


def run_times(
    programs: dict[str, Sequence[str]], runs: int, environ: dict[str, str]
) -> dict[str, list[float]]:
    """Seconds that each program takes from start to end; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(runs):
        for name, argv in programs.items():
            begun = time.perf_counter()
            subprocess.run(
                argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environ
            )
            times[name].append(time.perf_counter() - begun)
    return times


def first_prompt(argv: Sequence[str], environ: dict[str, str], after: bytes = b"") -> float:
    """Seconds until a program shows a shell's prompt, behind `after`; the session is ended."""
    begun = time.perf_counter()
    way, seen = Terminal(argv, environ), b""
    while PROMPT not in seen[seen.find(after) :] or after not in seen:
        seen += way.read()
    taken = time.perf_counter() - begun
    leave(way)
    return taken


def leave(way: Way) -> None:
    """End the shell, and with it the session."""
    way.type(b"exit\n")
    try:
        while True:
            way.read()
    except EOFError:
        way.close()


def memory(pids: Sequence[int]) -> int:
    """Bytes that these processes hold: their own, their share of files, and shared memory."""
    total, seen = 0, set()
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            sizes = {line.split(":")[0]: line.split()[1] for line in file if ":" in line}
        total += (int(sizes["Pss_Anon"]) + int(sizes["Pss_File"])) * 1024
        for name in os.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{name}"
            try:
                if os.readlink(path).startswith("/memfd:"):
                    status = os.stat(path)
                    if status.st_ino not in seen:
                        seen.add(status.st_ino)
                        total += status.st_blocks * 512
            except OSError:
                continue
    return total


def kill_bridge(keeper: int) -> None:
    """kill -9 the keeper's bridge."""
    for child in psutil.Process(keeper).children():
        if "coditect_cli.gateway.main" in child.cmdline():
            child.kill()


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that `percent` percent of them do not exceed."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def repeated(action: Callable[[], float], times: int) -> list[float]:
    return [action() for _ in range(times)]
