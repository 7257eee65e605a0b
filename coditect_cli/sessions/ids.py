"""Ids as they stand in keys, which may be any bytes, and as people see and type them."""

from __future__ import annotations

import re
import shlex

from coditect_cli.errors import UsageError
from coditect_cli.stores.store import END

_PLAIN = bytes(frozenset(range(0x20, 0x7F)) - frozenset(b"/\\"))
_ESCAPED = re.compile(rb"\\x([0-9a-fA-F]{2})")


def id_text(id: bytes) -> str:
    """An id as it is shown and typed: as it is, else each byte beyond ASCII's letters as \\xNN."""
    text = id.decode(errors="replace")
    if text.encode() == id and text.isprintable() and "\\" not in text and "/" not in text:
        return text
    return "".join(chr(byte) if byte in _PLAIN else f"\\x{byte:02x}" for byte in id)


def id_words(*ids: str) -> str:
    """Ids as they are typed in a shell behind a command and its options."""
    words = " ".join(map(shlex.quote, ids))
    return f"-- {words}" if any(id.startswith("-") for id in ids) else words


def id_texts(ids: list[bytes]) -> list[str]:
    """`id_text` of each, faster where all are plain ASCII."""
    joined = b"\n".join(ids)
    if joined.translate(None, _PLAIN) == b"\n" * (len(ids) - 1):
        return joined.decode().split("\n")
    return [id_text(id) for id in ids]


def id_bytes(text: str, noun: str = "session") -> bytes:
    """The id that `id_text` shows so; `noun` says whose it is.

    Raises UsageError (session.invalid_id, workspace.invalid_id) for what could forge a key.
    """
    id = _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), text.encode(errors="replace"))
    forges = "/" in text or not text.isprintable()
    if noun == "workspace":
        forges |= b"/" in id or id.startswith(END)
    if not text or forges:
        shown = ascii(text if len(text) <= 60 else text[:57] + "...")
        raise UsageError(
            f"{shown} is not a {noun} id",
            code=f"{noun}.invalid_id",
            hint="an id is printable characters without a slash; others are typed as they are "
            "listed, as \\xNN",
        )
    return id
