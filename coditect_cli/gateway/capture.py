"""What is known of a shell's directory, variables and history, for its session's record."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field

from coditect_cli.gateway.hook import Report, Reports
from coditect_cli.gateway.ring import HISTORY
from coditect_cli.gateway.variables import comes_back, is_taken_back
from coditect_cli.sessions.redaction import holds_secret, is_secret, without_secrets
from coditect_cli.sessions.session import SessionState

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
    _kept: dict[str, str] = field(default_factory=dict)
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
        exported = set(filter(comes_back, report.variables))
        self._note_unset(self._exported, exported)
        self._exported = exported
        self.variables = self._kept = {
            name: value
            for name, value in report.variables.items()
            if name in exported and (self._kept.get(name) == value or self._may_keep(name, value))
        }
        if report.recent is not None:
            self._take_history(report.recent, is_list=report.is_list)

    def _take_history(self, recent: list[tuple[int, str]], *, is_list: bool) -> None:
        number, line = recent[-1] if recent else (0, "")
        seen = self.words[HISTORY]  # one more than the newest line's number; 0 at first
        self.words[HISTORY] = number + 1
        if not seen:
            is_new = False
        elif number + 1 == seen:
            is_new = self._newest not in (None, line)
            if is_new and not is_list and self.history[-1:] == [self._masked(self._newest or "")]:
                del self.history[-1]  # zsh kept it only until this one came
        else:
            is_new = number + 1 > seen
        if seen and is_list and not number + 1 > seen:
            self._forget(recent)
            fewer = number + 1 < seen and bool(self.history)
            is_new = is_new or (fewer and self.history[-1] != self._masked(line))
            if is_new:
                self._forget_duplicates(line, recent)
        if is_new:
            typed = [] if is_list else [one for before, one in recent[:-1] if before + 1 > seen]
            for one in [*typed, line]:
                self._remember(one)
        self._newest = line

    def _may_keep(self, name: str, value: str) -> bool:
        return not is_secret(name, self.secret_names) and not holds_secret(value)

    def _note_unset(self, before: Collection[str], now: Collection[str]) -> None:
        """Start-up files may export again what was unset: that is undone in a restored shell."""
        self.unset |= dict.fromkeys(sorted(set(before).difference(now)))
        for name in now:
            self.unset.pop(name, None)
        for name in list(self.unset)[:-MOST_UNSET]:
            del self.unset[name]

    def _remember(self, line: str) -> None:
        if line and not line[0].isspace():
            self.history.append(self._masked(line))
            excess = len(self.history) - MOST_HISTORY
            if excess > 0:
                del self.history[:excess]
                self.history_trimmed += excess

    def _forget(self, recent: list[tuple[int, str]]) -> None:
        """Drop the lines that the shell no longer has, as far back as `recent` goes."""
        left = {self._masked(line) for _, line in recent}
        begin = 0
        if recent and recent[0][0] > 1:  # those before it are not told
            begin = max(0, len(self.history) - len(recent))
            while begin < len(self.history) and self.history[begin] not in left:
                begin += 1
        self.history[begin:] = [line for line in self.history[begin:] if line in left]

    def _forget_duplicates(self, line: str, recent: list[tuple[int, str]]) -> None:
        """Drop what was the same as a new line if the shell did (HISTCONTROL=erasedups)."""
        masked = self._masked(line)
        if sum(self._masked(one) == masked for _, one in recent) == 1:
            self.history = [one for one in self.history if one != masked]

    def _masked(self, line: str) -> str:
        return without_secrets(line, self.secret_names)

    def take_back(self, state: SessionState) -> None:
        """Begin with what a record has; lines heard since then come behind its own.

        What may not be kept of it, as others wrote it or an import did, is not.
        """
        self.known = True
        self.started_at = state.started_at
        self.history = [*map(self._masked, state.command_history), *self.history]
        self.history_trimmed += state.history_trimmed
        given = [
            name for name, value in state.environment_vars.items() if is_taken_back(name, value)
        ]
        if not self.variables:
            self.variables = {
                name: value
                for name, value in state.environment_vars.items()
                if comes_back(name) and self._may_keep(name, value)
            }
            self._exported = set(given)
            self.directory = state.working_directory
        gone = [name for name in state.variables_unset if is_taken_back(name, "")]
        self.unset = dict.fromkeys(gone) | self.unset
        self._note_unset(given, self._exported)

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
