"""What can be wrong on this machine, and how to fix it."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coditect_cli import __version__, config, tokens
from coditect_cli.attach.request import request
from coditect_cli.errors import CoditectError, NotFound
from coditect_cli.finding import Finding
from coditect_cli.gateway import environment
from coditect_cli.gateway.account import Account
from coditect_cli.gateway.launch import check_socket
from coditect_cli.gateway.not_saved import named
from coditect_cli.paths import Paths, unusable
from coditect_cli.workspaces.local import LocalWorkspaces
from coditect_cli.workspaces.spec import GATEWAY

LEAST_FREE = 1 << 20  # bytes
MAX_SOCKET_PATH = 100  # bytes; the kernel takes 108 on Linux, 104 on macOS


@dataclass(frozen=True)
class Machine:
    """What the checks look at."""

    paths: Paths
    environ: Mapping[str, str]
    context_name: str | None
    on_terminal: bool
    tell: Callable[[str], None]  # what takes long


Check = Callable[[Machine], Finding]


def examine(machine: Machine) -> list[Finding]:
    """Every check's finding. Changes nothing, and starts no gateway."""
    findings = _findings(CHECKS, machine)
    with suppress(CoditectError):  # `config` says it
        context = config.load(machine.paths, machine.environ, context=machine.context_name)
        if context.settings.provider == "kubernetes":
            from coditect_cli.doctor_cluster import examine_cluster

            return findings + examine_cluster(context, machine.paths, machine.environ, machine.tell)
    return findings + _findings(LOCAL_CHECKS, machine)


def _findings(checks: Mapping[str, Check], machine: Machine) -> list[Finding]:
    return [_finding(name, check, machine) for name, check in checks.items()]


def _finding(name: str, check: Check, machine: Machine) -> Finding:
    """What a check found; one that can't be made is a finding, too, and does not end the others."""
    try:
        return check(machine)
    except CoditectError as error:
        return Finding(name, "fail", error.message, error.hint)
    except OSError as error:
        refused = unusable(Path(error.filename or machine.paths.state), error)
        return Finding(name, "fail", refused.message, refused.hint)
    except Exception as error:
        message = f"this is a bug in coditect {__version__}: {type(error).__name__}: {error}"
        return Finding(name, "fail", message, "report it")


def _python(_: Machine) -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "pass", f"Python {found} at {sys.executable}")


def _platform(_: Machine) -> Finding:
    if sys.platform.startswith(("linux", "darwin")):
        return Finding("platform", "pass", sys.platform)
    return Finding("platform", "fail", sys.platform, "use Linux, macOS, or Linux within Windows")


def _folders(machine: Machine) -> Finding:
    paths = machine.paths
    for folder in (paths.config, paths.data, paths.state):
        existing = next(place for place in (folder, *folder.parents) if os.path.exists(place))
        if not os.access(existing, os.W_OK | os.X_OK):
            return Finding(
                "folders", "fail", f"{existing} is not writable", "set CODITECT_HOME elsewhere"
            )
        room = os.statvfs(existing)
        if room.f_blocks and room.f_bavail * room.f_frsize < LEAST_FREE:
            return Finding("folders", "fail", f"no space is left for {folder}", "free some space")
        if existing == folder and folder.stat().st_mode & 0o077:
            message = f"other users may enter {folder}"
            return Finding("folders", "warn", message, f"chmod 700 {folder}")
    return Finding("folders", "pass", f"{paths.config}, {paths.data}, {paths.state}")


def _key_file(machine: Machine) -> Finding:
    if not machine.paths.key_file.exists():
        return Finding("key file", "pass", "not made yet; the first use makes it")
    tokens.local_key(machine.paths)
    return Finding("key file", "pass", str(machine.paths.key_file))


def _records(machine: Machine) -> Finding:
    workspaces = LocalWorkspaces(machine.paths)
    ids = workspaces.ids()
    for id in ids:
        with suppress(NotFound):  # deleted since the ids were read
            workspaces.get(id)
    return Finding("workspaces", "pass", f"{len(ids)} in {machine.paths.workspaces}")


def _config(machine: Machine) -> Finding:
    file = machine.paths.config_file
    try:
        context = config.load(machine.paths, machine.environ, context=machine.context_name)
    except CoditectError as error:
        return Finding("config", "fail", error.message, error.hint or f"edit {file}")
    if file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o022:
        return Finding("config", "warn", f"other users may change {file}", f"chmod 600 {file}")
    return Finding("config", "pass", f"context {context.name}")


def _store(machine: Machine) -> Finding:
    from coditect_cli.stores.store import open_store

    file = machine.paths.session_store
    context = config.load(machine.paths, machine.environ, context=machine.context_name)
    settings = context.settings
    if settings.store == "sqlite" and context.is_remote:
        return Finding("store", "pass", "where the context's gateway runs")
    if settings.store == "sqlite" and not file.exists():
        return Finding("store", "pass", f"{file}, not made yet; the first session makes it")
    with closing(open_store(settings, machine.paths)) as store:
        store.read(lambda snapshot: snapshot.version)
    if settings.store == "sqlite":
        return Finding("store", "pass", str(file))
    named = settings.fdb_cluster_file or machine.environ.get("FDB_CLUSTER_FILE")
    return Finding("store", "pass", f"the FoundationDB of {named or 'the default cluster file'}")


def _socket_path(machine: Machine) -> Finding:
    path = machine.paths.gateway_socket
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return Finding("socket path", "pass", str(path))
    fix = "set CODITECT_HOME to a folder with a shorter path"
    if Path("/proc/self/fd").is_dir():
        return Finding("socket path", "warn", f"{path} is long for a socket; we go around it", fix)
    return Finding("socket path", "fail", f"{path} is too long for a socket", fix)


def _gateway(machine: Machine) -> Finding:
    log = machine.paths.gateway_log
    ours = False
    try:
        context = config.load(machine.paths, machine.environ, context=machine.context_name)
        ours = context.settings.gateway_url is None
        if ours and not machine.paths.gateway_socket.exists():
            message = f"none runs; commands start one when they need it. Log: {log}"
            return Finding("gateway", "pass", message)
        answer: dict[str, Any] = request(context, machine.paths, GATEWAY, {"type": "status"})
    except CoditectError as error:
        if ours and error.code == "gateway.not_running":
            check_socket(machine.paths)
            message = f"a stale socket is there, and no gateway; the next use cleans up. Log: {log}"
            return Finding("gateway", "warn", message, "coditect up ID starts one")
        return Finding("gateway", "fail", f"{error.message}. Log: {log}", error.hint)
    version, log = answer.get("version"), answer.get("log") or log
    if unsaved := answer.get("notSaved"):
        return Finding("gateway", "fail", f"{named(unsaved)}. Log: {log}", unsaved[0].get("hint"))
    if version != __version__:
        message = f"it is {version}, this is {__version__}. Log: {log}"
        return Finding("gateway", "warn", message, "coditect gateway restart (no session ends)")
    return Finding("gateway", "pass", f"it runs, version {version}. Log: {log}")


def _terminal(machine: Machine) -> Finding:
    if not machine.on_terminal:
        return Finding("terminal", "pass", "there is none here; attach needs one")
    import curses

    term = machine.environ.get("TERM", "")
    try:
        curses.setupterm(term or "unknown-terminal", 1)
    except curses.error:
        message = f"terminfo does not know TERM={term!r}"
        fix = "set TERM to what the terminal is, such as xterm-256color, or install its terminfo"
        return Finding("terminal", "warn", message, fix)
    return Finding("terminal", "pass", f"TERM={term}")


def _pty(_: Machine) -> Finding:
    try:
        for descriptor in os.openpty():
            os.close(descriptor)
    except OSError as error:
        fix = "mount devpts at /dev/pts, and look at /proc/sys/kernel/pty/max"
        return Finding("pty", "fail", f"no terminal can be opened: {error.strerror}", fix)
    return Finding("pty", "pass", "terminals can be opened")


def _shell(machine: Machine) -> Finding:
    """What the gateway would start."""
    asked = run_as = None
    with suppress(CoditectError):  # `config` says it
        context = config.load(machine.paths, machine.environ, context=machine.context_name)
        asked, run_as = context.settings.shell, context.settings.run_as
    account = Account.find(run_as)
    shell = environment.shell(asked, account)
    if shell != (asked or shell) or not os.access(shell, os.X_OK):
        fix = "coditect context set NAME shell=/bin/bash, or install it"
        return Finding("shell", "fail", f"{asked or shell} is not a shell that can be started", fix)
    instead = "" if asked or shell == account.shell else f", in the place of {account.shell}"
    return Finding("shell", "pass", shell + instead)


CHECKS: dict[str, Check] = {
    "python": _python,
    "platform": _platform,
    "folders": _folders,
    "config": _config,
    "store": _store,
    "terminal": _terminal,
}
LOCAL_CHECKS: dict[str, Check] = {
    "key file": _key_file,
    "workspaces": _records,
    "socket path": _socket_path,
    "gateway": _gateway,
    "pty": _pty,
    "shell": _shell,
}
