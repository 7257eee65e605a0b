"""`coditect keys`: ls, get, du, check. None of them writes."""

from __future__ import annotations

import json
import re
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import Struct

from coditect_cli.errors import NotFound, UsageError
from coditect_cli.output import Result, Stream, emit_stream
from coditect_cli.runtime import Runtime
from coditect_cli.stores.progress import Progress
from coditect_cli.stores.store import END, Page, check_key, prefix_end, scan_sizes

if TYPE_CHECKING:
    from coditect_cli.sessions.check import Finding

KEY_FORMS = (
    "A key is typed as it is printed: as a path, with \\xNN for a byte, or whole as hex:DIGITS. "
    "Put the second form in single quotes."
)
ROWS_PER_PAGE = 1_000
PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~/:@%+=,-"
SHOWN = 8  # bytes of what cannot be redacted: they tell what it is meant to be
BAD = 8  # the exit code of a check that found something wrong


def ls(
    ctx: typer.Context,
    prefix: Annotated[str, typer.Argument(metavar="[PREFIX]", help="What keys start with.")] = "",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="How many at most.")
    ] = None,
    after: Annotated[
        str | None, typer.Option("--after", metavar="KEY", help="Go on behind this key.")
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="The last ones first.")] = False,
) -> None:
    """List keys and the sizes of their values, in bytes.

    A key is typed as it is printed: as a path, with \\xNN for a byte (in single quotes), or
    whole as hex:DIGITS, which -o wide and -o json show too. On a terminal it stops after ten
    screenfuls, and says how to go on.

    Examples:
      coditect keys ls
      coditect keys ls demo/terminal_sessions/ --limit 20 --reverse
      coditect keys ls -o ndjson

    Exit codes: 0 done, 2 a key that cannot be read, 9 the store does not answer
    """
    runtime: Runtime = ctx.obj
    begin = parse_key(prefix)
    start = None if after is None else parse_key(after)
    asked, limit = limit, runtime.row_limit(limit)
    listing = _Listing(limit)
    with closing(runtime.store) as store:
        is_whole = not begin and start is None and limit is None
        progress = Progress(runtime.streams, "keys", store.size if is_whole else None)
        wanted = None if limit is None else limit + 1
        pages = scan_sizes(
            store, begin, prefix_end(begin), after=start, limit=wanted, reverse=reverse
        )
        stream = Stream(
            "KeyList",
            progress.above(listing.items(progress.watch(pages))),
            {"KEY": "key", "BYTES": "bytes"},
            {"HEX": "hex"},
            "key",
            lambda: {"next": listing.next, "readVersions": progress.versions},
        )
        emit_stream(stream, runtime.output, runtime.streams)
    progress.tell_versions()
    if listing.next is not None:
        words = [format_key(begin)] if begin else []
        options = {"--reverse": reverse, "--limit": asked, "--after": listing.next}
        runtime.say_more("keys", "ls", *words, options=options)


def get(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key, in any form.")],
    reveal: Annotated[
        list[str] | None,
        typer.Option("--reveal", metavar="NAME", help="Show this variable; may be repeated."),
    ] = None,
) -> Result:
    """Show one key's value, with the environment's variables hidden.

    A hidden variable is shown as dots and its length. Of a value that is not JSON only its size,
    what is wrong with it and its first bytes are shown: any part of it may be a secret.

    Examples:
      coditect keys get demo/terminal_sessions/3f2b8c1e-9a4d-4f6e-8b7a-1c2d3e4f5a6b
      coditect keys get hex:64656d6f2f78 -o json
      coditect keys get demo/terminal_sessions/s1 --reveal PATH --reveal LANG

    Exit codes: 0 done, 2 a key that cannot be read, 3 no such key, 7 no key is that long,
    9 the store does not answer
    """
    from coditect_cli.sessions.redaction import readable

    runtime: Runtime = ctx.obj
    raw = check_key(parse_key(key))
    with closing(runtime.store) as store:
        content = store.read(lambda snapshot: snapshot.get(raw))
    if content is None:
        raise NotFound(
            f"there is no key {format_key(raw)}",
            code="keys.not_found",
            hint="coditect keys ls shows them",
        )
    fields: dict[str, Any] = {**_named(raw), "bytes": len(content)}
    try:
        fields["value"] = readable(content, reveal or ())
    except ValueError as reason:
        fields["value"] = None
        fields["problem"] = f"not shown, for it is not JSON: {reason}"
        fields["begins"] = content[:SHOWN].hex(" ")
    return Result("Key", fields, text=_text(fields), name="key")


def du(
    ctx: typer.Context,
    depth: Annotated[
        int, typer.Option("--depth", min=1, metavar="N", help="How many parts of a path.")
    ] = 1,
) -> None:
    """Add up keys and their bytes (key and value) below each first part of a path.

    Examples:
      coditect keys du
      coditect keys du --depth 2 -o json

    Exit codes: 0 done, 9 the store does not answer
    """
    runtime: Runtime = ctx.obj
    total = {"keys": 0, "bytes": 0}
    with closing(runtime.store) as store:
        progress = Progress(runtime.streams, "keys", store.size)
        groups = _sums(progress.watch(scan_sizes(store, b"", END)), depth, total)
        stream = Stream(
            "KeyUsage",
            progress.above(_in_pages(groups)),
            {"PREFIX": "key", "KEYS": "keys", "BYTES": "bytes"},
            {"HEX": "hex"},
            "key",
            lambda: {"total": total, "readVersions": progress.versions},
        )
        emit_stream(stream, runtime.output, runtime.streams)
    progress.tell_versions()
    runtime.streams.say(f"total: {total['keys']:,} keys, {total['bytes']:,} bytes")


def check(ctx: typer.Context) -> int:
    """Check every session's record.

    "fail" is an output without its state, a value that cannot be read or is too large, or ids
    that are not those of the key; "warn" is a state without output, a clock that went wrong, or
    a lease that holds for longer than a bridge takes one.

    Examples:
      coditect keys check
      coditect keys check -o ndjson

    Exit codes: 0 nothing is wrong (warnings may be), 8 something is, 9 the store does not answer
    """
    from coditect_cli.sessions.check import check_sessions

    runtime: Runtime = ctx.obj
    counts = {"fail": 0, "warn": 0}
    columns = {"SEVERITY": "severity", "PROBLEM": "problem", "KEY": "key", "MESSAGE": "message"}
    with closing(runtime.store) as store:
        progress = Progress(runtime.streams, "records", store.size)
        findings = check_sessions(store, time.time_ns(), progress.watch)
        stream = Stream(
            "KeyCheck",
            progress.above(_in_pages(_counted(findings, counts))),
            columns,
            {"HEX": "hex"},
            "key",
            lambda: {**counts, "readVersions": progress.versions},
        )
        emit_stream(stream, runtime.output, runtime.streams)
    progress.tell_versions()
    runtime.streams.say(f"{counts['fail']:,} wrong, {counts['warn']:,} to look at")
    return BAD if counts["fail"] else 0


def format_key(key: bytes) -> str:
    """A key as a path; each byte that a terminal or a shell could take amiss as \\xNN."""
    if key.translate(None, PLAIN):
        text = "".join(chr(byte) if byte in PLAIN else f"\\x{byte:02x}" for byte in key)
    else:
        text = key.decode()
    if text.startswith(("-", "hex:")):
        text = f"\\x{key[0]:02x}{text[1:]}"
    return text or "hex:"


def format_keys(keys: list[bytes]) -> list[str]:
    """`format_key` of each of some keys in order, faster where all are plain paths."""
    first, last = sorted((keys[0], keys[-1]))
    may_begin_like_no_path = first < b"." or (first < b"hex;" and last >= b"hex:")
    joined = b"\n".join(keys)
    special = joined.translate(None, PLAIN + b"\n") or joined.count(b"\n") >= len(keys)
    if may_begin_like_no_path or special:
        return [format_key(key) for key in keys]
    return joined.decode().split("\n")


def parse_key(text: str) -> bytes:
    """The key that a path, \\xNN or hex: form says. Raises UsageError (keys.invalid)."""
    if text.startswith("hex:"):
        digits = text.removeprefix("hex:")
        if len(digits) % 2 or not re.fullmatch("[0-9a-fA-F]*", digits):
            raise _not_a_key(text)
        return bytes.fromhex(digits)
    key = b""
    for plain, escape in re.findall(r"([^\\]*)(\\x[0-9a-fA-F]{2}|\\|$)", text):
        if escape == "\\":
            raise _not_a_key(text)
        key += plain.encode("utf-8", "surrogateescape") + bytes.fromhex(escape[2:])
    return key


def _not_a_key(text: str) -> UsageError:
    return UsageError(f"{text[:60]!a} is not a key", code="keys.invalid", hint=KEY_FORMS)


def _named(key: bytes) -> dict[str, str]:
    return {"key": format_key(key), "hex": f"hex:{key.hex()}"}


class KeySize(Struct, gc=False):
    """A key as it is listed, with the bytes of its value."""

    key: str
    hex: str
    bytes: int


@dataclass
class _Listing:
    """Items of the first `limit` rows, and where to go on when there are more."""

    limit: int | None
    next: str | None = None

    def items(self, pages: Iterable[Page[int]]) -> Iterator[list[KeySize]]:
        room, last = self.limit, b""
        for page in pages:
            rows = page.rows if room is None else page.rows[:room]
            if len(rows) < len(page.rows):
                self.next = format_key(rows[-1][0] if rows else last)
            if rows:
                last = rows[-1][0]
                names = format_keys([key for key, _ in rows])
                yield [
                    KeySize(name, "hex:" + key.hex(), size)
                    for (key, size), name in zip(rows, names, strict=True)
                ]
            room = None if room is None else room - len(rows)


def _sums(
    pages: Iterable[Page[int]], depth: int, total: dict[str, int]
) -> Iterator[dict[str, Any]]:
    group, count, size = b"", 0, 0
    for page in pages:
        keys, sizes = zip(*page.rows, strict=True)
        end = 0
        while end < len(keys):
            start, parts = end, keys[end].split(b"/", depth)
            prefix = b"/".join(parts[:depth])
            behind = prefix_end(prefix + b"/") if len(parts) > depth else keys[start] + b"\0"
            end = bisect_left(keys, behind, start)
            if prefix != group and count:
                yield {**_named(group), "keys": count, "bytes": size}
                count = size = 0
            group = prefix
            added = sum(map(len, keys[start:end])) + sum(sizes[start:end])
            count += end - start
            size += added
            total["keys"] += end - start
            total["bytes"] += added
    if count:
        yield {**_named(group), "keys": count, "bytes": size}


def _counted(findings: Iterable[Finding], counts: dict[str, int]) -> Iterator[dict[str, Any]]:
    for finding in findings:
        counts[finding.severity] += 1
        yield {
            **_named(finding.key),
            "severity": finding.severity,
            "problem": finding.problem,
            "message": finding.message,
        }


def _in_pages(items: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    page: list[dict[str, Any]] = []
    for item in items:
        page.append(item)
        if len(page) == ROWS_PER_PAGE:
            yield page
            page = []
    if page:
        yield page


def _text(fields: dict[str, Any]) -> str:
    shown = ("key", "bytes", "problem", "begins")
    lines = [f"{name}  {fields[name]}" for name in shown if name in fields]
    value = fields["value"]
    for name, item in value.items() if isinstance(value, dict) else [("value", value)]:
        if name == "environment_vars" and isinstance(item, dict):
            lines += [f"{name}  {variable}={hidden}" for variable, hidden in item.items()]
        elif isinstance(item, list) and name in ("command_history", "lines"):
            lines += [f"{name}  {line}" for line in item]
        elif "problem" not in fields:
            shown_item = item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
            lines.append(f"{name}  {shown_item}")
    return "\n".join(line.replace("\n", "\\n") for line in lines)
