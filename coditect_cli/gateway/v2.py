"""One connection that speaks `coditect.v2`: its first message, then both directions."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed

from coditect_cli import __version__
from coditect_cli.errors import CoditectError, Conflict, Forbidden, NotFound, TimedOut, UsageError
from coditect_cli.gateway.access import Admitted
from coditect_cli.gateway.attachment import Attachment
from coditect_cli.gateway.pipes import Pipes
from coditect_cli.gateway.session import Session, timestamp
from coditect_cli.gateway.terminal import Terminal
from coditect_cli.protocol import messages as m
from coditect_cli.protocol.handshake import V2
from coditect_cli.workspaces.spec import WorkspaceRecord

if TYPE_CHECKING:
    from coditect_cli.gateway.server import Connection, Server


FIRST_MESSAGE_SECONDS = 30


async def serve(server: Server, connection: Connection, admitted: Admitted) -> None:
    """Serve the connection until the attachment or the request is over."""
    try:
        first = m.parse_client(await _text(connection))
        if isinstance(first, m.Attach | m.Exec | m.Files):
            attachment = await _open(server, admitted, first)
            await _Attached(server, connection, attachment).run()
        else:
            answer = await _answer(server, admitted, first)
            await connection.send(m.encode(answer))
            await connection.close(m.CLOSE_DONE)
            await _afterwards(server, first)
    except CoditectError as error:
        with suppress(ConnectionClosed):
            await connection.send(m.encode(m.Error.of(error)))
        await connection.close(m.CLOSE_REFUSED, error.code)


async def say_goodbye(connection: Connection, reason: str, code: int) -> None:
    """Tell a client of the gateway's end, and hang up."""
    with suppress(ConnectionClosed):
        if connection.subprotocol == V2:
            await connection.send(m.encode(m.Drain(reason)))
        await connection.close(code, reason)


async def _text(connection: Connection) -> str:
    try:
        received = await asyncio.wait_for(connection.recv(), FIRST_MESSAGE_SECONDS)
    except TimeoutError:
        raise TimedOut("no first message came", code="message.missing") from None
    if not isinstance(received, str):
        raise UsageError("the first message must be a text frame", code="message.invalid")
    return received


async def _open(
    server: Server, admitted: Admitted, first: m.Attach | m.Exec | m.Files
) -> Attachment:
    """The session that the first message asks for, started where need be, and attached to."""
    if admitted.record is None:
        raise Forbidden("this token is for managing the gateway only", code="workspace.forbidden")
    server.bridge.running(admitted.record.id)
    if isinstance(first, m.Attach):
        return await _open_terminal(server, admitted.record, admitted.user, first)
    session = await server.bridge.made_by(admitted.record.id, first.client)
    created = session is None
    if session is None:
        if first.resume is not None:
            raise NotFound(
                "the program is no longer known to this gateway", code="session.not_found"
            )
        if isinstance(first, m.Exec):
            session = await server.bridge.run(admitted.record, admitted.user, first)
        else:
            session = await server.bridge.run_files(admitted.record, admitted.user, first)
    tty = first.tty if isinstance(first, m.Exec) else None
    size = (tty["cols"], tty["rows"]) if tty else (80, 24)
    attachment = Attachment(session, first.client, size=size)
    attachment.begin({} if created or first.resume is None else first.resume)
    attachment.notify(_started(session, attachment))
    session.attach(attachment)
    return attachment


async def _open_terminal(
    server: Server, record: WorkspaceRecord, user: str, first: m.Attach
) -> Attachment:
    size = (first.cols, first.rows)
    session: Session
    if first.read_only and first.session not in (None, "new"):
        session, created = server.restoring.live(record, str(first.session)), False
    else:
        session, created = await server.restoring.open(
            record,
            user,
            first.client,
            size,
            first.term,
            first.session,
            resumes=first.resume is not None,
        )
    attachment = Attachment(session, first.client, size=size, read_only=first.read_only)
    if created:
        attachment.begin({})
    elif first.resume is not None:
        attachment.begin(first.resume)
    else:
        attachment.begin_with_screen()
    session.attach(attachment)
    attachment.notices.appendleft(_attached(session, attachment, created))
    return attachment


def _attached(session: Session, attachment: Attachment, created: bool) -> m.Attached:
    if not isinstance(session, Terminal):
        raise TypeError(session)
    cols, rows = session.size
    return m.Attached(
        session=session.id,
        created=created,
        input=attachment.input,
        output=attachment.sent["output"],
        window=m.WINDOW,
        cols=cols,
        rows=rows,
        lead=session.lead is attachment,
        pid=session.pid,
        version=__version__,
    )


def _started(session: Session, attachment: Attachment) -> m.Started:
    return m.Started(
        session.id, attachment.input, m.WINDOW, session.pid, __version__, **attachment.sent
    )


class _Attached:
    """Both directions of one attachment."""

    def __init__(self, server: Server, connection: Connection, attachment: Attachment) -> None:
        self.server = server
        self.connection = connection
        self.attachment = attachment
        self.session = attachment.session

    async def run(self) -> None:
        """Send and receive until the client leaves, is lost, or has heard of the end."""
        sending = asyncio.create_task(self.send())
        receiving = asyncio.create_task(self.receive())
        try:
            done, _ = await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            sending.cancel()
            receiving.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)
            over = self.attachment.done or self.attachment.detached
            grace = 0 if over else self.server.bridge.grace(self.session)
            self.session.detach(self.attachment, grace=grace)
        await self.connection.close(m.CLOSE_DONE)

    async def send(self) -> None:
        attachment, connection = self.attachment, self.connection
        attachment.send_now = connection.send_now
        while not attachment.detached:
            item = attachment.take()
            if item is None:
                await attachment.wait()
            elif isinstance(item, bytes):
                await connection.send_bytes(item)
            else:
                await connection.send(m.encode(item))
                if isinstance(item, m.Redraw):
                    await connection.send(attachment.drawing)
                elif isinstance(item, m.Error):
                    attachment.done = True
                    return

    async def receive(self) -> None:
        self.connection.take_key = self.take_key
        async for received in self.connection:
            if isinstance(received, bytes):
                if self.attachment.read_only:
                    raise Forbidden("this client attached read-only", code="attach.read_only")
                self.take_input(received)
            else:
                self.control(m.parse_client(received))
            if self.attachment.done or self.attachment.detached:
                return

    def take_key(self, data: bytes) -> bool:
        """Take input where nothing is to be said about it."""
        attachment = self.attachment
        over = attachment.done or attachment.detached
        if over or attachment.read_only or attachment.received != attachment.input:
            return False
        attachment.received += len(data)
        self.session.receive(attachment, data)
        return True

    def take_input(self, data: bytes) -> None:
        """Queue input; a client that ignores the window is not let fill our memory."""
        attachment = self.attachment
        attachment.received += len(data)
        if attachment.received - attachment.input > m.WINDOW:
            raise UsageError(
                f"more than {m.WINDOW} bytes of input were sent past the last ack",
                code="input.window",
                hint="see docs/protocol.md",
            )
        self.session.receive(attachment, data)

    def control(self, message: m.Message) -> None:
        """Act on one control message."""
        session, attachment = self.session, self.attachment
        if isinstance(message, m.Ack):
            attachment.acknowledge(message.stream, message.offset)
        elif isinstance(message, m.Resize) and isinstance(session, Terminal):
            session.resize(attachment, message.cols, message.rows)
        elif isinstance(message, m.Refresh) and isinstance(session, Terminal):
            attachment.redraw = True
            attachment.wake()
        elif isinstance(message, m.Eof) and isinstance(session, Pipes):
            session.end_input(message.offset)
        elif isinstance(message, m.Signal) and session.kind == "exec":
            self.server.bridge.signal(session, signal.Signals["SIG" + message.signal])
        elif isinstance(message, m.Detach):
            attachment.detached = True
        elif isinstance(message, m.Done):
            attachment.done = True
        else:
            raise UsageError(f"{message.type} is not for this session", code="message.invalid")


async def _answer(server: Server, admitted: Admitted, message: m.Message) -> m.Message:
    record = admitted.record
    if isinstance(message, m.Status | m.Gateway):
        if record is not None:
            raise Forbidden(
                "managing the gateway needs a token of its own", code="gateway.forbidden"
            )
        if isinstance(message, m.Status):
            return _status(server)
        return await _check_gateway(server, message)
    if isinstance(message, m.Sessions):
        return session_list(server, admitted)
    if record is None:
        raise Forbidden("this token is for managing the gateway only", code="workspace.forbidden")
    if isinstance(message, m.Read):
        return await server.bridge.saving.rows(record.id, message)
    if isinstance(message, m.Kill):
        await server.bridge.kill(record.id, message.session)
        return m.Killed(message.session)
    if isinstance(message, m.Stop):
        count = await server.bridge.stop(record.id, force=message.force)
        found = await server.bridge.saving.save(record.id)
        return m.Stopped(count, tuple(one.describe() for one in found))
    raise UsageError(f"{message.type} is not a first message", code="message.invalid")


def session_list(server: Server, admitted: Admitted) -> m.SessionList:
    """The live sessions that a connection may know of."""
    workspace = None if admitted.record is None else admitted.record.id
    why = {one.session: one.reason.message for one in server.bridge.saving.unsaved(workspace)}
    live = server.bridge.live(workspace)
    return m.SessionList(tuple({**one.describe(), "notSaved": why.get(one.id)} for one in live))


def _status(server: Server) -> m.GatewayStatus:
    bridge = server.bridge
    return m.GatewayStatus(
        role=server.role,
        version=__version__,
        keeper_pid=bridge.keeper_pid,
        bridge_pid=os.getpid(),
        sessions=len(bridge.live(None)),
        connections=server.limits.connections - 1,  # without the one that asks
        started_at=timestamp(bridge.started_at),
        listen=tuple(bridge.listeners),
        log=server.log_path,
        not_saved=tuple(one.describe() for one in bridge.saving.unsaved()),
    )


async def _check_gateway(server: Server, message: m.Gateway) -> m.Accepted:
    saving, live = server.bridge.saving, server.bridge.live(None)
    found = await saving.save_or_refuse(None, force=message.force)
    if message.action == "stop" and live and not message.force:
        raise Conflict(
            f"the gateway has live sessions, which would end with it: {len(live)}",
            code="gateway.in_use",
            hint="coditect gateway restart keeps them; --force ends them",
        )
    if message.action == "restart":
        await server.bridge.prepare_restart()
    return m.Accepted(message.action, tuple(one.describe() for one in found))


async def _afterwards(server: Server, message: m.Message) -> None:
    if isinstance(message, m.Gateway):
        server.bridge.on_drain(message.action)
