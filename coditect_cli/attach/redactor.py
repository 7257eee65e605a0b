"""A terminal's output with the secrets in it made unreadable, and nothing moved by it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from unicodedata import combining, east_asian_width

from coditect_cli.gateway.screen import Screen
from coditect_cli.sessions.escapes import Kind, Splitter, ends_unfinished
from coditect_cli.sessions.redaction import KEY_BEGIN, KEY_END, hints, secret_spans

# A private key's line, or one of its head; quoted, indented, or typed at a shell's second prompt.
_KEY_LINE = re.compile(
    r"""\s*(?:[a-z]*>\ ?)?["']?(?:[A-Za-z0-9+/=]*["']?|[A-Za-z][A-Za-z-]*(?::.*)?)""", re.VERBOSE
)
BULK = 512  # characters from which on it pays to look for hints first
CLIPBOARD = ("\x1b]52;", "\x9d52;")


class Redactor:
    """Takes output as it comes, in any pieces; `names` are those of variables that are secret.

    Text is judged together with what stands left of it on the screen, so that a secret is found
    too when it is typed key by key or edited. Each of its cells becomes a bullet. Of the secrets
    that span lines it knows private keys. What is copied to a clipboard (OSC 52) is left out.
    """

    def __init__(self, cols: int, rows: int, names: tuple[str, ...]) -> None:
        self._screen = Screen(cols, rows)
        self._names = names
        self._hints = hints(names)
        self._splitter = Splitter()
        self._held: list[tuple[Kind, str]] = []  # maybe the start of a password in a URL
        self._in_key = False  # behind the first line of a private key

    def resize(self, cols: int, rows: int) -> None:
        self._screen.resize(cols, rows)

    def feed(self, text: str) -> str:
        """The output that may be kept; the end of it may come with the next call."""
        return "".join(map(self._take_part, self._parts(text)))

    def flush(self) -> str:
        """What `feed` still had; a sequence that never ended is dropped."""
        self._splitter = Splitter()
        return self._release()

    def _take_part(self, text: str) -> str:
        if len(text) > BULK and self._is_plain(text):
            self._screen.skip(text.encode())
            return text
        return "".join(self._take(kind, token) for kind, token in self._splitter.split(text))

    def _is_plain(self, text: str) -> bool:
        whole = self._splitter.is_between and not ends_unfinished(text)
        open_ = self._held or self._in_key
        return whole and not open_ and not self._hints.search(self._screen.before_cursor() + text)

    def _take(self, kind: Kind, token: str) -> str:
        if kind is Kind.TEXT:
            return self._take_text(token)
        self._screen.feed(token.encode())
        if self._held and kind is Kind.CSI and token.endswith("m"):
            self._held.append((kind, token))
            return ""
        return self._release() + (self._string(token) if kind is Kind.STRING else token)

    def _take_text(self, text: str) -> str:
        left = self._screen.before_cursor()
        self._screen.feed(text.encode())
        self._in_key = self._in_key and _KEY_LINE.fullmatch(left + text) is not None
        if self._in_key:
            return self._release() + _masked(text, [(0, len(text))], 0)
        if not self._hints.search(left + text):
            return self._release() + text
        begin = KEY_BEGIN.search(left + text)
        self._in_key = begin is not None and KEY_END not in (left + text)[begin.end() :]
        spans, undecided = secret_spans(left + text, self._names)
        start = len(left)
        if undecided is not None:
            cut = max(0, undecided - start)
            before = self._release() if undecided >= start else ""
            self._held.append((Kind.TEXT, text[cut:]))
            return before + _masked(text[:cut], spans, start)
        secret = any(first < start <= last for first, last in spans)
        return self._release(secret=secret) + _masked(text, spans, start)

    def _release(self, *, secret: bool = False) -> str:
        held, self._held = self._held, []
        return "".join(
            _masked(token, [(0, len(token))], 0) if secret and kind is Kind.TEXT else token
            for kind, token in held
        )

    def _parts(self, text: str) -> Iterator[str]:
        """`text` cut so that lines with hints of secrets are parts of their own."""
        start = 0
        for match in self._hints.finditer(text) if len(text) > BULK else ():
            if match.start() < start:
                continue
            begin = max(start, text.rfind("\n", start, match.start()) + 1)
            end = text.find("\n", match.end()) + 1 or len(text)
            yield text[start:begin]
            yield text[begin:end]
            start = end
        yield text[start:]

    def _string(self, token: str) -> str:
        """A control string; a window's title, for one, may be the command that runs."""
        if token.startswith(CLIPBOARD):
            return ""
        body = token.removesuffix("\x1b\\").removesuffix("\x07")
        return _masked(body, secret_spans(body, self._names)[0], 0) + token[len(body) :]


def _masked(text: str, spans: list[tuple[int, int]], offset: int) -> str:
    """`text`, which begins at `offset` of the line that the spans are of."""
    shown = list(text)
    for start, end in spans:
        for place in range(max(0, start - offset), min(len(text), end - offset)):
            shown[place] = _bullets(text[place])
    return "".join(shown)


def _bullets(character: str) -> str:
    """As many bullets as a character has cells."""
    if not character.isprintable():
        return character
    return "" if combining(character) else "••" if east_asian_width(character) in "WF" else "•"
