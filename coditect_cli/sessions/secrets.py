"""Which names hold secrets, and text without the values that such names are given."""

from __future__ import annotations

import re
from collections.abc import Collection
from fnmatch import fnmatchcase

from coditect_cli.config import SECRET_NAMES

HIDDEN = "***"
_ASSIGNED = re.compile(
    r"""(?P<name>[A-Za-z_][A-Za-z0-9_-]*)(?P<sign>\+?=)(?P<value>
        (?:\$?'(?:[^'\\]|\\.)*(?:'|$)|\$?"(?:[^"\\]|\\.)*(?:"|$)|\\.|[^\s;&|<>()'"\\])+)""",
    re.VERBOSE | re.DOTALL,
)
_OPTION = re.compile(
    r"""(?<!\S)--(?P<name>[A-Za-z][A-Za-z0-9_-]*)(?P<space>\s+)(?!-)(?P<value>
        (?:'[^']*(?:'|$)|"(?:[^"\\]|\\.)*(?:"|$)|\\.|[^\s;&|<>()'"\\])+)""",
    re.VERBOSE | re.DOTALL,
)
_URL = re.compile(r"(?P<start>[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@'\"]*:)[^\s/'\"]+(?=@)")
_HEADER = re.compile(
    r"(?P<start>\bauthorization\s*:\s*(?:bearer|basic|token)\s+)[^\s'\"]+", re.IGNORECASE
)


def is_secret(name: str, patterns: Collection[str] = SECRET_NAMES) -> bool:
    """Whether a variable's or an option's name looks like that of a secret."""
    plain = name.upper().replace("-", "_")
    return any(fnmatchcase(plain, pattern.upper()) for pattern in patterns)


def without_secrets(text: str, patterns: Collection[str] = SECRET_NAMES) -> str:
    """`text` with *** for what secret names are given (NAME=…, --name …), for passwords in URLs,
    and for what an Authorization header holds.
    """

    def assigned(match: re.Match[str]) -> str:
        if not is_secret(match["name"], patterns):
            return match[0]
        return f"{match['name']}{match['sign']}{HIDDEN}"

    def option(match: re.Match[str]) -> str:
        if not is_secret(match["name"], patterns):
            return match[0]
        return f"--{match['name']}{match['space']}{HIDDEN}"

    text = _HEADER.sub(lambda match: match["start"] + HIDDEN, text)
    text = _URL.sub(lambda match: match["start"] + HIDDEN, text)
    return _OPTION.sub(option, _ASSIGNED.sub(assigned, text))
