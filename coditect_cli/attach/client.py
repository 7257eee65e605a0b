"""The interactive client: a person's terminal, or bytes piped to a shell, on one session."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from coditect_cli.attach import ending, escape, notice, tty
from coditect_cli.attach.escape import Action, EscapeKeys
from coditect_cli.attach.link import Link
from coditect_cli.attach.pump import FRAME, Pump
from coditect_cli.attach.sink import Sink
from coditect_cli.attach.wakeups import Terminated, terminations, wakeups
from coditect_cli.errors import CoditectError, SessionLost
from coditect_cli.protocol import messages
from coditect_cli.protocol.messages import Message
from coditect_cli.protocol.terminal import is_reply

NOTICE_AFTER = 0.4  # seconds without a link before a person is told
PASTE_LIMIT = 16 * 1024 * 1024  # bytes typed ahead that are kept while the link is up
EOF_CHARACTER = b"\x04"
PROMPT_WITHIN = 3.0  # seconds
EOF_AFTER = 0.3  # seconds without output and with all input taken
BELL = b"\a"
ENDINGS = {
    "killed": "somebody ended the session: session kill, or delete --force",
    "stopped": "the workspace was stopped",
    "taken": "another gateway goes on with the session",
}


@dataclass(frozen=True)
class Attach:
    """What `attach` asks for; `session` is an id, "new", or None for the newest."""

    session: str | None = None
    read_only: bool = False

    actions: ClassVar[frozenset[Action]] = frozenset(Action)

    def message(
        self, client: str, session: str | None, terminal: dict[str, Any], resume: Any
    ) -> Message:
        return messages.Attach(
            client=client,
            session=session or self.session,
            read_only=self.read_only,
            resume=resume,
            **terminal,
        )


@dataclass(frozen=True)
class Exec:
    """What `exec -t` asks for."""

    argv: tuple[str, ...]
    env: dict[str, str]
    workdir: str | None
    read_only: ClassVar[bool] = False
    # There is no way back to a program that is left.
    actions: ClassVar[frozenset[Action]] = frozenset(Action) - {Action.DETACH}

    def message(
        self, client: str, session: str | None, terminal: dict[str, Any], resume: Any
    ) -> Message:
        return messages.Exec(client, self.argv, self.env, self.workdir, True, terminal, resume)


class Detached(Exception):
    """Raised when the user detached; the session goes on. Its text is the command to return."""


class TerminalPump(Pump):
    """Keys to the program, output to the screen; with no terminal on stdin, plain bytes."""

    def __init__(
        self,
        dial: Callable[[], Link],
        ask: Attach | Exec,
        *,
        escape_char: str | None,
        reconnect: bool,
        stdin: int,
        stdout: int,
    ) -> None:
        self.interactive = os.isatty(stdin)
        self.sink = Sink(stdout)
        patience = None if self.interactive else 60.0
        super().__init__(dial, {"output": self.sink}, patience if reconnect else 0.0)
        self.raw = tty.RawTerminal(stdin, stdout)
        self._ask = ask
        self._stdin = stdin
        self._stdout = stdout
        self._shown_on_tty = os.isatty(stdout)
        self._escape_char = escape_char if self.interactive else None
        self._keys = EscapeKeys(self._escape_char, ask.actions)
        self._at_end = False
        self._quiet_since = time.monotonic()
        # A shell that has not said anything yet may lose part of what is typed ahead.
        self._awaits_prompt = isinstance(ask, Attach) and not self.interactive
        self._last_byte = b"\n"
        self._noticed: str | None = None  # on which screen a notice stands
        self._overlaid = False  # lines of ours stand on a full-screen program's last rows
        self._lead: bool | None = None
        self.reason: str | None = None  # why the program was made to end

    def _terminal(self) -> dict[str, Any]:
        cols, rows = tty.size(self._stdout if self._shown_on_tty else self._stdin)
        return {"cols": cols, "rows": rows, "term": tty.name(os.environ.get("TERM"))}

    def opening(self, resume: dict[str, int] | None) -> Message:
        return self._ask.message(self.client, self.session, self._terminal(), resume)

    def source(self) -> int | None:
        if self._awaits_prompt:
            if time.monotonic() < self._quiet_since + PROMPT_WITHIN:
                return None
            self._awaits_prompt = False
        if self._at_end:
            return None
        kept = self.outbox.kept
        if kept < self.window or (self.interactive and kept < PASTE_LIMIT) or self._drops_keys:
            return self._stdin
        return None

    @property
    def _drops_keys(self) -> bool:
        return self.interactive and (not self.connected or self._ask.read_only)

    def on_readable(self) -> None:
        try:
            data = os.read(self._stdin, FRAME)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # the terminal was closed
        if not data:
            self._on_end_of_input()
            return
        for part in self._keys.feed(data):
            if isinstance(part, Action):
                self._act(part)
            elif self._overlaid and not is_reply(part):
                self._refresh()
            elif not self._ask.read_only:
                self._type(part)

    def _type(self, data: bytes) -> None:
        if self.outbox.kept + len(data) > self.window and self._drops_keys:
            self.sink.write(BELL)
            return
        self._last_byte = data[-1:]
        self.outbox.append(data)

    def _on_end_of_input(self) -> None:
        if self.interactive:
            raise Terminated(signal.SIGHUP)
        self._at_end = True

    def _type_eof(self) -> float | None:
        """At the end of piped input, type the EOF character whenever all is quiet.

        One that comes before a program reads is lost, and each ends but one program. After an
        unfinished line the first only ends that line.
        """
        if self._awaits_prompt:
            return PROMPT_WITHIN
        if not self._at_end or not self.connected or self._ask.read_only:
            return None
        if self.outbox.kept:
            self._quiet_since = time.monotonic()
            return None
        left = self._quiet_since + EOF_AFTER - time.monotonic()
        if left > 0:
            return left
        unfinished = self._last_byte not in (b"\n", b"\r")
        self._last_byte = b"\n"
        self.outbox.append(EOF_CHARACTER * (2 if unfinished else 1))
        self._send_input()
        return None

    def _act(self, action: Action) -> None:
        if action is Action.LEAVE:
            raise self._left()
        if action is Action.DETACH:
            self._send_input()
            self._leave()
            raise Detached(self._again())
        if action is Action.HELP:
            self._say(escape.help_text(self._escape_char or "", self._ask.actions))
        else:
            self._say(self._status_lines())

    def _leave(self) -> None:
        self.tell(messages.Detach())
        self.finish()

    def way_back(self) -> str | None:
        if not isinstance(self._ask, Attach):
            return None
        return f"{self._again()} restores the session as it was saved"

    def _again(self) -> str:
        """The command to return with; a plain attach may take another than one that was named."""
        named = isinstance(self._ask, Attach) and self._ask.session is not None
        session = f" --session {self.session}" if named and self.session is not None else ""
        return f"coditect attach {self._workspace}{session}"

    def _left(self) -> SessionLost:
        if isinstance(self._ask, Exec):
            return SessionLost("left; the program was hung up", code="session.left")
        hint = f"{self._again()} returns"
        return SessionLost("left; the session goes on", code="session.left", hint=hint)

    def _status_lines(self) -> list[str]:
        if self.link is None:
            state = f"down for {time.monotonic() - self.lost_at:.0f} s, reconnecting"
        elif self.link.rtt is None:
            state = "up"
        else:
            state = f"up, round trip {self.link.rtt * 1000:.1f} ms"
        lead = {None: "", True: ", this terminal leads", False: ", another terminal leads"}
        return [
            f"session {self.session or 'not attached yet'}{lead[self._lead]}",
            f"link {state}",
            f"{self.inboxes['output'].received} bytes of output, {self.outbox.acked} of "
            f"{self.outbox.end} bytes of input taken",
        ]

    def _say(self, texts: list[str]) -> None:
        """Lines of our own among the output; to stderr where stdout is no terminal."""
        if self._shown_on_tty and self.raw.screen.alternate:
            self._overlaid = True
            size = self._terminal()
            texts = [*texts, "Any key takes this away."]
            self.sink.write(notice.overlay(texts, rows=size["rows"], cols=size["cols"]))
        elif self._shown_on_tty:
            self.sink.write(notice.lines(texts))
        else:
            end = "\r\n" if self.interactive else "\n"
            sys.stderr.write("".join(text + end for text in texts))

    def _refresh(self) -> None:
        """Have the screen drawn anew where we have drawn on it, as soon as there is a link."""
        self._overlaid = False
        if self.connected:
            self.tell(messages.Refresh())
        else:
            self._noticed = "alternate"

    def on_signal(self, number: int) -> None:
        if number == signal.SIGCONT and self.interactive:
            self.raw.make_raw()
        size = self._terminal()
        if not self._ask.read_only and self.connected:
            self.tell(messages.Resize(size["cols"], size["rows"]))

    def on_open(self, resumed: bool) -> None:
        if self._shown_on_tty and self.session == os.environ.get("CODITECT_SESSION"):
            self._leave()
            raise ending.fed_by_itself(self._workspace)
        if self._noticed is not None:
            if self._noticed == "main":
                self.sink.write(notice.erase())
            else:
                self._refresh()
            self._noticed = None
        self.ping()

    def on_tick(self) -> float | None:
        if not self.interactive:
            return self._type_eof()
        if not self.lost_at or self._noticed or not self._shown_on_tty:
            return None
        due = self.lost_at + NOTICE_AFTER - time.monotonic()
        if due > 0:
            return due
        if not (self.raw.screen.mid_sequence or self.sink.waiting):
            alternate = self.raw.screen.alternate
            size = self._terminal()
            keys = f", {escape.shown(self._escape_char)}. leaves" if self._escape_char else ""
            text = f"coditect: the connection was lost, reconnecting{keys}"
            self.sink.write(
                notice.show(text, alternate=alternate, rows=size["rows"], cols=size["cols"])
            )
            self._noticed = "alternate" if alternate else "main"
        return None

    def on_redraw(self, redraw: messages.Redraw) -> None:
        if not redraw.skipped:
            return
        text = f"coditect: {redraw.skipped} bytes of output were skipped"
        if self._shown_on_tty:
            self.sink.write(notice.gap(text, rows=self._terminal()["rows"]))
        else:
            self._say([text])

    def on_uncertain(self, message: messages.Uncertain) -> None:
        self._say(
            [
                f"coditect: the gateway restarted; the program may have got the last "
                f"{message.bytes} bytes of input, or not"
            ]
        )

    def on_end(self, reason: str | None) -> None:
        self.reason = reason

    def on_leaving(self) -> None:
        """What we say goes below the screen; a program that nobody can come back to ends."""
        if self._noticed == "main":
            with contextlib.suppress(OSError):
                self.sink.write(notice.erase())
        if isinstance(self._ask, Exec) and self.status is None:
            with contextlib.suppress(CoditectError):
                self.tell(messages.Detach())

    def on_output(self, data: bytes) -> None:
        if not self.interactive:
            self._quiet_since = time.monotonic()
            self._awaits_prompt = False
        if self._shown_on_tty:
            self.raw.screen.feed(data)

    def _handle(self, message: Message | None) -> None:
        if isinstance(message, messages.Lead | messages.Attached):
            self._lead = message.lead
        super()._handle(message)


def attach(
    dial: Callable[[], Link],
    ask: Attach | Exec,
    *,
    escape_char: str | None = escape.DEFAULT,
    reconnect: bool = True,
    stdin: int = 0,
    stdout: int = 1,
) -> int:
    """Hand the terminal to a session until its program ends; the program's exit status.

    Raises Detached, SessionLost, and what refuses the first connection.
    """
    link = dial()
    pump = TerminalPump(
        dial, ask, escape_char=escape_char, reconnect=reconnect, stdin=stdin, stdout=stdout
    )
    signals = (signal.SIGWINCH, signal.SIGCONT)
    try:
        raw = pump.raw if pump.interactive else contextlib.nullcontext()
        with terminations(), wakeups(signals) as woken, raw:
            status = pump.run(link, woken)
        if pump.reason is not None:  # said below what the terminal showed before
            sys.stderr.write(f"coditect: {ENDINGS[pump.reason]}\n")
        return status
    except Terminated as ended:
        return ended.status
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
