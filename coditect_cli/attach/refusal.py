"""What a gateway's answer to the handshake means, when it is not "come in" (pure)."""

from __future__ import annotations

import json

from coditect_cli import __version__
from coditect_cli.errors import (
    CoditectError,
    Conflict,
    Failed,
    Forbidden,
    LimitReached,
    NotAuthenticated,
    NotFound,
    Unreachable,
    from_dict,
)
from coditect_cli.protocol.handshake import V2

BY_STATUS: dict[int, type[CoditectError]] = {
    401: NotAuthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    429: LimitReached,
}


def refusal(url: str, status: int, body: bytes) -> CoditectError:
    """The error in a gateway's JSON body, or what the HTTP status alone says."""
    try:
        found = json.loads(body)["error"]
        if isinstance(found, dict):
            return from_dict(found)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    if 300 <= status < 400:
        return Failed(
            f"{url} redirects, and a token is not sent along to another place",
            code="gateway.redirect",
            hint="set the gateway's own URL: CODITECT_GATEWAY_URL, or coditect context set",
        )
    kind = Unreachable if status >= 500 else BY_STATUS.get(status, Failed)
    return kind(
        f"{url} refused the connection with HTTP status {status}",
        code="gateway.refused",
        hint="check that the URL is a gateway's (coditect context show)",
        retryable=status >= 500 or status == 429,
    )


def unsupported(server: str | None) -> CoditectError:
    """The gateway took the connection, but not our protocol."""
    return Failed(
        f"the gateway ({server or 'of unknown version'}) does not speak {V2}, "
        f"which this client (coditect/{__version__}) needs",
        code="protocol.unsupported",
        hint="install the same release at both ends",
    )
