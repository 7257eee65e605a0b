"""What must not reach the journal: it is read by more people than may know a secret."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "••••"
MAX_TEXT = 4_000  # characters of one text in the journal; the end says what went wrong

_SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"  # PEM
    r"|\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*"  # a JWT
    r"|\bya29\.[\w.-]+"  # a Google access token
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"  # user and password in a URL
    r"|(?i:(?<=bearer )|(?<=basic ))[\w.~+/=-]{8,}"
    r"|(?i:(?<=cookie: ))[^\r\n]+",
    re.DOTALL,
)
_NAMED = re.compile(
    r"(?i)([\w-]{0,40}(?:token|secret|password|passwd|api[_-]?key|private[_-]?key)[\w-]{0,40})"
    r"(\s*[=:]\s*|\"\s*:\s*(?=\"))(?:([\"'])(?:\\.|(?!\3)[^\\\n])+|[^\s\",]+)"
)
_SECRET_NAME = re.compile(r"(?i)(token|secret|password|passwd|api_?key|private_?key)$")


def redacted(value: Any) -> Any:
    """A JSON value without secrets: by their form, by the name beside them, or by their key."""
    if isinstance(value, str):
        # What is cut off before may be a secret's begin: the rest of it is then cut off after.
        text = _SECRETS.sub(HIDDEN, value[-4 * MAX_TEXT :])
        text = _NAMED.sub(rf"\1\2\3{HIDDEN}", text)
        return text if len(value) <= MAX_TEXT else f"… {text[-MAX_TEXT:]}"
    if isinstance(value, dict):
        name = value.get("name")
        if (
            isinstance(name, str)
            and _SECRET_NAME.search(name)
            and isinstance(value.get("value"), str)
        ):
            value = {**value, "value": HIDDEN}  # a variable of a container
        return {
            key: HIDDEN if isinstance(item, str) and _SECRET_NAME.search(key) else redacted(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return value
