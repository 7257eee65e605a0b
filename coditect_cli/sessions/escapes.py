"""A terminal's output, cut into text and control sequences (ECMA-48), across chunks."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from enum import Enum, auto

LONGEST = 65_536  # characters of a control string that are waited for

_UNFINISHED = r"""(?:
      (?:\x1b\[|\x9b)[0-?]*+[ -/]*+
    | (?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x18\x1a\x1b\x80-\x9f]*+\x1b?
    | \x1b[ -/]*+
)\Z"""
_AT_END = re.compile(_UNFINISHED, re.VERBOSE)
_TOKEN = re.compile(
    rf"""
      (?P<REST>{_UNFINISHED})
    | (?P<CSI>(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~])
    | (?P<STRING>(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x18\x1a\x1b\x80-\x9f]*+
        (?:\x07|\x9c|\x1b\\|(?=[\x18\x1a\x1b\x80-\x9f])))
    | (?P<ESCAPE>\x1b[ -/]*+[0-~]?)
    | (?P<CONTROL>[\x00-\x1f\x7f-\x9f])
    | (?P<TEXT>[^\x00-\x1f\x7f-\x9f]++)
    """,
    re.VERBOSE,
)
_STRING_END = re.compile(r"\x07|\x9c|\x1b\\|(?=[\x18\x1a\x80-\x9f])|(?=\x1b[^\\])")


class Kind(Enum):
    """TEXT has no control characters; a STRING is an OSC, DCS, APC, PM or SOS, or a part of one."""

    TEXT = auto()
    CONTROL = auto()
    ESCAPE = auto()
    CSI = auto()
    STRING = auto()


class Splitter:
    """Takes output in any chunks; a sequence that a chunk cuts in two comes with the next one."""

    def __init__(self) -> None:
        self.rest = ""
        self._in_string = False

    @property
    def is_between(self) -> bool:
        """Whether no sequence is under way."""
        return not self.rest and not self._in_string

    def split(self, text: str) -> Iterator[tuple[Kind, str]]:
        """What the chunk finishes, in order: all of it, but for `rest`."""
        text, self.rest = self.rest + text, ""
        if self._in_string:
            text = yield from self._go_on(text)
        for match in _TOKEN.finditer(text):
            if match.lastgroup != "REST":
                yield Kind[str(match.lastgroup)], match[0]
            elif len(match[0]) <= LONGEST:
                self.rest = match[0]
            else:
                self._in_string = True
                text = match[0].removesuffix("\x1b")
                self.rest = match[0][len(text) :]
                yield Kind.STRING, text

    def _go_on(self, text: str) -> Generator[tuple[Kind, str], None, str]:
        """Through a string that was too long to wait for; returns what is behind it."""
        end = _STRING_END.search(text)
        self._in_string = end is None
        inside = text[: end.end()] if end else text.removesuffix("\x1b")
        yield Kind.STRING, inside
        if end is None:
            self.rest = text[len(inside) :]
            return ""
        return text[len(inside) :]


def ends_unfinished(text: str) -> bool:
    """Whether `text` may end within a sequence."""
    return _AT_END.search(text) is not None
