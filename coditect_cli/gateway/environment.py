"""What a program starts with: its user's own clean environment, shell and terminal type."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from coditect_cli.gateway.account import Account

_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
_ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = ("LANG", "LANGUAGE", "TZ", "TMPDIR", "XDG_RUNTIME_DIR")
_TERMINFO = ("/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/lib/terminfo")


def clean(
    environ: Mapping[str, str], account: Account, workspace: str, user: str, session: str
) -> dict[str, str]:
    """The environment of a program in a workspace; nothing of the gateway's but its locale."""
    kept = {name: value for name, value in environ.items() if name in _KEPT or name[:3] == "LC_"}
    return {
        "LANG": "C.UTF-8",
        **kept,
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "SHELL": shell(None, account),
        "PATH": _PATH if account.uid else _ROOT_PATH,
        "WORKSPACE_ID": workspace,
        "USER_ID": user,
        "CODITECT_SESSION": session,
    }


def of_locale(env: Mapping[str, str]) -> set[str]:
    """The variables of `env` that tell of language and time, but for LANG."""
    return {name for name in env if name in ("LANGUAGE", "TZ") or name[:3] == "LC_"}


def shell(setting: str | None, account: Account) -> str:
    """The absolute path of the shell to start: the setting, the user's own, bash or sh."""
    for path in (setting, account.shell, "/bin/bash"):
        if path and os.access(path, os.X_OK) and Path(path).name not in ("nologin", "false"):
            return path
    return "/bin/sh"


def shell_named(name: str, account: Account) -> str | None:
    """The absolute path of a login shell of this name: the user's own, or one that is installed."""
    try:
        installed = Path("/etc/shells").read_text().split()
    except OSError:
        installed = []
    for path in (account.shell, *installed):
        if Path(path).name == name and path.startswith("/") and os.access(path, os.X_OK):
            return path
    return None


def terminal_type(asked: str, account: Account) -> str:
    """The client's terminal type where this machine's terminfo knows it, else xterm-256color."""
    own = os.path.join(account.home, ".terminfo")
    for base in (own, *_TERMINFO):
        for folder in (asked[0], f"{ord(asked[0]):x}"):
            if os.path.exists(os.path.join(base, folder, asked)):
                return asked
    return "xterm-256color"
