"""What a message is, and what its fields may hold: checks that return the value or raise."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable
from typing import Any

from coditect_cli.errors import UsageError

Check = Callable[[Any], Any]

MAX_SIDE = 4096
MAX_CELLS = 1_000_000
MAX_OFFSET = 2**63 - 1
MOST_RANGES = 64
MOST_ROWS = 1_000


def text(limit: int, *, least: int = 0) -> Check:
    """A string of `least` to `limit` characters without NUL."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or not least <= len(value) <= limit or "\0" in value:
            raise ValueError(f"must be text of {least} to {limit} characters without NUL")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("must be text without lone surrogates") from None
        return value

    return check


def matching(pattern: str, rule: str) -> Check:
    """A string that matches `pattern` as a whole."""
    compiled = re.compile(pattern)

    def check(value: Any) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError(f"must be {rule}")
        return value

    return check


def base64_of(limit: int) -> Check:
    """The base64 of at most `limit` bytes."""

    def check(value: Any) -> str:
        try:
            if isinstance(value, str) and len(b64decode(value, validate=True)) <= limit:
                return value
        except ValueError:
            pass
        raise ValueError(f"must be the base64 of at most {limit} bytes")

    return check


def integer(low: int = 0, high: int = MAX_OFFSET) -> Check:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be an integer from {low} to {high}")
        return value

    return check


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def one_of(*names: str) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return value

    return check


def optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def array(item: Check, limit: int, *, least: int = 0) -> Check:
    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not least <= len(value) <= limit:
            raise ValueError(f"must be a list of {least} to {limit} items")
        return tuple(item(one) for one in value)

    return check


def mapping(key: Check, item: Check, limit: int) -> Check:
    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or len(value) > limit:
            raise ValueError(f"must be an object of at most {limit} fields")
        return {key(name): item(one) for name, one in value.items()}

    return check


def scalar(value: Any) -> Any:
    """Text, an integer, true, false or null."""
    if isinstance(value, str):
        return text(131_072)(value)
    return value if value is None or isinstance(value, bool) else integer()(value)


client_id = matching(r"[0-9a-f]{32}", "32 lower-case hex digits")
session_id = matching(r"[A-Za-z0-9][A-Za-z0-9-]{0,127}", "a session id: letters, digits, dashes")
side = integer(1, MAX_SIDE)
offset = integer()
term = matching(r"[A-Za-z0-9][A-Za-z0-9+._-]{0,63}", "a terminal's name")
environment = mapping(
    matching(r"[A-Za-z_][A-Za-z0-9_]{0,255}", "a variable's name"), text(131_072), 1_000
)
resume = optional(mapping(one_of("output", "stdout", "stderr"), offset, 2))


def terminal(value: Any) -> dict[str, Any]:
    """`{"cols","rows","term"}`."""
    if not isinstance(value, dict):
        raise ValueError("must be an object with cols, rows and term")
    found = {
        "cols": side(value.get("cols")),
        "rows": side(value.get("rows")),
        "term": term(value.get("term")),
    }
    check_size(found["cols"], found["rows"])
    return found


def check_size(cols: int, rows: int) -> None:
    """Refuse a screen of more than MAX_CELLS cells."""
    if cols * rows > MAX_CELLS:
        raise ValueError(f"a screen may have at most {MAX_CELLS} cells")


record = mapping(text(64, least=1), scalar, 64)


def json_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object from outside. Raises UsageError `message.invalid`."""
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise invalid("a control message must be JSON") from None
    if not isinstance(found, dict):
        raise invalid("a control message must be a JSON object")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def invalid(why: str) -> UsageError:
    """What to raise for a message that is none."""
    return UsageError(why, code="message.invalid", hint="see docs/protocol.md")
