"""A live program in the bridge: its output rings, its input, and the clients attached to it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from coditect_cli.errors import LimitReached
from coditect_cli.gateway.attachment import Attachment
from coditect_cli.gateway.inlet import Inlet
from coditect_cli.gateway.metrics import Metrics
from coditect_cli.gateway.ring import ACTIVE, HOLDER, SLOTS, Ring, TornRead
from coditect_cli.protocol.messages import WINDOW, Error, Exit, Message, Uncertain
from coditect_cli.sessions.session import NANOSECONDS, format_time

BATCH = 32  # reads of one program before the others get their turn
SHORT = 256  # bytes; a read as short as an echo has taken all there was
MARGIN = 65_536  # a ring's bytes that a waiting program leaves free


@dataclass
class Held:
    """What the keeper holds for one program; our copies of the descriptors by name."""

    id: str
    pid: int
    meta: dict[str, Any]
    fds: dict[str, int] = field(default_factory=dict)
    status: int | None = None


class Session:
    """What terminals and plain programs share. `changed` is called when it may be forgotten."""

    def __init__(self, held: Held, changed: Callable[[Session], None], metrics: Metrics) -> None:
        self.id = held.id
        self.pid = held.pid
        self.meta = held.meta
        self.fds = held.fds
        self.status = held.status
        self.rings = {name: Ring(held.fds[f"{name}-ring"]) for name in self.stream_names(held.fds)}
        first = next(iter(self.rings.values()))
        self.words = first.words
        self._first = first
        self.attachments: list[Attachment] = []
        self.outcome: Message | None = None
        self.awaited: str | None = None  # the lost client that may come back; "": any
        self._patience: asyncio.TimerHandle | None = None
        self._changed = changed
        self.metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._reading: set[str] = set()
        self._writing = False
        self.closed = False
        self.hung_up = False  # by us: it did not end of its own accord
        self.killed = False  # by its user: it is not to come back
        self.reason: str | None = None  # why we hung it up
        self.inlet = Inlet(first, held.fds["inlet-out"], held.fds["inlet-in"], self.input_target())

    @staticmethod
    def stream_names(fds: dict[str, int]) -> list[str]:
        """The streams of a program that holds these descriptors."""
        return [name for name in ("output", "stdout", "stderr") if f"{name}-ring" in fds]

    def input_target(self) -> int:
        """The descriptor that input goes to."""
        raise NotImplementedError

    def fill(self, name: str) -> int:
        """Read once from the program; BlockingIOError and EOFError as the ring raises them."""
        raise NotImplementedError

    def may_read(self, name: str) -> bool:
        """Whether the client that holds the credit has room for more output."""
        raise NotImplementedError

    def draw(self) -> tuple[bytes, bool]:
        """Bytes that draw the screen, and whether they are exact."""
        raise NotImplementedError

    def check_can_skip(self) -> None:
        """Raises SessionLost where a client must not miss a byte."""

    def ended_by_itself(self) -> None:
        """The program has ended: read what is left, then set `outcome`."""
        raise NotImplementedError

    def slot_of(self, client: str) -> int:
        """The word that counts this client's input. Raises LimitReached when all are in use."""
        if len(self.attachments) >= SLOTS - 1:
            raise LimitReached(
                f"session {self.id} has all clients that it may: {len(self.attachments)}",
                code="limit.clients",
                hint="detach some of them",
            )
        return self._first.slot_of(bytes.fromhex(client), time.time_ns())

    @property
    def is_live(self) -> bool:
        """Whether its program runs, or what that left behind still holds its pipes."""
        return self.status is None or self.outcome is None

    @property
    def workspace(self) -> str:
        return str(self.meta["workspace"])

    @property
    def kind(self) -> str:
        """`terminal`, which waits for its users, or `exec`, which ends with its client."""
        return str(self.meta["kind"])

    @property
    def started_at(self) -> float:
        return float(self.meta["startedAt"])

    @property
    def last_active(self) -> float:
        return max(self.started_at, self.words[ACTIVE] / 1000)

    def start(self) -> None:
        """Begin to read."""
        for name in self.rings:
            self.resume_reading(name)
        self.write()
        if self.status is not None:
            self.ended_by_itself()

    def recover(self, grace: float) -> None:
        """Take over from a killed bridge; the client that held the credit may come back.

        Any exec's may: it was perhaps about to come for the first time, and if not, it has to end.
        """
        self.inlet.recover()
        if self.words[HOLDER] or self.kind == "exec":
            self.await_client("", grace)

    def resume_reading(self, name: str) -> None:
        source = self.fds.get(self.source_of(name))
        if source is None or name in self._reading or self.closed:
            return
        if self.may_read(name):
            self._reading.add(name)
            self._loop.add_reader(source, self.read, name)

    def source_of(self, name: str) -> str:
        return name

    def pause_reading(self, name: str) -> None:
        if name in self._reading:
            self._reading.discard(name)
            self._loop.remove_reader(self.fds[self.source_of(name)])

    def read(self, name: str) -> None:
        """Read a batch, and wake whoever it is for."""
        before = self.rings[name].head
        try:
            for _ in range(BATCH):
                if not self.may_read(name):
                    self.pause_reading(name)
                    break
                got = self.fill(name)
                if not got and self.at_end_when_empty:
                    raise EOFError
                if 0 < got < SHORT:
                    break
        except BlockingIOError:
            pass
        except EOFError:
            self.pause_reading(name)
            self.source_ended(name)
            if self.closed:  # it was over, and nobody is left to hear of it
                return
        self.produced(name)
        for attachment in self.attachments:
            attachment.wake()
        self.words[ACTIVE] = int(time.time() * 1000)
        self.metrics.output_bytes += self.rings[name].head - before
        self.passed_on(name)

    at_end_when_empty: ClassVar[bool] = False

    def source_ended(self, name: str) -> None:
        """The program closed its end."""

    def produced(self, name: str) -> None:
        """New bytes are in a ring, and about to be sent."""

    def passed_on(self, name: str) -> None:
        """The clients have them, as far as they take them now."""

    def receive(self, attachment: Attachment, data: bytes) -> None:
        """Take input from a client."""
        self.metrics.input_bytes += len(data)
        self.inlet.put(attachment.slot, data)
        self.write()

    def write(self) -> None:
        """Give the program what it takes; go on when it can take more."""
        try:
            complete = self.inlet.pump()
        except OSError:
            self.input_refused()
            complete = True
        if complete and self._writing:
            self._loop.remove_writer(self.inlet.target)
            self._writing = False
        elif not complete and not self._writing:
            self._loop.add_writer(self.inlet.target, self.write)
            self._writing = True
        for attachment in self.attachments:
            attachment.input_taken(all_of_it=complete)
        self.input_written()

    def input_written(self) -> None:
        """Input may have been taken."""

    def input_refused(self) -> None:
        """The program no longer reads: what is queued counts as taken, nobody will read it."""
        self.inlet.discard()

    def attach(self, attachment: Attachment) -> None:
        """Join a client; a connection that it left behind is dropped for the new one."""
        left = [one for one in self.attachments if one.client == attachment.client]
        self.attachments.append(attachment)
        for old in left:
            old.detached = True
            old.wake()
            self.detach(old)
        if self.awaited in ("", attachment.client):
            self.awaited = None
        if uncertain := self.inlet.uncertain(attachment.slot):
            attachment.notify(Uncertain(*uncertain))

    def detach(self, attachment: Attachment, *, grace: float = 0) -> None:
        """Part with a client; with `grace` it was lost, and its program waits that long for it."""
        if attachment not in self.attachments:
            return
        self.attachments.remove(attachment)
        self.inlet.drop(attachment.slot)
        if grace:
            self.await_client(attachment.client, grace)
        self.credit_changed()
        self._changed(self)

    def await_client(self, client: str, grace: float) -> None:
        """Keep everything for this client ("": any) for so many seconds."""
        if self._patience is not None:
            self._patience.cancel()
        self.awaited = client
        self._patience = self._loop.call_later(grace, self.stop_waiting)

    def stop_waiting(self) -> None:
        """A lost client's time is over."""
        if self.awaited is not None and not self.closed:
            self.awaited = None
            self.words[HOLDER] = 0
            self.credit_changed()
            self._changed(self)

    def acknowledged(self, attachment: Attachment, name: str) -> None:
        """A client has more of the output."""
        self.resume_reading(name)

    def credit_changed(self) -> None:
        for name in self.rings:
            self.resume_reading(name)

    def within_credit(self, name: str, acked: int | None) -> bool:
        """Whether output may go on past what its client has acknowledged."""
        ring = self.rings[name]
        if acked is not None:
            return ring.head - acked < WINDOW
        return ring.head - max(0, self.words[HOLDER] - 1) < ring.size - MARGIN

    def exited(self, status: int) -> None:
        """The keeper says how the program ended; negative: by that signal."""
        self.status = status
        self.ended_by_itself()

    def set_outcome(self) -> None:
        """Everything was read: the clients may hear of the end."""
        if self.outcome is None and self.status is not None:
            status = self.status
            signal = -status if status < 0 else None
            self.outcome = Exit(128 + signal if signal else status, signal, self.reason)
            for attachment in self.attachments:
                attachment.wake()
            self._changed(self)

    def fail(self, error: TornRead) -> None:
        """The output is no longer whole: clients hear of it instead of an exit status."""
        self.outcome = Error("session.torn", 255, f"output was lost: {error}")

    def describe(self) -> dict[str, Any]:
        """The session as the `sessions` request shows it."""
        return {
            "workspace": self.workspace,
            "session": self.id,
            "kind": self.kind,
            "shell": self.meta["shell"],
            "pid": self.pid,
            "startedAt": format_time(nanoseconds(self.started_at)),
            "lastActive": format_time(nanoseconds(self.last_active)),
            "clients": len(self.attachments),
        }

    def close(self) -> None:
        """Let go of everything in this process; the keeper's copies stay."""
        if self._patience is not None:
            self._patience.cancel()  # it would keep us in memory till then
        for name in list(self._reading):
            self.pause_reading(name)
        if self._writing:
            self._loop.remove_writer(self.inlet.target)
            self._writing = False
        self.closed = True
        ring_fds = {ring.fd for ring in self.rings.values()}
        for ring in self.rings.values():
            ring.close()
        for fd in set(self.fds.values()) - ring_fds:
            os.close(fd)
        self.fds.clear()


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC, of seconds since the epoch."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def nanoseconds(seconds: float) -> int:
    """A time as records have it: to the millisecond."""
    return round(seconds * 1000) * (NANOSECONDS // 1000)
