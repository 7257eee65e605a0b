"""What stored values and lines of text look like to whoever may not see the secrets in them."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Any

from coditect_cli.sessions.session import finite

MAX_DEPTH = 100
HIDDEN = "••••"

_VALUE = r"""(?:\$?"((?s:\\.|[^"\\])++)|\$'((?s:\\.|[^'\\])++)|'([^']++)|([^\s"']\S*+))"""
KEY_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
KEY_END = "-----END"
_SECRETS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # NAME=value, as shells and env write it: any name with such a word in it.
        r"""(?:token|secret|pass|key|credential)[\w.-]{0,64}["']?\s{0,8}=(?![=>])\s{0,8}"""
        + _VALUE,
        # name: value, as YAML, JSON and headers write it: a name that ends in such a word.
        r"(?:token|secret|password|passwd|passphrase|credentials?|(?<=[\w-])key)"
        r"""["']?\s{0,8}:(?!:)\s{0,8}""" + _VALUE,
        r"""authorization["']?\s{0,8}[:=]\s{0,8}["']?(?:(?:bearer|basic|token)\s+)?([^\s"']++)""",
        r"--?[\w-]{0,32}(?:token|secret|password|passwd|passphrase|api-?key)\s+(?!-)" + _VALUE,
        # set -x NAME value, as fish and csh have it.
        r"\bset(?:env)?\s+(?:--?[\w-]{1,16}\s+){0,4}\w{0,64}(?:token|secret|pass|key|credential)\w{0,64}"
        r"\s+(?!-)" + _VALUE,
        r"eyJ[\w-]{6,}(?:\.[\w-]*+){0,2}",  # a JSON web token
        rf"{KEY_BEGIN.pattern}((?s:.*?))(?:{KEY_END}|\Z)",
    )
]
_URL_PASSWORD = re.compile(r"""://[^\s/:@\["'<>]{0,256}:([^\s/"'<>]{0,1024})""")
_HINTS = ("token", "secret", "pass", "key", "credential", "authorization", "://", "eyJ")
_PORT = re.compile(r"\d{0,5}")

_ASSIGNED = re.compile(
    r"""(?<![A-Za-z0-9_])(?P<name>[A-Za-z_][A-Za-z0-9_]{0,255}+)\+?=(?P<value>
        (?:\$?'(?:[^'\\]|\\.)*(?:'|$)|\$?"(?:[^"\\]|\\.)*(?:"|$)|\\.|[^\s;&|<>()'"\\])+)""",
    re.VERBOSE | re.DOTALL,
)


def is_secret(name: str, patterns: Collection[str]) -> bool:
    """Whether a variable's name looks like that of a secret."""
    return any(fnmatchcase(name.upper(), pattern.upper()) for pattern in patterns)


def without_secrets(command: str, names: Collection[str]) -> str:
    """A command line without its `secret_spans`."""
    if not hints(tuple(names)).search(command):
        return command
    spans, _ = secret_spans(command, names)
    kept, done = [], 0
    for start, end in sorted(spans):
        if end > done:
            kept += [command[done:start], HIDDEN] if start >= done else []
            done = end
    return "".join([*kept, command[done:]])


def holds_secret(value: str) -> bool:
    """Whether a variable's value is one that `secret_spans` finds something in."""
    return hints(()).search(value) is not None and bool(secret_spans(value)[0])


@functools.cache
def hints(names: tuple[str, ...]) -> re.Pattern[str]:
    """What each line has that `secret_spans` finds something in, with these names."""
    literals = [max(re.split(r"[*?]|\[.*?\]", name), key=len) or "=" for name in names]
    others = [one for one in literals if not any(hint in one.lower() for hint in _HINTS)]
    words = (*_HINTS, *others)
    first = re.escape("".join(word[0] for word in words))  # looked at alone it is twice as fast
    return re.compile(f"(?=[{first}])(?:{'|'.join(map(re.escape, words))})", re.IGNORECASE)


def secret_spans(
    line: str, names: Collection[str] = ()
) -> tuple[list[tuple[int, int]], int | None]:
    """Where a line of text holds secrets, as (start, end); and from where on it may hold one.

    Secrets are the values of names that look like it (TOKEN=…, password: …, --api-key …), what
    follows Authorization:, JSON web tokens, private keys as PEM, passwords in URLs, and what
    variables of such `names` are given. A command may have several lines. A line that ends in
    what is either a port or the start of such a password is undecided from there on.
    """
    spans = [_value(match) for pattern in _SECRETS for match in pattern.finditer(line)]
    spans += [one.span("value") for one in _ASSIGNED.finditer(line) if is_secret(one[1], names)]
    undecided = None
    for match in _URL_PASSWORD.finditer(line):
        start, end = match.span(1)
        password, at, _ = match[1].rpartition("@")
        if at:
            spans.append((start, start + len(password)))
        elif end == len(line) and _PORT.fullmatch(match[1]):
            undecided = start
        elif end == len(line):
            spans.append((start, end))
    return [span for span in spans if span[0] < span[1]], undecided


def _value(match: re.Match[str]) -> tuple[int, int]:
    """Where the secret of a match is; what ends a command in a shell is no part of it."""
    start, end = match.span(match.lastindex or 0)
    return start, start + len(match.string[start:end].rstrip(";"))


def readable(content: bytes, reveal: Collection[str] = ()) -> Any:
    """A JSON value with every variable hidden but those named in `reveal`.

    Raises ValueError when it is not JSON, or nested more than 100 deep.
    """
    try:
        text = content.decode()
        return redacted(json.loads(text, parse_float=finite, parse_constant=finite), reveal)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def redacted(value: Any, reveal: Collection[str] | None = None) -> Any:
    """What was a JSON value, as `readable` shows it. Raises ValueError when nested too deep."""
    return _redacted(value, reveal or (), MAX_DEPTH)


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
