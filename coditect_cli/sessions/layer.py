"""The keys of sessions, and what is done to them in one transaction.

{workspace_id}/terminal_sessions/{session_id}   the state
{workspace_id}/terminal_output/{session_id}     the screen and what scrolled off it
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from heapq import nlargest
from typing import TypeVar

from coditect_cli.errors import Conflict, Failed, Forbidden, UsageError
from coditect_cli.sessions.ids import id_bytes, id_text, id_words
from coditect_cli.sessions.leases import (
    LEASES,
    OWN,
    Lease,
    check_lease,
    get_lease,
    held_by_another,
    lease_key,
    read_lease,
    write_lease,
)
from coditect_cli.sessions.session import (
    SessionOutput,
    SessionState,
    unknown_fields,
)
from coditect_cli.stores.store import (
    Reads,
    Row,
    SessionStore,
    Snapshot,
    Transaction,
    prefix_end,
    scan,
)
from coditect_cli.workspaces.spec import check_session_id, check_workspace_id

Record = TypeVar("Record", SessionState, SessionOutput)

STATE = "terminal_sessions"
OUTPUT = "terminal_output"
OWN_END = prefix_end(OWN)
NAMES, NAMES_END = b" ", b"\xf8"  # a name is text: keys outside are of other layers, such as tuples
MOST_TRIED = 20  # sessions of which one may be taken
LOOKS_PER_READ = 300  # one after the other: far below 5 s, also over a network


class SessionLayer:
    """Sessions in a store. Every method raises the store's own errors too.

    Ids are checked where they enter: UsageError (session.invalid_id, workspace.invalid_id).
    Reads take any id that makes a key of its own, writes only ids that this program makes.
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def save(
        self, state: SessionState, output: SessionOutput | None = None, lease: Lease | None = None
    ) -> None:
        """Write a session, whole or not at all; fields that others added are kept.

        Raises Conflict (session.lease_lost) when `lease` is no longer the one in the store.
        """
        ids = check_workspace_id(state.workspace_id), check_session_id(state.id)
        if output is not None and output.session_id != state.id:
            raise UsageError(
                f"an output of session {output.session_id} is not one of session {state.id}",
                code="session.invalid_id",
            )

        def write(transaction: Transaction) -> None:
            check_lease(transaction, lease, *ids)
            _put(transaction, _key(STATE, *ids), state)
            if output is not None:
                _put(transaction, _key(OUTPUT, *ids), output)

        self._store.transact(write)

    def load(
        self, workspace_id: str, session_id: str
    ) -> tuple[SessionState | None, SessionOutput | None]:
        """State and output of one moment; None for what is not there.

        Raises Failed (session.unreadable).
        """
        keys = [_key(kind, workspace_id, session_id) for kind in (STATE, OUTPUT)]
        state, output = self._store.read(lambda snapshot: snapshot.get_all(keys))
        with _telling(keys[0], workspace_id, session_id):
            decoded = None if state is None else SessionState.decode(state)
        with _telling(keys[1], workspace_id, session_id):
            return decoded, None if output is None else SessionOutput.decode(output)

    def rows(
        self, workspace_id: str, ranges: Sequence[tuple[bytes, bytes]], limit: int
    ) -> tuple[int, list[list[Row]]]:
        """A read version, and the rows of each range, at most `limit`, as `Reads.range` has them.

        Raises Forbidden for ranges that are not of the workspace's states or outputs.
        """
        prefixes = [sessions_prefix(kind, workspace_id) for kind in (STATE, OUTPUT)]
        for begin, end in ranges:
            if not any(prefix <= begin and end <= prefix_end(prefix) for prefix in prefixes):
                raise Forbidden(
                    f"these are no keys of sessions of workspace {workspace_id}",
                    code="workspace.forbidden",
                )

        def read(snapshot: Snapshot) -> tuple[int, list[list[Row]]]:
            rows = [snapshot.range(begin, end, limit=limit) for begin, end in ranges]
            return snapshot.version, rows

        return self._store.read(read)

    def ids(self, workspace_id: str) -> Iterator[str]:
        """The ids of a workspace's sessions, in the order of their bytes."""
        prefix = sessions_prefix(STATE, workspace_id)
        for page in scan(self._store, prefix, prefix_end(prefix)):
            for key, _ in page.rows:
                yield id_text(key.removeprefix(prefix))

    def states(self, workspace_id: str) -> Iterator[SessionState]:
        """A workspace's sessions, by id. Raises Failed (session.unreadable)."""
        prefix = sessions_prefix(STATE, workspace_id)
        for page in scan(self._store, prefix, prefix_end(prefix)):
            for _, value in page.rows:
                yield SessionState.decode(value)

    def workspaces(self) -> Iterator[str]:
        """The workspaces that have a name, and sessions or outputs, found without reading these."""
        position = NAMES

        def skip(snapshot: Snapshot) -> tuple[list[str], bytes | None]:
            found: list[str] = []
            begin = position
            for _ in range(LOOKS_PER_READ):
                key = snapshot.first_key(begin, NAMES_END)
                if key is None:
                    return found, None
                first, slash, rest = key.partition(b"/")
                begin = prefix_end(first + slash) if slash else key + b"\0"
                is_name = first and slash and first + slash != OWN
                if is_name and _has_sessions(snapshot, first, rest):
                    found.append(id_text(first))
            return found, begin

        following: bytes | None = position
        while following is not None:
            position = following
            names, following = self._store.read(skip)
            yield from names

    def delete(
        self,
        workspace_id: str,
        session_id: str,
        lease: Lease | None = None,
        unless_held_at: int | None = None,
    ) -> bool:
        """Remove a session and its lease; whether there was one.

        Raises Conflict: session.lease_lost when `lease` is no longer the one in the store,
        session.leased when anybody's holds at `unless_held_at` (nanoseconds since 1970).
        """
        keys = [_key(kind, workspace_id, session_id) for kind in (STATE, OUTPUT)]

        def remove(transaction: Transaction) -> bool:
            check_lease(transaction, lease, workspace_id, session_id)
            if unless_held_at is not None:
                self.check_unheld(transaction, workspace_id, session_id, unless_held_at)
            found = [transaction.get(key) is not None for key in keys]
            _clear(transaction, workspace_id, session_id)
            return any(found)

        return self._store.transact(remove)

    def delete_older(self, ids: list[tuple[str, str]], before: int, now: int) -> set[int]:
        """Remove those of `ids` (workspace, session) that `older` finds; their positions."""

        def remove(transaction: Transaction) -> set[int]:
            found = self._older(transaction, ids, before, now)
            for at in found:
                _clear(transaction, *ids[at])
            return found

        return self._store.transact(remove)

    def older(self, ids: list[tuple[str, str]], before: int, now: int) -> set[int]:
        """The positions of those of `ids` that were last active before a time.

        The others have become active again, are held by somebody `now`, are gone, or cannot be
        read. Times are nanoseconds since 1970.
        """
        return self._store.read(lambda snapshot: self._older(snapshot, ids, before, now))

    def _older(self, reads: Reads, ids: list[tuple[str, str]], before: int, now: int) -> set[int]:
        keys: list[bytes] = []
        for id in ids:
            with suppress(UsageError):
                keys += lease_key(*id), _key(STATE, *id)
        reads.get_all(keys)
        found = set()
        for at, (workspace_id, session_id) in enumerate(ids):
            with suppress(Conflict, Failed, UsageError):
                self.check_unheld(reads, workspace_id, session_id, now)
                value = reads.get(_key(STATE, workspace_id, session_id))
                if value and SessionState.decode(value).last_active < before:
                    found.add(at)
        return found

    def held(self, workspace_id: str | None, now: int) -> Iterator[Lease]:
        """The leases that hold, of a workspace or of all; damaged ones are passed over."""
        prefix = LEASES
        if workspace_id is not None:
            prefix += id_bytes(workspace_id, "workspace") + b"/"
        for page in scan(self._store, prefix, prefix_end(prefix)):
            for key, value in page.rows:
                if b'"holder":""' in value:
                    continue  # as most are: given back
                with suppress(Failed, TypeError):
                    ids = map(id_text, key.removeprefix(LEASES).split(b"/", 1))
                    lease = read_lease(value, *ids)
                    if lease.holder and lease.expires_at > now:
                        yield lease

    @staticmethod
    def check_unheld(reads: Reads, workspace_id: str, session_id: str, now: int) -> None:
        """Raises Conflict (session.leased) while anybody's lease holds."""
        held = get_lease(reads, workspace_id, session_id)
        if held and held.holder and held.expires_at > now:
            raise held_by_another(held)

    def newest(self, workspace_id: str, live: Collection[str]) -> list[str]:
        """The sessions used last, the latest first, that are not `live` and did not end themselves.

        At most MOST_TRIED; records that cannot be read, and ids that we would not write, are
        passed over.
        """
        prefix = sessions_prefix(STATE, workspace_id)
        newest: list[tuple[int, str]] = []
        for page in scan(self._store, prefix, prefix_end(prefix)):
            for key, value in page.rows:
                id = id_text(key.removeprefix(prefix))
                with suppress(Failed, UsageError):
                    state = SessionState.decode(value)
                    if id not in live and check_session_id(id) == state.id and not state.ended_at:
                        newest.append((state.last_active, id))
            newest = nlargest(MOST_TRIED, newest)
        return [id for _, id in newest]

    def acquire(
        self,
        workspace_id: str,
        session_id: str,
        holder: str,
        *,
        now: int,
        ttl: int,
        instead_of: str | None = None,
    ) -> Lease:
        """Become the one who may write a session, for `ttl` nanoseconds from `now`.

        `holder` is an id that nobody else has; the same one gets its lease again, renewed.
        Holders that start with `instead_of` are known to be gone. Raises Conflict
        (session.leased) while another one's lease holds.
        """
        ids = check_workspace_id(workspace_id), check_session_id(session_id)

        def take(transaction: Transaction) -> Lease:
            held = get_lease(transaction, *ids)
            gone = instead_of is not None and held and held.holder.startswith(instead_of)
            if held and held.holder != holder and held.expires_at > now and not gone:
                raise held_by_another(held)
            token = held.token if held else 0
            if not held or held.holder != holder:
                token += 1
            return write_lease(transaction, Lease(*ids, holder, token, now + ttl))

        return self._store.transact(take)

    def renew(self, leases: Sequence[Lease], *, now: int, ttl: int) -> None:
        """Hold leases longer, expired or not; those that were lost are left alone."""
        self._rewrite(leases, lambda lease: lease._replace(expires_at=now + ttl))

    def release(self, *leases: Lease) -> None:
        """Give leases back; their tokens stay used. Those that were lost are left alone."""
        self._rewrite(leases, lambda lease: lease._replace(holder="", expires_at=0))

    def _rewrite(self, leases: Sequence[Lease], changed: Callable[[Lease], Lease]) -> None:
        def write(transaction: Transaction, some: Sequence[Lease]) -> None:
            transaction.get_all([lease_key(one.workspace_id, one.session_id) for one in some])
            for lease in some:
                with suppress(Conflict, Failed):
                    check_lease(transaction, lease, lease.workspace_id, lease.session_id)
                    write_lease(transaction, changed(lease))

        for at in range(0, len(leases), LOOKS_PER_READ):
            self._store.transact(partial(write, some=leases[at : at + LOOKS_PER_READ]))


def sessions_prefix(kind: str, workspace_id: str) -> bytes:
    """What the keys of a workspace's states or outputs start with. Raises UsageError."""
    return id_bytes(workspace_id, "workspace") + f"/{kind}/".encode()


@contextmanager
def _telling(key: bytes, workspace_id: str, session_id: str) -> Iterator[None]:
    """Name in an error the session and the key whose value cannot be read."""
    try:
        yield
    except Failed as error:
        place = id_words("/".join(map(id_text, key.split(b"/"))))
        raise Failed(
            f"session {session_id} of workspace {workspace_id}: {error.message}",
            code=error.code,
            hint=f"coditect keys get {place} says what the store has there",
        ) from error


def _has_sessions(snapshot: Snapshot, workspace_id: bytes, rest_of_first_key: bytes) -> bool:
    if rest_of_first_key.startswith((STATE.encode() + b"/", OUTPUT.encode() + b"/")):
        return True  # nearly always: no need to look again
    prefixes = [workspace_id + f"/{kind}/".encode() for kind in (STATE, OUTPUT)]
    return any(snapshot.first_key(prefix, prefix_end(prefix)) for prefix in prefixes)


def _key(kind: str, workspace_id: str, session_id: str) -> bytes:
    return sessions_prefix(kind, workspace_id) + id_bytes(session_id)


def _clear(transaction: Transaction, *ids: str) -> None:
    for key in (_key(STATE, *ids), _key(OUTPUT, *ids), lease_key(*ids)):
        transaction.clear(key)


def _put(transaction: Transaction, key: bytes, record: Record) -> None:
    kept = unknown_fields(transaction.get(key), type(record))
    transaction.set(key, replace(record, unknown={**kept, **record.unknown}).encode())
