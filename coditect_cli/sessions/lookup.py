"""Which session somebody means."""

from __future__ import annotations

from collections.abc import Iterable

from coditect_cli.errors import NotFound, UsageError
from coditect_cli.sessions.ids import id_bytes, id_text, id_words
from coditect_cli.sessions.layer import OUTPUT, STATE, sessions_prefix
from coditect_cli.stores.store import SessionStore, Snapshot, prefix_end

MOST_NAMED = 5  # ids that an error names


def find_session(
    store: SessionStore | None, live: Iterable[str], workspace_id: str, text: str
) -> str:
    """The session of a workspace whose id is `text`, else the only one that starts with it.

    Looks among the saved ones, also where only an output is left, and the ids in `live`.
    Raises UsageError (session.invalid_id, session.ambiguous), NotFound (session.not_found).
    """
    text = id_text(id_bytes(text))
    found = {id for id in live if id.startswith(text)}
    if store is not None:
        found.update(saved_ids(store, workspace_id, text, MOST_NAMED + 1))
    if text in found or len(found) == 1:
        return text if text in found else found.pop()
    if not found:
        raise NotFound(
            f"no session {text} in workspace {workspace_id}",
            code="session.not_found",
            hint=f"coditect session list {id_words(workspace_id)} shows them",
        )
    named = ", ".join(sorted(found)[:MOST_NAMED])
    raise UsageError(
        f"several sessions of workspace {workspace_id} start with {text}",
        code="session.ambiguous",
        hint=f"type more of it: {named}{', …' if len(found) > MOST_NAMED else ''}",
    )


def saved_ids(store: SessionStore, workspace_id: str, start: str, limit: int) -> set[str]:
    """Ids of saved sessions that start with `start`: the first `limit` of states and outputs."""
    prefixes = [sessions_prefix(kind, workspace_id) for kind in (STATE, OUTPUT)]

    def read(snapshot: Snapshot) -> set[str]:
        found = set()
        for prefix in prefixes:
            begin = prefix + (id_bytes(start) if start else b"")
            for key, _ in snapshot.range(begin, prefix_end(begin), limit=limit):
                found.add(id_text(key.removeprefix(prefix)))
        return found

    return store.read(read)
