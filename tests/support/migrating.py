"""`coditect migrate` as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping


def start_migrate(environ: Mapping[str, str], *args: str) -> subprocess.Popen[str]:
    """Start it without a terminal; what it prints is to be read."""
    return subprocess.Popen(
        [sys.executable, "-m", "coditect_cli", "migrate", *args],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
