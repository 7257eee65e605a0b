"""What the words and the status of a program that failed mean."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

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
