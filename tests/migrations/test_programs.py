"""Programs of the user: what is run is real (small shell scripts, and gcloud where it is here)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from coditect_cli.errors import (
    CoditectError,
    Conflict,
    Failed,
    Forbidden,
    LimitReached,
    NotAuthenticated,
    TimedOut,
)
from coditect_cli.migrations import programs
from tests.support.cloud import Cloud
from tests.support.gateway import until

Program = Callable[[str], str]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Make `gcloud` a script of this text, first in PATH; returns its name."""

    def make(text: str) -> str:
        file = tmp_path / "bin" / "gcloud"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
        monkeypatch.setenv("PATH", f"{file.parent}:{os.environ['PATH']}")
        return "gcloud"

    monkeypatch.setattr(programs, "PAUSES", (0.0, 0.0))
    return make


def test_it_gives_what_the_program_said(program: Program) -> None:
    done = programs.run([program('cat; echo "$1" >&2'), "a b"], stdin="in")
    assert (done.argv, done.stdout, done.stderr) == (("gcloud", "a b"), "in", "a b\n")


def test_without_stdin_the_program_reads_the_end(program: Program) -> None:
    assert programs.run([program("cat; echo end")]).stdout == "end\n"


def test_gcloud_is_told_to_ask_nothing(program: Program) -> None:
    assert programs.run([program("echo $CLOUDSDK_CORE_DISABLE_PROMPTS")]).stdout == "1\n"


def test_json_is_parsed(program: Program) -> None:
    assert programs.run_json([program("""echo '{"a": [1]}'""")]) == {"a": [1]}


def test_a_table_in_place_of_json_is_an_error(program: Program) -> None:
    with pytest.raises(Failed, match="not JSON") as raised:
        programs.run_json([program("echo NAME  AGE")])
    assert raised.value.code == "program.not_json"


def test_a_missing_program_is_named_with_where_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotAuthenticated) as raised:
        programs.run(["gcloud", "version"])
    assert (raised.value.code, raised.value.exit_code) == ("program.missing", 4)
    assert "gcloud is not installed" in raised.value.message
    assert "sdk/docs/install" in str(raised.value.hint)


def test_a_program_that_may_not_be_run_is_no_traceback(tmp_path: Path) -> None:
    file = tmp_path / "docker"
    file.write_text("")
    with pytest.raises(Failed, match="Permission denied"):
        programs.run([str(file)])


def test_a_passing_failure_is_tried_again(program: Program, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    name = program(
        f"echo x >> {tries}; [ $(wc -l < {tries}) = 3 ] && exit 0\n"
        "echo 'ERROR: (gcloud.run.deploy) UNAVAILABLE: later' >&2; exit 1"
    )
    programs.run([name])
    assert tries.read_text() == "x\n" * 3


def test_a_failure_after_which_it_is_tried_again_is_told(program: Program, tmp_path: Path) -> None:
    """A run once said nothing for as long as gcloud was told to slow down."""
    once = f"mkdir {tmp_path}/tried 2>/dev/null || exit 0\n"
    name = program(once + "echo ERROR: RESOURCE_EXHAUSTED >&2; exit 1")
    told: list[str] = []
    with programs.telling(told.append):
        programs.run([name, "run", "deploy"])
    assert told == ["gcloud run deploy: RESOURCE_EXHAUSTED; again in about 0 s"]


@pytest.mark.parametrize(
    ("said", "tries"),
    [
        ("ERROR: gcloud crashed (ProxyError): Max retries exceeded", 1),
        ("ERROR: (gcloud.x) UNAVAILABLE: m", 2),  # of each look: another service may be there
        ("ERROR: (gcloud.x) ABORTED: m", 6),
    ],
)
def test_what_reaches_nothing_is_asked_once_for_all_looks_of_a_plan(
    program: Program, tmp_path: Path, said: str, tries: int
) -> None:
    """A plan without a network was silent for 19 minutes."""
    name = program(f"echo run >> {tmp_path}/runs; echo '{said}' >&2; exit 1")
    with programs.asked_once():
        for _ in range(2):
            with pytest.raises(CoditectError, match="gcloud"):
                programs.run([name])
    assert (tmp_path / "runs").read_text().count("run") == tries
    with pytest.raises(CoditectError, match="gcloud"):
        programs.run([name])
    assert (tmp_path / "runs").read_text().count("run") == tries + 3


def test_it_gives_up_on_a_failure_that_does_not_pass(program: Program, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    name = program(f"echo x >> {tries}; echo 'ERROR: RESOURCE_EXHAUSTED: slow down' >&2; exit 1")
    with pytest.raises(LimitReached, match="slow down"):
        programs.run([name])
    assert tries.read_text() == "x\n" * 3


def test_a_refusal_is_not_tried_again(program: Program, tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    name = program(f"echo x >> {tries}; echo 'ERROR: PERMISSION_DENIED: no' >&2; exit 1")
    with pytest.raises(Forbidden):
        programs.run([name])
    assert tries.read_text() == "x\n"


def test_after_the_time_out_neither_the_program_nor_its_children_are_left(
    program: Program, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    name = program(f"sleep 600 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait")
    with pytest.raises(TimedOut, match="did not end within 5 s") as raised:
        programs.run([name], timeout=5)
    assert raised.value.exit_code == 124
    for pid in map(int, pids.read_text().split()):
        until(partial(gone, pid), "the end of the program")


def test_an_interrupt_ends_the_program_and_its_children(program: Program, tmp_path: Path) -> None:
    """The program itself gets no SIGINT: it is told to end, and waited for."""
    pids = tmp_path / "pids"
    name = program(f"trap '' INT; sleep 600 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait")
    code = f"from coditect_cli.migrations.programs import run; run([{name!r}], timeout=300)"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    until(pids.exists, "the program to start")
    process.send_signal(signal.SIGINT)
    stderr = process.communicate(timeout=60)[1]
    assert b"KeyboardInterrupt" in stderr
    for pid in map(int, pids.read_text().split()):
        until(partial(gone, pid), "the end of the program")


def test_when_we_are_killed_the_program_and_its_children_are_too(
    program: Program, tmp_path: Path
) -> None:
    """A resumed run once met the gcloud of the killed one, which went on changing things."""
    pids = tmp_path / "pids"
    name = program(f"sleep 600 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait")
    code = f"from coditect_cli.migrations.programs import run; run([{name!r}], timeout=300)"
    process = subprocess.Popen([sys.executable, "-c", code])
    until(pids.exists, "the program to start")
    process.kill()
    process.wait(60)
    for pid in map(int, pids.read_text().split()):
        until(partial(gone, pid), "the end of the program")


def test_nothing_watches_a_program_that_has_ended(program: Program) -> None:
    group = int(programs.run([program("echo $$")]).stdout)
    until(lambda: not members(group), "the end of the watcher")


def members(group: int) -> list[int]:
    """The processes of a group that have not ended."""
    found = []
    for pid in psutil.pids():
        with suppress(ProcessLookupError):
            if os.getpgid(pid) == group and not gone(pid):
                found.append(pid)
    return found


def gone(pid: int) -> bool:
    """Whether it has ended; who is nobody's child may stay a zombie."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


# Each line was said by gcloud 528 (Compute's by its API), docker, or podman 4.3.
def test_a_program_that_tells_its_failure_on_stdout_is_heard(program: Program) -> None:
    """As pytest does."""
    with pytest.raises(Failed, match="status 3: 1 failed, 8 passed"):
        programs.run([program("echo test_bridge: assert; echo 1 failed, 8 passed; exit 3")])


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="needs gcloud")
@pytest.mark.slow
def test_gcloud_without_a_login_ends_with_how_to_log_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("CLOUDSDK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with pytest.raises(NotAuthenticated) as raised:
        programs.run_json(
            ["gcloud", "container", "clusters", "list", "--project=p", "--format=json"]
        )
    assert raised.value.exit_code == 4
    assert raised.value.hint == "gcloud auth login"


LIST = ["gcloud", "dns", "record-sets", "list", "--zone=zone", "--format=json"]
CLUSTERS = ["gcloud", "container", "clusters"]
WHERE = ["c", "--region=us-central1", "--format=json"]


@pytest.mark.slow
def test_gcloud_is_tried_again_when_it_was_told_to_slow_down(
    google: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "PAUSES", (0.0,))
    google.dns.add("zone", "ws.example.com.", "A", "192.0.2.1")
    google.fail("GET", "/rrsets", 429, "Rate Limit Exceeded", times=1)
    assert [record["name"] for record in programs.run_json(LIST)] == ["ws.example.com."]


@pytest.mark.slow
def test_a_quota_and_an_operation_that_fails_late_are_told_as_they_are(google: Cloud) -> None:
    quota = 'Insufficient regional quota to satisfy request: resource "CPUS": request requires 8.'
    google.fail("POST", "/clusters$", 403, quota, times=1)
    with pytest.raises(LimitReached, match='resource "CPUS"') as raised:
        programs.run([*CLUSTERS, "create-auto", *WHERE])
    assert raised.value.exit_code == 7
    google.clusters.late_error = "Google Compute Engine: out of IP space"
    with pytest.raises(CoditectError, match="its operation: Google Compute Engine: out"):
        programs.run([*CLUSTERS, "create-auto", *WHERE])
    assert google.clusters.clusters["c"]["status"] == "ERROR"
    with pytest.raises(Conflict, match="Already exists"):
        programs.run([*CLUSTERS, "create-auto", *WHERE])
