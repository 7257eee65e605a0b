"""The three standard streams, and what may be done with them."""

from __future__ import annotations

import io
import os
import sys
from typing import Literal, NamedTuple, TextIO


class Streams(NamedTuple):
    """stdin; stdout, which is data; stderr, which is talk."""

    stdin: TextIO
    stdout: TextIO
    stderr: TextIO

    @classmethod
    def system(cls) -> Streams:
        """The process's own; a stream that was closed reads as empty and swallows what it gets."""
        return cls(_lenient(sys.stdin, "r"), _lenient(sys.stdout), _lenient(sys.stderr))

    @classmethod
    def test(cls, stdin: bytes = b"") -> Streams:
        """Streams in memory, none of them a terminal."""
        stdout, stderr = (_lenient(io.TextIOWrapper(io.BytesIO())) for _ in range(2))
        return cls(_lenient(io.TextIOWrapper(io.BytesIO(stdin)), "r"), stdout, stderr)

    def may_prompt(self) -> bool:
        """Whether somebody can see a question and answer it."""
        return self.stdin.isatty() and self.stderr.isatty()

    def may_animate(self) -> bool:
        """Whether a progress bar or a spinner may be drawn on stderr."""
        return self.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def say(self, line: str) -> None:
        """Tell the user something, on stderr."""
        self.stderr.write(printable(line) + "\n")
        self.stderr.flush()


def _lenient(stream: TextIO | None, mode: Literal["r", "w"] = "w") -> TextIO:
    """The stream, made to take any byte and any character without an error."""
    if stream is None:
        # It takes the closed one's descriptor, so that nothing else does.
        stream = open(os.devnull, mode)  # noqa: SIM115 (open to the end)
        os.set_inheritable(stream.fileno(), True)
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="surrogateescape" if mode == "r" else "backslashreplace")
    return stream


def printable(text: str) -> str:
    """`text` with everything escaped that a terminal could take as an instruction; lines stay."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character == "\n"
        else character.encode("unicode_escape").decode()
        for character in text
    )
