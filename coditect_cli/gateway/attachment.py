"""One client on one session: what it was sent, what it has acknowledged, what it gets next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from coditect_cli.protocol.messages import WINDOW, Ack, Lead, Message, Redraw, Stream

if TYPE_CHECKING:
    from coditect_cli.gateway.session import Session

FRAME = 65_536
ACK_SECONDS = 0.02  # between the last of some input and its acknowledgement


class Attachment:
    """The sending side of a connection; both protocols draw from `take`."""

    def __init__(
        self,
        session: Session,
        client: str,
        *,
        size: tuple[int, int] = (80, 24),
        read_only: bool = False,
        acknowledges: bool = True,
    ) -> None:
        self.session = session
        self.client = client
        self.size = size
        self.read_only = read_only
        self.acknowledges = acknowledges
        self.slot = session.slot_of(client)
        self.sent: dict[str, int] = {}
        self.acked: dict[str, int] = {}
        self.notices: deque[Message] = deque()
        self.received = session.words[self.slot]
        self.redraw = False
        self.drawing = b""
        self.detached = False
        self.done = False
        self._input_acked = session.words[self.slot]
        self._ack_is_due = False
        self._stream = next(iter(session.rings))
        self._whole = True  # false while it has nothing yet that a gap could follow
        self._lead: Lead | None = None
        self._told_exit = False
        self._wake = asyncio.Event()
        self._waiting = False
        self.send_now: Callable[[bytes], None] | None = None

    @property
    def input(self) -> int:
        """How much of this client's input has been taken."""
        return self.session.words[self.slot]

    def begin_with_screen(self) -> None:
        """Draw the screen first, then send what is produced from there on."""
        self._whole = False
        self.begin({name: ring.head for name, ring in self.session.rings.items()})
        self.redraw = True

    def begin(self, offsets: dict[str, int]) -> None:
        """Send each stream from its offset on; what is no longer kept becomes a redraw."""
        for name, ring in self.session.rings.items():
            self.sent[name] = self.acked[name] = min(offsets.get(name, 0), ring.head)
            if self.sent[name] < ring.tail:
                self.session.check_can_skip()
                self.redraw = True

    def notify(self, message: Message) -> None:
        self.notices.append(message)
        self._wake.set()

    def tell_lead(self, message: Lead) -> None:
        """Tell what has changed; what waits to be told is replaced."""
        waiting = [one for one in self.notices if isinstance(one, Lead)]
        for one in waiting:
            self.notices.remove(one)
        if message != self._lead or waiting:
            self._lead = message
            self.notify(message)

    def wake(self) -> None:
        """There may be something to send: at once where its sender waits, without a detour."""
        if self.send_now is not None and self._waiting and not (self.notices or self.redraw):
            for name in self.session.rings:
                if chunk := self._next_bytes(name):
                    self.send_now(chunk)
            if self._all_sent() and not self.notices and self.session.outcome is None:
                return
        self._wake.set()

    async def wait(self) -> None:
        """Wait until there may be something to send."""
        self._wake.clear()
        self._waiting = True
        try:
            await self._wake.wait()
        finally:
            self._waiting = False

    def acknowledge(self, stream: str, offset: int) -> None:
        """The client has everything of `stream` before `offset`."""
        if stream in self.acked and self.acked[stream] < offset <= self.sent[stream]:
            self.acked[stream] = offset
            self.session.acknowledged(self, stream)
            self._wake.set()

    def input_taken(self, *, all_of_it: bool) -> None:
        """Acknowledge input: at once when much was taken, soon when it was all there is."""
        unacked = self.input - self._input_acked
        if unacked >= WINDOW // 4:
            self._acknowledge_input()
        elif unacked and all_of_it and not self._ack_is_due:
            self._ack_is_due = True
            asyncio.get_running_loop().call_later(ACK_SECONDS, self._acknowledge_input)

    def _acknowledge_input(self) -> None:
        self._ack_is_due = False
        if not self.session.closed and self.input > self._input_acked:
            self._input_acked = self.input
            self.notify(Ack("input", self.input))

    def take(self) -> Message | bytes | None:
        """What to send next: a control message, stream bytes, or nothing for now."""
        if self.notices:
            return self.notices.popleft()
        if self.redraw:
            return self._begin_redraw()
        for name in self.session.rings:
            if chunk := self._next_bytes(name):
                return chunk
            if self.notices:
                return self.notices.popleft()
        outcome = self.session.outcome
        if outcome is not None and not self._told_exit and self._all_sent():
            self._told_exit = True
            return outcome
        return None

    def _next_bytes(self, name: str) -> bytes | None:
        ring, sent = self.session.rings[name], self.sent[name]
        if sent == ring.head:
            return None
        room = WINDOW - (sent - self.acked[name]) if self.acknowledges else FRAME
        if room <= 0:
            return None
        if name != self._stream:
            self._stream = name
            self.notices.append(Stream(name))
            return None
        chunk = ring.read(sent, min(FRAME, room))
        self.sent[name] = sent + len(chunk)
        return chunk

    def delivered(self) -> None:
        """What was taken has left; without acknowledgements that is all we will know."""
        if not self.acknowledges:
            for name in self.sent:
                self.acked[name] = self.sent[name]
                self.session.acknowledged(self, name)

    def _begin_redraw(self) -> Message:
        self.redraw = False
        drawing, exact = self.session.draw()
        offset = self.session.rings["output"].head
        skipped = offset - self.sent["output"] if self._whole else 0
        self._whole = True
        self.sent["output"] = self.acked["output"] = offset
        self.drawing = drawing
        self.session.acknowledged(self, "output")
        return Redraw(offset, skipped, exact, len(drawing))

    def _all_sent(self) -> bool:
        return all(self.sent[name] == ring.head for name, ring in self.session.rings.items())
