"""How far a scan has come, for whoever watches it."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from coditect_cli.stores.store import Page
from coditect_cli.streams import Streams

P = TypeVar("P", bound=Page[Any])
T = TypeVar("T")

BAR = 30  # columns


class Progress:
    """Counts the rows and read versions of a scan, and tells them on stderr.

    `noun` is what the rows are, in the plural. How far it is, is told by `whole`, about how many
    bytes the scan reads, or by `parts`, what stands before the slashes of its keys, in order; both
    are called once, and know it or not. A bar, or else a count, is drawn only on a terminal, once
    the scan has taken `patience` seconds, and wiped before something is shown: there may be only
    one terminal.
    """

    patience = 0.2

    def __init__(
        self,
        streams: Streams,
        noun: str,
        whole: Callable[[], int | None] | None = None,
        parts: Callable[[], Sequence[bytes]] | None = None,
    ) -> None:
        self._streams = streams
        self._noun = noun
        self._whole = whole
        self._total: int | None = None
        self._find_parts = parts
        self._parts: Sequence[bytes] = ()
        self._last = b""
        self._animates = streams.may_animate()
        self._makes_room = streams.stdout.isatty()
        self._began = time.monotonic()
        self._drawn = False
        self._seen = 0
        self._bytes = 0
        self._version: int | None = None
        self.versions = 0

    def watch(self, pages: Iterable[P]) -> Iterator[P]:
        """The pages, as they come; how many came stands there while one is read.

        Where stdout is that terminal too, it is wiped for each, or for what `above` has of them.
        """
        try:
            for page in pages:
                self._count(page)
                if self._makes_room:
                    self._wipe()
                yield page
                if self._animates and time.monotonic() - self._began >= self.patience:
                    self._draw()
        finally:
            self._wipe()

    def above(self, found: Iterable[T]) -> Iterator[T]:
        """What is found in the pages, and is shown: there is room for it, and only for it."""
        makes_room, self._makes_room = self._makes_room, False
        for one in found:
            if makes_room:
                self._wipe()
            yield one

    def _count(self, page: Page[Any]) -> None:
        self._seen += len(page.rows)
        if page.version != self._version:  # they only grow
            self._version = page.version
            self.versions += 1
        if self._animates:
            self._bytes += sum(len(key) + _size(value) for key, value in page.rows)
            if page.rows:
                self._last = page.rows[-1][0]

    def _draw(self) -> None:
        if self._whole is not None:
            self._total, self._whole = self._whole(), None
        if self._find_parts is not None:
            self._parts, self._find_parts = self._find_parts(), None
        text = f"{self._seen:,} {self._noun}"
        if self._total or len(self._parts) > 1:
            part = min(0.99, self._part())
            bar = ("#" * round(part * BAR)).ljust(BAR, ".")
            text = f"[{bar}] {part:3.0%}  {text}"
        self._write(f"\r{text}")
        self._drawn = True

    def _part(self) -> float:
        if self._total:
            return self._bytes / self._total
        return bisect_left(self._parts, self._last.partition(b"/")[0]) / len(self._parts)

    def _wipe(self) -> None:
        if self._drawn:
            self._write("\r\x1b[K")
            self._drawn = False

    def _write(self, text: str) -> None:
        self._streams.stderr.write(text)
        self._streams.stderr.flush()

    def tell_versions(self) -> None:
        """Say so when what was shown is not of one moment."""
        if self.versions > 1:
            self._streams.say(
                f"the pages come from {self.versions:,} read versions: "
                "what was written meanwhile may be there in part"
            )


def _size(value: bytes | int) -> int:
    return value if isinstance(value, int) else len(value)
