"""A program with a PTY: its screen, its size, and which of its clients has the lead."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

from coditect_cli.gateway import pty
from coditect_cli.gateway.attachment import Attachment
from coditect_cli.gateway.metrics import Metrics
from coditect_cli.gateway.ring import ACTIVE, HOLDER
from coditect_cli.gateway.screen import Screen
from coditect_cli.gateway.session import BATCH, MARGIN, Held, Session
from coditect_cli.gateway.spin import Spin
from coditect_cli.protocol.messages import Lead
from coditect_cli.protocol.terminal import is_reply

MOST_BEHIND = 524_288  # bytes that the model may be behind before it skips
KEPT_WHEN_SKIPPING = 8_192
SLICE = 2_048  # bytes fed to the model at once: 8 ms of random bytes, 0.1 ms of most others
TICK = 0.02  # seconds between output and the model's first look at it
TURN = 0.003  # seconds that the model has of one turn of the event loop
PAUSE_TURNS = 4  # then the others have this many times what it took
FLOOD = 4_000_000  # bytes a second past which the model waits: more than it can take in its turns
NUDGE = 0.1  # seconds
SETTLING = 0.1  # seconds from a new lead's size to its first key: at a SIGWINCH less drops keys
DRAW_BUDGET = 0.04  # seconds that an attach spends on catching up before it skips


class Terminal(Session):
    """The last client that typed has the lead: its size, its answers, its credit."""

    def __init__(self, held: Held, changed: Callable[[Session], None], metrics: Metrics) -> None:
        super().__init__(held, changed, metrics)
        self.ring = self.rings["output"]
        self.master = held.fds["terminal"]
        self.lead: Attachment | None = None
        self.typed: list[Attachment] = []  # the newest last
        self.screen = Screen(*pty.size(self.master))
        self.drawn = 0  # the offset up to which the screen has seen the output
        self._typed_at: float | None = None
        self._spin = Spin()
        self._holds_input = False
        self._ticking = False
        self._last_tick = 0.0, 0
        self.on_change: Callable[[Terminal], None] | None = None

    def input_target(self) -> int:
        return self.fds["terminal"]

    def source_of(self, name: str) -> str:
        return "terminal"

    def fill(self, name: str) -> int:
        return pty.fill_from_pty(self.ring, self.master)

    def recover(self, grace: float) -> None:
        super().recover(grace)
        pty.recover_pty(self.ring)
        if blob := self.ring.last_checkpoint():
            with suppress(ValueError):
                self.drawn = int.from_bytes(blob[:8], "little")
                self.screen = Screen.restore(blob[8:])
        if self.drawn < self.ring.tail:
            self.drawn = self.ring.tail
            self.screen.skip(b"")
        cols, rows = pty.size(self.master)
        if (cols, rows) != (self.screen.cols, self.screen.rows):
            self.catch_up()
            self.screen.resize(cols, rows)

    @property
    def size(self) -> tuple[int, int]:
        return self.screen.cols, self.screen.rows

    def may_read(self, name: str) -> bool:
        if self.lead is not None:
            return self.within_credit("output", self.lead.acked["output"])
        return self.awaited is None or self.within_credit("output", None)

    def produced(self, name: str) -> None:
        ring = self.ring
        for attachment in self.attachments:
            if attachment is not self.lead and ring.head - attachment.sent["output"] > (
                ring.size - MARGIN
            ):
                attachment.redraw = True

    def passed_on(self, name: str) -> None:
        if self._typed_at is not None:
            self.metrics.echo(time.monotonic() - self._typed_at)
            self._typed_at = None
            self._spin.end()
        head = self.ring.head
        if head - self.drawn > MOST_BEHIND:
            self.skip_ahead()
        if not self._ticking and self.drawn < head:
            self._ticking = True
            self._last_tick = time.monotonic(), head
            self._loop.call_later(TICK, self.tick)

    def tick(self) -> None:
        """Feed the model a little, unless a flood leaves no time for it."""
        if self.closed:
            return
        self.content_changed()
        now, head = time.monotonic(), self.ring.head
        then, was = self._last_tick
        self._last_tick = now, head
        pause = TICK
        if head - was < FLOOD * (now - then):
            while self.drawn < head and time.monotonic() - now < TURN:
                self.feed(SLICE)
            pause = PAUSE_TURNS * (time.monotonic() - now)
        if self.drawn < head:
            self._loop.call_later(pause, self.tick)
        else:
            self._ticking = False
            self.checkpoint()

    def content_changed(self) -> None:
        """Its record is no longer what it was."""
        if self.on_change is not None:
            self.on_change(self)

    def listen_to_hook(self, heard: Callable[[], None]) -> None:
        """Call `heard` whenever the shell's hook has said something."""
        self._loop.add_reader(self.fds["hook"], heard)

    def read_hook(self, limit: int) -> bytes:
        """What the hook has said. Raises BlockingIOError when that is nothing."""
        data = os.read(self.fds["hook"], limit)
        if not data:
            self._loop.remove_reader(self.fds["hook"])  # nobody is left who could say anything
        return data

    @property
    def ended_itself(self) -> bool:
        """Whether its user ended its shell; else it ended with its workspace or its gateway."""
        exited = self.status is not None and self.status >= 0 and not self.hung_up
        return exited or (self.killed and self.status is not None)

    def feed(self, limit: int) -> None:
        chunk = self.ring.read(self.drawn, limit)
        self.screen.feed(chunk)
        self.drawn += len(chunk)

    def skip_ahead(self) -> None:
        """Let the model miss the text of what it can't keep up with."""
        missed = self.ring.head - KEPT_WHEN_SKIPPING - self.drawn
        if missed > 0:
            self.screen.skip(self.ring.read(self.drawn, missed))
            self.drawn += missed
            self.checkpoint()

    def catch_up(self) -> None:
        """Bring the screen up to the last byte, skipping what would take too long."""
        deadline = time.monotonic() + DRAW_BUDGET
        while self.drawn < self.ring.head:
            if time.monotonic() > deadline:
                self.skip_ahead()
                deadline = float("inf")
            self.feed(SLICE)

    def checkpoint(self) -> None:
        """Leave the screen in shared memory for a successor."""
        self.ring.checkpoint(self.drawn.to_bytes(8, "little") + self.screen.checkpoint())

    def draw(self) -> tuple[bytes, bool]:
        self.catch_up()
        exact = self.screen.exact
        if not exact:
            self.nudge()
        return self.screen.redraw(), exact

    def nudge(self) -> None:
        """Make a full-screen program repaint itself: SIGWINCH, by a size that comes and goes.

        It stays long enough to be seen: some repaint only what differs from their last size.
        """
        cols, rows = self.size
        pty.set_size(self.master, cols, rows + 1 if rows == 1 else rows - 1)
        self._loop.call_later(NUDGE, self.end_nudge)

    def end_nudge(self) -> None:
        if not self.closed:
            pty.set_size(self.master, *self.size)

    def attach(self, attachment: Attachment) -> None:
        super().attach(attachment)
        if self.lead is None and not attachment.read_only:
            self.take_lead(attachment)

    def detach(self, attachment: Attachment, *, grace: float = 0) -> None:
        with suppress(ValueError):
            self.typed.remove(attachment)
        if attachment is self.lead:
            self.lead = None
            others = [one for one in self.attachments if one is not attachment]
            writers = [one for one in others if not one.read_only]
            if writers:
                grace = 0
                self.take_lead(self.typed[-1] if self.typed else writers[-1])
            elif not grace:
                self.words[HOLDER] = 0
        else:
            grace = 0
        super().detach(attachment, grace=grace)

    def take_lead(self, attachment: Attachment) -> None:
        """From now on this client sets the size and holds the credit."""
        self.lead = attachment
        self.apply_size(attachment)
        self.words[HOLDER] = attachment.acked["output"] + 1
        self.resume_reading("output")

    def apply_size(self, attachment: Attachment) -> None:
        """Give the program the size of its lead, and tell everybody."""
        if attachment is self.lead and attachment.size != self.size:
            self.catch_up()
            self.screen.resize(*attachment.size)
            pty.set_size(self.master, *attachment.size)
            self.checkpoint()
            self.content_changed()
        for one in self.attachments:
            one.tell_lead(Lead(one is self.lead, *self.size))

    def resize(self, attachment: Attachment, cols: int, rows: int) -> None:
        """A client's terminal has another size; only the lead's is the program's."""
        if not attachment.read_only:
            attachment.size = (cols, rows)
            if attachment is self.lead:
                self.apply_size(attachment)

    def receive(self, attachment: Attachment, data: bytes) -> None:
        if attachment is not self.lead:
            if self.lead is not None and is_reply(data):
                self.inlet.pass_over(attachment.slot, len(data))
                self.write()
                return
            if attachment.size != self.size:
                self._holds_input = True
                self._loop.call_later(SETTLING, self.release_input)
            self.take_lead(attachment)
        if not self.typed or self.typed[-1] is not attachment:
            with suppress(ValueError):
                self.typed.remove(attachment)
            self.typed.append(attachment)
        self.words[ACTIVE] = int(time.time() * 1000)
        if self._typed_at is None:
            self._typed_at = time.monotonic()
        super().receive(attachment, data)
        if self._spin.begin():
            self._loop.call_soon(self._look_out)

    def write(self) -> None:
        if not self._holds_input:
            super().write()

    def release_input(self) -> None:
        """The program has had time for its new size."""
        self._holds_input = False
        if not self.closed:
            self.write()

    def _look_out(self) -> None:
        """Keep the event loop from falling asleep."""
        if self._spin.goes_on():
            self._loop.call_soon(self._look_out)

    def acknowledged(self, attachment: Attachment, name: str) -> None:
        if attachment is self.lead:
            self.words[HOLDER] = attachment.acked["output"] + 1
            self.resume_reading("output")

    def source_ended(self, name: str) -> None:
        self.fds.pop("terminal", None)
        self.set_outcome()

    def ended_by_itself(self) -> None:
        """Read what the program left in the PTY; who still holds it open is hung up."""
        with suppress(BlockingIOError, EOFError):
            for _ in range(BATCH):
                pty.fill_from_pty(self.ring, self.master)
        self.produced("output")
        self.passed_on("output")
        self.pause_reading("output")
        self.set_outcome()

    def describe(self) -> dict[str, object]:
        cols, rows = self.size
        return {**super().describe(), "cols": cols, "rows": rows}

    def close(self) -> None:
        self.fds.setdefault("terminal", self.master)
        if "hook" in self.fds:
            self._loop.remove_reader(self.fds["hook"])
        super().close()
