"""What ends an attachment, as the user's error (pure)."""

from __future__ import annotations

from coditect_cli.errors import CoditectError, Conflict, LimitReached, NotFound, SessionLost
from coditect_cli.protocol import messages

FINAL_CLOSE_CODES = (messages.CLOSE_DONE, messages.CLOSE_REFUSED, 1002, 1007, 1009)
TOO_LARGE = 1009
FAILED = 1011


def by_close(code: int, *, joined: bool, way_back: str | None) -> CoditectError | None:
    """Why the gateway closed with `code`; None where another link may go on.

    `joined` tells whether the gateway has answered the first message.
    """
    if code == messages.CLOSE_ENDED:
        return gateway_stopped(way_back)
    if code == TOO_LARGE and not joined:
        return LimitReached(
            "the command, with its variables, is larger than a message to the gateway may be",
            code="limit.message",
            hint="pass it on stdin, or raise the gateway's setting max_message",
        )
    if code in FINAL_CLOSE_CODES or (code == FAILED and not joined):
        return SessionLost(
            f"the gateway ended the attachment (close code {code})",
            code="session.closed",
            hint="coditect gateway logs may say why",
        )
    return None


def by_refusal(error: CoditectError, workspace: str, *, joined: bool) -> CoditectError:
    """The gateway's `error`: where there was a session already, that is lost."""
    if not joined:
        return error
    again = f"coditect up {workspace} starts anew"
    hint = again if isinstance(error, NotFound) else error.hint
    return SessionLost(f"the session was lost: {error.message}", code=error.code, hint=hint)


def gateway_stopped(way_back: str | None) -> SessionLost:
    """The gateway has said that it ends for good."""
    return SessionLost(
        "the gateway was stopped, and ended its sessions",
        code="session.gateway_stopped",
        hint=way_back,
    )


def gateway_gone(way_back: str | None) -> SessionLost:
    """There is no gateway any more where one was."""
    return SessionLost(
        "the gateway is gone, and the programs it held with it",
        code="session.gateway_gone",
        hint=way_back,
    )


def not_back_within(seconds: float) -> SessionLost:
    """The link was lost for longer than can be borne."""
    return SessionLost(
        f"the connection to the gateway was lost, and did not come back within {seconds:g} s",
        code="session.link_lost",
    )


def fed_by_itself(workspace: str) -> Conflict:
    """What this terminal shows is what it would be shown, without end."""
    return Conflict(
        "this terminal is in the session that it would be attached to",
        code="session.own",
        hint=f"coditect attach {workspace} --new makes another one; where it is another terminal: "
        "unset CODITECT_SESSION",
    )
