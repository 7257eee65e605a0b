"""How a command reaches the gateway of its context."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from coditect_cli.attach.credentials import Credentials
from coditect_cli.attach.link import Link
from coditect_cli.config import Context
from coditect_cli.errors import Unreachable
from coditect_cli.paths import Paths

log = logging.getLogger("coditect.connect")

PATIENCE = 10.0  # seconds for a gateway that is ending to make room for a new one
PAUSE = 0.02


def start_gateway(context: Context, paths: Paths) -> None:
    """Start the local gateway where the context uses it and it does not run yet."""
    if _is_local(context):
        from coditect_cli.gateway.launch import ensure_running

        ensure_running(paths, context.name)


@contextmanager
def dialing(
    context: Context, paths: Paths, workspace_id: str, *, insecure: bool
) -> Iterator[Callable[[], Link]]:
    """How to connect to the workspace, each time with a fresh token.

    Until the first connection stands, the local gateway is started where it does not run, also
    when one hangs up because it ends; after that it never is, for the session would be gone.
    """
    url = context.gateway_url(paths)
    credentials = Credentials(context, paths, workspace_id, os.environ)
    stood = False

    def dial() -> Link:
        nonlocal stood
        deadline = time.monotonic() + PATIENCE
        while True:
            if not stood:
                start_gateway(context, paths)
            log.info("connecting workspace=%s url=%s", workspace_id, url)
            try:
                link = Link.open(url, workspace_id, credentials.token(), insecure=insecure)
                break
            except Unreachable as error:
                log.info("not_connected code=%s", error.code)
                late = time.monotonic() >= deadline
                if stood and not _is_local(context):  # its socket may come back, as a forwarded one
                    error.code = "gateway.unreachable"
                if stood or late or not (error.retryable and _is_local(context)):
                    raise
            time.sleep(PAUSE)
        stood = True
        log.info("connected")
        return link

    try:
        yield dial
    finally:
        credentials.stop()


def _is_local(context: Context) -> bool:
    return context.settings.provider == "local" and context.settings.gateway_url is None
