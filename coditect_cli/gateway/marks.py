"""Characters with combining marks, for a model that has one character in a cell.

In the model one character of the same width, which nobody prints, stands for a base and its marks.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable

MOST = 16  # marks on one base
_NARROW = range(0x10F000, 0x10FFFE)  # private use
_WIDE = range(0x3F000, 0x3FFFE)  # unassigned, and wide
_SEQUENCE = r"\x1b(?:\[[0-?]*[ -/]*[@-~]?|[ -/]*[0-~]?)"
_LAST = re.compile(rf"(?:{_SEQUENCE}|(?P<character>[^\x00-\x1f\x1b]))\Z")


class Marks:
    """The stand-ins of one screen, as many as there is room for; further marks are left out."""

    def __init__(self, sequences: Iterable[str] = ()) -> None:
        self._stands: dict[str, str] = {}
        self._of: dict[int, str] = {}
        for sequence in sequences:
            self.stand_in(sequence)

    def stand_in(self, sequence: str) -> str:
        """The character for a base with marks; the base alone where there is no room."""
        known = self._stands.get(sequence)
        if known is None:
            places = _WIDE if is_wide(sequence[0]) else _NARROW
            if len(self._stands) >= len(places):
                return sequence[0]
            known = self._stands[sequence] = chr(places[len(self._stands)])
            self._of[ord(known)] = sequence
        return known

    def composed(self, text: str) -> str:
        """`text` with a stand-in for each base with marks; marks without a base are left out."""
        return _marked().sub(self._compose, text)

    def shown(self, text: str) -> str:
        """What the stand-ins in `text` stand for, in their places."""
        return text.translate(self._of) if self._of else text

    def renumbered(self, text: str) -> tuple[str, list[str]]:
        """`text` with the stand-ins that new `Marks` of these sequences would give it."""
        used = [self._of[ord(one)] for one in dict.fromkeys(text) if ord(one) in self._of]
        fresh = Marks(used)
        table = {ord(self._stands[one]): fresh.stand_in(one) for one in used}
        return text.translate(table) if table else text, used

    def _compose(self, found: re.Match[str]) -> str:
        if found["base"] is None:
            return found[0] if found[0][0] == "\x1b" else ""
        base = self._of.get(ord(found["base"]), found["base"])
        return self.stand_in((base + found["marks"])[: MOST + 1])


def is_stand_in(character: str) -> bool:
    return ord(character) in _NARROW or ord(character) in _WIDE


def is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def leading(text: str) -> str:
    """The marks that `text` begins with."""
    found = _run().match(text)
    return found[0] if found else ""


def last_character(text: str) -> str | None:
    """The character that `text` printed last, where nothing is behind it."""
    found = _LAST.search(text)
    return found["character"] if found else None


def has_marks(text: str) -> bool:
    return _run().search(text) is not None


@functools.cache
def _marks() -> str:
    """The characters without a width, as a set of a regular expression."""
    planes = (range(0x300, 0x1F000), range(0xE0100, 0xE01F0))
    found = "".join(
        chr(code) for plane in planes for code in plane if unicodedata.category(chr(code)) in "MnMe"
    )
    return f"{found}\u1160-\u11ff\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff"


@functools.cache
def _run() -> re.Pattern[str]:
    return re.compile(f"[{_marks()}]+")


@functools.cache
def _marked() -> re.Pattern[str]:
    marks = _marks()
    base = rf"(?P<base>[^\x00-\x1f\x7f{marks}])(?P<marks>[{marks}]+)"
    return re.compile(f"{_SEQUENCE}|{base}|[{marks}]+")
