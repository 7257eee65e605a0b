"""The `GatewayMessage`s of `coditect.v1+json`, both ways, as docs/protocol.md specifies them.

A message's class is its `type` on the wire, its fields keep their names; an optional field that
is missing may also be null.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any

from coditect_cli.errors import CoditectError, UsageError
from coditect_cli.protocol import shape
from coditect_cli.protocol.messages import wire
from coditect_cli.protocol.shape import json_object

LARGEST_FILE = 500_000
"""The most bytes of a file, or of a folder's listing, that one message carries."""

_UNFIT_FOR_JSON = re.compile(r"[\x00-\x08\x0b\x0e-\x1f]")  # six bytes each, as an escape


def characters(value: Any) -> str:
    """Text of any length and content, NUL too; a lone surrogate is not text."""
    if not isinstance(value, str):
        raise ValueError("must be text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be text without lone surrogates") from None
    return value


def entry(value: Any) -> dict[str, Any]:
    """What a folder's listing says of one name: `{"name","type","size","mode","mtime"}`."""
    if not isinstance(value, dict):
        raise ValueError("must hold objects with name, type, size, mode and mtime")
    return {
        "name": shape.text(4_096, least=1)(value.get("name")),
        "type": shape.one_of("file", "directory", "symlink", "other")(value.get("type")),
        "size": shape.offset(value.get("size")),
        "mode": shape.matching("[0-7]{4}", "a mode of four octal digits")(value.get("mode")),
        "mtime": shape.text(64)(value.get("mtime")),
    }


path = shape.text(4_096, least=1)
encoding = shape.one_of("utf-8", "base64")
session_id = shape.optional(shape.session_id)


class GatewayMessage:
    """One message; its class's name is its `type`."""


@dataclass(frozen=True)
class Create(GatewayMessage):
    """A new terminal, or the one of `session_id`."""

    cols: int | None = wire(shape.side, default=None)
    rows: int | None = wire(shape.side, default=None)
    session_id: str | None = wire(session_id, default=None)

    def __post_init__(self) -> None:
        if (self.cols is None) != (self.rows is None):
            raise ValueError("cols and rows go together")
        shape.check_size(self.cols or 1, self.rows or 1)


@dataclass(frozen=True)
class Input(GatewayMessage):
    data: str = wire(characters)
    session_id: str | None = wire(session_id, default=None)


@dataclass(frozen=True)
class Resize(GatewayMessage):
    cols: int = wire(shape.side)
    rows: int = wire(shape.side)
    session_id: str | None = wire(session_id, default=None)

    def __post_init__(self) -> None:
        shape.check_size(self.cols, self.rows)


@dataclass(frozen=True)
class Close(GatewayMessage):
    """Hang up the terminal's programs."""

    session_id: str | None = wire(session_id, default=None)


@dataclass(frozen=True)
class FileRead(GatewayMessage):
    path: str = wire(path)


@dataclass(frozen=True)
class FileWrite(GatewayMessage):
    path: str = wire(path)
    content: str = wire(characters)
    encoding: str = wire(encoding, default="utf-8")

    def __post_init__(self) -> None:
        content_bytes(self.content, self.encoding)


@dataclass(frozen=True)
class FileList(GatewayMessage):
    path: str = wire(path)


@dataclass(frozen=True)
class FileDelete(GatewayMessage):
    path: str = wire(path)


@dataclass(frozen=True)
class FileMkdir(GatewayMessage):
    path: str = wire(path)


@dataclass(frozen=True)
class Ping(GatewayMessage):
    pass


@dataclass(frozen=True)
class Connected(GatewayMessage):
    session_id: str = wire(shape.session_id)


@dataclass(frozen=True)
class Output(GatewayMessage):
    """`skipped` bytes were not kept for this client; `data` then draws the screen anew."""

    data: str = wire(characters)
    session_id: str = wire(shape.session_id)
    skipped: int = wire(shape.offset, default=0)


@dataclass(frozen=True)
class Closed(GatewayMessage):
    session_id: str = wire(shape.session_id)
    exit_code: int = wire(shape.integer(0, 255))


@dataclass(frozen=True)
class FileContent(GatewayMessage):
    path: str = wire(path)
    content: str = wire(characters)
    encoding: str = wire(encoding)

    def __post_init__(self) -> None:
        content_bytes(self.content, self.encoding)

    @classmethod
    def of(cls, path: str, data: bytes) -> FileContent:
        """A file's content: as text where it is text, else as base64."""
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = "\0"
        if _UNFIT_FOR_JSON.search(text):
            return cls(path, base64.b64encode(data).decode(), "base64")
        return cls(path, text, "utf-8")


@dataclass(frozen=True)
class FileWritten(GatewayMessage):
    path: str = wire(path)
    size: int = wire(shape.offset)


@dataclass(frozen=True)
class FileEntries(GatewayMessage):
    path: str = wire(path)
    entries: tuple[dict[str, Any], ...] = wire(shape.array(entry, 100_000))


@dataclass(frozen=True)
class FileDeleted(GatewayMessage):
    path: str = wire(path)


@dataclass(frozen=True)
class FileCreated(GatewayMessage):
    path: str = wire(path)


@dataclass(frozen=True)
class Pong(GatewayMessage):
    pass


@dataclass(frozen=True)
class Error(GatewayMessage):
    """What a message was refused with; `session_id` or `path` where it was about one."""

    code: str = wire(shape.text(128))
    message: str = wire(shape.text(4_096))
    session_id: str | None = wire(session_id, default=None)
    path: str | None = wire(path, default=None)

    @classmethod
    def of(cls, error: CoditectError, about: GatewayMessage | None = None) -> Error:
        """The message that describes `error`, which `about` met."""
        return cls(
            error.code,
            error.message[:4_096],
            getattr(about, "session_id", None),
            getattr(about, "path", None),
        )


FileOperation = FileRead | FileWrite | FileList | FileDelete | FileMkdir

FROM_CLIENT: dict[str, type[GatewayMessage]] = {
    kind.__name__: kind
    for kind in (
        *(Create, Input, Resize, Close, Ping),
        *(FileRead, FileWrite, FileList, FileDelete, FileMkdir),
    )
}
FROM_GATEWAY: dict[str, type[GatewayMessage]] = {
    kind.__name__: kind
    for kind in (
        *(Connected, Output, Closed, Pong, Error),
        *(FileContent, FileWritten, FileEntries, FileDeleted, FileCreated),
    )
}


def content_bytes(content: str, encoding: str) -> bytes:
    """A file's bytes as a message carries them. Raises ValueError when they are not base64."""
    if encoding == "utf-8":
        return content.encode()
    try:
        return base64.b64decode(content, validate=True)
    except ValueError:
        raise ValueError("content must be base64") from None


def encode(message: GatewayMessage) -> str:
    """The message's JSON text, without the fields that have their default."""
    fields: dict[str, Any] = {"type": type(message).__name__}
    for field in dataclasses.fields(message):  # type: ignore[arg-type]
        value = getattr(message, field.name)
        if field.default is dataclasses.MISSING or value != field.default:
            fields[field.name] = value
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)


def parse_client(frame: str | bytes) -> GatewayMessage:
    """The message that a client sent. Raises UsageError `message.invalid`."""
    return _parse(frame, FROM_CLIENT)


def parse_gateway(frame: str | bytes) -> GatewayMessage:
    """The message that a gateway sent. Raises UsageError `message.invalid`."""
    return _parse(frame, FROM_GATEWAY)


def _parse(frame: str | bytes, kinds: dict[str, type[GatewayMessage]]) -> GatewayMessage:
    if isinstance(frame, bytes):
        raise _invalid("coditect.v1+json has text frames only")
    found = json_object(frame)
    name = found.get("type")
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        raise _invalid(f"unknown message type {ascii(name)[:64]}")
    values = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        value = found.get(field.name)
        if value is None and field.default is not dataclasses.MISSING:
            continue
        try:
            values[field.name] = field.metadata["check"](value)
        except ValueError as error:
            raise _invalid(f"{name}: {field.name} {error}") from None
    try:
        return kind(**values)
    except ValueError as error:
        raise _invalid(f"{name}: {error}") from None


def _invalid(why: str) -> UsageError:
    return UsageError(why, code="message.invalid", hint="see docs/protocol.md")
