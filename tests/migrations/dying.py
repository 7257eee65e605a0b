"""A run of the toy migration that the system kills, after that line of its journal:

python -m tests.migrations.dying FOLDER RUN LINE
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from coditect_cli.stores.sqlite import SQLiteStore
from tests.migrations.site import Site
from tests.migrations.toy import FAIL, phase, world


class Dying(Site):
    """Nothing runs after its death, not even `finally`, and nobody gives its lock back."""

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def dying(folder: Path) -> Dying:
    """The site in a folder: its store, and the world that its gate finds bad."""
    (folder / "world").mkdir(parents=True, exist_ok=True)
    return Dying(SQLiteStore(folder / "state" / "sessions.db"), folder / "world", world())


if __name__ == "__main__":
    site = dying(Path(sys.argv[1]))
    site.run = sys.argv[2]
    site.go(phase(site.folder, FAIL), kill_after=int(sys.argv[3]))
