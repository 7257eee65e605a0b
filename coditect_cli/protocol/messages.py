"""The control messages of `coditect.v2`, both ways, as docs/protocol.md specifies them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from coditect_cli.errors import CoditectError
from coditect_cli.protocol import shape
from coditect_cli.protocol.shape import invalid, json_object

WINDOW = 262_144
MAX_TOKEN = 4_096

CLOSE_DONE = 1000
CLOSE_REFUSED = 1008
CLOSE_RESTART = 1012
CLOSE_ENDED = 1013

STREAMS = ("input", "output", "stdout", "stderr")
REASONS = ("killed", "stopped", "taken")
SIGNALS = ("INT", "TERM", "HUP", "QUIT", "KILL", "USR1", "USR2")


def wire(check: shape.Check, **kw: Any) -> Any:
    """A message's field and what it may hold."""
    return dataclasses.field(metadata={"check": check}, **kw)


class Message:
    """One control message; `type` is its name on the wire."""

    type: ClassVar[str]


@dataclass(frozen=True)
class Attach(Message):
    type = "attach"
    client: str = wire(shape.client_id)
    session: str | None = wire(shape.optional(shape.session_id))
    cols: int = wire(shape.side)
    rows: int = wire(shape.side)
    term: str = wire(shape.term)
    read_only: bool = wire(shape.flag)
    resume: dict[str, int] | None = wire(shape.resume)

    def __post_init__(self) -> None:
        shape.check_size(self.cols, self.rows)


@dataclass(frozen=True)
class Exec(Message):
    type = "exec"
    client: str = wire(shape.client_id)
    argv: tuple[str, ...] = wire(shape.array(shape.text(131_072), 65_536, least=1))
    env: dict[str, str] = wire(shape.environment)
    workdir: str | None = wire(shape.optional(shape.text(4_096, least=1)))
    stdin: bool = wire(shape.flag)
    tty: dict[str, Any] | None = wire(shape.optional(shape.terminal))
    resume: dict[str, int] | None = wire(shape.resume)


@dataclass(frozen=True)
class Files(Message):
    type = "files"
    client: str = wire(shape.client_id)
    op: str = wire(shape.one_of("put", "get", "stat"))
    path: str = wire(shape.text(4_096))
    resume: dict[str, int] | None = wire(shape.resume)


@dataclass(frozen=True)
class Sessions(Message):
    type = "sessions"


@dataclass(frozen=True)
class Read(Message):
    type = "read"
    ranges: tuple[tuple[str, str], ...] = wire(
        shape.array(shape.array(shape.base64_of(10_000), 2, least=2), shape.MOST_RANGES)
    )
    limit: int = wire(shape.integer(1, shape.MOST_ROWS))


@dataclass(frozen=True)
class Kill(Message):
    type = "kill"
    session: str = wire(shape.session_id)


@dataclass(frozen=True)
class Stop(Message):
    type = "stop"
    force: bool = wire(shape.flag)


@dataclass(frozen=True)
class Status(Message):
    type = "status"


@dataclass(frozen=True)
class Gateway(Message):
    type = "gateway"
    action: str = wire(shape.one_of("stop", "restart"))
    force: bool = wire(shape.flag)


@dataclass(frozen=True)
class Ack(Message):
    type = "ack"
    stream: str = wire(shape.one_of(*STREAMS))
    offset: int = wire(shape.offset)


@dataclass(frozen=True)
class Resize(Message):
    type = "resize"
    cols: int = wire(shape.side)
    rows: int = wire(shape.side)

    def __post_init__(self) -> None:
        shape.check_size(self.cols, self.rows)


@dataclass(frozen=True)
class Eof(Message):
    type = "eof"
    offset: int = wire(shape.offset)


@dataclass(frozen=True)
class Signal(Message):
    type = "signal"
    signal: str = wire(shape.one_of(*SIGNALS))


@dataclass(frozen=True)
class Refresh(Message):
    type = "refresh"


@dataclass(frozen=True)
class Detach(Message):
    type = "detach"


@dataclass(frozen=True)
class Done(Message):
    type = "done"


@dataclass(frozen=True)
class Attached(Message):
    type = "attached"
    session: str = wire(shape.session_id)
    created: bool = wire(shape.flag)
    input: int = wire(shape.offset)
    output: int = wire(shape.offset)
    window: int = wire(shape.integer(1))
    cols: int = wire(shape.side)
    rows: int = wire(shape.side)
    lead: bool = wire(shape.flag)
    pid: int = wire(shape.integer())
    version: str = wire(shape.text(64))


@dataclass(frozen=True)
class Started(Message):
    """`output` stands in the place of `stdout` and `stderr` where the program has a terminal."""

    type = "started"
    session: str = wire(shape.session_id)
    input: int = wire(shape.offset)
    window: int = wire(shape.integer(1))
    pid: int = wire(shape.integer())
    version: str = wire(shape.text(64))
    stdout: int | None = wire(shape.optional(shape.offset), default=None)
    stderr: int | None = wire(shape.optional(shape.offset), default=None)
    output: int | None = wire(shape.optional(shape.offset), default=None)


@dataclass(frozen=True)
class Stream(Message):
    type = "stream"
    stream: str = wire(shape.one_of("output", "stdout", "stderr"))


@dataclass(frozen=True)
class Redraw(Message):
    type = "redraw"
    offset: int = wire(shape.offset)
    skipped: int = wire(shape.offset)
    exact: bool = wire(shape.flag)
    bytes: int = wire(shape.offset)


@dataclass(frozen=True)
class Lead(Message):
    type = "lead"
    lead: bool = wire(shape.flag)
    cols: int = wire(shape.side)
    rows: int = wire(shape.side)


@dataclass(frozen=True)
class Uncertain(Message):
    type = "uncertain"
    offset: int = wire(shape.offset)
    bytes: int = wire(shape.offset)


@dataclass(frozen=True)
class Exit(Message):
    type = "exit"
    status: int = wire(shape.integer(0, 255))
    signal: int | None = wire(shape.optional(shape.integer(1, 127)))
    reason: str | None = wire(shape.optional(shape.one_of(*REASONS)), default=None)


@dataclass(frozen=True)
class Drain(Message):
    type = "drain"
    reason: str = wire(shape.one_of("restart", "stop"))


@dataclass(frozen=True)
class Error(Message):
    type = "error"
    code: str = wire(shape.text(128))
    exit_code: int = wire(shape.integer(0, 255))
    message: str = wire(shape.text(4_096))
    hint: str | None = wire(shape.optional(shape.text(4_096)), default=None)
    retryable: bool = wire(shape.flag, default=False)

    @classmethod
    def of(cls, error: CoditectError) -> Error:
        """The message that describes `error`."""
        hint = error.hint[:4_096] if error.hint else None
        return cls(error.code, error.exit_code, error.message[:4_096], hint, error.retryable)


@dataclass(frozen=True)
class SessionList(Message):
    type = "sessions"
    items: tuple[dict[str, Any], ...] = wire(shape.array(shape.record, 100_000))


@dataclass(frozen=True)
class Rows(Message):
    type = "rows"
    version: int = wire(shape.integer())
    ranges: tuple[tuple[tuple[str, str], ...], ...] = wire(
        shape.array(
            shape.array(shape.array(shape.base64_of(100_000), 2, least=2), shape.MOST_ROWS),
            shape.MOST_RANGES,
        )
    )


@dataclass(frozen=True)
class Killed(Message):
    type = "killed"
    session: str = wire(shape.session_id)


@dataclass(frozen=True)
class Stopped(Message):
    type = "stopped"
    sessions: int = wire(shape.offset)
    not_saved: tuple[dict[str, Any], ...] = wire(shape.array(shape.record, 100_000), default=())


@dataclass(frozen=True)
class GatewayStatus(Message):
    type = "status"
    role: str = wire(shape.text(64))
    version: str = wire(shape.text(64))
    keeper_pid: int = wire(shape.integer())
    bridge_pid: int = wire(shape.integer())
    sessions: int = wire(shape.integer())
    connections: int = wire(shape.integer())
    started_at: str = wire(shape.text(64))
    listen: tuple[str, ...] = wire(shape.array(shape.text(4_096), 64))
    log: str | None = wire(shape.optional(shape.text(4_096)))
    not_saved: tuple[dict[str, Any], ...] = wire(shape.array(shape.record, 100_000), default=())


@dataclass(frozen=True)
class Accepted(Message):
    type = "accepted"
    action: str = wire(shape.one_of("stop", "restart"))
    not_saved: tuple[dict[str, Any], ...] = wire(shape.array(shape.record, 100_000), default=())


FROM_CLIENT: dict[str, type[Message]] = {
    kind.type: kind
    for kind in (
        *(Attach, Exec, Files, Sessions, Read, Kill, Stop, Status, Gateway),
        *(Ack, Resize, Refresh, Eof, Signal, Detach, Done),
    )
}
FROM_GATEWAY: dict[str, type[Message]] = {
    kind.type: kind
    for kind in (
        *(Attached, Started, Ack, Stream, Redraw, Lead, Uncertain, Exit, Drain, Error),
        *(SessionList, Rows, Killed, Stopped, GatewayStatus, Accepted),
    )
}


def _wire_name(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def encode(message: Message) -> str:
    """The message's JSON text; output counters of `started` and an exit's reason where set."""
    fields: dict[str, Any] = {"type": message.type}
    for field in dataclasses.fields(message):  # type: ignore[arg-type]
        value = getattr(message, field.name)
        if value is not None or field.name not in ("stdout", "stderr", "output", "reason"):
            fields[_wire_name(field.name)] = value
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)


def parse_client(text: str | bytes) -> Message:
    """The message that a client sent. Raises UsageError `message.invalid`."""
    return _parse(text, FROM_CLIENT)


def parse_gateway(text: str | bytes) -> Message:
    """The message that a gateway sent. Raises UsageError `message.invalid`."""
    return _parse(text, FROM_GATEWAY)


M = TypeVar("M", bound=Message)


def build(kind: type[M], found: dict[str, Any]) -> M:
    """A message of `kind` from a JSON object's fields. Raises UsageError `message.invalid`."""
    values = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        name = _wire_name(field.name)
        if name not in found and field.default is not dataclasses.MISSING:
            continue
        try:
            values[field.name] = field.metadata["check"](found.get(name))
        except ValueError as error:
            raise invalid(f"{kind.type}: {name} {error}") from None
    try:
        return kind(**values)
    except ValueError as error:
        raise invalid(f"{kind.type}: {error}") from None


def _parse(text: str | bytes, kinds: dict[str, type[Message]]) -> Message:
    found = json_object(text)
    name = found.get("type")
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        raise invalid(f"unknown message type {str(name)[:64]!r}")
    return build(kind, found)
