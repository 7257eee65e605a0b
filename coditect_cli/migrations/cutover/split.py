"""What shares traffic between the old cluster and Cloud Run, as a step of the cutover sees it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from coditect_cli.migrations.step import Action, Facts, World


class Split(ABC):
    """One place that shares the traffic.

    `look` gives facts: `share`, Cloud Run's percentage, and whatever `back` needs to put back
    exactly what was there.
    """

    @abstractmethod
    def missing(self, world: World) -> list[str]:
        """The flags without which it can't be found."""

    @abstractmethod
    def look(self, world: World) -> dict[str, Any]:
        """How it is shared now. Raises NotFound, Failed where it can't share, as run_json()."""

    @abstractmethod
    def shift(self, world: World, percent: int, before: Facts) -> Sequence[Action]:
        """Give Cloud Run this share. `before` is a look; empty in a plan that could not look."""

    @abstractmethod
    def back(self, world: World, before: Facts) -> Sequence[Action]:
        """Put back what a look found."""
