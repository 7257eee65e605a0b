"""Who may run a migration: a lease in the store, held by heartbeats, with a fencing token.

_coditect/migrations/lock   holder, token and end of the lease; the token only ever grows
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from coditect_cli.errors import CoditectError, Conflict, Failed
from coditect_cli.sessions.session import NANOSECONDS, format_time
from coditect_cli.stores.store import Reads, SessionStore, Transaction

KEY = b"_coditect/migrations/lock"
LEASE_SECONDS = 60.0


@dataclass(frozen=True)
class Lock:
    """The right to go on with `run` until `expires_at` (nanoseconds since 1970).

    A holder is a process: `machine` tells boot and process namespace ("" where they can't be
    told), so that one that died here need not be waited for. An empty `holder` is a free lock.
    """

    run: str
    holder: str
    token: int
    actor: str
    host: str
    machine: str
    pid: int
    taken_at: int
    expires_at: int

    def as_dict(self) -> dict[str, Any]:
        """The lock as `migrate lock show` prints it."""
        return {
            "run": self.run,
            "actor": self.actor,
            "host": self.host,
            "pid": self.pid,
            "token": self.token,
            "takenAt": format_time(self.taken_at),
            "expiresAt": format_time(self.expires_at),
        }

    def is_held(self, now: int) -> bool:
        """Whether nobody else may take it: its lease runs, and its process is not known dead."""
        return bool(self.holder) and self.expires_at > now and not self._is_dead()

    def _is_dead(self) -> bool:
        if not self.machine or self.machine != _machine():
            return False
        try:
            with open(f"/proc/{self.pid}/stat") as file:
                state = file.read().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        except OSError:
            return False
        # A zombie has ended, whether or not its parent has noticed.
        return state == "Z" or (self.pid == os.getpid() and not _ours(self.holder))


_held_here: set[str] = set()  # holders of this process: its id may be that of one that died


def _ours(holder: str) -> bool:
    return holder in _held_here


def read_lock(store: SessionStore) -> Lock | None:
    """The lock's last holder, None when nobody ever had it. Raises Failed (migrate.lock)."""
    return store.read(_stored)


@contextlib.contextmanager
def hold(
    store: SessionStore,
    run: str,
    actor: str,
    *,
    lease: float = LEASE_SECONDS,
    clock: Callable[[], int] = time.time_ns,
) -> Iterator[HeldLock]:
    """Hold the lock for a block, renewed by a thread. Raises Conflict (migrate.locked)."""
    length = int(lease * NANOSECONDS)
    holder = secrets.token_hex(16)
    _held_here.add(holder)
    me = (actor, socket.gethostname(), _machine(), os.getpid())

    def take(transaction: Transaction) -> Lock:
        now = clock()
        found = _stored(transaction)
        if found is not None and found.holder != holder and found.is_held(now):
            raise Conflict(
                f"{found.actor} on {found.host} (process {found.pid}) runs {found.run}, "
                f"and holds the lock until {format_time(found.expires_at)} at least",
                code="migrate.locked",
                hint="coditect migrate status shows it; if that process is gone for good, "
                f"coditect migrate lock break --confirm {found.run}",
                retryable=True,
            )
        token = found.token if found is not None else 0
        if found is None or found.holder != holder:
            token += 1
        return _write(transaction, Lock(run, holder, token, *me, now, now + length))

    held = HeldLock(store, store.transact(take), length, clock)
    held.start()
    try:
        yield held
    finally:
        held.stop()
        _held_here.discard(holder)


class HeldLock:
    """The lock while this process has it."""

    def __init__(
        self, store: SessionStore, lock: Lock, length: int, clock: Callable[[], int]
    ) -> None:
        self.lock = lock
        self._store = store
        self._length = length
        self._clock = clock
        self._ended = threading.Event()
        self._lost: CoditectError | None = None
        self._thread = threading.Thread(target=self._renew_until_ended, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the heartbeat and give the lock back; one that was lost is left alone."""
        self._ended.set()
        self._thread.join()

        def give_back(transaction: Transaction) -> None:
            found = _stored(transaction)
            if found is not None and found.holder == self.lock.holder:
                _write(transaction, replace(found, holder="", expires_at=self._clock()))

        with contextlib.suppress(CoditectError):  # its lease ends by itself
            self._store.transact(give_back)

    def check(self, transaction: Transaction | None = None) -> None:
        """Raises Conflict (migrate.lock_lost) when another has it; in a transaction: exactly."""
        if self._lost is not None:
            raise self._lost
        if transaction is not None:
            found = _stored(transaction)
            if found is None or (found.holder, found.token) != (self.lock.holder, self.lock.token):
                raise _lost(found)

    def renew(self) -> None:
        """Hold it longer. Raises Conflict (migrate.lock_lost)."""

        def extend(transaction: Transaction) -> None:
            self.check(transaction)
            _write(transaction, replace(self.lock, expires_at=self._clock() + self._length))

        self._store.transact(extend)

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(self._length / NANOSECONDS / 4):
            try:
                self.renew()
            except Conflict as lost:
                if lost.code == "migrate.lock_lost":
                    self._lost = lost
                    return
            except CoditectError:
                continue  # the store may answer before the lease ends; each append checks anyway


def break_lock(store: SessionStore) -> Lock | None:
    """Take the lock from whoever holds it; its token stays used. Returns the lock as it was."""

    def free(transaction: Transaction) -> Lock | None:
        found = _stored(transaction)
        if found is not None and found.holder:
            _write(transaction, replace(found, holder="", expires_at=0))
        return found

    return store.transact(free)


def _lost(found: Lock | None) -> Conflict:
    now = "free" if found is None or not found.holder else f"with {found.actor} on {found.host}"
    return Conflict(
        f"this run lost its lock, which is now {now}: nothing more is done here",
        code="migrate.lock_lost",
        hint="coditect migrate status shows where the run is",
    )


def _stored(reader: Reads) -> Lock | None:
    value = reader.get(KEY)
    if value is None:
        return None
    try:
        return Lock(**json.loads(value))
    except (ValueError, TypeError):
        raise Failed(
            "the migrations' lock cannot be read",
            code="migrate.lock",
            hint=f"coditect keys get {KEY.decode()} shows it",
        ) from None


def _write(transaction: Transaction, lock: Lock) -> Lock:
    transaction.set(KEY, json.dumps(asdict(lock), separators=(",", ":")).encode())
    return lock


def _machine() -> str:
    """What two processes have in common that can see each other's process ids."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
