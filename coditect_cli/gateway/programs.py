"""What clients ask to be run in a workspace, made ready for the keeper to start."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from coditect_cli.errors import (
    CoditectError,
    CommandNotExecutable,
    CommandNotFound,
    Failed,
    NotFound,
)
from coditect_cli.gateway import environment, hook, spawn
from coditect_cli.gateway.account import Account
from coditect_cli.gateway.files import WORKSPACE
from coditect_cli.gateway.saved import Saved, directory_of, noted, saved_screen
from coditect_cli.protocol.messages import Exec, Files
from coditect_cli.settings import Settings
from coditect_cli.workspaces.spec import WorkspaceRecord

Starting = tuple[spawn.Command, spawn.Prepared]


class Programs:
    """Each method prepares one program of a workspace, for the user of the settings."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._account = Account.find(settings.run_as)

    def shell(
        self,
        record: WorkspaceRecord,
        user: str,
        client: str,
        size: tuple[int, int],
        term: str,
        saved: Saved | None,
        notice: str | None,
    ) -> Starting:
        """A login shell on a new PTY, with what `saved` has, below a notice."""
        path = environment.shell(self._settings.shell, self._account)
        if saved and Path(path).name != saved.state.shell_type:
            path = environment.shell_named(saved.state.shell_type, self._account) or path
        argv, env = hook.arguments(path)
        id = saved.state.id if saved else str(uuid.uuid4())
        with self._account.looking():
            cwd = directory_of(saved, str(record.root)) if saved else str(record.root)
        command = self._command(record, user, id, argv, path, cwd)
        command.env.update(
            env, TERM=environment.terminal_type(term, self._account), SHELL=path, PWD=cwd
        )
        command.meta.update(kind="terminal", client=client, directory=cwd)
        first = noted(notice) if notice else b""
        command = replace(command, hook=hook.has_hook(path), first_output=first)
        if saved:
            state = hook.saved_state(path, cwd, saved.state) if command.hook else None
            for name in environment.of_locale(command.env) - saved.state.environment_vars.keys():
                del command.env[name]  # this gateway was started in another one
            drawn = saved_screen(saved, cwd, Path(path).name)
            command = replace(command, saved=state, first_output=drawn + first)
            command.meta.update(variablesTrimmed=saved.state.variables_trimmed)
        return command, spawn.with_terminal(command, *size, self._settings.output_kept)

    def named(self, record: WorkspaceRecord, user: str, asked: Exec) -> Starting:
        """The program that an exec names. Raises CommandNotFound, NotFound and the like."""
        cwd = _folder(record.root, asked.workdir or "")
        command = self._command(record, user, asked.client, list(asked.argv), "", cwd)
        command.env.update(asked.env)
        with self._account.looking():
            if not os.path.isdir(cwd):
                raise NotFound(f"no folder {cwd}", code="exec.workdir", hint="see --workdir")
            path = _find_program(asked.argv[0], command.env.get("PATH", ""), cwd)
        command = replace(command, executable=path)
        command.meta.update(kind="exec", client=asked.client, shell=Path(path).name)
        if asked.tty is None:
            return command, spawn.with_pipes(command, asked.stdin, self._settings.output_kept)
        command.env["TERM"] = environment.terminal_type(asked.tty["term"], self._account)
        size = asked.tty["cols"], asked.tty["rows"]
        return command, spawn.with_terminal(command, *size, self._settings.output_kept)

    def files(self, record: WorkspaceRecord, user: str, asked: Files) -> Starting:
        """The gateway's own program for files in the workspace."""
        argv = [sys.executable, "-m", "coditect_cli.gateway.files", asked.op]
        argv += [str(record.root), "--", asked.path]
        command = self._command(record, user, asked.client, argv, sys.executable, "/")
        command.meta.update(kind="exec", client=asked.client)
        stdin = asked.op in ("put", "write")
        return command, spawn.with_pipes(command, stdin, self._settings.output_kept)

    def _command(
        self,
        record: WorkspaceRecord,
        user: str,
        id: str,
        argv: list[str],
        executable: str,
        cwd: str,
    ) -> spawn.Command:
        meta: dict[str, Any] = {
            "workspace": record.id,
            "user": user,
            "shell": Path(executable).name,
            "startedAt": time.time(),
        }
        env = environment.clean(self._environ, self._account, record.id, user, id)
        return spawn.Command(id, argv, executable, env, cwd, self._account, meta=meta)


def _folder(root: Path, asked: str) -> str:
    """The folder that `asked` means: from the root, which is /workspace too where that is none."""
    alias = Path(asked).parts[:2] == ("/", "workspace") and not os.path.isdir(WORKSPACE)
    return str(root / asked.removeprefix(WORKSPACE).lstrip("/") if alias else root / asked)


def _find_program(name: str, path: str, cwd: str) -> str:
    """The file that `name` means. Raises CommandNotFound, CommandNotExecutable."""
    if "/" in name:
        present = [_existing(cwd, name)]
    else:
        found = [os.path.join(cwd, folder, name) for folder in path.split(":")]
        present = [file for file in found if os.path.isfile(file)]
    for file in present:
        if os.access(file, os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            return file
    if present:
        raise CommandNotExecutable(f"{present[0]} is not executable", hint="chmod +x, or sh FILE")
    raise CommandNotFound(f"no command {name[:200]!r} in the workspace", hint="check PATH there")


def _existing(cwd: str, name: str) -> str:
    """The file `name`; 127 where there is none and 126 where it can't be one, as in bash."""
    file, shown = os.path.join(cwd, name), name[:200]
    try:
        is_folder = stat.S_ISDIR(os.stat(file).st_mode)
    except FileNotFoundError:
        raise CommandNotFound(f"{shown} does not exist in the workspace") from None
    except OSError as error:
        raise CommandNotExecutable(f"{shown}: {error.strerror}") from None
    if is_folder:
        raise CommandNotExecutable(f"{shown} is a folder", hint="name a file in it")
    return file


def not_started(command: spawn.Command, answer: dict[str, Any]) -> CoditectError:
    """Why the keeper could not start a command, from its answer."""
    what = f"can't start {command.argv[0][:200]!r}: {answer['error']}"
    if answer["errno"] == errno.E2BIG:
        return CommandNotExecutable(what, hint="pass the arguments on stdin, as to xargs")
    if answer["errno"] in (errno.ENOEXEC, errno.EACCES):
        return CommandNotExecutable(what)
    if answer["errno"] == errno.ENOENT and not os.path.isdir(command.cwd):
        return NotFound(f"no folder {command.cwd}", code="exec.workdir", hint="make it again")
    if answer["errno"] == errno.ENOENT and os.path.exists(command.executable):
        return CommandNotFound(
            f"can't start {command.argv[0][:200]!r}: its interpreter is not there",
            hint="its first line (or a binary's loader) names a file that does not exist",
        )
    if answer["errno"] == errno.ENOENT:
        return CommandNotFound(what)
    return Failed(what, code="session.not_started", hint="see the gateway's log")
