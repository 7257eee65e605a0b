"""What a stored value looks like to whoever may not see its secrets."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

MAX_DEPTH = 100
HIDDEN = "••••"


def readable(content: bytes, reveal: Collection[str] = ()) -> Any:
    """A JSON value with every variable hidden but those named in `reveal`.

    Raises ValueError when it is not JSON, or nested more than 100 deep.
    """
    try:
        return _redacted(json.loads(content.decode()), reveal, MAX_DEPTH)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _redacted(value: Any, reveal: Collection[str], depth: int) -> Any:
    if not depth:
        raise ValueError("it is nested too deep")
    if isinstance(value, list):
        return [_redacted(item, reveal, depth - 1) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _variables(item, reveal)
        if name == "environment_vars"
        else _redacted(item, reveal, depth - 1)
        for name, item in value.items()
    }


def _variables(value: Any, reveal: Collection[str]) -> Any:
    if not isinstance(value, dict):
        return HIDDEN  # not what it should be, so nobody knows what it holds
    return {
        name: item if name in reveal and isinstance(item, str) else _hidden(item)
        for name, item in value.items()
    }


def _hidden(value: Any) -> str:
    return f"{HIDDEN}({len(value)})" if isinstance(value, str) else HIDDEN
