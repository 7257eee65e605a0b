"""Which variables of a shell a restored one is to have as well."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# A shell's own, or a new one's: not to be brought back from an older one.
_ITS_OWN = frozenset(
    ("PWD", "SHLVL", "TERM", "SHELL", "HOME", "USER", "LOGNAME", "_", "WORKSPACE_ID", "USER_ID")
) | {"IFS", "UID", "EUID", "GID", "EGID", "PPID", "BASHOPTS", "SHELLOPTS", "POSIXLY_CORRECT"}
_OURS = ("CODITECT_", "_coditect_")
# Code that a shell or a program would run.
_CODE: tuple[str, ...] = ("LD_*", "DYLD_*", "BASH_ENV", "ENV", "BASH_FUNC_*", "PROMPT_COMMAND")
_CODE += ("PS0", "PS4", "ZDOTDIR", "FPATH", "PYTHONSTARTUP", "PYTHONPATH", "PERL5OPT", "PERL5LIB")
_CODE += ("RUBYOPT", "NODE_OPTIONS", "GIT_SSH_COMMAND", "GIT_EXTERNAL_DIFF", "SSH_ASKPASS")
_CODE += ("SUDO_ASKPASS", "MAILPATH")
_PROMPTS = ("PS1", "PS2", "PS3", "PROMPT*", "RPROMPT*", "RPS*")  # shells run $(...) in them
_RUN = re.compile(r"\$\(|\$\{[\s|]|`|@P")


def comes_back(name: str) -> bool:
    """Whether a restored shell is to have a variable of this name as the one before it had it."""
    its_own = name in _ITS_OWN or name.startswith(_OURS)
    return not its_own and not any(fnmatchcase(name, pattern) for pattern in _CODE)


def is_taken_back(name: str, value: str) -> bool:
    """Whether a restored shell takes this from a record, whoever wrote it."""
    is_prompt = any(fnmatchcase(name, pattern) for pattern in _PROMPTS)
    named = _NAME.fullmatch(name) is not None and comes_back(name)
    return named and not (is_prompt and _RUN.search(value))
