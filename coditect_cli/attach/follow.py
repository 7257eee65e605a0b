"""A live session's output as lines, each as it looked when its program ended it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coditect_cli.attach.link import Link
from coditect_cli.attach.pump import Pump
from coditect_cli.attach.sink import Share, Sink
from coditect_cli.attach.wakeups import wakeups
from coditect_cli.gateway.screen import Screen
from coditect_cli.protocol import messages
from coditect_cli.protocol.messages import Message
from coditect_cli.protocol.stream import Inbox

PATIENCE = 60.0  # seconds without a link

_IGNORED: dict[str, Any] = {"cols": 80, "rows": 24, "term": "xterm-256color"}  # of a watcher


class Lines:
    """Cuts what a terminal is sent into the lines that line feeds end.

    A line is what the screen shows of it by then: carriage returns, erasures and edits have had
    their effect, rows that run on are one line. Full-screen programs end no lines.
    """

    def __init__(self, cols: int, rows: int) -> None:
        self._screen = Screen(cols, rows)

    def resize(self, cols: int, rows: int) -> None:
        """The terminal has another size."""
        if (cols, rows) != (self._screen.cols, self._screen.rows):
            self._screen.resize(cols, rows)

    def draw(self, drawing: bytes) -> list[str]:
        """Begin anew with this screen; its lines above the one that the cursor is on."""
        self._screen = Screen(self._screen.cols, self._screen.rows)
        self._screen.feed(drawing)
        if self._screen.alternate:
            return []
        lines, (_, row) = self._screen.primary()
        return lines[-self._screen.rows :][:row]

    def feed(self, data: bytes) -> list[str]:
        """The lines that end in `data`."""
        found = []
        *ended, rest = data.split(b"\n")
        for part in ended:
            self._screen.feed(part)
            if not (self._screen.alternate or self._screen.mid_sequence):
                found.append(self._screen.cursor_line())
            self._screen.feed(b"\n")
        self._screen.feed(rest)
        return found

    def end(self) -> list[str]:
        """The line that nothing ended, if there is something on it."""
        line = "" if self._screen.alternate else self._screen.cursor_line()
        return [line] if line else []


class Transcript:
    """Writes lines to `fd`, each in the form that `shape` gives it."""

    def __init__(self, fd: int, shape: Callable[[str], str]) -> None:
        self._sink = Sink(fd)
        self._shape = shape
        self.lines = Lines(_IGNORED["cols"], _IGNORED["rows"])

    def write(self, data: bytes, inbox: Inbox | None = None) -> None:
        if inbox is None:
            self._put(self.lines.draw(data))
            return
        share = Share(inbox, len(data))
        text = self._text(self.lines.feed(data))
        if text:
            self._sink.write(text, share.of(len(text)))
        else:
            share.of(0).wrote(0)

    def end(self) -> None:
        """Write what is left, however long its reader takes."""
        self._put(self.lines.end())
        self._sink.drain(float("inf"))

    @property
    def waiting(self) -> bool:
        return self._sink.waiting

    def fileno(self) -> int:
        return self._sink.fileno()

    def flush(self) -> None:
        self._sink.flush()

    def drop(self) -> None:
        self._sink.drop()

    def _put(self, lines: list[str]) -> None:
        self._sink.write(self._text(lines))

    def _text(self, lines: list[str]) -> bytes:
        return "".join(self._shape(line) + "\n" for line in lines).encode("utf-8", "replace")


class Follower(Pump):
    """Watches one live session, read-only, until its program ends."""

    def __init__(
        self,
        dial: Callable[[], Link],
        session: str,
        transcript: Transcript,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(dial, {"output": transcript}, PATIENCE)
        self._wanted = session
        self._transcript = transcript
        self._say = say

    def opening(self, resume: dict[str, int] | None) -> Message:
        return messages.Attach(self.client, self._wanted, read_only=True, resume=resume, **_IGNORED)

    def on_redraw(self, redraw: messages.Redraw) -> None:
        if redraw.skipped:
            self._say(f"{redraw.skipped:,} bytes of output were skipped; the screen follows")

    def _handle(self, message: Message | None) -> None:
        if isinstance(message, messages.Attached | messages.Lead):
            self._transcript.lines.resize(message.cols, message.rows)
        super()._handle(message)


def follow(
    dial: Callable[[], Link],
    session: str,
    fd: int,
    shape: Callable[[str], str],
    say: Callable[[str], None],
) -> None:
    """Write the lines on a live session's screen, then each that comes, until its program ends.

    `say` tells of output that came faster than it could be followed. Raises NotFound when the
    session is not live, SessionLost, BrokenPipeError when nobody reads `fd`.
    """
    transcript = Transcript(fd, shape)
    with wakeups(()) as woken:
        Follower(dial, session, transcript, say).run(dial(), woken)
    transcript.end()
