"""A program with three pipes (exec and file transfers): no PTY, nothing is ever skipped."""

from __future__ import annotations

import os
from collections.abc import Callable

from coditect_cli.errors import SessionLost
from coditect_cli.gateway.attachment import Attachment
from coditect_cli.gateway.metrics import Metrics
from coditect_cli.gateway.ring import EOF, HOLDER, TornRead
from coditect_cli.gateway.session import Held, Session


class Pipes(Session):
    """One client; its output waits for it, its input ends only when it says so."""

    at_end_when_empty = True

    def __init__(
        self,
        held: Held,
        changed: Callable[[Session], None],
        metrics: Metrics,
        release: Callable[[str, str], None],
    ) -> None:
        super().__init__(held, changed, metrics)
        self._release = release
        self._open = {name for name in self.rings if name in self.fds}

    def input_target(self) -> int:
        return self.fds.get("stdin", -1)

    def recover(self, grace: float) -> None:
        super().recover(grace)
        try:
            for ring in self.rings.values():
                ring.recover_pipe()
        except TornRead as error:
            self.fail(error)

    def check_can_skip(self) -> None:
        raise SessionLost(
            "the program's output that this client misses is no longer kept",
            code="session.output_gone",
        )

    def fill(self, name: str) -> int:
        return self.rings[name].fill_from_pipe(self.fds[name])

    def may_read(self, name: str) -> bool:
        if self.attachments:
            return self.within_credit(name, self.attachments[0].acked.get(name, 0))
        if self.hung_up:  # nobody will read it, but its end has to be seen
            return True
        return self.rings[name].head - self._kept_from(name) < self.rings[name].size - 65_536

    def _kept_from(self, name: str) -> int:
        return max(0, self.rings[name].words[HOLDER] - 1)

    def attach(self, attachment: Attachment) -> None:
        super().attach(attachment)
        for name in self.rings:
            self.acknowledged(attachment, name)

    def acknowledged(self, attachment: Attachment, name: str) -> None:
        self.rings[name].words[HOLDER] = attachment.acked[name] + 1
        self.resume_reading(name)

    def receive(self, attachment: Attachment, data: bytes) -> None:
        if "stdin" in self.fds:
            super().receive(attachment, data)
        else:
            self.inlet.pass_over(attachment.slot, len(data))
            self.write()

    def end_input(self, offset: int) -> None:
        """The client's input ends after `offset` bytes."""
        self.words[EOF] = offset + 1
        self.input_written()

    def input_written(self) -> None:
        slot = self.slot_of(self.id)
        ended = self.words[EOF] and self.words[slot] >= self.words[EOF] - 1
        if ended and self.inlet.idle:
            self.close_input()

    def input_refused(self) -> None:
        super().input_refused()
        self.close_input()

    def close_input(self) -> None:
        """Close the program's standard input, here and in the keeper."""
        if (fd := self.fds.pop("stdin", None)) is not None:
            if self._writing:
                self._loop.remove_writer(fd)
                self._writing = False
            os.close(fd)
            self._release(self.id, "stdin")

    def source_ended(self, name: str) -> None:
        self._open.discard(name)
        self.ended_by_itself()

    def ended_by_itself(self) -> None:
        if not self._open:
            self.set_outcome()
