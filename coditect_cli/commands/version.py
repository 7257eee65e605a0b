"""`coditect version`."""

from __future__ import annotations

import sys

from coditect_cli import __version__
from coditect_cli.output import Result


def version() -> Result:
    """Print the version.

    Examples:
      coditect version
      coditect version -o json

    Exit codes: 0 done
    """
    fields = {
        "version": __version__,
        "python": sys.version.partition(" ")[0],
        "platform": sys.platform,
    }
    return Result("Version", fields, text=f"coditect {__version__}", name="version")
