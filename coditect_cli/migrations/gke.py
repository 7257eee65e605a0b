"""Clusters of Google Kubernetes Engine: what is done to one goes on for minutes, whoever waits."""

from __future__ import annotations

import time
from collections.abc import Callable

from coditect_cli.errors import TimedOut

POLL = 10.0  # seconds
MAKING, DELETING = "PROVISIONING", "STOPPING"

Status = str | None  # None: there is no such cluster


def settled(look: Callable[[], Status], *passing: Status, patience: float) -> Status:
    """A cluster's status, once it is none of these. Raises TimedOut, and as `look` does."""
    deadline = time.monotonic() + patience
    while (status := look()) in passing:
        if time.monotonic() > deadline:
            raise TimedOut(f"the cluster is {status or 'not there'} after {patience:g} s")
        time.sleep(POLL)
    return status
