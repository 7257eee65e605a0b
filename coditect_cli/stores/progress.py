"""How far a scan has come, for whoever watches it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from coditect_cli.stores.store import Page
from coditect_cli.streams import Streams

P = TypeVar("P", bound=Page[Any])


class Progress:
    """Counts the rows and read versions of a scan, and tells them on stderr.

    `noun` is what the rows are, in the plural. A count is drawn only on a terminal, once the scan
    has taken `patience` seconds, and wiped before a page is shown: there may be only one terminal.
    """

    patience = 0.2

    def __init__(self, streams: Streams, noun: str) -> None:
        self._streams = streams
        self._noun = noun
        self._seen = 0
        self._version: int | None = None
        self.versions = 0

    def watch(self, pages: Iterable[P]) -> Iterator[P]:
        """The pages, as they come; while the next one is read, the count stands there."""
        for page in self._drawn(pages):
            self._seen += len(page.rows)
            if page.version != self._version:  # they only grow
                self._version = page.version
                self.versions += 1
            yield page

    def _drawn(self, pages: Iterable[P]) -> Iterator[P]:
        if not self._streams.may_animate():
            yield from pages
            return
        coming = iter(pages)
        began = time.monotonic()
        while True:
            drawn = self._seen and time.monotonic() - began >= self.patience
            if drawn:
                self._write(f"\r{self._seen:,} {self._noun}")
            try:
                page = next(coming, None)
            finally:
                if drawn:
                    self._write("\r\x1b[K")
            if page is None:
                return
            yield page

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
