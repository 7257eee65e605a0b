"""What a workspace's gateway reads from its store for those who can't, as on a pod's volume."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from coditect_cli.errors import CoditectError, Failed, UsageError
from coditect_cli.protocol.shape import MOST_RANGES, MOST_ROWS, invalid
from coditect_cli.stores.store import PAGE_ROWS, Row, SessionStore, Snapshot, Transaction

T = TypeVar("T")
Ask = Callable[[dict[str, Any]], dict[str, Any]]  # a gateway's answer to a message

CANNOT = ("workspace.stopped", "gateway.too_old")


class GatewayStore(SessionStore):
    """The sessions of one workspace, to be read: each call of a snapshot has a moment of its own.

    `cannot` is told why the gateway can't read them, which then are none; it may raise that.
    """

    def __init__(self, ask: Ask, cannot: Callable[[CoditectError], None]) -> None:
        self._ask = ask
        self._cannot = cannot

    def read(self, fn: Callable[[Snapshot], T], at: int | None = None) -> T:
        return fn(_Snapshot(self._rows))

    def transact(self, fn: Callable[[Transaction], T]) -> NoReturn:
        raise UsageError("a gateway only reads what its store has", code="context.remote")

    def close(self) -> None: ...

    def _rows(self, ranges: Sequence[tuple[bytes, bytes]], limit: int) -> tuple[int, list[Any]]:
        texts = [[b64encode(bound).decode() for bound in each] for each in ranges]
        try:
            answer = self._asked({"type": "read", "ranges": texts, "limit": limit})
        except CoditectError as error:
            if error.code not in CANNOT:
                raise
            self._cannot(_explained(error))
            return 0, [[] for _ in ranges]
        try:
            found = [
                [(b64decode(key), b64decode(value)) for key, value in rows]
                for rows in answer["ranges"]
            ]
            return int(answer["version"]), found
        except (KeyError, TypeError, ValueError):
            raise invalid("the gateway's rows are none") from None

    def _asked(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._ask(message)
        except UsageError as error:
            if error.code != "message.invalid":
                raise
            raise Failed(
                "the workspace's gateway is of a release that does not show saved sessions",
                code="gateway.too_old",
                hint="in a pod: coditect workspace stop, then start, once its image is newer",
            ) from error


def _explained(error: CoditectError) -> CoditectError:
    """Where what is saved lies, and how to see it all the same."""
    if error.code == "workspace.stopped":
        error.message += ", and its sessions are saved on its volume"
        error.hint = (
            f"{error.hint} shows them; with the setting store=foundationdb all are saved where "
            "they can always be seen"
        )
    return error


class _Snapshot(Snapshot):
    def __init__(
        self, rows: Callable[[Sequence[tuple[bytes, bytes]], int], tuple[int, list[Any]]]
    ) -> None:
        self._rows = rows
        self.version = 0

    def get(self, key: bytes) -> bytes | None:
        return self.get_all([key])[0]

    def get_all(self, keys: Sequence[bytes]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for at in range(0, len(keys), MOST_RANGES):
            ranges = [(key, key + b"\0") for key in keys[at : at + MOST_RANGES]]
            self.version, each = self._rows(ranges, 1)
            found += [rows[0][1] if rows else None for rows in each]
        return found

    def range(
        self, begin: bytes, end: bytes, *, limit: int = PAGE_ROWS, reverse: bool = False
    ) -> list[Row]:
        if reverse:
            raise NotImplementedError
        self.version, [rows] = self._rows([(begin, end)], min(limit, MOST_ROWS))
        return rows  # type: ignore[no-any-return]

    def first_key(self, begin: bytes, end: bytes) -> bytes | None:
        rows = self.range(begin, end, limit=1)
        return rows[0][0] if rows else None

    def below(
        self, begin: bytes, end: bytes, part: bytes, *, limit: int = PAGE_ROWS
    ) -> tuple[list[Row], bytes | None]:
        raise NotImplementedError  # it is about many workspaces
