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
    NotFound,
    TimedOut,
    Unreachable,
    UsageError,
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
@pytest.mark.parametrize(
    ("said", "kind", "code"),
    [
        (
            "ERROR: (gcloud.x) You do not currently have an active account selected.\n"
            "Please run:\n\n  $ gcloud auth login\n",
            NotAuthenticated,
            "program.not_logged_in",
        ),
        (
            "ERROR: (gcloud.x) ResponseError: code=401, message=m. This command is authenticated "
            "with an access token from /t specified by the [auth/access_token_file] property",
            NotAuthenticated,
            "program.not_logged_in",
        ),
        (
            "ERROR: (gcloud.x) Unable to read file [/t]: [Errno 2] No such file or directory: '/t'",
            NotAuthenticated,
            "program.not_logged_in",
        ),
        ("ERROR: (gcloud.x) UNAUTHENTICATED: m", NotAuthenticated, "program.not_logged_in"),
        ("no basic auth credentials", NotAuthenticated, "program.not_logged_in"),
        ("ERROR: (gcloud.x) PERMISSION_DENIED: m", Forbidden, "program.forbidden"),
        ("ERROR: (gcloud.x) ResponseError: code=403, message=m", Forbidden, "program.forbidden"),
        (
            "ERROR: (gcloud.x) [None] does not have permission to access projects instance [p] "
            "(or it may not exist): m",
            Forbidden,
            "program.forbidden",
        ),
        (
            "ERROR: (gcloud.x) Could not fetch resource:\n"
            " - Required 'compute.urlMaps.get' permission for 'projects/p/global/urlMaps/u'",
            Forbidden,
            "program.forbidden",
        ),
        (
            "ERROR: (gcloud.x) ResponseError: code=403, message=Insufficient regional quota to "
            'satisfy request: resource "CPUS"',
            LimitReached,
            "program.quota",
        ),
        ("ERROR: (gcloud.x) Cannot find service [s]", NotFound, "program.not_found"),
        ("ERROR: (gcloud.x) ResponseError: code=404, message=m", NotFound, "program.not_found"),
        (
            "ERROR: (gcloud.x) Projects instance [p] not found: m",
            NotFound,
            "program.not_found",
        ),
        ("ERROR: (gcloud.x) ResponseError: code=409, message=m", Conflict, "program.conflict"),
        (
            "ERROR: (gcloud.x) Resource in projects [p] is the subject of a conflict: m",
            Conflict,
            "program.conflict",
        ),
        ("ERROR: (gcloud.x) RESOURCE_EXHAUSTED: m", LimitReached, "program.rate_limited"),
        (
            "ERROR: (gcloud.logging.read) RESOURCE_EXHAUSTED: Quota exceeded for quota metric "
            "'Read requests' and limit 'Read requests per minute' of service 'l.googleapis.com'",
            LimitReached,
            "program.rate_limited",
        ),
        (
            "ERROR: (gcloud.x) ABORTED: Conflict for resource 's': version '3' is stale.",
            Conflict,
            "program.aborted",
        ),
        (
            "ERROR: (gcloud.x) HttpError accessing <http://run.test>: response: <{'server': "
            "'ESF', 'status': 503}>, content <>\nThis may be due to network connectivity issues.",
            Unreachable,
            "program.unavailable",
        ),
        (
            "ERROR: gcloud crashed (ConnectionError): HTTPConnectionPool(host='h', port=1): Max "
            "retries exceeded\n\nIf you would like to report this issue, please run:\n  gcloud x",
            Unreachable,
            "program.unreachable",
        ),
        (
            "Cannot connect to the Docker daemon at unix:///run/docker.sock. Is it running?",
            Unreachable,
            "program.unreachable",
        ),
        (
            "Error: trying to reuse blob sha256:1 at destination: pinging container registry r: "
            'Get "http://r/v2/": dial tcp 127.0.0.1:5000: connect: connection refused',
            Unreachable,
            "program.unreachable",
        ),
        (
            "Error: checking whether a blob sha256:1 exists in r/gw: unauthorized: "
            "authentication required",
            NotAuthenticated,
            "program.not_logged_in",
        ),
        ("ERROR: (gcloud.x) something new", Failed, "program.failed"),
        ("", Failed, "program.failed"),
    ],
)
def test_what_programs_say_becomes_the_error_it_means(
    said: str, kind: type[CoditectError], code: str
) -> None:
    error = programs.failure(["gcloud", "run", "deploy", "s", "--region=r"], 1, said)
    assert (type(error), error.code) == (kind, code)
    assert error.message.startswith("gcloud run deploy")
    assert "access_token_file" not in error.message
    assert "Please run" not in error.message  # the hint says what
    assert error.hint


def test_what_a_build_prints_does_not_make_its_failure_another(tmp_path: Path) -> None:
    said = (
        "/bin/sh: cc: not found\nERROR: failed to solve: process did not complete: exit code: 127"
    )
    error = programs.failure(["docker", "build", str(tmp_path)], 1, said)
    assert (type(error), error.retryable) == (Failed, False)
    assert "docker build failed with status 1: failed to solve" in error.message


def test_a_program_that_tells_its_failure_on_stdout_is_heard(program: Program) -> None:
    """As pytest does."""
    with pytest.raises(Failed, match="status 3: 1 failed, 8 passed"):
        programs.run([program("echo test_bridge: assert; echo 1 failed, 8 passed; exit 3")])


def test_a_secret_that_a_program_tells_is_not_told_on() -> None:
    error = programs.failure(["./test.sh"], 1, 'no access with DB_PASSWORD="hunter 2"')
    assert error.message.endswith('no access with DB_PASSWORD="••••"')


def test_words_of_other_programs_mean_nothing_to_us() -> None:
    error = programs.failure(["./test.sh"], 1, "connection refused, as it should be")
    assert (type(error), error.retryable) == (Failed, False)


@pytest.mark.parametrize(("status", "kind"), [(4, NotAuthenticated), (8, Failed), (124, TimedOut)])
def test_our_own_command_says_by_its_status_what_is_wrong(
    status: int, kind: type[CoditectError]
) -> None:
    argv = ["env", "A=b", sys.executable, "-m", "coditect_cli", "workspace", "create", "demo"]
    error = programs.failure(argv, status, "error: no token\nhint: log in\n")
    assert type(error) is kind
    assert error.message == "coditect workspace create demo: no token"
    assert error.hint == "log in"


def test_an_end_that_our_own_command_did_not_choose_is_told() -> None:
    argv = [sys.executable, "-m", "coditect_cli", "workspace", "create", "demo"]
    error = programs.failure(argv, -signal.SIGSEGV, "0.1 s  pod demo-0 is ready\n")
    assert error.message == (
        "coditect workspace create demo failed with status -11: 0.1 s pod demo-0 is ready"
    )


def test_a_command_line_that_gcloud_refuses_is_ours_to_mend() -> None:
    said = (
        "ERROR: (gcloud.dns.record-sets) Invalid choice: 'lisst'.\nMaybe you meant:\n  gcloud dns"
    )
    error = programs.failure(["gcloud", "dns", "record-sets", "lisst"], 2, said)
    assert isinstance(error, UsageError)
    assert "Invalid choice: 'lisst'." in error.message


def test_a_long_story_is_cut() -> None:
    error = programs.failure(["docker", "build"], 1, "x" * 10_000)
    assert len(error.message) < 1000


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
