"""A short cutover that somebody confirms; as a program, for ../far.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coditect_cli.migrations.engine import Engine
from coditect_cli.migrations.lock import HeldLock
from coditect_cli.migrations.step import Step
from coditect_cli.stores.store import SessionStore
from tests.migrations.cutover.conftest import Cutover
from tests.migrations.far import main
from tests.support.cloud import Cloud


class Confirmed(Cutover):
    """Whoever is asked types the name."""

    def engine(self, lock: HeldLock, steps: Sequence[Step], kill_after: int = 0) -> Engine:
        made = super().engine(lock, steps, kill_after)
        made._confirm = lambda question, name: None
        return made


def make(store: SessionStore, folder: Path, cloud: Cloud | None = None) -> Confirmed:
    """One whose own cloud nobody asks, where it is given none."""
    return Confirmed(store, folder, cloud or Cloud(), shifts=(100,))


if __name__ == "__main__":
    main(make)
