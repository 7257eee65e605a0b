"""How far a scan has come, for whoever watches it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from coditect_cli.stores.store import Page
from coditect_cli.streams import Streams

P = TypeVar("P", bound=Page[Any])


@dataclass
class Progress:
    """Counts the rows and read versions of a scan, and tells them on stderr.

    `noun` is what the rows are, in the plural. A count is drawn only on a terminal, and wiped.
    """

    streams: Streams
    noun: str
    seen: int = 0
    _versions: set[int] = field(default_factory=set)

    @property
    def versions(self) -> int:
        return len(self._versions)

    def watch(self, pages: Iterable[P]) -> Iterator[P]:
        """The pages, as they come."""
        shown = self.streams.may_animate() and not self.streams.stdout.isatty()
        for page in pages:
            self.seen += len(page.rows)
            self._versions.add(page.version)
            if shown:
                self.streams.stderr.write(f"\r{self.seen:,} {self.noun}")
                self.streams.stderr.flush()
            yield page
        if shown:
            self.streams.stderr.write("\r\x1b[K")

    def tell_versions(self) -> None:
        """Say so when what was shown is not of one moment."""
        if self.versions > 1:
            self.streams.say(
                f"the pages come from {self.versions:,} read versions: "
                "what was written meanwhile may be there in part"
            )
