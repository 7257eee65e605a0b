"""The client's loop: one attachment's bytes, both ways, over as many links as it takes."""

from __future__ import annotations

import logging
import secrets
import select
import time
from collections.abc import Callable
from typing import Protocol

from coditect_cli.attach import ending
from coditect_cli.attach.dialer import Dialer
from coditect_cli.attach.link import Link, LinkLost
from coditect_cli.attach.wakeups import Wakeups
from coditect_cli.errors import CoditectError, Failed, Unreachable, from_dict
from coditect_cli.protocol import messages
from coditect_cli.protocol.messages import Message
from coditect_cli.protocol.shape import json_object
from coditect_cli.protocol.stream import Inbox, Outbox

log = logging.getLogger("coditect.session")

FRAME = 64 * 1024  # bytes of input in one message
UNSENT_LIMIT = 256 * 1024  # bytes that may wait for the network
PING_AFTER = 15.0  # seconds of silence
DEAD_AFTER = 45.0
FINISH_WITHIN = 1.0  # seconds
GONE_AFTER = 3.0  # seconds without a local gateway: its keeper, and so its sessions, are gone


class Output(Protocol):
    """Where a stream's bytes go; see `Sink`."""

    @property
    def waiting(self) -> bool: ...
    def fileno(self) -> int: ...
    def write(self, data: bytes, inbox: Inbox | None = None) -> None: ...
    def flush(self) -> None: ...
    def drop(self) -> None: ...


class Pump:
    """Sends `opening` on each new link, resumes, counts, acknowledges, keeps the link alive.

    Subclasses say where input comes from and what a person is told. `patience` is how many
    seconds without a link are borne: None for ever, 0 for not at all.
    """

    def __init__(
        self, dial: Callable[[], Link], outputs: dict[str, Output], patience: float | None
    ) -> None:
        self.client = secrets.token_hex(16)
        self.session: str | None = None
        self.link: Link | None = None
        self.outbox = Outbox()
        self.inboxes = {name: Inbox() for name in outputs}
        self.window = messages.WINDOW
        self.status: int | None = None
        self.lost_at = 0.0
        self._dial = dial
        self._dialer = Dialer(dial)
        self._outputs = outputs
        self._sinks = list(outputs.values())
        self._patience = patience
        self._stream = next(iter(outputs))
        self._open = False  # the gateway has answered `opening` on this link
        self._redraw: messages.Redraw | None = None
        self._pinged = 0.0
        self._look_at = 0.0  # when it is time to see whether the link is alive

    def opening(self, resume: dict[str, int] | None) -> Message:
        """The first message on a link."""
        raise NotImplementedError

    def source(self) -> int | None:
        """The descriptor to read input from now."""
        return None

    def on_readable(self) -> None:
        """The `source` can be read."""

    def on_signal(self, number: int) -> None:
        """A signal of `signals` came."""

    def on_open(self, resumed: bool) -> None:
        """A link is open and the gateway has answered."""

    def on_lost(self) -> None:
        """The link was lost, and a new one is on its way."""

    def on_redraw(self, redraw: messages.Redraw) -> None:
        """A redraw is about to be drawn."""

    def on_uncertain(self, message: messages.Uncertain) -> None:
        """Some input may or may not have reached the program."""

    def on_end(self, reason: str | None) -> None:
        """The program has ended; `reason` says why where it was made to."""

    def on_leaving(self) -> None:
        """The link is about to be closed, whatever the reason; raises nothing."""

    def on_output(self, data: bytes) -> None:
        """These bytes go to the terminal."""

    def on_tick(self) -> float | None:
        """Do what is due by time; the seconds until the next thing is, or None."""
        return None

    def way_back(self) -> str | None:
        """What to do when the gateway has ended."""
        return f"coditect attach {self._workspace} restores the session as it was saved"

    def on_broken_output(self, output: Output) -> None:
        """Nobody reads `output` any more."""
        raise BrokenPipeError

    def run(self, link: Link, wakeups: Wakeups) -> int:
        """Serve until the program has ended; returns its exit status.

        Raises the gateway's error when it refuses, SessionLost when the session is lost.
        """
        try:
            self._begin(link)
            while self.status is None or any(sink.waiting for sink in self._sinks):
                self._turn(wakeups)
            self.tell(messages.Done())
            self.finish()
            return self.status
        finally:
            self.on_leaving()
            if self.link is not None:
                self.link.close()
            self._dialer.close()

    def tell(self, message: Message) -> None:
        """Send a control message; without a link it is not sent."""
        if self.link is not None:
            self._guard(self.link.send, messages.encode(message))

    def finish(self) -> None:
        """Wait a moment until the gateway has taken the last message and closed the link.

        Closing at once could make the network throw away what we sent.
        """
        deadline = time.monotonic() + FINISH_WITHIN
        try:
            while self.link is not None and (left := deadline - time.monotonic()) > 0:
                if self.link.pending() or select.select([self.link.fd], [], [], left)[0]:
                    self.link.receive()
        except LinkLost:
            pass

    @property
    def connected(self) -> bool:
        """Whether the gateway answers on an open link."""
        return self.link is not None and self._open

    def _turn(self, wakeups: Wakeups) -> None:
        """Wait until there is something to do, and do it; a key takes two turns of this."""
        wait = self._due()
        link, source = self.link, self.source()
        far = self._dialer.fileno() if link is None else link.fd
        readers = [wakeups.fd, far]
        if source is not None:
            readers.append(source)
        writers = [link.fd] if link is not None and link.unsent else []
        for sink in self._sinks:
            if sink.waiting:
                writers.append(sink.fileno())
        ready, writable, _ = select.select(readers, writers, [], wait)
        if wakeups.fd in ready:
            for number in wakeups.read():
                self.on_signal(number)
        if link is not None and far in ready:
            self._receive(link)
        if source in ready:
            self.on_readable()
        if self.outbox.sent < self.outbox.end:
            self._send_input()
        if writable:
            self._flush(far in writable)
        if writable or far in ready:
            self._acknowledge()

    def _due(self) -> float | None:
        """Do what is due by time; the seconds until the next thing is, or None."""
        due = self.on_tick()
        if self.status is not None:
            return due
        if self.link is None:
            self._reconnect()
        now = time.monotonic()
        if self.link is not None and now >= self._look_at:
            self._keep_alive(self.link, now)
        if self.link is not None:
            look = max(0.0, self._look_at - now)
            return look if due is None or look < due else due
        waits = [due, self._dialer.wait()]
        if self._patience is not None:
            waits.append(max(0.0, self.lost_at + self._patience - now))
        return min((wait for wait in waits if wait is not None), default=None)

    def _keep_alive(self, link: Link, now: float) -> None:
        if now - link.heard >= DEAD_AFTER:
            self._lose(LinkLost(1006, f"nothing heard for {DEAD_AFTER:g} s"))
        elif now - max(link.heard, self._pinged) >= PING_AFTER:
            self.ping()
        self._look_at = max(link.heard, self._pinged) + PING_AFTER

    def ping(self) -> None:
        """Measure the round trip; see `Link.rtt`."""
        if self.link is not None:
            self._pinged = time.monotonic()
            self._guard(self.link.ping)

    def _begin(self, link: Link) -> None:
        self.link = link
        self._workspace = link.workspace_id
        self._open = False
        self._redraw = None
        self._stream = next(iter(self._outputs))
        resume = None
        if self.session is not None:
            resume = {name: inbox.received for name, inbox in self.inboxes.items()}
        self.tell(self.opening(resume))
        if link.pending():
            self._receive(link)

    def _reconnect(self) -> None:
        if self._patience is not None and time.monotonic() >= self.lost_at + self._patience:
            raise ending.not_back_within(self._patience)
        outcome = self._dialer.advance()
        if isinstance(outcome, Link):
            self._begin(outcome)
        elif outcome is not None:
            self._weigh(outcome)

    def _weigh(self, error: CoditectError) -> None:
        """Go on trying after `error`, or give up."""
        if error.code == "gateway.not_running" and time.monotonic() > self.lost_at + GONE_AFTER:
            raise ending.gateway_gone(self.way_back()) from error
        if not error.retryable and not isinstance(error, Unreachable):
            raise self._ended_by(error) from error

    def _ended_by(self, error: CoditectError) -> CoditectError:
        return ending.by_refusal(error, self._workspace, joined=self.session is not None)

    def _guard(self, action: Callable[..., None], *args: object) -> None:
        try:
            action(*args)
        except LinkLost as lost:
            self._lose(lost)

    def _lose(self, lost: LinkLost) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None
        self._open = False
        if self.status is not None:
            return
        log.info("link_lost close_code=%d", lost.close_code)
        joined = self.session is not None
        if end := ending.by_close(lost.close_code, joined=joined, way_back=self.way_back()):
            raise end
        if self._patience == 0:
            raise lost
        if self.lost_at == 0.0:
            self.lost_at = time.monotonic()
            self.on_lost()

    def _receive(self, link: Link) -> None:
        """Take all that has come, also what a select on the link would not show again."""
        while self.link is link:
            try:
                received = link.receive()
            except LinkLost as lost:
                self._lose(lost)
                return
            for item in received:
                if isinstance(item, bytes):
                    self._take_bytes(item)
                else:
                    self._handle(self._parse(item))
                if self.link is not link:
                    return
            if not link.pending():
                return

    def _parse(self, text: str) -> Message | None:
        if json_object(text).get("type") not in messages.FROM_GATEWAY:
            return None  # from a later release
        return messages.parse_gateway(text)

    def _take_bytes(self, data: bytes) -> None:
        output = self._outputs[self._stream]
        if self._redraw is not None:
            self.inboxes["output"].start(self._redraw.offset)
            self._redraw = None
            inbox = None
        else:
            inbox = self.inboxes[self._stream]
            inbox.receive(len(data))
        self.on_output(data)
        try:
            output.write(data, inbox)
        except BrokenPipeError:
            self.on_broken_output(output)

    def _handle(self, message: Message | None) -> None:
        match message:
            case messages.Attached() | messages.Started():
                self._opened(message)
            case messages.Ack(offset=offset):
                self.outbox.ack(offset)
            case messages.Stream(stream=stream):
                self._switch(stream)
            case messages.Redraw():
                self.on_redraw(message)
                self._redraw = message if message.bytes else None
                if not message.bytes:
                    self.inboxes["output"].start(message.offset)
            case messages.Uncertain():
                self.on_uncertain(message)
            case messages.Exit(status=status, reason=reason):
                self.status = status
                self.on_end(reason)
            case messages.Drain(reason="stop"):
                raise ending.gateway_stopped(self.way_back())
            case messages.Error():
                self._refused(message)

    def _switch(self, stream: str) -> None:
        if stream not in self._outputs:
            raise Failed(f"the gateway sends {stream} where none is", code="protocol.violation")
        self._stream = stream

    def _opened(self, message: messages.Attached | messages.Started) -> None:
        resumed = self.session is not None
        self.session = message.session
        log.info("%s session=%s", "resumed" if resumed else "joined", self.session)
        self.window = message.window
        if resumed and isinstance(message, messages.Attached) and message.created:
            self.outbox.restart()  # another shell, restored: what was typed was for the old one
        self.outbox.rewind(message.input)
        for name, inbox in self.inboxes.items():
            inbox.start(getattr(message, name) or 0)
        self._open = True
        self.lost_at = 0.0
        self._dialer.reset()
        self.on_open(resumed)

    def _refused(self, message: messages.Error) -> None:
        error = from_dict(
            {
                "code": message.code,
                "exitCode": message.exit_code,
                "message": message.message,
                "hint": message.hint,
                "retryable": message.retryable,
            }
        )
        if not (message.retryable and self.session is not None and self._patience != 0):
            raise self._ended_by(error)
        self._lose(LinkLost(1006, message.message))

    def _flush(self, link: bool) -> None:
        if link and self.link is not None:
            self._guard(self.link.flush)
        for output in self._sinks:
            try:
                if output.waiting:
                    output.flush()
            except BrokenPipeError:
                self.on_broken_output(output)

    def _send_input(self) -> None:
        outbox = self.outbox
        while outbox.sent < outbox.end and self.link is not None and self._open:
            room = len(self.link.unsent) < UNSENT_LIMIT
            data = outbox.take(self.window, FRAME) if room else b""
            if not data:
                return
            self._guard(self.link.send, data)

    def _acknowledge(self) -> None:
        if self.link is None or not self._open:
            return
        for name, inbox in self.inboxes.items():
            offset = inbox.ack(self.window // 4)
            if offset is not None:
                self.tell(messages.Ack(name, offset))
