"""One question to a gateway, one answer."""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable
from typing import Any, TypeVar

from coditect_cli.attach.credentials import Credentials
from coditect_cli.attach.link import Link, LinkLost
from coditect_cli.attach.page import fetch
from coditect_cli.config import Context
from coditect_cli.errors import NotFound, Unreachable, from_dict
from coditect_cli.paths import Paths
from coditect_cli.protocol.handshake import SESSIONS_PAGE
from coditect_cli.protocol.shape import json_object

TIMEOUT = 30.0  # seconds; `stop` waits for programs to end
PATIENCE = 10.0  # seconds, until another bridge answers
PAUSE = 0.02
_READS = ("sessions", "read", "status")  # what may be asked twice

Result = TypeVar("Result")


def request(
    context: Context,
    paths: Paths,
    workspace_id: str,
    message: dict[str, Any],
    credentials: Credentials | None = None,
) -> dict[str, Any]:
    """Send a request of docs/protocol.md about one workspace, and return the answer's fields.

    Never starts a gateway; `credentials` are those of requests before this one. Where a gateway of
    this machine hangs up, as one whose bridge is killed, it is asked again, if that does no harm.
    Raises the gateway's error, or Unreachable when none answers (for the local context with code
    gateway.not_running).
    """
    if credentials is None:
        credentials = Credentials(context, paths, workspace_id, os.environ)
    token, url = credentials.recent(), context.gateway_url(paths)
    is_here = url.startswith("ws+unix:")
    deadline = time.monotonic() + (PATIENCE if is_here else 0)
    if message == {"type": "sessions"} and is_here:
        found = _patiently(lambda: _live_sessions(url, workspace_id, token), deadline)
        if found is not None:
            return found

    def ask() -> dict[str, Any]:
        link = _patiently(lambda: Link.open(url, workspace_id, token), deadline)
        return _ask(link, message)

    return _patiently(ask, deadline) if message["type"] in _READS else ask()


def _patiently(step: Callable[[], Result], deadline: float) -> Result:
    """What this gives, with time for a bridge that ended just then to have a successor."""
    while True:
        try:
            return step()
        except Unreachable as error:
            hung_up = error.code == "gateway.no_answer" and error.retryable
            if not hung_up or time.monotonic() >= deadline:
                raise
        time.sleep(PAUSE)


def _ask(link: Link, message: dict[str, Any]) -> dict[str, Any]:
    try:
        link.send(json.dumps(message))
        answer = json_object(_first_text(link))
    except LinkLost as lost:
        raise Unreachable(
            f"the gateway hung up without an answer (close code {lost.close_code})",
            code="gateway.no_answer",
            retryable=True,
        ) from lost
    finally:
        link.close()
    if answer.get("type") == "error":
        raise from_dict(answer)
    if answer.get("type") == "drain":
        raise Unreachable(
            "the gateway was just ending when it was asked",
            code="gateway.no_answer",
            retryable=True,
        )
    return answer


def _live_sessions(url: str, workspace_id: str, token: str) -> dict[str, Any] | None:
    """The answer to `sessions`, without a WebSocket; None of a gateway that has no such page."""
    try:
        return json_object(fetch(url, SESSIONS_PAGE, workspace_id, token))
    except NotFound as error:
        if error.code != "path.not_found":
            raise
        return None


def _first_text(link: Link) -> str:
    deadline = time.monotonic() + TIMEOUT
    while True:
        link.flush()
        writers = [link.fd] if link.unsent else []
        left = 0.0 if link.pending() else deadline - time.monotonic()
        readable, _, _ = select.select([link.fd], writers, [], max(0.0, left))
        if readable or link.pending():
            for received in link.receive():
                if isinstance(received, str):
                    return received
        elif time.monotonic() >= deadline:
            raise Unreachable(
                f"the gateway gave no answer within {TIMEOUT:g} s", code="gateway.no_answer"
            )
