"""How far a scan has come, for whoever watches it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from coditect_cli.stores.store import Page
from coditect_cli.streams import Streams

P = TypeVar("P", bound=Page[Any])


class Progress:
    """Counts the rows and read versions of a scan, and tells them on stderr.

    `noun` is what the rows are, in the plural. A count is drawn only on a terminal, and wiped.
    """

    def __init__(self, streams: Streams, noun: str) -> None:
        self._streams = streams
        self._noun = noun
        self._seen = 0
        self._versions: set[int] = set()

    @property
    def versions(self) -> int:
        return len(self._versions)

    def watch(self, pages: Iterable[P]) -> Iterator[P]:
        """The pages, as they come."""
        shown = self._streams.may_animate() and not self._streams.stdout.isatty()
        try:
            for page in pages:
                self._seen += len(page.rows)
                self._versions.add(page.version)
                if shown:
                    self._streams.stderr.write(f"\r{self._seen:,} {self._noun}")
                    self._streams.stderr.flush()
                yield page
        finally:  # also where the listing has enough
            if shown:
                self._streams.stderr.write("\r\x1b[K")

    def tell_versions(self) -> None:
        """Say so when what was shown is not of one moment."""
        if self.versions > 1:
            self._streams.say(
                f"the pages come from {self.versions:,} read versions: "
                "what was written meanwhile may be there in part"
            )
