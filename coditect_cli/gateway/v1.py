"""One connection that speaks `coditect.v1+json`: terminals, and the files of its workspace."""

from __future__ import annotations

import asyncio
import codecs
import json
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from coditect_cli.errors import (
    CoditectError,
    Failed,
    Forbidden,
    LimitReached,
    NotFound,
    UsageError,
    from_dict,
)
from coditect_cli.gateway.access import Admitted
from coditect_cli.gateway.attachment import Attachment
from coditect_cli.gateway.pipes import Pipes
from coditect_cli.gateway.restoring import NEW
from coditect_cli.gateway.terminal import Terminal
from coditect_cli.protocol import gateway_message as g
from coditect_cli.protocol import messages as m
from coditect_cli.workspaces.spec import WorkspaceRecord

if TYPE_CHECKING:
    from coditect_cli.gateway.server import Server

MOST_BAD = 10  # messages in a row
MOST_QUEUED = 4_194_304  # bytes of input that wait for a program
MOST_FILES = 16  # file operations that wait for their turn
TERM = "xterm-256color"
SIZE = (80, 24)
OPERATIONS = {
    g.FileRead: "read",
    g.FileWrite: "write",
    g.FileList: "list",
    g.FileDelete: "remove",
    g.FileMkdir: "mkdir",
}


async def serve(server: Server, connection: ServerConnection, admitted: Admitted) -> None:
    """Serve the connection until it is closed."""
    try:
        record = _workspace(admitted)
        server.bridge.running(record.id)
    except CoditectError as error:
        await connection.send(g.encode(g.Error.of(error)))
        await connection.close(m.CLOSE_REFUSED, error.code)
        return
    async with asyncio.TaskGroup() as group:
        await _Client(server, connection, admitted.user, record, group).run()


def _workspace(admitted: Admitted) -> WorkspaceRecord:
    record = admitted.record
    if record is None:
        raise Forbidden("this token is for managing the gateway only", code="workspace.forbidden")
    return record


class _Client:
    """What one connection asked for. No task of it raises ConnectionClosed: none cuts another."""

    def __init__(
        self,
        server: Server,
        connection: ServerConnection,
        user: str,
        record: WorkspaceRecord,
        group: asyncio.TaskGroup,
    ) -> None:
        self.bridge = server.bridge
        self.restoring = server.restoring
        self.connection = connection
        self.user = user
        self.record = record
        self.group = group
        self.views: dict[str, _View] = {}
        self.current: str | None = None  # the session meant by a message that names none
        self.bad = 0
        self.operations: asyncio.Queue[g.FileOperation | None] = asyncio.Queue()

    async def run(self) -> None:
        """Receive until the connection is closed; what was asked of files by then is done."""
        self.group.create_task(self.work_on_files())
        self.group.create_task(self.leave_when_closed())
        try:
            while True:
                await self.handle(await self.connection.recv())
        except ConnectionClosed:
            pass
        finally:
            self.leave()
            self.operations.put_nowait(None)

    async def leave_when_closed(self) -> None:
        """A lost connection also ends the wait for a program that takes no input."""
        await self.connection.wait_closed()
        self.leave()

    def leave(self) -> None:
        """Part with every session; each goes on."""
        for view in self.views.values():
            view.leave()

    async def handle(self, received: str | bytes) -> None:
        """Act on one frame, or answer it with an error."""
        try:
            message = g.parse_client(received)
        except UsageError as error:
            await self.send(g.Error.of(error))
            self.bad += 1
            if self.bad == MOST_BAD:
                await self.connection.close(m.CLOSE_REFUSED, error.code)
            return
        self.bad = 0
        try:
            await self.act(message)
        except CoditectError as error:
            await self.send(g.Error.of(error, message))

    async def send(self, message: g.GatewayMessage) -> None:
        await self.connection.send(g.encode(message))

    async def act(self, message: g.GatewayMessage) -> None:
        """Do what one message asks for."""
        if isinstance(message, g.Create):
            await self.create(message)
        elif isinstance(message, g.Input):
            view = await self.view(message.session_id)
            await view.take(message.data.encode())
        elif isinstance(message, g.Resize):
            view = await self.view(message.session_id)
            view.session.resize(view.attachment, message.cols, message.rows)
        elif isinstance(message, g.Close):
            self.bridge.end_soon([self.to_close(message.session_id)])
        elif isinstance(message, g.Ping):
            await self.send(g.Pong())
        elif isinstance(message, g.FileOperation):
            if self.operations.qsize() >= MOST_FILES:
                raise LimitReached(
                    f"{MOST_FILES} file operations are waiting already", code="limit.files"
                )
            self.operations.put_nowait(message)

    async def create(self, message: g.Create) -> None:
        """Make a terminal, or attach to the one that is named."""
        wanted = message.session_id or NEW
        if message.cols is None or message.rows is None:
            await self.attach(wanted)
        else:
            view = await self.attach(wanted, (message.cols, message.rows))
            view.session.resize(view.attachment, message.cols, message.rows)

    async def view(self, session_id: str | None) -> _View:
        """The terminal that a message means: by name, the current one, else that of an attach."""
        wanted = session_id or self.current
        if view := self.views.get(wanted or ""):
            return view
        if session_id is None and self.current is not None:
            self.restoring.live(self.record, self.current)  # what has ended is not begun again
        return await self.attach(wanted)

    def to_close(self, session_id: str | None) -> Terminal:
        wanted = session_id or self.current
        if wanted is None:
            raise NotFound("this connection has no terminal yet", code="session.not_found")
        return self.restoring.live(self.record, wanted)

    async def attach(self, wanted: str | None, size: tuple[int, int] | None = None) -> _View:
        """This connection's view of a session, which `wanted` means as Restoring.open has it."""
        id = uuid.uuid4().hex
        session, created = await self.restoring.open(
            self.record, self.user, id, size or SIZE, TERM, wanted
        )
        if session.id in self.views:
            self.current = session.id
            await self.send(g.Connected(session.id))
            return self.views[session.id]
        attachment = Attachment(session, id, size=size or session.size, acknowledges=False)
        if created:
            attachment.begin({})
        else:
            attachment.begin_with_screen()
        session.attach(attachment)
        view = self.views[session.id] = _View(self.connection, session, attachment)
        self.current = session.id
        await self.send(g.Connected(session.id))
        self.group.create_task(self.show(view))
        return view

    async def show(self, view: _View) -> None:
        """Send a session's output until it ends or the connection does."""
        with suppress(ConnectionClosed):
            await view.run()
        view.leave()
        self.views.pop(view.session.id, None)

    async def work_on_files(self) -> None:
        """One file operation after the other, in their order, while terminals go on."""
        while (message := await self.operations.get()) is not None:
            answer: g.GatewayMessage
            try:
                answer = await self.operate(message)
            except CoditectError as error:
                answer = g.Error.of(error, message)
            with suppress(ConnectionClosed):
                await self.send(answer)

    async def operate(self, message: g.FileOperation) -> g.GatewayMessage:
        """Run the workspace's program for files; what it printed becomes the answer."""
        path, data = message.path, b""
        if isinstance(message, g.FileWrite):
            data = g.content_bytes(message.content, message.encoding)
            if len(data) > g.LARGEST_FILE:
                raise _too_large(f"the content of {path}")
        files = m.Files(uuid.uuid4().hex, OPERATIONS[type(message)], path, None)
        program = await self.bridge.run_files(self.record, self.user, files)
        attachment = Attachment(program, files.client, acknowledges=False)
        attachment.begin({})
        program.attach(attachment)
        try:
            if isinstance(program, Pipes):
                program.receive(attachment, data)
                program.end_input(len(data))
            printed = await _printed(attachment, path)
        finally:
            program.detach(attachment)
        if isinstance(message, g.FileRead):
            return g.FileContent.of(path, printed)
        if isinstance(message, g.FileWrite):
            return g.FileWritten(path, len(data))
        if isinstance(message, g.FileList):
            return g.FileEntries(path, tuple(_nameable(item) for item in json.loads(printed)))
        return g.FileDeleted(path) if isinstance(message, g.FileDelete) else g.FileCreated(path)


class _View:
    """One session as a connection sees it: its output as text, its input held back at a limit."""

    def __init__(
        self, connection: ServerConnection, session: Terminal, attachment: Attachment
    ) -> None:
        self.connection = connection
        self.session = session
        self.attachment = attachment
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._sent = attachment.input
        self._taken = asyncio.Event()

    async def run(self) -> None:
        """Send output until the program has ended."""
        attachment, id = self.attachment, self.session.id
        while not attachment.detached:
            item = attachment.take()
            if item is None:
                await attachment.wait()
            elif isinstance(item, bytes):
                await self.output(self._decoder.decode(item))
                attachment.delivered()
            elif isinstance(item, m.Redraw):
                await self.output(self.drawing(item.offset), item.skipped)
            elif isinstance(item, m.Ack):
                self._taken.set()
            elif isinstance(item, m.Exit):
                await self.output(self._decoder.decode(b"", final=True))
                await self.connection.send(g.encode(g.Closed(id, item.status)))
                return

    async def output(self, text: str, skipped: int = 0) -> None:
        if text:
            await self.connection.send(g.encode(g.Output(text, self.session.id, skipped)))

    def drawing(self, offset: int) -> str:
        """The screen's drawing; the decoder then goes on at `offset`, inside a character or not."""
        self._decoder.reset()
        text = self._decoder.decode(self.attachment.drawing, final=True)
        before = max(self.session.ring.tail, offset - 3)
        self._decoder.decode(self.session.ring.read(before, offset - before))
        return text

    async def take(self, data: bytes) -> None:
        """Give the program its input; wait while it leaves too much of it."""
        self._sent += len(data)
        self.session.receive(self.attachment, data)
        while not self.attachment.detached and self._sent - self.attachment.input > MOST_QUEUED:
            self._taken.clear()
            await self._taken.wait()

    def leave(self) -> None:
        """Part with the session, which goes on."""
        self.attachment.detached = True
        self.attachment.wake()
        self._taken.set()
        self.session.detach(self.attachment)


async def _printed(attachment: Attachment, path: str) -> bytes:
    """All that a file program prints. Raises the error that it reports, or LimitReached."""
    printed = {"stdout": bytearray(), "stderr": bytearray()}
    stream = "stdout"
    while True:
        item = attachment.take()
        if item is None:
            await attachment.wait()
        elif isinstance(item, bytes):
            printed[stream] += item
            attachment.delivered()
            if len(printed[stream]) > g.LARGEST_FILE:
                raise _too_large(path)
        elif isinstance(item, m.Stream):
            stream = item.stream
        elif isinstance(item, m.Exit) and item.status == 0:
            return bytes(printed["stdout"])
        elif isinstance(item, m.Exit | m.Error):
            raise _reported(bytes(printed["stderr"]))


def _reported(stderr: bytes) -> CoditectError:
    with suppress(ValueError, IndexError):
        found = json.loads(stderr.splitlines()[-1])
        if isinstance(found, dict):
            return from_dict(found)
    return Failed("the file operation failed", code="file.failed", hint="see the gateway's log")


def _too_large(what: str) -> LimitReached:
    return LimitReached(
        f"{what} is larger than {g.LARGEST_FILE} bytes, the most that a message carries",
        code="file.too_large",
        hint="use coditect cp",
    )


def _nameable(item: dict[str, Any]) -> dict[str, Any]:
    """An entry whose name is text: bytes that are not UTF-8 become U+FFFD."""
    name = item["name"].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return {**item, "name": name}
