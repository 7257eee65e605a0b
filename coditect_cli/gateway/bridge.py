"""The bridge: every live session of this gateway, and the link to the keeper that holds them."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NoReturn

from coditect_cli.errors import (
    Conflict,
    Failed,
    LimitReached,
    NotFound,
)
from coditect_cli.gateway import processes, spawn
from coditect_cli.gateway.handover import REFUSED, Channel
from coditect_cli.gateway.metrics import Metrics
from coditect_cli.gateway.pipes import Pipes
from coditect_cli.gateway.programs import Programs, Starting, not_started
from coditect_cli.gateway.ring import LAYOUT, UnknownLayout
from coditect_cli.gateway.saved import Saved
from coditect_cli.gateway.saving import Saving
from coditect_cli.gateway.session import Held, Session
from coditect_cli.gateway.terminal import Terminal
from coditect_cli.protocol.messages import Exec, Files
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.settings import Settings
from coditect_cli.workspaces.backend import stopped
from coditect_cli.workspaces.spec import WorkspaceRecord, Workspaces

log = logging.getLogger("coditect.bridge")

KEEPER_SECONDS = 2.0  # how long the keeper may take to tell of a program's end


class Bridge:
    """Starts, finds and ends sessions; survives nothing, but leaves all to its successor."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        workspaces: Workspaces,
        open_layer: Callable[[], SessionLayer],
        place: str,
    ) -> None:
        self.settings = settings
        self.workspaces = workspaces
        self._programs = Programs(settings, environ)
        self.metrics = Metrics()
        self.sessions: dict[str, Session] = {}
        self.saving = Saving(open_layer, settings, place, self._belongs_elsewhere)
        self.listeners: dict[str, socket.socket] = {}
        self.keeper_pid = 0
        self.started_at = 0.0
        self.on_drain: Callable[[str], None] = lambda reason: None
        self.ready = asyncio.Event()
        self.changed = asyncio.Event()
        self._channel: Channel | None = None
        self._spawning: dict[str, tuple[Starting, asyncio.Future[Session]]] = {}
        self._restart: asyncio.Future[str | None] | None = None
        self._recovered: list[Session] = []
        self._restored: dict[str, Saved] = {}  # those that are being started
        self._ending: set[asyncio.Task[None]] = set()
        self._stopping: Counter[str] = Counter()

    def connect(self, end: socket.socket) -> None:
        """Take over what the keeper holds; `ready` is set when all of it has come."""
        self._channel = Channel(end)
        end.setblocking(False)
        asyncio.get_running_loop().add_reader(end, self._on_keeper)

    def _on_keeper(self) -> None:
        assert self._channel is not None  # noqa: S101 - a reader only while connected
        try:
            for message, fds in self._channel.receive():
                getattr(self, "_on_" + message["type"])(message, fds)
        except BlockingIOError:
            return
        except EOFError:
            asyncio.get_running_loop().remove_reader(self._channel.socket)
            self.on_drain("keeper")
        except UnknownLayout as error:
            log.error("refused why=%s", error)
            os._exit(REFUSED)

    def tell_keeper(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        """Send one message; a keeper that is gone is noticed by its end of the socket."""
        assert self._channel is not None  # noqa: S101 - connect() comes first
        self._channel.socket.setblocking(True)
        try:
            self._channel.send(message, fds)
        except OSError:
            log.warning("keeper_gone")
        finally:
            self._channel.socket.setblocking(False)

    def _on_listener(self, message: dict[str, Any], fds: list[int]) -> None:
        self.listeners[message["address"]] = socket.socket(fileno=fds[0])

    def _on_program(self, message: dict[str, Any], fds: list[int]) -> None:
        held = Held(
            message["id"],
            message["pid"],
            message["meta"],
            dict(zip(message["names"], fds, strict=True)),
            message["status"],
        )
        session = self._new_session(held)
        session.recover(self.grace(session))
        session.start()
        self._recovered.append(session)

    def _on_ready(self, message: dict[str, Any], _fds: list[int]) -> None:
        self.keeper_pid = message["keeperPid"]
        self.started_at = message["startedAt"]
        self.saving.set_keeper(self.keeper_pid, self.started_at)
        for session in self._recovered:
            if isinstance(session, Terminal) and session.kind == "terminal":
                self.saving.adopt(session)
        self._recovered.clear()
        self.ready.set()

    def _on_spawned(self, message: dict[str, Any], _fds: list[int]) -> None:
        """Take the session on at once: the news of its end may be next."""
        (command, prepared), waiting = self._spawning.pop(message["id"])
        if message["pid"] is None:
            prepared.abandon()
            self._restored.pop(command.id, None)
            waiting.set_exception(not_started(command, message))
            return
        session = self._new_session(
            Held(command.id, message["pid"], command.meta, prepared.kept, None)
        )
        session.await_client(command.meta["client"], self.grace(session))
        session.start()
        if isinstance(session, Terminal) and session.kind == "terminal":
            self.saving.watch(session, self._restored.pop(session.id, None))
        log.info("session_started id=%s workspace=%s", session.id, session.workspace)
        waiting.set_result(session)

    def _on_exited(self, message: dict[str, Any], _fds: list[int]) -> None:
        session = self.sessions.get(message["id"])
        if session is not None:
            session.exited(message["status"])

    def _on_drain(self, _message: dict[str, Any], _fds: list[int]) -> None:
        self.on_drain("stop")

    def _on_restart(self, message: dict[str, Any], _fds: list[int]) -> None:
        if self._restart is not None and not self._restart.done():
            self._restart.set_result(message["refused"])

    async def prepare_restart(self) -> None:
        """Ask whether the installed release can take over. Raises Failed when it can't."""
        self._restart = asyncio.get_running_loop().create_future()
        self.tell_keeper({"type": "restart", "check": ["--check-layout", str(LAYOUT)]})
        refused = await self._restart
        if refused is not None:
            raise Failed(
                f"the installed release can't take over from {self.keeper_pid}: {refused}",
                code="gateway.upgrade_refused",
                hint="end the sessions, then: coditect gateway stop",
            )

    def _new_session(self, held: Held) -> Session:
        session: Session
        if "terminal" in held.fds:
            session = Terminal(held, self._session_changed, self.metrics)
        else:
            session = Pipes(held, self._session_changed, self.metrics, self._release)
        self.sessions[held.id] = session
        return session

    def _release(self, id: str, name: str) -> None:
        self.tell_keeper({"type": "release", "id": id, "name": name})

    def grace(self, session: Session) -> float:
        """How long a session waits for a client whose connection broke, in seconds."""
        if session.kind == "exec":
            return self.settings.exec_linger
        return self.settings.resume_grace

    def _session_changed(self, session: Session) -> None:
        """Forget what is over, and end a program whose only client is gone."""
        self.changed.set()
        if isinstance(session, Terminal):
            self.saving.save_now(session)
        if session.attachments or session.awaited is not None or session.id not in self.sessions:
            return
        if session.outcome is not None:
            self._forget(session)
        elif session.kind == "exec":
            self.end_soon([session])

    def _forget(self, session: Session) -> None:
        if isinstance(session, Terminal):
            self.saving.forget(session)
        del self.sessions[session.id]
        session.close()
        self.tell_keeper({"type": "forget", "id": session.id})
        log.info("session_ended id=%s status=%s", session.id, session.status)

    def live(self, workspace: str | None) -> list[Session]:
        """The live sessions of a workspace, or of all; the newest first."""
        found = [
            one
            for one in self.sessions.values()
            if workspace in (None, one.workspace) and one.is_live
        ]
        return sorted(found, key=lambda one: one.started_at, reverse=True)

    def find(self, workspace: str, id: str) -> Session:
        """A session of this workspace. Raises NotFound."""
        session = self.sessions.get(id)
        if session is None or session.workspace != workspace:
            raise NotFound(
                f"no session {id} in workspace {workspace}",
                code="session.not_found",
                hint=f"coditect attach {workspace} makes a new one",
            )
        return session

    def running(self, workspace: str) -> WorkspaceRecord:
        """The workspace as it is now. Raises NotFound, Conflict where nothing may start in it."""
        record = self.workspaces.get(workspace)
        if record.desired == "stopped" or self._stopping[workspace]:
            raise stopped(workspace)
        return record

    async def stop(self, workspace: str, *, force: bool) -> int:
        """End a workspace's programs and let no new one start; how many sessions there were.

        Raises Conflict where somebody is attached, and Failed where sessions cannot be saved, when
        `force` is not given; nothing has changed.
        """
        await self.settled(workspace)
        sessions = self.live(workspace)
        if not force and any(one.attachments for one in sessions):
            raise Conflict(
                f"somebody is attached to workspace {workspace}",
                code="workspace.in_use",
                hint="wait until they leave, or pass --force",
            )
        await self.saving.save_or_refuse(workspace, force=force)
        self._stopping[workspace] += 1
        try:
            self.workspaces.set_desired(workspace, "stopped")
            await self.settled(workspace)
            await self.end(self.live(workspace), "stopped", workspace)
        finally:
            self._stopping[workspace] -= 1
        return len(sessions)

    async def kill(self, workspace: str, id: str) -> None:
        """End one session's program, whoever is attached. Raises NotFound, Failed."""
        session = self.find(workspace, id)
        session.killed = True
        await self.end([session], "killed")
        deadline = time.monotonic() + KEEPER_SECONDS
        while session.status is None:
            if time.monotonic() > deadline:
                raise Failed(
                    f"the program of session {id} does not end",
                    code="session.not_ended",
                    hint=f"see what process {session.pid} waits for",
                )
            await asyncio.sleep(0.01)

    async def settled(self, workspace: str, client: str | None = None) -> None:
        """Wait until every program that is being started (by this client) is a session or not."""
        starting = [
            waiting
            for (command, _), waiting in self._spawning.values()
            if command.meta["workspace"] == workspace and client in (None, command.meta["client"])
        ]
        if starting:
            await asyncio.wait(starting)

    async def made_by(self, workspace: str, client: str) -> Session | None:
        """The session that this client started, if it is still known."""
        await self.settled(workspace, client)
        for session in self.sessions.values():
            if session.workspace == workspace and session.meta["client"] == client:
                return session
        return None

    async def start_terminal(
        self,
        record: WorkspaceRecord,
        user: str,
        client: str,
        size: tuple[int, int],
        term: str,
        saved: Saved | None,
        notice: str | None = None,
    ) -> Session:
        """Start a login shell on a new PTY, with what `saved` has, below a notice.

        Raises LimitReached, Failed.
        """
        record = self.running(record.id)
        command, prepared = self._programs.shell(record, user, client, size, term, saved, notice)
        if saved:
            self._restored[command.id] = saved
        return await self._start(command, prepared)

    async def run(self, record: WorkspaceRecord, user: str, asked: Exec) -> Session:
        """Start a program for one client. Raises CommandNotFound, NotFound and the like."""
        return await self._start(*self._programs.named(self.running(record.id), user, asked))

    async def run_files(self, record: WorkspaceRecord, user: str, asked: Files) -> Session:
        """Start the gateway's own program for files in the workspace."""
        return await self._start(*self._programs.files(self.running(record.id), user, asked))

    async def _start(self, command: spawn.Command, prepared: spawn.Prepared) -> Session:
        waiting: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
        try:
            self._check_room(command)
            self._spawning[command.id] = (command, prepared), waiting
            self.tell_keeper(prepared.message, prepared.fds)
        except BaseException:
            prepared.abandon()
            raise
        finally:
            prepared.close_ends()
        return await asyncio.shield(waiting)

    def _check_room(self, command: spawn.Command) -> None:
        workspace = command.meta["workspace"]
        starting = len(self._spawning)
        if len(self.live(workspace)) + starting >= self.settings.max_sessions:
            raise LimitReached(
                f"workspace {workspace} has all sessions that it may: {self.settings.max_sessions}",
                code="limit.sessions",
                hint="end some, or raise the setting max_sessions",
            )
        if command.id in self.sessions or command.id in self._spawning:
            raise Conflict(f"{command.id} was started already", code="session.exists")

    def signal(self, session: Session, number: int) -> None:
        """Signal a running program's process group; of one that has ended, what it left behind."""
        if session.status is None:
            with suppress(ProcessLookupError):
                os.killpg(session.pid, number)
        else:
            processes.send(processes.left_by({session.id: session.pid}), number)

    async def end_idle_sessions(self, seconds: float) -> NoReturn:
        """End each terminal that had neither a client nor output for so long."""
        while True:
            await asyncio.sleep(min(seconds / 4, 60))
            idle = [
                one
                for one in self.sessions.values()
                if one.kind == "terminal" and not one.attachments and one.status is None
                if time.time() - one.last_active > seconds
            ]
            for session in idle:
                log.info("session_idle id=%s", session.id)
            if idle:
                await self.end(idle, None)

    def _belongs_elsewhere(self, terminal: Terminal) -> None:
        log.warning("session_taken id=%s: another bridge goes on with it", terminal.id)
        self.end_soon([terminal], "taken")

    def end_soon(self, sessions: list[Session], reason: str | None = None) -> None:
        """Hang up these sessions in the background."""
        task = asyncio.create_task(self.end(sessions, reason))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def end(
        self, sessions: list[Session], reason: str | None, workspace: str | None = None
    ) -> None:
        """Hang up, terminate, kill these sessions' processes, and a workspace's stray ones.

        Their clients hear the `reason`, one of an exit's.
        """
        roots = {one.pid for one in sessions if one.status is None}
        over = {one.id: one.pid for one in sessions if one.status is not None}
        for session in sessions:
            session.hung_up, session.reason = True, reason
            session.credit_changed()

        def find() -> set[int]:
            found = processes.members(roots)
            if over:
                found |= processes.left_by(over)
            if workspace is not None:
                strays = processes.members({self.keeper_pid}) - {self.keeper_pid, os.getpid()}
                found |= processes.marked(strays, "WORKSPACE_ID", {workspace})
            return found

        await asyncio.to_thread(processes.end, find)

    def end_for_good(self) -> None:
        """The keeper is gone: hang up everything that was its, then there is nothing left."""
        roots = {one.pid for one in self.sessions.values()}
        ids = {one.id: one.pid for one in self.sessions.values()}
        for session in list(self.sessions.values()):
            session.close()

        def find() -> set[int]:
            return processes.members(roots) | processes.left_by(ids)

        processes.end(find)
