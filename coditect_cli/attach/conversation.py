"""One attachment without a person: types, and waits for what should come back."""

from __future__ import annotations

import secrets
import select
import time
from collections.abc import Callable
from typing import Any, Self

from coditect_cli.attach.link import Link
from coditect_cli.errors import Failed, from_dict
from coditect_cli.protocol import messages
from coditect_cli.protocol.messages import Message
from coditect_cli.protocol.shape import json_object
from coditect_cli.protocol.stream import Inbox

TERMINAL: dict[str, Any] = {"cols": 80, "rows": 24, "term": "xterm-256color"}
TIMEOUT = 10.0  # seconds for something to come


class Conversation:
    """A link with an attachment on it; `output` is what has come and was not taken yet."""

    def __init__(self, link: Link, opening: Message) -> None:
        self.output = bytearray()
        self.exited = False
        self.session = ""
        self._link = link
        self._inbox = Inbox()
        self.tell(opening)
        self._until(lambda: bool(self.session), "an answer")

    @classmethod
    def attach(cls, link: Link, session: str = "new") -> Self:
        """Join a terminal session: a new one, or the one of this id."""
        client = secrets.token_hex(16)
        opening = messages.Attach(client, session, read_only=False, resume=None, **TERMINAL)
        return cls(link, opening)

    @classmethod
    def run(cls, link: Link, argv: tuple[str, ...]) -> Self:
        """Run a program on a terminal of its own."""
        client = secrets.token_hex(16)
        return cls(link, messages.Exec(client, argv, {}, None, True, TERMINAL, None))

    def tell(self, message: Message) -> None:
        """Send a control message."""
        self._link.send(messages.encode(message))

    def type(self, data: bytes) -> None:
        """Send input."""
        self._link.send(data)

    def expect(self, wanted: bytes) -> bytes:
        """Wait for `wanted`; takes the output up to its end. Raises Failed when it never comes."""
        self._until(lambda: wanted in self.output, repr(wanted.decode(errors="replace")))
        end = self.output.index(wanted) + len(wanted)
        taken = bytes(self.output[:end])
        del self.output[:end]
        return taken

    def end(self) -> None:
        """End the program that `run` started; all that it wrote is in `output` then."""
        if not self.exited:
            self.tell(messages.Signal("KILL"))
        self._until(lambda: self.exited, "the end of the program")
        self.tell(messages.Done())

    def close(self) -> None:
        """Leave; the session of a terminal goes on."""
        self._link.close()

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0 or self.exited:
                raise Failed(
                    f"{what} did not come {'before the end' if self.exited else 'in time'}",
                    code="gateway.no_echo",
                    hint="coditect gateway logs may say why",
                )
            self._receive(left)

    def _receive(self, patience: float) -> None:
        writers = [self._link.fd] if self._link.unsent else []
        readable, writable, _ = select.select([self._link.fd], writers, [], patience)
        if writable:
            self._link.flush()
        if not (readable or self._link.pending()):
            return
        for received in self._link.receive():
            if isinstance(received, str):
                self._handle(json_object(received))
                continue
            self.output += received
            self._inbox.receive(len(received))
            self._inbox.wrote(len(received))
        offset = self._inbox.ack(messages.WINDOW // 4)
        if offset is not None:
            self.tell(messages.Ack("output", offset))

    def _handle(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        if kind in ("attached", "started"):
            self.session = message["session"]
            self._inbox.start(message.get("output") or 0)
        elif kind == "exit":
            self.exited = True
        elif kind == "error":
            raise from_dict(message)
