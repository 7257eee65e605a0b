"""Sessions as a listing shows them: the saved ones page by page, with the live ones among them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any

from msgspec import DecodeError, Meta, Struct
from msgspec.json import Decoder

from coditect_cli.errors import CoditectError
from coditect_cli.sessions.ids import id_bytes, id_text, is_plain
from coditect_cli.sessions.layer import (
    LOOKS_PER_READ,
    NAMES,
    NAMES_END,
    OWN,
    STATE,
    SessionLayer,
    sessions_prefix,
)
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

Item = dict[str, Any]
Key = tuple[str, str]  # workspace id, session id
Live = Mapping[Key, Item]  # what the gateway says of each

COLUMNS = {
    "WORKSPACE": "workspace",
    "SESSION": "session",
    "STATE": "state",
    "SHELL": "shell",
    "DIRECTORY": "directory",
    "STARTED": "startedAt",
    "LAST ACTIVE": "lastActive",
    "CLIENTS": "clients",
}
WIDE = {"TYPE": "type", "PROBLEM": "problem"}
_Time = Annotated[str, Meta(min_length=20, max_length=30)]  # as chrono writes one; it ends in Z


class _State(Struct, gc=False):
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
                last = kept[-1]["workspace"], kept[-1]["session"]
                yield kept
            if len(kept) < len(items):
                self.unreadable -= sum("problem" in item for item in items[len(kept) :])
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
        last_active = item["lastActive"]
        try:
            return last_active is not None and parse_time(last_active) < before
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
                found = {(item["workspace"], item["session"]) for item in items}
                last = items[-1]["workspace"], items[-1]["session"]
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
            after += id_bytes(self.after[1])
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


def some_states(
    snapshot: Snapshot, begin: bytes, names: list[bytes] | None, limit: int
) -> tuple[list[Row], bytes | None]:
    """At most `limit` states from `begin` on, or fewer, and where to go on, if anywhere.

    `names` are those of `in_order`; None means all workspaces.
    """
    rows: list[Row] = []
    size = 0
    for _ in range(LOOKS_PER_READ):
        if len(rows) >= limit or size >= PAGE_BYTES:
            break
        name = _name_at(snapshot, begin) if names is None else _following(names, begin)
        if name is None:
            return rows, None
        prefix = name + STATE.encode() + b"/"
        start = max(begin, prefix)
        got = snapshot.range(start, prefix_end(prefix), limit=limit - len(rows))
        rows += got
        size += sum(map(len, chain.from_iterable(got)))
        begin = got[-1][0] + b"\0" if got else prefix_end(name)
    return rows, begin


def _name_at(snapshot: Snapshot, begin: bytes) -> bytes | None:
    """The first workspace that has keys from `begin` on, with its slash."""
    begin = max(begin, NAMES)
    while (key := snapshot.first_key(begin, NAMES_END)) is not None:
        name, slash, _ = key.partition(b"/")
        if slash and name + slash != OWN:
            return name + slash
        begin = prefix_end(name + slash) if slash else key + b"\0"
    return None


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
    decode = Decoder(_State).decode
    while end < len(rows):
        name, _, _ = rows[end][0].partition(b"/")
        prefix = name + b"/terminal_sessions/"
        begin, end = end, bisect_left(rows, (prefix_end(prefix),), end)
        workspace = id_text(name)
        size, some = len(prefix), rows[begin:end]
        sessions = _id_texts([key[size:] for key, _ in some])
        for session, (_, value) in zip(sessions, some, strict=True):
            try:
                # What is passed over is to be UTF-8 too.
                state = decode(value if value.isascii() else value.decode())
                started_at, last_active = state.started_at, state.last_active
                usual = started_at[-1] == "Z" == last_active[-1]
            except (DecodeError, UnicodeDecodeError):
                usual = False
            if not usual:
                items.append(_item_of_any(workspace, session, value))
                unreadable += items[-1]["state"] == "unreadable"
                continue
            items.append(
                {
                    "workspace": workspace,
                    "session": session,
                    "state": "ended" if state.ended_at else "saved",
                    "type": "terminal",
                    "shell": state.shell_type,
                    "directory": state.working_directory,
                    "startedAt": started_at,
                    "lastActive": last_active,
                    "clients": 0,
                }
            )
    return items, unreadable


def _id_texts(ids: list[bytes]) -> list[str]:
    """`id_text` of each, faster where all are plain."""
    texts = b" ".join(ids).decode(errors="replace")
    found = texts.split(" ")
    if len(found) == len(ids) and is_plain(texts) and "\ufffd" not in texts:
        return found
    return [id_text(id) for id in ids]


def _item_of_any(workspace: str, session: str, value: bytes) -> Item:
    try:
        return saved_item(workspace, session, SessionState.decode(value))
    except CoditectError as error:
        nothing = dict.fromkeys(("shell", "directory", "startedAt", "lastActive"))
        return {
            "workspace": workspace,
            "session": session,
            "state": "unreadable",
            "type": "terminal",
            **nothing,
            "clients": 0,
            "problem": error.message,
        }


def saved_item(workspace: str, session: str, state: SessionState) -> Item:
    """A session of which there is only its record."""
    return {
        "workspace": workspace,
        "session": session,
        "state": "ended" if state.ended_at else "saved",
        "type": "terminal",
        "shell": state.shell_type,
        "directory": state.working_directory,
        "startedAt": format_time(state.started_at),
        "lastActive": format_time(state.last_active),
        "clients": 0,
    }


def leased(store: SessionStore, workspace_id: str | None, now: int) -> Live:
    """The sessions that a bridge holds, for want of a gateway to ask; of a workspace, or of all."""
    unknown = dict.fromkeys(("shell", "pid", "startedAt", "lastActive", "clients"))
    held = SessionLayer(store).held(workspace_id, now)
    return {(one.workspace_id, one.session_id): {"kind": "terminal", **unknown} for one in held}


def live_item(key: Key, live: Item, saved: Item | None = None) -> Item:
    """A live session; what only its record knows comes from there."""
    problem = {"problem": saved["problem"]} if saved and "problem" in saved else {}
    return {
        "workspace": key[0],
        "session": key[1],
        "state": "live",
        "type": live["kind"],
        "shell": live["shell"] or (saved and saved["shell"]),
        "directory": saved and saved["directory"],
        "startedAt": (saved and saved["startedAt"]) or live["startedAt"],
        "lastActive": live["lastActive"] or (saved and saved["lastActive"]),
        "clients": live["clients"],
        **problem,
    }


def _key(item: Item) -> Key:
    return item["workspace"], item["session"]


def _order(key: Key) -> tuple[bytes, bytes]:
    return id_bytes(key[0], "workspace") + b"/", id_bytes(key[1]) if key[1] else b""
