"""Sessions as a listing shows them: the saved ones page by page, with the live ones among them."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import DecodeError, Meta, Struct
from msgspec.json import Decoder

from coditect_cli.errors import CoditectError
from coditect_cli.sessions.ids import id_bytes, id_text, id_texts, id_words
from coditect_cli.sessions.layer import (
    LOOKS_PER_READ,
    NAMES,
    NAMES_END,
    OWN_END,
    STATE,
    SessionLayer,
    sessions_prefix,
)
from coditect_cli.sessions.leases import OWN
from coditect_cli.sessions.session import SessionState, format_time, parse_time
from coditect_cli.stores.store import (
    PAGE_BYTES,
    PAGE_ROWS,
    Page,
    Row,
    SessionStore,
    Snapshot,
    prefix_end,
)

_UNKNOWN: Mapping[str, Any] = {
    "kind": "terminal",
    **dict.fromkeys(("shell", "pid", "startedAt", "lastActive", "clients")),
}
Key = tuple[str, str]  # workspace id, session id
Live = Mapping[Key, Mapping[str, Any]]  # what the gateway says of each

COLUMNS = {
    "WORKSPACE": "workspace",
    "SESSION": "session",
    "STATE": "state",
    "DIRECTORY": "directory",
    "LAST ACTIVE": "lastActive",
    "CLIENTS": "clients",
}
PARTS_SECONDS = 0.3
WIDE = {"SHELL": "shell", "STARTED": "startedAt", "TYPE": "type", "PROBLEM": "problem"}
_Time = Annotated[str, Meta(min_length=20, max_length=30)]  # as chrono writes one; it ends in Z


class Item(Struct, gc=False, rename="camel", omit_defaults=True):
    """A session as it is shown; `problem` says why its record cannot be read."""

    workspace: str
    session: str
    state: str
    type: str
    shell: str | None
    directory: str | None
    started_at: str | None
    last_active: str | None
    clients: int | None
    problem: str | None = None


class SavedState(Struct, gc=False):
    """What a listing shows of a saved session; the rest of its record is only passed over."""

    shell_type: str
    working_directory: str
    started_at: _Time
    last_active: _Time
    ended_at: _Time | None = None


@dataclass
class Listing:
    """Some sessions, in the order of their keys.

    `workspaces` None means all; `active` the live ones only; `before` those last active before
    this time (nanoseconds since 1970); `after` those behind this one. `next` is set when there
    are more than `limit`, `unreadable` counts records that could only be named.
    """

    store: SessionStore | None
    live: Live
    workspaces: Sequence[str] | None = None
    active: bool = False
    before: int | None = None
    after: Key | None = None
    limit: int | None = None
    next: Key | None = None
    unreadable: int = 0

    def pages(
        self, watch: Callable[[Iterable[Page[bytes]]], Iterable[Page[bytes]]]
    ) -> Iterator[list[Item]]:
        """The items; `watch` sees every page that is read. Raises the store's errors."""
        room, last = self.limit, None
        for items in self._chosen(watch):
            kept = items if room is None else items[:room]
            if kept:
                last = _key(kept[-1])
                yield kept
            if len(kept) < len(items):
                self.unreadable -= sum(item.problem is not None for item in items[len(kept) :])
                self.next = last
                return
            room = None if room is None else room - len(kept)

    def _chosen(
        self, watch: Callable[[Iterable[Page[bytes]]], Iterable[Page[bytes]]]
    ) -> Iterator[list[Item]]:
        for items in self._merged(watch):
            chosen = items
            if self.before is not None:
                chosen = [item for item in items if self._is_older(item, self.before)]
            if chosen:
                yield chosen

    def _is_older(self, item: Item, before: int) -> bool:
        try:
            return item.last_active is not None and parse_time(item.last_active) < before
        except ValueError:  # a time that looked like one
            self.unreadable += 1
            return False

    def _merged(
        self, watch: Callable[[Iterable[Page[bytes]]], Iterable[Page[bytes]]]
    ) -> Iterator[list[Item]]:
        waiting = sorted((_order(key), key) for key in self.live if self._wants(key))
        for page in watch(self._saved([key for _, key in waiting])):
            items, end = self._items(page.rows), 0
            if waiting and page.rows:
                found = set(map(_key, items))
                last = _key(items[-1])
                end = bisect_left(waiting, (_order(last), last))
                new = [live_item(key, self.live[key]) for _, key in waiting[:end]]
                items += [item for item in new if _key(item) not in found]
                items.sort(key=lambda item: _order(_key(item)))
                waiting = [one for one in waiting[end:] if one[1] not in found]
            yield items
        if waiting:
            yield [live_item(key, self.live[key]) for _, key in waiting]

    def _wants(self, key: Key) -> bool:
        chosen = self.workspaces is None or key[0] in self.workspaces
        return chosen and (self.after is None or _order(key) > _order(self.after))

    def _saved(self, live: list[Key]) -> Iterator[Page[bytes]]:
        if self.store is None:
            return
        if self.active:
            for at in range(0, len(live), LOOKS_PER_READ):
                yield _states_of(self.store, live[at : at + LOOKS_PER_READ])
            return
        after = None if self.after is None else sessions_prefix(STATE, self.after[0])
        if after is not None and self.after is not None:
            after += _session_bytes(self.after[1])
        yield from state_pages(self.store, self.workspaces, after)

    def _items(self, rows: list[Row]) -> list[Item]:
        items, unreadable = _saved_items(rows)
        self.unreadable += unreadable
        if self.live:
            for at, item in enumerate(items):
                if found := self.live.get(_key(item)):
                    items[at] = live_item(_key(item), found, item)
        return items


def state_pages(
    store: SessionStore, workspaces: Sequence[str] | None = None, after: bytes | None = None
) -> Iterator[Page[bytes]]:
    """The states of all workspaces or of some, in the order of their keys, behind `after`.

    Outputs, which may be 100 times larger, are not read.
    """
    names = None if workspaces is None else in_order(workspaces)
    position: bytes | None = b"" if after is None else after + b"\0"
    version: int | None = None
    while position is not None:

        def read(snapshot: Snapshot, begin: bytes = position) -> tuple[Page[bytes], bytes | None]:
            rows, following = some_states(snapshot, begin, names, PAGE_ROWS)
            return Page(rows, snapshot.version), following

        page, position = store.read(read, at=version)
        version = page.version
        yield page


def in_order(workspaces: Sequence[str]) -> list[bytes]:
    """What the keys of these workspaces begin with, in the order of the keys. Raises UsageError."""
    return sorted(sessions_prefix(STATE, one).partition(b"/")[0] + b"/" for one in workspaces)


def parts(store: SessionStore, workspaces: Sequence[str] | None) -> list[bytes]:
    """The workspaces that a scan goes through, in order, for its bar; None means all.

    None of these where finding them takes long: then the scan's end is not known.
    """
    if workspaces is not None:
        return in_order(workspaces)
    deadline = time.monotonic() + PARTS_SECONDS
    found = []
    for workspace in SessionLayer(store).workspaces():
        found.append(id_bytes(workspace, "workspace"))
        if time.monotonic() > deadline:
            return []
    return found


def some_states(
    snapshot: Snapshot, begin: bytes, names: list[bytes] | None, limit: int
) -> tuple[list[Row], bytes | None]:
    """At most `limit` states from `begin` on, or fewer, and where to go on, if anywhere.

    `names` are those of `in_order`; None means all workspaces.
    """
    if names is None:
        # Our own keys stand among the workspaces.
        begin, end = (begin, OWN) if begin < OWN else (max(begin, OWN_END), NAMES_END)
        rows, following = snapshot.below(max(begin, NAMES), end, STATE.encode(), limit=limit)
        return rows, OWN_END if following is None and end == OWN else following
    rows = []
    size = 0
    for _ in range(LOOKS_PER_READ):
        if len(rows) >= limit or size >= PAGE_BYTES:
            break
        name = _following(names, begin)
        if name is None:
            return rows, None
        prefix = name + STATE.encode() + b"/"
        got = snapshot.range(max(begin, prefix), prefix_end(prefix), limit=limit - len(rows))
        rows += got
        size += sum(len(key) + len(value) for key, value in got)
        begin = got[-1][0] + b"\0" if got else prefix_end(name)
    return rows, begin


def _following(names: list[bytes], begin: bytes) -> bytes | None:
    at = bisect_left(names, begin.partition(b"/")[0] + b"/") if begin else 0
    while at < len(names) and prefix_end(names[at]) <= begin:
        at += 1
    return names[at] if at < len(names) else None


def _states_of(store: SessionStore, keys: list[Key]) -> Page[bytes]:
    wanted = [sessions_prefix(STATE, workspace) + id_bytes(id) for workspace, id in keys]

    def read(snapshot: Snapshot) -> Page[bytes]:
        found = zip(wanted, snapshot.get_all(wanted), strict=True)
        return Page([(key, value) for key, value in found if value is not None], snapshot.version)

    return store.read(read)


def _saved_items(rows: list[Row]) -> tuple[list[Item], int]:
    """An item for each state, and how many cannot be read; a long listing's innermost loop."""
    items: list[Item] = []
    unreadable, end = 0, 0
    decode = Decoder(SavedState).decode
    while end < len(rows):
        name, _, _ = rows[end][0].partition(b"/")
        prefix = name + b"/terminal_sessions/"
        begin, end = end, bisect_left(rows, (prefix_end(prefix),), end)
        workspace = id_text(name)
        size, some = len(prefix), rows[begin:end]
        sessions = id_texts([key[size:] for key, _ in some])
        if not sessions[0]:
            place = id_words(f"{workspace}/{STATE}/")
            why = f"its key has no session id; coditect keys get {place} shows it"
            items.append(_unreadable(workspace, "", why))
            unreadable += 1
            del sessions[0], some[0]
        for session, (_, value) in zip(sessions, some, strict=True):
            try:
                # What is passed over is to be UTF-8 too.
                state = decode(value if value.isascii() else value.decode())
                started_at, last_active = state.started_at, state.last_active
                usual = started_at[-1] == "Z" == last_active[-1]
            except (DecodeError, UnicodeDecodeError, RecursionError):
                usual = False
            if not usual:
                items.append(_item_of_any(workspace, session, value))
                unreadable += items[-1].problem is not None
                continue
            items.append(
                Item(  # by keyword it would take twice as long
                    workspace,
                    session,
                    "ended" if state.ended_at else "saved",
                    "terminal",
                    state.shell_type,
                    state.working_directory,
                    started_at,
                    last_active,
                    0,
                )
            )
    return items, unreadable


def _item_of_any(workspace: str, session: str, value: bytes) -> Item:
    try:
        return saved_item(workspace, session, SessionState.decode(value))
    except CoditectError as error:
        return _unreadable(workspace, session, error.message)


def _unreadable(workspace: str, session: str, problem: str) -> Item:
    return Item(
        workspace=workspace,
        session=session,
        state="unreadable",
        type="terminal",
        shell=None,
        directory=None,
        started_at=None,
        last_active=None,
        clients=0,
        problem=problem,
    )


def saved_item(workspace: str, session: str, state: SessionState) -> Item:
    """A session of which there is only its record."""
    return Item(
        workspace=workspace,
        session=session,
        state="ended" if state.ended_at else "saved",
        type="terminal",
        shell=state.shell_type,
        directory=state.working_directory,
        started_at=format_time(state.started_at),
        last_active=format_time(state.last_active),
        clients=0,
    )


def leased(store: SessionStore, workspace_id: str | None, now: int) -> Live:
    """The sessions that a bridge holds, for want of a gateway to ask; of a workspace, or of all."""
    held = SessionLayer(store).held(workspace_id, now)
    return {(one.workspace_id, one.session_id): _UNKNOWN for one in held}


def held_elsewhere(store: SessionStore, workspace_id: str | None, live: Live, now: int) -> Live:
    """The sessions that a bridge holds and the gateway does not know as `live`; as `leased`."""
    return {
        (one.workspace_id, one.session_id): {**_UNKNOWN, "holder": one.holder}
        for one in SessionLayer(store).held(workspace_id, now)
        if (one.workspace_id, one.session_id) not in live
    }


def live_item(key: Key, live: Mapping[str, Any], saved: Item | None = None) -> Item:
    """A live session, or one that is `held_elsewhere`; what only its record knows is from there."""
    item = Item(
        workspace=key[0],
        session=key[1],
        state="held" if "holder" in live else "live",
        type=live["kind"],
        shell=live["shell"],
        directory=None,
        started_at=live["startedAt"],
        last_active=live["lastActive"],
        clients=live["clients"],
    )
    if saved is not None:
        item.shell = item.shell or saved.shell
        item.directory = saved.directory
        item.started_at = saved.started_at or item.started_at
        item.last_active = item.last_active or saved.last_active
        item.problem = saved.problem
    if item.state == "held" and item.problem is None:
        item.problem = f"the gateway {live['holder'].partition(':')[0]} holds it"
    return item


def _key(item: Item) -> Key:
    return item.workspace, item.session


def _order(key: Key) -> tuple[bytes, bytes]:
    return id_bytes(key[0], "workspace") + b"/", _session_bytes(key[1])


def _session_bytes(id: str) -> bytes:
    """As `id_bytes`; a key may lack its id, and is listed and gone on behind all the same."""
    return id_bytes(id) if id else b""
