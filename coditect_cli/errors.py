"""Every error that a user can meet, and the exit code each ends with.

CoditectError                 1   (as such: a bug)
├── UsageError                2   the command or its input is wrong
├── NotFound                  3
├── NotAuthenticated          4   no token, or one that doesn't hold
├── Forbidden                 5   a good token, but not for this
├── Conflict                  6   exists, in use, lock held
├── LimitReached              7   quota or limit
├── Failed                    8   it was tried and came out bad
├── Unreachable               9   no answer from a backend
├── GateFailed               10   a migration's gate failed; it was rolled back, and that verified
├── RollbackNotVerified      11   a migration's roll-back failed, or its read-back disagrees
├── Paused                   12   a migration waits: paused, or not enough data to decide
├── TimedOut                124
├── CommandNotExecutable    126   exec, as a shell says it
├── CommandNotFound         127   exec, as a shell says it
├── Interrupted             130   (129, 143 by another signal)
└── SessionLost             255   attach or exec lost the session
"""

from __future__ import annotations

from typing import Any

from coditect_cli import __version__


class CoditectError(Exception):
    """An error with a code for programs, a message and a hint for people, and an exit code."""

    exit_code = 1
    default_code = "internal"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint
        self.retryable = retryable

    def as_dict(self) -> dict[str, Any]:
        """The error as the JSON contract and the wire carry it."""
        return {
            "code": self.code,
            "exitCode": self.exit_code,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
        }


class UsageError(CoditectError):
    """Raised when a command or its input is wrong."""

    exit_code = 2
    default_code = "usage"


class NotFound(CoditectError):
    """Raised when the named thing does not exist."""

    exit_code = 3
    default_code = "not_found"


class NotAuthenticated(CoditectError):
    """Raised when there is no token, or one that does not hold."""

    exit_code = 4
    default_code = "token.invalid"


class Forbidden(CoditectError):
    """Raised when a valid token does not allow this."""

    exit_code = 5
    default_code = "forbidden"


class Conflict(CoditectError):
    """Raised when something exists already, is in use, or is locked."""

    exit_code = 6
    default_code = "conflict"


class LimitReached(CoditectError):
    """Raised when a quota or a limit is reached."""

    exit_code = 7
    default_code = "limit"


class Failed(CoditectError):
    """Raised when something was tried and came out bad, or a question was declined."""

    exit_code = 8
    default_code = "failed"


class Unreachable(CoditectError):
    """Raised when a backend does not answer."""

    exit_code = 9
    default_code = "unreachable"


class GateFailed(CoditectError):
    """Raised when a migration's gate failed, and what it had changed is verified to be back."""

    exit_code = 10
    default_code = "migrate.gate_failed"


class RollbackNotVerified(CoditectError):
    """Raised when a migration's roll-back failed, or reading back found something else."""

    exit_code = 11
    default_code = "migrate.rollback_not_verified"


class Paused(CoditectError):
    """Raised when a migration stopped on its way, to be resumed."""

    exit_code = 12
    default_code = "migrate.paused"


class TimedOut(CoditectError):
    """Raised when a wait ended unmet."""

    exit_code = 124
    default_code = "timeout"


class CommandNotExecutable(CoditectError):
    """Raised when exec's command is there and can't be run."""

    exit_code = 126
    default_code = "exec.not_executable"


class CommandNotFound(CoditectError):
    """Raised when exec's command is not there."""

    exit_code = 127
    default_code = "exec.not_found"


class Interrupted(CoditectError):
    """Raised when the user interrupted, or somebody else told the program to end."""

    exit_code = 130
    default_code = "interrupted"

    @classmethod
    def by(cls, number: int, message: str) -> Interrupted:
        """The error for a signal; its exit code is the one that shells give for that."""
        import signal

        name = (
            "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
        )
        error = cls(f"{name}; {message}")
        error.exit_code = 128 + number
        return error


class SessionLost(CoditectError):
    """Raised when attach or exec lost its session, or was left by `~.`."""

    exit_code = 255
    default_code = "session.lost"


BY_EXIT_CODE: dict[int, type[CoditectError]] = {
    kind.exit_code: kind
    for kind in (
        UsageError,
        NotFound,
        NotAuthenticated,
        Forbidden,
        Conflict,
        LimitReached,
        Failed,
        Unreachable,
        GateFailed,
        RollbackNotVerified,
        Paused,
        TimedOut,
        CommandNotExecutable,
        CommandNotFound,
        Interrupted,
        SessionLost,
    )
}


def as_error(problem: BaseException) -> CoditectError:
    """Whatever was raised, as an error of ours: the user's interrupt, the system's, or a bug."""
    if isinstance(problem, CoditectError):
        return problem
    if isinstance(problem, KeyboardInterrupt):
        return Interrupted("interrupted")
    if isinstance(problem, OSError):
        place = f"{problem.filename}: " if problem.filename is not None else ""
        return Failed(
            f"the system refused: {place}{problem.strerror or problem}", code="system.refused"
        )
    return CoditectError(
        f"this is a bug in coditect {__version__}: {type(problem).__name__}: {problem}",
        hint="run it again with --debug, and report what that and coditect doctor print",
    )


def from_dict(error: dict[str, Any]) -> CoditectError:
    """The error that a gateway described; an unknown exit code becomes a plain CoditectError."""
    exit_code = error.get("exitCode")
    kind = BY_EXIT_CODE.get(exit_code, CoditectError) if isinstance(exit_code, int) else Failed
    hint = error.get("hint")
    return kind(
        str(error.get("message", "the gateway reported an error without a message")),
        code=str(error.get("code", kind.default_code)),
        hint=str(hint) if hint is not None else None,
        retryable=bool(error.get("retryable", False)),
    )
