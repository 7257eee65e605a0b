"""What a shell's prompt hook is started with, what it reports, and how it takes a state back.

Before each prompt the hook writes one record to a pipe of its own: two NULs, then fields with a
NUL between them: `D` and the directory; `V` and the exported variables as bash prints
them, or `X`, a name, `=` and a value for each (zsh); `P` in bash's posix mode; `H` and the newest
line of history as `fc -l` prints it, or all that are new (zsh), or `L` and the newest hundred
(bash, where lines may have been taken out); `E`. A record without its `E` was torn, by a full
pipe, and is dropped.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coditect_cli.gateway.variables import is_taken_back
from coditect_cli.sessions.session import SessionState

PIPE = "CODITECT_HOOK"  # the variable that tells a hook which descriptor it writes to
SAVED = "CODITECT_SAVED"  # and which one it reads a saved state from, once
MOST = 1 << 20  # bytes of an unfinished record
UNIQUE = 500  # lines of history that bash looks for among all others as they are added
_START = b"\0\0"
_FOLDER = Path(__file__).parent / "hooks"
_DECLARED = re.compile(
    r"""(?:declare\ -[A-Za-z]+|export)\ (?P<name>[A-Za-z_][A-Za-z0-9_]*)=
        (?:"(?P<plain>(?:[^"\\]|\\.)*)"|\$'(?P<ansi>(?:[^'\\]|\\.)*)')\n""",
    re.DOTALL | re.VERBOSE,
)
_NUMBERED = re.compile(r"(\d+)\t(.*)", re.DOTALL)
# How bash adds lines of history. Of those that it has from its file, too, one is left.
_BEFORE_ADDING = [
    "_coditect_control=${HISTCONTROL+x$HISTCONTROL} _coditect_append=",
    r"\builtin shopt -q histappend && _coditect_append=1",
    r"\builtin declare -g HISTCONTROL=erasedups",
]
# Then it thinks that they are in its file already, and does not write them there again.
_BEHIND_ADDING = [
    r'\builtin declare -g HISTCONTROL="${_coditect_control#x}"',
    "[[ -n $_coditect_control ]] || \\builtin unset -v HISTCONTROL",
    r"\builtin history -a /dev/null",
    # That counts them as lines of the file; -n counts anew, and with histappend it
    # takes nothing off the lines that are to be written.
    r"\builtin shopt -s histappend",
    r"\builtin history -n",
    "[[ -n $_coditect_append ]] || \\builtin shopt -u histappend",
]
# What names a process is left as start-up files set it anew.
_UNLESS_NEW = {name: f"[[ -n ${{{name}-}} ]] || " for name in ("SSH_AUTH_SOCK", "SSH_AGENT_PID")}
_ESCAPE = re.compile(r"\\([0-7]{1,3}|x[0-9a-fA-F]{1,2}|.)", re.DOTALL)
_ESCAPES = {"a": "\a", "b": "\b", "e": "\033", "E": "\033", "f": "\f"}
_ESCAPES |= {"n": "\n", "r": "\r", "t": "\t", "v": "\v"}


@dataclass(frozen=True)
class Report:
    """What a shell said before a prompt.

    `recent` are its newest lines of history and their numbers: the last one alone or those that
    are new, or, where `is_list`, all of the last hundred; None where that is not known.
    """

    directory: str
    variables: dict[str, str]
    recent: list[tuple[int, str]] | None
    is_list: bool = False


def has_hook(shell: str) -> bool:
    """Whether a shell of this path has a prompt hook."""
    return Path(shell).name in ("bash", "zsh")


def arguments(shell: str) -> tuple[list[str], dict[str, str]]:
    """How a login shell with its hook is started: argv, and what the environment has for it."""
    name = Path(shell).name
    if name == "bash":
        return ["-bash", "--posix"], {"ENV": str(_FOLDER / "hook.bash")}
    if name == "zsh":
        return ["-zsh"], {"ZDOTDIR": str(_FOLDER / "zsh")}
    return [f"-{name}"], {}


class Reports:
    """The reports in what comes out of a hook's pipe, in any pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Report]:
        """Each report that `data` completes; what is no report is dropped."""
        pieces = (self._rest + data).split(_START)
        self._rest = pieces.pop()
        if self._rest.endswith(b"\0E"):  # the last one is whole, and nothing is behind it yet
            pieces.append(self._rest)
            self._rest = b""
        if len(self._rest) > MOST:
            self._rest = b""
        for piece in pieces:
            report = _report(piece)
            if report is not None:
                yield report


def _report(piece: bytes) -> Report | None:
    fields = os.fsdecode(piece).split("\0")
    if fields[0][:1] != "D" or fields[-1] != "E":
        return None
    directory, variables = fields[0][1:], dict[str, str]()
    recent, tag, mark = None, "", 1  # fc's mark of a changed line is not there in posix mode
    for one in fields[1:-1]:
        tag, text = one[:1], one[1:]
        if tag == "V":
            variables = _declared(text)
        elif tag == "X":
            name, _, value = text.partition("=")
            variables[name] = value
        elif tag == "P":
            mark = 0
        elif tag in ("H", "L"):
            recent = _numbered(text, mark)
    if not directory.startswith("/"):
        return None
    return Report(directory, variables, recent, tag == "L")


def _numbered(text: str, mark: int) -> list[tuple[int, str]] | None:
    """Lines of history behind their numbers, which count up: a line may have line ends."""
    found: list[tuple[int, str]] = []
    for row in text.split("\n")[:-1]:
        match = _NUMBERED.fullmatch(row)
        if match and (not found or int(match[1]) == found[-1][0] + 1):
            found.append((int(match[1]), match[2][mark:]))
        elif found:
            found[-1] = found[-1][0], f"{found[-1][1]}\n{row}"
    return found if found or not text else None


def _declared(text: str) -> dict[str, str]:
    """The variables that `export -p` of bash prints."""
    return {
        match["name"]: _without_ansi(match["ansi"])
        if match["ansi"] is not None
        else re.sub(r"\\(.)", r"\1", match["plain"], flags=re.DOTALL)
        for match in _DECLARED.finditer(text)
    }


def _without_ansi(text: str) -> str:
    raw = _ESCAPE.sub(_escaped, text)
    return os.fsdecode(os.fsencode(raw))


def _escaped(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] in "01234567":
        return _byte(int(code, 8))
    if code[0] == "x" and len(code) > 1:
        return _byte(int(code[1:], 16))
    return _ESCAPES.get(code, code)


def _byte(number: int) -> str:
    return os.fsdecode(bytes([number & 0xFF]))


def saved_state(shell: str, directory: str, state: SessionState) -> int:
    """A descriptor of the commands by which a hook takes a state back, at its first prompt."""
    lines = [rf"\builtin cd -- {shlex.quote(directory)}"]
    changes = [
        f"{_UNLESS_NEW.get(name, '')}\\builtin export {name}={shlex.quote(value)}"
        for name, value in state.environment_vars.items()
        if is_taken_back(name, value)
    ]
    gone = [name for name in state.variables_unset if is_taken_back(name, "")]
    changes += [rf"\builtin unset -v {name}" for name in gone]
    # Of lines that are the same, the last one alone, as those in the shell's file.
    history = [
        shlex.quote(line) for line in reversed(dict.fromkeys(reversed(state.command_history)))
    ]
    if Path(shell).name == "zsh":  # it would end at the first variable that is readonly
        lines += [f"{{ {one} }} always {{ TRY_BLOCK_ERROR=0 }}" for one in changes]
        lines += [" ".join(["_coditect_remember", *history])] if history else []
    else:
        lines += changes
        adding = [rf"\builtin history -s -- {line}" for line in history]
        if adding:
            lines += [*adding[:-UNIQUE], *_BEFORE_ADDING, *adding[-UNIQUE:], *_BEHIND_ADDING]
    content = os.fsencode("\n".join(line.replace("\0", "") for line in lines)) + b"\n"
    fd = _private_file()
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _private_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("coditect-saved", os.MFD_CLOEXEC)
    fd, path = tempfile.mkstemp(prefix="coditect-saved-")
    os.unlink(path)
    return fd
