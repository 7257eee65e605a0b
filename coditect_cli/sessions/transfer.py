"""Sessions as lines of a file, whole and checksummed: docs/sessions.md, "Exports"."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any, Literal

from coditect_cli.errors import Conflict, Failed, UsageError
from coditect_cli.sessions.ids import id_bytes, id_text
from coditect_cli.sessions.layer import OUTPUT, STATE, SessionLayer, sessions_prefix
from coditect_cli.sessions.leases import lease_key
from coditect_cli.sessions.listing import in_order, some_states
from coditect_cli.sessions.session import SessionOutput, SessionState
from coditect_cli.stores.store import MAX_VALUE, Page, Reads, SessionStore, Snapshot, Transaction
from coditect_cli.workspaces.spec import check_session_id, check_workspace_id

FORMAT, VERSION = "coditect-sessions", 1
MAX_LINE = 2_000_000  # bytes: two values, of which each byte may take six
PER_PAGE = 50  # sessions that are read at once, with their outputs
BATCH_SESSIONS, BATCH_BYTES = 100, 2_000_000  # in one transaction of an import

Verdict = Literal["new", "same", "older", "newer"]


@dataclass(frozen=True)
class Records(Page[bytes]):
    """A page of states, with the outputs beside them."""

    outputs: list[bytes | None]


@dataclass(frozen=True)
class Exported:
    """One session as it was in a store, and the number of its line in the file."""

    workspace: str
    session: str
    state: bytes
    output: bytes | None
    line: int = 0

    def as_dict(self) -> dict[str, str | None]:
        """What its line says."""
        output = None if self.output is None else _text(self.output)
        ids = {"workspace": self.workspace, "session": self.session}
        return {**ids, "state": _text(self.state), "output": output}

    @property
    def size(self) -> int:
        return len(self.state) + len(self.output or b"")


def record_pages(store: SessionStore, workspaces: list[str] | None) -> Iterator[Records]:
    """The sessions of some workspaces, or of all; state and output are of one moment."""
    names = None if workspaces is None else in_order(workspaces)
    position: bytes | None = b""
    while position is not None:

        def read(snapshot: Snapshot, begin: bytes = position) -> tuple[Records, bytes | None]:
            rows, following = some_states(snapshot, begin, names, PER_PAGE)
            states, outputs = f"/{STATE}/".encode(), f"/{OUTPUT}/".encode()
            found = snapshot.get_all([key.replace(states, outputs, 1) for key, _ in rows])
            return Records(rows, snapshot.version, found), following

        page, position = store.read(read)
        yield page


@dataclass
class Export:
    """The lines of an export, each with its end; counts as it goes."""

    exported_at: str
    sessions: int = 0
    left_out: int = 0  # sessions that an import would refuse
    why: str = ""  # the first of them was left out

    def lines(self, pages: Iterable[Records]) -> Iterator[str]:
        whole = hashlib.sha256()
        for line in self._lines(pages):
            whole.update(line.encode())
            yield line
        yield _sealed({"sessions": self.sessions, "lines": whole.hexdigest()})

    def _lines(self, pages: Iterable[Records]) -> Iterator[str]:
        yield _sealed({"format": FORMAT, "version": VERSION, "exportedAt": self.exported_at})
        for page in pages:
            for (key, state), output in zip(page.rows, page.outputs, strict=True):
                workspace, _, session = key.split(b"/", 2)
                one = Exported(id_text(workspace), id_text(session), state, output)
                try:
                    _check(one)
                except UsageError as error:
                    self.left_out += 1
                    self.why = self.why or f"{one.workspace}/{one.session}: {error.message}"
                    continue
                self.sessions += 1
                yield _sealed(one.as_dict())


def read_export(file: IO[bytes]) -> Iterator[Exported]:
    """The sessions of an export, in constant memory.

    Raises UsageError (import.damaged) with the number of the line where it is not whole.
    """
    number, count, ended = 0, 0, False
    whole = hashlib.sha256()
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if ended:
            raise _damaged(number, "there is something behind the end")
        fields = _unsealed(line, number)
        if number == 1:
            if (fields.get("format"), fields.get("version")) != (FORMAT, VERSION):
                raise _damaged(number, f"it is no {FORMAT} of version {VERSION}")
        elif "workspace" in fields:
            count += 1
            yield _session(fields, number)
        elif fields.get("sessions") != count:
            raise _damaged(number, f"it counts {fields.get('sessions')} sessions, not {count}")
        elif fields.get("lines") != whole.hexdigest():
            raise _damaged(number, "the lines before it are not those that it was written for")
        else:
            ended = True
        whole.update(line)
    if not ended:
        raise _damaged(number + 1, "the file ends before its last line")


def batches(sessions: Iterable[Exported]) -> Iterator[list[Exported]]:
    """Sessions in lists that are small enough for one transaction."""
    batch: list[Exported] = []
    size = 0
    for one in sessions:
        if batch and (len(batch) == BATCH_SESSIONS or size + one.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += one.size
    if batch:
        yield batch


@dataclass
class Import:
    """Puts exported sessions into a store.

    What to do with one that is newer in the store: `overwrite`, `keep_newer`, or raise. `counts`
    are of what was done: new, same, older (replaced), newer (overwritten or kept).
    """

    store: SessionStore
    now: int  # nanoseconds since 1970
    overwrite: bool = False
    keep_newer: bool = False
    counts: dict[Verdict, int] = field(
        default_factory=lambda: {"new": 0, "same": 0, "older": 0, "newer": 0}
    )

    def check(self, batch: list[Exported]) -> None:
        """Raises Conflict where a session of the batch could not be put."""
        self.store.read(lambda snapshot: [*self._verdicts(snapshot, batch)])

    def put(self, batch: list[Exported]) -> None:
        """Put a batch, each session whole, all or none. Raises Conflict as `check`."""

        def write(transaction: Transaction) -> list[Verdict]:
            verdicts = self._verdicts(transaction, batch)
            return [
                self._put(transaction, one, verdict)
                for one, verdict in zip(batch, verdicts, strict=True)
            ]

        for verdict in self.store.transact(write):
            self.counts[verdict] += 1

    def _put(self, transaction: Transaction, one: Exported, verdict: Verdict) -> Verdict:
        if verdict == "same" or (verdict == "newer" and self.keep_newer):
            return verdict
        state, output = _keys(one)
        transaction.set(state, one.state)
        if one.output is None:
            transaction.clear(output)
        else:
            transaction.set(output, one.output)
        return verdict

    def _verdicts(self, reads: Reads, batch: list[Exported]) -> Iterator[Verdict]:
        """Each one's verdict, when what comes before it was put."""
        leases = [lease_key(one.workspace, one.session) for one in batch]
        reads.get_all([key for one in batch for key in _keys(one)] + leases)
        for one in batch:
            yield self._verdict(reads, one)

    def _verdict(self, reads: Reads, one: Exported) -> Verdict:
        state, output = (reads.get(key) for key in _keys(one))
        if (state, output) == (one.state, one.output):
            return "same"
        SessionLayer.check_unheld(reads, one.workspace, one.session, self.now)
        if state is None:
            return "new"
        verdict: Verdict = "newer" if _is_newer(state, one.state) else "older"
        if verdict == "newer" and not (self.overwrite or self.keep_newer):
            raise Conflict(
                f"line {one.line}: session {one.session} of workspace {one.workspace} is newer in "
                "the store",
                code="import.newer",
                hint="--keep-newer leaves such as they are, --overwrite replaces them",
            )
        return verdict


def check_not_live(batch: list[Exported], live: Mapping[tuple[str, str], object]) -> None:
    """Raises Conflict (session.live) where a session of the batch runs."""
    for one in batch:
        if (one.workspace, one.session) in live:
            raise Conflict(
                f"line {one.line}: session {one.session} of workspace {one.workspace} is live",
                code="session.live",
                hint=f"coditect session kill {one.workspace} {one.session} ends it",
            )


def _is_newer(stored: bytes, other: bytes) -> bool:
    """Whether what is stored was active later; also where one of the two cannot be read."""
    try:
        return SessionState.decode(stored).last_active > SessionState.decode(other).last_active
    except Failed:
        return True


def _keys(one: Exported) -> tuple[bytes, bytes]:
    state, output = (sessions_prefix(kind, one.workspace) for kind in (STATE, OUTPUT))
    return state + id_bytes(one.session), output + id_bytes(one.session)


def _sealed(fields: dict[str, Any]) -> str:
    text = json.dumps(fields, separators=(",", ":")).removesuffix("}")
    return text + _seal(text.encode())


def _seal(content: bytes) -> str:
    """What ends a line, of which all before it is `content`."""
    return f',"sha256":"{hashlib.sha256(content).hexdigest()}"}}\n'


def _unsealed(line: bytes, number: int) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise _damaged(number, "it is cut off" if len(line) <= MAX_LINE else "it is too long")
    content = line[: -len(_seal(b""))]
    if line != content + _seal(content).encode():
        raise _damaged(number, "its checksum is wrong")
    try:
        fields = json.loads(content + b"}")
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise _damaged(number, "it is no JSON object")
    return fields


def _session(fields: dict[str, Any], number: int) -> Exported:
    names = ("workspace", "session", "state", "output")
    workspace, session, state, output = (fields.get(name) for name in names)
    if not all(isinstance(text, str) for text in (workspace, session, state, output or "")):
        raise _damaged(number, "workspace, session, state and output must be texts")
    try:
        values = [str(text).encode("utf-8", "surrogateescape") for text in (state, output or "")]
    except UnicodeEncodeError:
        raise _damaged(number, "a value is no bytes") from None
    one = Exported(
        str(workspace), str(session), values[0], None if output is None else values[1], number
    )
    try:
        _check(one)
    except UsageError as error:
        raise _damaged(
            number,
            error.message,
            "coditect session export leaves such out, and coditect keys check shows them",
        ) from error
    return one


def _check(one: Exported) -> None:
    """Raises UsageError for a session that must not be written.

    A record that can be read must be the one that its line says; another one may be anything.
    """
    check_workspace_id(one.workspace)
    check_session_id(one.session)
    if max(len(one.state), len(one.output or b"")) > MAX_VALUE:
        raise UsageError(f"a value is larger than {MAX_VALUE:,} bytes")
    same = True
    with suppress(Failed):
        state = SessionState.decode(one.state)
        same = (state.workspace_id, state.id) == (one.workspace, one.session)
    with suppress(Failed):
        same &= one.output is None or SessionOutput.decode(one.output).session_id == one.session
    if not same:
        raise UsageError("the ids in its record are not its own")


def _text(value: bytes) -> str:
    # What is not UTF-8 becomes lone surrogates, which JSON keeps, and comes back as it was.
    return value.decode("utf-8", "surrogateescape")


def _damaged(
    number: int, why: str, hint: str = "take another copy of the file, or export again"
) -> UsageError:
    return UsageError(f"line {number} of the export: {why}", code="import.damaged", hint=hint)
