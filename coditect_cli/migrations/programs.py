"""The user's own gcloud and docker, run so that their login is used and nothing hangs."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

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
from coditect_cli.migrations.redaction import redacted

# Seconds before each further attempt; gcloud tries a 5xx five times by itself.
PAUSES = (2.0, 8.0, 30.0)
LOOK = 120.0  # seconds for a program that only looks
END = 10.0  # seconds that a program has to end after SIGTERM
LONGEST_MESSAGE = 600  # characters of what a program said
OURS = "coditect_cli"  # the word that a command line of this program has

# A shell that becomes the program, and before that leaves a watcher in the program's process group.
# The watcher reads a pipe ($0 is its number) that we alone can write to: a line lets it go, and its
# end, which is ours however we end, makes it kill the group. So no run meets a killed one's gcloud.
_GUARDED = '({ read -r _ || kill -s KILL 0; } <"/dev/fd/$0" >/dev/null 2>&1 &) && exec "$@"'

_INSTALL = {
    "gcloud": "install the Google Cloud CLI: https://cloud.google.com/sdk/docs/install",
    "docker": "install Docker, or name another program with --docker, such as podman",
    "podman": "install Podman, or name another program with --docker",
}
_LOGIN = {
    "gcloud": "gcloud auth login",
    "docker": "gcloud auth configure-docker, or docker login",
    "podman": "gcloud auth configure-docker, or podman login",
}

_PASSING = (
    "program.rate_limited", "program.aborted", "program.unreachable", "program.unavailable",
)  # fmt: skip

# What gcloud and docker say, first match wins. gcloud words one status differently per API:
# Cloud Run and DNS name it, GKE says "code=403", Monitoring and Compute write a sentence.
_SAYINGS: tuple[tuple[type[CoditectError], str, str], ...] = (
    (
        NotAuthenticated,
        "program.not_logged_in",
        r"active account selected|gcloud auth login|Reauthentication|invalid_grant"
        r"|UNAUTHENTICATED|code=401|Invalid Credentials|invalid authentication credentials"
        r"|no basic auth credentials|unauthorized: |authentication required"
        r"|Unable to read file \[",  # its token's: we give it no other that was not read before
    ),
    (
        LimitReached,
        "program.rate_limited",
        r"[Qq]uota exceeded [\s\S]{1,300}\bper (minute|second|\d+ seconds)\b"
        r"|[Tt]oo [Mm]any [Rr]equests",
    ),
    (
        LimitReached,
        "program.quota",
        r"[Qq]uota\b.*[Ee]xceeded|[Ii]nsufficient .*quota|QUOTA_EXCEED",
    ),
    (
        LimitReached,
        "program.rate_limited",
        r"RESOURCE_EXHAUSTED|code=429",
    ),
    (
        Forbidden,
        "program.forbidden",
        r"PERMISSION_DENIED|code=403|does not have permission|Required '[\w.]+' permission"
        r"|denied: ",
    ),
    (
        NotFound,
        "program.not_found",
        r"NOT_FOUND|code=404|[Cc]annot find (service|revision)|[Nn]ot (be )?found|notFound",
    ),
    (
        Conflict,  # somebody wrote between gcloud's look and its write; it looks again
        "program.aborted",
        r"ABORTED",
    ),
    (
        Conflict,
        "program.conflict",
        r"ALREADY_EXISTS|code=409|already exists|subject of a conflict|FAILED_PRECONDITION"
        r"|code=412|conditionNotMet|Precondition Failed|fingerprint",
    ),
    (
        Unreachable,
        "program.unreachable",
        r"ConnectionError|ProxyError|[Cc]onnection refused|[Cc]onnection reset|Failed to resolve"
        r"|no such host|ServerNotFoundError|TimeoutError|i/o timeout|TLS handshake timeout"
        r"|Cannot connect to the Docker daemon",
    ),
    (
        Unreachable,  # something answered
        "program.unavailable",
        r"UNAVAILABLE|code=50\d|'status': 50\d|INTERNAL:|DEADLINE_EXCEEDED"
        r"|received unexpected HTTP status: 5",
    ),
)


# What could not reach anything within asked_once(), by program; None outside of it.
_lost: ContextVar[dict[str, CoditectError] | None] = ContextVar("_lost", default=None)


@contextmanager
def asked_once() -> Iterator[None]:
    """Within it, a program that reaches nothing is not tried again, neither soon nor later.

    It is for many looks that are of use without each other: gcloud alone takes half a minute to
    give up.
    """
    token = _lost.set({})
    try:
        yield
    finally:
        _lost.reset(token)


_tell: ContextVar[Callable[[str], None]] = ContextVar("_tell", default=lambda line: None)


@contextmanager
def telling(tell: Callable[[str], None]) -> Iterator[None]:
    """Within it, a failure after which a program is tried again is told."""
    token = _tell.set(tell)
    try:
        yield
    finally:
        _tell.reset(token)


@dataclass(frozen=True)
class Completed:
    """A program that ended with status 0, and what it said."""

    argv: tuple[str, ...]
    stdout: str
    stderr: str


def run(argv: Sequence[str], *, timeout: float = LOOK, stdin: str | None = None) -> Completed:
    """Run a program without terminal and questions; again when it failed for a passing reason.

    `timeout` is in seconds and for each attempt. An attempt that reached the service and was cut
    off may have had its effect: the caller looks, and does not trust an error.

    Raises what the program's words mean: NotAuthenticated, Forbidden, NotFound, Conflict,
    LimitReached, Unreachable; TimedOut; UsageError where it refused its command line, else Failed.
    """
    lost = _lost.get()
    if lost is not None and argv[0] in lost:
        raise lost[argv[0]]
    for pause in PAUSES:
        try:
            return _attempt(argv, timeout, stdin)
        except CoditectError as error:
            if lost is not None and isinstance(error, Unreachable | TimedOut):
                if error.code != "program.unavailable":  # that is one service of many
                    lost[argv[0]] = error
                raise
            if not error.retryable:
                raise
            _tell.get()(f"{error.message}; again in about {pause:g} s")
        time.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 (not a secret)
    return _attempt(argv, timeout, stdin)


def run_json(argv: Sequence[str], *, timeout: float = LOOK) -> Any:
    """What a program printed, which it was asked to print as JSON. Raises as run() does."""
    done = run(argv, timeout=timeout)
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise Failed(
            f"{argv[0]} answered with something that is not JSON: {done.stdout[:80]!r}",
            code="program.not_json",
            hint=f"try it yourself: {shlex.join(argv)}",
        ) from None


def _attempt(argv: Sequence[str], timeout: float, stdin: str | None) -> Completed:
    _check_executable(argv[0])
    watched, alive = os.pipe()
    try:
        # A session of its own: Ctrl-C comes to us alone, and a password prompt finds no terminal.
        process = subprocess.Popen(
            ("/bin/sh", "-c", _GUARDED, str(watched), *argv),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"},
            start_new_session=True,
            pass_fds=(watched,),
        )
        try:
            stdout, stderr = process.communicate(stdin, timeout)
        finally:
            _end(process)
            os.write(alive, b"\n")
    except subprocess.TimeoutExpired:
        raise TimedOut(
            f"{_named(argv)} did not end within {timeout:g} s",
            code="program.timeout",
            hint=f"try it yourself: {shlex.join(argv)}",
        ) from None
    finally:
        os.close(watched)
        os.close(alive)
    if process.returncode != 0:
        raise failure(argv, process.returncode, stderr if stderr.strip() else stdout)
    return Completed(tuple(argv), stdout, stderr)


def _check_executable(program: str) -> None:
    """Raises NotAuthenticated without gcloud or docker: who lacks them has no login either."""
    if shutil.which(program) is not None:
        return
    if os.path.dirname(program) and os.path.exists(program):
        raise Failed(f"cannot run {program}: Permission denied", code="program.not_executable")
    kind = NotAuthenticated if program in _INSTALL else Failed
    raise kind(
        f"{program} is not installed, or not in PATH",
        code="program.missing",
        hint=_INSTALL.get(program),
    )


def _end(process: subprocess.Popen[str]) -> None:
    """End what is left of the program and its children, and close its pipes."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.communicate(timeout=END)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def failure(argv: Sequence[str], status: int, stderr: str) -> CoditectError:
    """The error that a program's exit status and its words on stderr (else stdout) mean.

    We know the words of gcloud, docker and podman, and the statuses of our own commands.
    """
    program, said = os.path.basename(argv[0]), _gist(stderr)
    yourself = f"try it yourself: {shlex.join(argv)}"
    kinds = [kind for kind in CoditectError.__subclasses__() if kind.exit_code == status]
    if OURS in argv and kinds:
        said, _, hint = said.partition(" hint: ")
        return kinds[0](f"{_named(argv)}: {said}", code="program.failed", hint=hint or yourself)
    if status == 2 and program == "gcloud":
        return UsageError(
            f"gcloud refuses its command line: {said}", code="program.usage", hint=yourself
        )
    words = stderr if program == "gcloud" else said  # a build's log may say anything
    for kind, code, pattern in _SAYINGS if program in _LOGIN else ():
        if re.search(pattern, words):
            hint = _LOGIN.get(program, yourself) if kind is NotAuthenticated else yourself
            retryable = code in _PASSING
            return kind(f"{_named(argv)}: {said}", code=code, hint=hint, retryable=retryable)
    return Failed(
        f"{_named(argv)} failed with status {status}: {said}", code="program.failed", hint=yourself
    )


def _named(argv: Sequence[str]) -> str:
    """The program and its command, without flags and values: `gcloud run deploy`."""
    if OURS in argv:
        argv = ("coditect", *argv[argv.index(OURS) + 1 :])
    words = []
    for word in argv[:4]:
        if not re.fullmatch(r"[a-z][a-z-]*", word):
            break
        words.append(word)
    return " ".join(words) or argv[0]


def _gist(stderr: str) -> str:
    """The last paragraph that is an error, else the last line: the gist of all that was said."""
    text = re.sub(r"\x1b\[[\d;]*m", "", stderr).strip()
    errors = re.findall(r"(?ims)^error: (?:\([\w.-]+\) )?(.+?)(?=^\S*$|\Z)", text)
    gist = errors[-1] if errors else text.rsplit("\n", 1)[-1]
    gist = re.sub(r"Operation \[<.*>\] finished with error: ", "its operation: ", gist, flags=re.S)
    gist = re.sub(r"\s*This command is authenticated with .*", "", gist, flags=re.S)
    gist = re.sub(r"\s+", " ", gist).strip().removesuffix(" Please run:")
    gist = redacted(gist)  # it is shown, and logged by who runs us
    shown = gist[:LONGEST_MESSAGE] + ("…" if len(gist) > LONGEST_MESSAGE else "")
    return shown or "it said nothing"
