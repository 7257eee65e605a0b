"""What is known of a shell's directory, variables and history, for its session's record."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from coditect_cli.gateway.hook import Report, Reports
from coditect_cli.gateway.ring import HISTORY
from coditect_cli.sessions.redaction import is_secret, without_secrets
from coditect_cli.sessions.session import SessionState

# A shell's own, or a new one's: not to be brought back from an older one.
_ITS_OWN = frozenset(
    ("PWD", "SHLVL", "TERM", "SHELL", "HOME", "USER", "LOGNAME", "_", "WORKSPACE_ID", "USER_ID")
)
# Code that a program would run.
_OURS = "CODITECT_"
_CODE: tuple[str, ...] = (
    "LD_*",
    "DYLD_*",
    "BASH_ENV",
    "ENV",
    "BASH_FUNC_*",
    "PROMPT_COMMAND",
    "ZDOTDIR",
)
_CODE += ("PYTHONSTARTUP", "PYTHONPATH", "PERL5OPT", "PERL5LIB", "RUBYOPT", "NODE_OPTIONS")
_CODE += ("GIT_SSH_COMMAND", "GIT_EXTERNAL_DIFF", "SSH_ASKPASS", "SUDO_ASKPASS", "PS4")
MOST_HISTORY = 10_000  # lines
MOST_UNSET = 500  # names


@dataclass
class Capture:
    """The newest that a shell's hook said. `words` are the session's in shared memory.

    `known` is False until what the store has of the session was taken in.
    """

    pid: int
    words: memoryview
    directory: str
    started_at: int
    secret_names: Collection[str]
    known: bool = True
    variables: dict[str, str] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    history_trimmed: int = 0
    unset: dict[str, None] = field(default_factory=dict)  # in the order in which they went
    _exported: set[str] = field(default_factory=set)
    _reports: Reports = field(default_factory=Reports)
    _newest: str | None = None

    def feed(self, data: bytes) -> bool:
        """Take what came out of the hook's pipe; whether that was a whole report."""
        heard = False
        for report in self._reports.feed(data):
            self._take(report)
            heard = True
        return heard

    def _take(self, report: Report) -> None:
        self.directory = report.directory
        exported = set(filter(_comes_back, report.variables))
        self._note_unset(self._exported, exported)
        self._exported = exported
        self.variables = {
            name: value
            for name, value in report.variables.items()
            if name in exported and not is_secret(name, self.secret_names)
        }
        number, line = report.newest or (0, "")
        seen = self.words[HISTORY]  # one more than the newest line's number; 0 at first
        self.words[HISTORY] = number + 1
        if seen and number + 1 < seen:
            self._forget(seen - number - 1, line)
        elif seen and (number + 1 > seen or self._newest not in (None, line)):
            self._remember(line)
        self._newest = line

    def _note_unset(self, before: Collection[str], now: Collection[str]) -> None:
        """Start-up files may export again what was unset: that is undone in a restored shell."""
        self.unset |= dict.fromkeys(sorted(set(before).difference(now)))
        for name in now:
            self.unset.pop(name, None)
        for name in list(self.unset)[:-MOST_UNSET]:
            del self.unset[name]

    def _remember(self, line: str) -> None:
        if line and not line[0].isspace():
            self.history.append(without_secrets(line, self.secret_names))
            excess = len(self.history) - MOST_HISTORY
            if excess > 0:
                del self.history[:excess]
                self.history_trimmed += excess

    def _forget(self, count: int, line: str) -> None:
        """Lines were taken out of the shell's history: the newest ones, or duplicates of `line`."""
        kept = self.history[: max(0, len(self.history) - count)]
        if not kept or kept[-1] == without_secrets(line, self.secret_names):
            self.history = kept
        else:
            self._remember(line)

    def take_back(self, state: SessionState) -> None:
        """Begin with what a record has; lines heard since then come behind its own."""
        self.known = True
        self.started_at = state.started_at
        self.history = state.command_history + self.history
        self.history_trimmed += state.history_trimmed
        if not self.variables:
            self.variables = dict(state.environment_vars)
            self._exported = set(self.variables)
            self.directory = state.working_directory
        self.unset = dict.fromkeys(state.variables_unset) | self.unset
        self._note_unset(state.environment_vars, self._exported)

    def where(self) -> str:
        """The directory: as the shell names it, where its process is there too."""
        try:
            actual = os.readlink(f"/proc/{self.pid}/cwd")
        except OSError:
            return self.directory
        if actual.endswith(" (deleted)"):
            return self.directory
        try:
            same = os.path.samefile(actual, self.directory)
        except OSError:
            same = False
        if not same:
            self.directory = actual
        return self.directory


def _comes_back(name: str) -> bool:
    """Whether a restored shell is to have a variable of this name as the one before it had it."""
    its_own = name in _ITS_OWN or name.startswith(_OURS)
    return not its_own and not any(fnmatchcase(name, pattern) for pattern in _CODE)
