"""What every command starts from: the global options, and things opened on first use."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from coditect_cli.errors import (
    CoditectError,
    Conflict,
    Failed,
    NotFound,
    Unreachable,
    UsageError,
)
from coditect_cli.output import Format
from coditect_cli.paths import Paths
from coditect_cli.streams import Streams
from coditect_cli.workspaces.spec import GATEWAY, check_workspace_id, is_workspace_id

if TYPE_CHECKING:
    from coditect_cli import config
    from coditect_cli.attach.credentials import Credentials
    from coditect_cli.sessions.listing import Live
    from coditect_cli.stores.store import SessionStore
    from coditect_cli.workspaces.backend import WorkspaceBackend

SCREENFULS = 10  # where a listing on a terminal stops by itself


@dataclass
class Runtime:
    """Commands find it as `ctx.obj`; services get what they need of it, never all of it."""

    streams: Streams
    output: Format = "table"
    context_name: str | None = None
    yes: bool = False
    verbose: bool = False
    debug: bool = False
    flags: dict[str, str] = field(default_factory=dict)  # settings that the command line has
    _ends: float | None = None  # by when the cluster must have answered
    _credentials: dict[str, Credentials] = field(default_factory=dict)  # for each workspace

    @property
    def is_for_people(self) -> bool:
        """Whether -o asks for what people read, not for a document or names."""
        return self.output in ("table", "wide")

    @cached_property
    def paths(self) -> Paths:  # depends on the environment
        return Paths.from_environ(os.environ)

    @cached_property
    def context(self) -> config.Context:  # depends on paths, the environment and flags
        from coditect_cli import config

        return config.load(self.paths, os.environ, self.flags, self.context_name)

    @cached_property
    def workspaces(self) -> WorkspaceBackend:  # depends on paths and context
        settings = self.context.settings
        if settings.provider == "kubernetes":
            from coditect_cli.kube import Kube
            from coditect_cli.workspaces.kubernetes import KubernetesWorkspaces

            kube = Kube(settings, self._left, self.streams.say)
            return KubernetesWorkspaces(kube, settings, self.flags)
        from coditect_cli.workspaces.local import LocalWorkspaces

        if self.context.is_remote:
            raise UsageError(
                f"context {self.context.name} uses a gateway elsewhere, whose workspaces are "
                "looked after there",
                code="context.remote",
                hint="run this on the gateway's machine, or with another --context; attach, exec "
                "and cp work from here",
            )
        return LocalWorkspaces(self.paths)

    def bound(self, limit: float) -> None:
        """Let all that is asked of the cluster from now on end within `limit` seconds."""
        from coditect_cli.workspaces.backend import LOOK

        self._ends = time.monotonic() + max(limit, LOOK)

    def _left(self) -> float | None:
        return None if self._ends is None else self._ends - time.monotonic()

    @property
    def has_store(self) -> bool:
        """Whether the context's sessions are saved where this machine can look."""
        return not self.context.is_remote or self.context.settings.store != "sqlite"

    def owner(self, id: str) -> str:
        """Whom a new workspace belongs to: on this machine its user, else the token's.

        Raises UsageError for an id that is none, NotAuthenticated when there is no token, and
        nobody was named.
        """
        if id != GATEWAY:
            check_workspace_id(id)  # a token command gets it
        settings = self.context.settings
        if settings.provider == "kubernetes" and settings.owner is not None:
            return settings.owner
        from coditect_cli.attach.credentials import Credentials

        return Credentials(self.context, self.paths, id, os.environ).user()

    def cluster_user(self, id: str) -> str:
        """Whom the token for a workspace on a cluster is for, whatever the context's provider is.

        Raises NotAuthenticated.
        """
        from coditect_cli.attach.credentials import Credentials

        settings = replace(self.context.settings, provider="kubernetes")
        context = self.context._replace(settings=settings)
        return Credentials(context, self.paths, id, os.environ).user()

    @cached_property
    def store(self) -> SessionStore:  # depends on paths and context
        from coditect_cli.stores.store import open_store

        if not self.has_store:
            raise self._saved_elsewhere()
        return open_store(self.context.settings, self.paths)

    def store_of(
        self, workspace_id: str, cannot: Callable[[CoditectError], None] | None = None
    ) -> SessionStore:
        """Where a workspace's sessions are saved, to read them; elsewhere its gateway does that.

        `cannot` is told why the gateway can't, which else is raised: the workspace is stopped, or
        an older release serves it.
        """
        if self.has_store:
            return self.store
        from coditect_cli.attach.gateway_store import GatewayStore

        def refuse(error: CoditectError) -> None:
            raise error

        check_workspace_id(workspace_id)
        return GatewayStore(partial(self.ask_gateway, workspace_id), cannot or refuse)

    def _saved_elsewhere(self) -> UsageError:
        name = self.context.name
        if self.context.settings.provider == "kubernetes":
            return UsageError(
                f"the sessions of context {name} are saved on its workspaces' volumes",
                code="context.remote",
                hint="coditect session list ID, show, history and output ask that workspace's pod; "
                "with the setting store=foundationdb all are saved where this machine can look",
            )
        return UsageError(
            f"context {name} uses a gateway elsewhere, and its sessions are saved there",
            code="context.remote",
            hint="run this on the gateway's machine, or set the context's store",
        )

    def row_limit(self, asked: int | None) -> int | None:
        """How many rows a listing shows: as asked, else ten screenfuls where that is a terminal."""
        for_people = self.is_for_people and self.streams.stdout.isatty()
        if asked is not None or not for_people:
            return asked
        return SCREENFULS * shutil.get_terminal_size().lines

    def say_more(self, *words: str, options: Mapping[str, str | bool | int | None]) -> None:
        """Say how to go on with a listing that stopped: a line that can be pasted."""
        import shlex

        form = None if self.output == "table" else self.output
        like_options = [word for word in words if word.startswith("-")]
        line = ["coditect", *(word for word in words if word not in like_options)]
        for name, value in {"--context": self.context_name, "-o": form, **options}.items():
            if value is not None and value is not False:
                line += [name] if value is True else [name, str(value)]
        if like_options:
            line += ["--", *like_options]
        self.streams.say(f"there are more: {shlex.join(line)}")

    def ask_gateway(self, workspace_id: str, message: dict[str, Any]) -> dict[str, Any]:
        """The gateway's answer; an empty one where ours doesn't run, for then no session lives.

        Raises the gateway's error, and Unreachable.
        """
        settings = self.context.settings
        ours = settings.gateway_url is None
        if ours and settings.provider == "local" and not self.paths.gateway_socket.exists():
            return {}  # what comes next loads a lot
        from coditect_cli.attach.credentials import Credentials
        from coditect_cli.attach.request import request

        credentials = self._credentials.setdefault(
            workspace_id, Credentials(self.context, self.paths, workspace_id, os.environ)
        )
        try:
            return request(self.context, self.paths, workspace_id, message, credentials)
        except Unreachable as error:
            if ours and error.code == "gateway.not_running":
                return {}
            raise

    def live_sessions(self, workspace_id: str | None) -> Live:
        """The live sessions of a workspace, or of all, as the gateway says; never starts one.

        A gateway elsewhere tells of one workspace only; where none can be asked, the leases in
        the store tell. Raises UsageError, what ask_gateway does, and the store's errors.
        """
        if workspace_id is not None and not is_workspace_id(workspace_id):
            from coditect_cli.sessions.ids import id_bytes

            id_bytes(workspace_id, "workspace")
            return {}  # only saved ones can be of such a workspace
        about = workspace_id if self.context.is_remote else GATEWAY
        if about is None or (self.has_store and not self.context.shown_gateway_url(self.paths)):
            from coditect_cli.sessions.listing import leased

            return leased(self.store, workspace_id, time.time_ns())
        try:
            items = self.ask_gateway(about, {"type": "sessions"}).get("items", [])
        except (Conflict, NotFound) as error:
            absent = self.context.settings.provider == "kubernetes" and isinstance(error, NotFound)
            if not absent and error.code != "workspace.stopped":
                raise
            return {}  # no pod, so no session; whether there is a workspace, the cluster says
        return {
            (item["workspace"], item["session"]): item
            for item in items
            if workspace_id in (None, item["workspace"])
        }

    def sessions_in_pod(self, workspace_id: str) -> list[Any] | None:
        """The live sessions of a workspace in a cluster; None where no gateway is set to ask.

        Raises what ask_gateway does.
        """
        if self.context.settings.gateway_url is None:
            return None
        return list(self.ask_gateway(workspace_id, {"type": "sessions"}).get("items", []))

    def held_elsewhere(self, workspaces: Iterable[str] | None, live: Live) -> Live:
        """The sessions of some workspaces, or of all, not `live`, that another gateway holds.

        The store's leases say so, where this machine can look. Raises the store's errors.
        """
        if not self.has_store:
            return {}
        from coditect_cli.sessions.listing import held_elsewhere

        now, held = time.time_ns(), dict[tuple[str, str], Mapping[str, Any]]()
        for workspace_id in (None,) if workspaces is None else workspaces:
            held |= held_elsewhere(self.store, workspace_id, live, now)
        if held and self.paths.gateway_id.exists():
            from coditect_cli.gateway.place import place

            ours = place(self.paths, "local") + "#"  # of a bridge that was killed
            held = {key: one for key, one in held.items() if not one["holder"].startswith(ours)}
        return held

    def check_here(self, workspace_id: str, text: str) -> None:
        """Raises Conflict for a session, named or begun by `text`, that another gateway holds."""
        for (_, session_id), held in self.held_elsewhere([workspace_id], {}).items():
            if session_id.startswith(text):
                raise Conflict(
                    f"session {session_id} of workspace {workspace_id} is live under another "
                    f"gateway, {held['holder'].partition(':')[0]}",
                    code="session.leased",
                    hint="do this through that gateway",
                )

    def find_session(self, workspace_id: str, text: str) -> str:
        """The id of the session, live or saved, whose id is `text` or alone starts with it.

        Raises UsageError, NotFound, and why the saved ones can't be seen where it may be of them.
        """
        from coditect_cli.sessions.lookup import find_session

        unseen: list[CoditectError] = []
        live = [session for _, session in self.live_sessions(workspace_id)]
        with closing(self.store_of(workspace_id, unseen.append)) as store:
            try:
                return find_session(store, live, workspace_id, text)
            except NotFound:
                if unseen:
                    raise unseen[0] from None
                raise

    def end_session(self, workspace_id: str, session_id: str) -> None:
        """Hang up a live session. Raises NotFound where it is none, and what ask_gateway does."""
        self.ask_gateway(workspace_id, {"type": "kill", "session": session_id})

    def check_known(self, workspace_id: str) -> None:
        """Raises NotFound for a workspace that is not there and has left no session."""
        from coditect_cli.sessions.lookup import saved_ids

        if self.has_store and saved_ids(self.store, workspace_id, "", 1):
            return
        if self.context.is_remote and self.context.settings.provider == "local":
            return  # its gateway knows
        try:
            self.workspaces.get(workspace_id)
        except Failed as error:
            if error.code != "workspace.damaged":
                raise

    def workspaces_of(self, user: str | None) -> list[str]:
        """The ids of the workspaces that a user owns; without a name, that this one does."""
        return self.workspaces.ids(user if user is not None else self.owner(GATEWAY))

    def start_log(self) -> None:
        """Log to stderr, our own loggers only: a library's may hold tokens and terminal bytes.

        Raises UsageError when CODITECT_LOG is not a level.
        """
        level = (
            "debug" if self.debug else "info" if self.verbose else os.environ.get("CODITECT_LOG")
        )
        if not level:
            return
        if level not in ("debug", "info", "warning", "error"):
            raise UsageError(
                f"CODITECT_LOG is {level!r}", hint="it is one of debug, info, warning, error"
            )
        import logging

        handler = logging.StreamHandler(self.streams.stderr)
        if self.streams.stderr.isatty():
            handler.terminator = "\r\n"  # it may be raw, as it is while attached
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger = logging.getLogger("coditect")
        logger.handlers = [handler]
        logger.setLevel(level.upper())

    def confirm(self, question: str, flag: str) -> None:
        """Go on only when the user says yes, or said --yes.

        Raises Failed when declined, UsageError naming `flag` when nobody can be asked.
        """
        if self.yes:
            return
        if self._ask(f"{question} [y/N] ", flag).lower() not in ("y", "yes"):
            raise Failed("declined: nothing was done", code="declined")

    def confirm_name(self, question: str, name: str, given: str | None, flag: str) -> None:
        """Go on only when `name` was given with `flag`, or is typed now; --yes is not enough.

        Raises Failed when another name is typed, UsageError when another was given or nobody
        can be asked.
        """
        if given is None:
            if self._ask(f"{question}\nType {name} to go on: ", f"{flag} {name}") != name:
                raise Failed("declined: nothing was done", code="declined")
        elif given != name:
            raise UsageError(
                f"{flag} says {given!r}, but this is about {name!r}", code="confirm.mismatch"
            )

    def _ask(self, question: str, flag: str) -> str:
        if not self.streams.may_prompt():
            raise UsageError(
                "this needs an answer, and there is no terminal to ask on",
                code="confirm.needed",
                hint=f"pass {flag}",
            )
        self.streams.stderr.write(question)
        self.streams.stderr.flush()
        answer = ""
        try:
            answer = self.streams.stdin.readline()
        finally:
            if not answer.endswith("\n"):  # Ctrl-C or Ctrl-D: what comes next has a line of its own
                self.streams.say("")
        return answer.strip()
