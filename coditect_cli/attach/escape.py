"""The keys at the start of a line that speak to the client, as ssh users know them (pure)."""

from __future__ import annotations

from enum import Enum

from coditect_cli.errors import UsageError
from coditect_cli.protocol.terminal import is_reply, replies_apart

DEFAULT = "~"


class Action(Enum):
    """What an escape key asks of the client."""

    LEAVE = ord(".")
    DETACH = ord("d")
    HELP = ord("?")
    STATUS = ord("s")


class EscapeKeys:
    """Splits typed bytes into those for the program and the actions for the client.

    After a line's end (and at first) the escape character is held back until the next key says
    what it means: an action, the character itself when it is typed twice, or else both keys are
    passed on. What the terminal answers by itself, or tells of its focus, is no key.
    """

    def __init__(self, char: str | None, actions: frozenset[Action] = frozenset(Action)) -> None:
        self._escape = ord(char) if char is not None else None
        self._actions = {action.value: action for action in actions}
        self._at_start = True
        self._held = False

    def feed(self, data: bytes) -> list[bytes | Action]:
        """What `data` means, in order: runs of bytes to send, and actions."""
        parts: list[bytes | Action] = []
        for piece in replies_apart(data):
            parts += [piece] if is_reply(piece) else self._typed(piece)
        return parts

    def _typed(self, data: bytes) -> list[bytes | Action]:
        if self._escape is None or not (self._held or self._escape in data):
            self._at_start = data[-1] in b"\r\n"
            return [data]
        parts: list[bytes | Action] = []
        run = bytearray()
        for byte in data:
            action = None
            if self._held:
                self._held = False
                action = self._actions.get(byte)
                if action is None and byte != self._escape:
                    run.append(self._escape)
            elif self._at_start and byte == self._escape:
                self._held = True
                continue
            if action is None:
                run.append(byte)
                self._at_start = byte in b"\r\n"
                continue
            if run:
                parts.append(bytes(run))
                run.clear()
            parts.append(action)
            self._at_start = True
        if run:
            parts.append(bytes(run))
        return parts


def parse_char(text: str) -> str | None:
    """The escape character that `--escape-char` names: one ASCII character, ^X, or None for "none".

    Raises UsageError for anything else.
    """
    if text == "none":
        return None
    if len(text) == 2 and text[0] == "^" and "@" <= text[1].upper() <= "_":
        text = chr(ord(text[1].upper()) - 64)  # as ssh has it: ^B
    if len(text) == 1 and text.isascii() and text not in "\r\n":
        return text
    raise UsageError(
        f"{text!r} is no escape character",
        code="usage.escape_char",
        hint='give one ASCII character, a control character such as ^B, or "none"',
    )


def shown(char: str) -> str:
    """An escape character as people write it."""
    return char if char.isprintable() else f"^{chr(ord(char) ^ 64)}"


def help_text(char: str, actions: frozenset[Action]) -> list[str]:
    """The lines that the help key prints."""
    char = shown(char)
    meanings = {
        Action.LEAVE: "leave at once (exit 255)"
        + ("; the session goes on" if Action.DETACH in actions else ""),
        Action.DETACH: "detach (exit 0); the session goes on",
        Action.STATUS: "status of the link and the session",
        Action.HELP: "this help",
    }
    lines = ["At the start of a line:"]
    lines += [f"  {char}{chr(a.value)}  {meanings[a]}" for a in meanings if a in actions]
    return [*lines, f"  {char}{char}  the character {char} itself"]
