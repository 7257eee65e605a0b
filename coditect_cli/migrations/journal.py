"""The history of a run: append-only, each event durable before anything goes on, hash-chained.

_coditect/migrations/runs/{run}/{number}          one event, JSON
_coditect/migrations/runs/{run}/{number}.{part}   the rest of one that is too long for a value
_coditect/migrations/heads/{run}                  number and hash of the last one

An event's `hash` is the SHA-256 of its other fields as compact JSON with sorted keys; `previous`
is the hash of the event before, for the first one the run's id.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from coditect_cli.errors import Failed, NotFound, UsageError
from coditect_cli.migrations.lock import HeldLock
from coditect_cli.migrations.redaction import redacted
from coditect_cli.sessions.session import format_time
from coditect_cli.stores.store import (
    MAX_VALUE,
    Reads,
    Row,
    SessionStore,
    Transaction,
    prefix_end,
    scan,
)

RUNS = b"_coditect/migrations/runs/"
HEADS = b"_coditect/migrations/heads/"
_RUN_ID = re.compile(r"[a-z0-9]{1,20}-\d{8}T\d{6}-[0-9a-f]{6}")


@dataclass(frozen=True)
class Event:
    """One line of a journal; `at` is RFC 3339 in UTC, `data` what this type of event says.

    `attempt` is how often the step had been begun by then.
    """

    number: int
    at: str
    run: str
    type: str
    step: str | None
    attempt: int | None
    actor: str
    data: dict[str, Any]
    id: str
    previous: str

    def as_dict(self) -> dict[str, Any]:
        """The event as the store has it."""
        return {**vars(self), "hash": self.hash}

    def shown(self) -> dict[str, Any]:
        """The event as it is printed: the way back may need what nobody else is to read."""
        return {**self.as_dict(), "data": redacted(self.data)}

    @property
    def hash(self) -> str:
        content = json.dumps(vars(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()


class Journal:
    """The journal of one run. With a lock, nothing is appended once another has it."""

    def __init__(
        self,
        store: SessionStore,
        run: str,
        actor: str,
        lock: HeldLock | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.run = check_run_id(run)
        self.actor = actor
        self._store = store
        self._lock = lock
        self._clock = clock
        self._last: tuple[int, str] = (0, self.run)

    def append(
        self,
        type: str,
        step: str | None = None,
        attempt: int | None = None,
        whole: Mapping[str, Any] | None = None,
        **data: Any,
    ) -> None:
        """Write one event; durable on return. Secrets in `data` are redacted, not those in `whole`.

        Raises Conflict (migrate.lock_lost), Failed (migrate.journal_broken).
        """
        id = secrets.token_hex(8)
        data = json.loads(json.dumps(redacted(data) | ({"whole": whole} if whole else {})))

        def write(transaction: Transaction) -> None:
            if self._lock is not None:
                self._lock.check(transaction)
            number, previous = _head(transaction, self.run)
            if number:
                last = _decoded(_stored(transaction, self.run, number), self.run, number)
                if last.hash != previous:
                    raise _broken(self.run, number)
                if last.id == id:
                    return  # this very event: its commit's result was not known
            event = Event(
                number=number + 1,
                at=format_time(self._clock()),
                run=self.run,
                type=type,
                step=step,
                attempt=attempt,
                actor=self.actor,
                data=data,
                id=id,
                previous=previous,
            )
            value = json.dumps(event.as_dict(), sort_keys=True, separators=(",", ":"))
            _store(transaction, _event_key(self.run, event.number), value.encode())
            head = json.dumps({"number": event.number, "hash": event.hash})
            transaction.set(_head_key(self.run), head.encode())

        self._store.transact(write)

    def check_lock(self) -> None:
        """Raises Conflict (migrate.lock_lost) when the heartbeat found that another has it."""
        if self._lock is not None:
            self._lock.check()

    def new_events(self) -> list[Event]:
        """The events since the last call, of whoever wrote them.

        Raises NotFound (migrate.no_run), Failed (migrate.journal_broken) where the chain breaks.
        """
        number, hash = self._store.read(lambda snapshot: _head(snapshot, self.run))
        if not number:
            raise _no_run(self.run)
        events: list[Event] = []
        last_number, last_hash = self._last
        if number < last_number:
            raise _broken(self.run, number)
        begin = _event_key(self.run, last_number + 1)
        pages = scan(self._store, begin, prefix_end(_run_prefix(self.run)))
        for key, value in _joined(row for page in pages for row in page.rows):
            event = _decoded(value, self.run, last_number + 1)
            key_now = _event_key(self.run, last_number + 1)
            expected = (key_now, self.run, last_number + 1, last_hash)
            if (key, event.run, event.number, event.previous) != expected:
                raise _broken(self.run, last_number + 1)
            events.append(event)
            last_number, last_hash = event.number, event.hash
            if last_number == number and last_hash != hash:
                raise _broken(self.run, number)
        if last_number < number:
            raise _broken(self.run, last_number + 1)
        self._last = (last_number, last_hash)
        return events


def new_run_id(phase: str, now: int) -> str:
    """An id that sorts by time within its phase."""
    stamp = re.sub(r"[-:]|\.\d+|Z", "", format_time(now))
    return f"{phase}-{stamp}-{secrets.token_hex(3)}"


def check_run_id(run: str) -> str:
    """`run` itself, when it can be a run's id. Raises UsageError (migrate.invalid_run)."""
    if not _RUN_ID.fullmatch(run):
        raise UsageError(
            f"{run[:60]!a} is not a run's id",
            code="migrate.invalid_run",
            hint="coditect migrate status lists them",
        )
    return run


def run_ids(store: SessionStore) -> list[str]:
    """Every run that has a journal, the oldest first."""
    heads = scan(store, HEADS, prefix_end(HEADS))
    found = [key.removeprefix(HEADS).decode() for page in heads for key, _ in page.rows]
    return sorted(found, key=lambda run: run.split("-")[1:])


def _no_run(run: str) -> NotFound:
    return NotFound(
        f"there is no run {run}",
        code="migrate.no_run",
        hint="coditect migrate status lists them",
    )


def _broken(run: str, number: int) -> Failed:
    return Failed(
        f"the journal of {run} was tampered with or damaged: event {number} is not the one "
        "that was written",
        code="migrate.journal_broken",
        hint="do not resume it: compare the world with coditect keys ls "
        f"{_run_prefix(run).decode()}, and start a new run",
    )


def _run_prefix(run: str) -> bytes:
    return RUNS + f"{run}/".encode()


def _event_key(run: str, number: int) -> bytes:
    return _run_prefix(run) + f"{number:08}".encode()


def _store(transaction: Transaction, key: bytes, value: bytes) -> None:
    """Keep an event, in as many values as it needs."""
    transaction.set(key, value[:MAX_VALUE])
    for part, begin in enumerate(range(MAX_VALUE, len(value), MAX_VALUE), 1):
        transaction.set(b"%s.%04d" % (key, part), value[begin : begin + MAX_VALUE])


def _stored(reader: Reads, run: str, number: int) -> bytes:
    begin, end = _event_key(run, number), _event_key(run, number + 1)
    parts: list[bytes] = []
    while rows := reader.range(begin, end):
        parts += (value for _, value in rows)
        begin = rows[-1][0] + b"\0"
    return b"".join(parts)


def _joined(rows: Iterable[Row]) -> Iterator[Row]:
    """Each event's key with its whole value."""
    key, parts = b"", list[bytes]()
    for here, value in rows:
        if not key or not here.startswith(key + b"."):
            if key:
                yield key, b"".join(parts)
            key, parts = here, []
        parts.append(value)
    if key:
        yield key, b"".join(parts)


def _head_key(run: str) -> bytes:
    return HEADS + run.encode()


def _head(reader: Reads, run: str) -> tuple[int, str]:
    value = reader.get(_head_key(run))
    if value is None:
        return 0, run
    try:
        head = json.loads(value)
        return int(head["number"]), str(head["hash"])
    except (ValueError, KeyError, TypeError):
        raise _broken(run, 0) from None


def _decoded(value: bytes, run: str, number: int) -> Event:
    try:
        fields = json.loads(value)
        hash = fields.pop("hash")
        event = Event(**fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _broken(run, number) from None
    if event.hash != hash:
        raise _broken(run, number)
    return event
