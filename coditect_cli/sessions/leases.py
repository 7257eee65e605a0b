"""Who may write a session: its lease, a key of its own with a fencing token.

_coditect/leases/{workspace_id}/{session_id}    (no workspace id starts with _)
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from coditect_cli.errors import Conflict, Failed
from coditect_cli.sessions.ids import id_bytes, id_words
from coditect_cli.sessions.session import format_time, parse_time
from coditect_cli.stores.store import Reads, Transaction

OWN = b"_coditect/"
LEASES = OWN + b"leases/"


class Lease(NamedTuple):
    """The right to write a session until `expires_at` (nanoseconds since 1970), and after it
    until somebody else takes it. Each new holder's `token` is larger than the one before.
    """

    workspace_id: str
    session_id: str
    holder: str
    token: int
    expires_at: int


def lease_key(workspace_id: str, session_id: str) -> bytes:
    """The key of a session's lease. Raises UsageError."""
    return LEASES + id_bytes(workspace_id, "workspace") + b"/" + id_bytes(session_id)


def get_lease(reads: Reads, workspace_id: str, session_id: str) -> Lease | None:
    """A session's lease, whoever has it and whether it holds. Raises what `read_lease` does."""
    value = reads.get(lease_key(workspace_id, session_id))
    return None if value is None else read_lease(value, workspace_id, session_id)


def read_lease(value: bytes, workspace_id: str, session_id: str) -> Lease:
    """What a lease's value says. Raises Failed (session.lease_unreadable)."""
    try:
        fields: dict[str, Any] = json.loads(value)
        holder, token = fields["holder"], fields["token"]
        expires_at = parse_time(fields["expires_at"])
        if not isinstance(holder, str) or type(token) is not int:
            raise ValueError("not a lease")
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        raise Failed(
            f"the lease of session {session_id} of workspace {workspace_id} is damaged",
            code="session.lease_unreadable",
            hint=f"coditect keys get {id_words(f'_coditect/leases/{workspace_id}/{session_id}')} "
            f"tells of it; coditect session delete --force {id_words(workspace_id, session_id)} "
            "removes the session too",
        ) from None
    return Lease(workspace_id, session_id, holder, token, expires_at)


def write_lease(transaction: Transaction, lease: Lease) -> Lease:
    """Put a lease in the place of the one before; it is returned."""
    fields = {
        "holder": lease.holder,
        "token": lease.token,
        "expires_at": format_time(lease.expires_at),
    }
    value = json.dumps(fields, separators=(",", ":")).encode()
    transaction.set(lease_key(lease.workspace_id, lease.session_id), value)
    return lease


def check_lease(
    transaction: Transaction, lease: Lease | None, workspace_id: str, session_id: str
) -> None:
    """Raises Conflict (session.lease_lost) when it is no longer the session's."""
    if lease is None:
        return
    held = get_lease(transaction, lease.workspace_id, lease.session_id)
    mine = (workspace_id, session_id, lease.holder, lease.token)
    if held is None or (held.workspace_id, held.session_id, held.holder, held.token) != mine:
        raise Conflict(
            f"session {session_id} of workspace {workspace_id} belongs to another bridge now",
            code="session.lease_lost",
            hint="attach to it again",
        )


def held_by_another(held: Lease) -> Conflict:
    """What to raise where a lease stands in the way."""
    return Conflict(
        f"session {held.session_id} of workspace {held.workspace_id} belongs to another bridge "
        f"until {format_time(held.expires_at)}",
        code="session.leased",
        hint="try again after that: also a bridge that was killed holds its sessions so long",
        retryable=True,
    )
