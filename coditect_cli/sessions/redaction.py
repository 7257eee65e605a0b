"""What stored values and lines of text look like to whoever may not see the secrets in them."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from typing import Any

from coditect_cli.sessions.session import finite

MAX_DEPTH = 100
HIDDEN = "••••"

_VALUE = r"""(?:\$?"((?s:\\.|[^"\\])++)|\$'((?s:\\.|[^'\\])++)|'([^']++)|([^\s"']\S*+))"""
_WORDS = ("token", "secret", "pass", "key", "credential")
_WORD = f"(?:{'|'.join(_WORDS)})"
KEY_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
KEY_END = "-----END"
_SECRETS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # NAME=value, as shells and env write it: any name with such a word in it.
        _WORD + r"""[\w.-]{0,64}+(?:\[[^\]\s]{0,64}\])?["']?\]?\s{0,8}"""
        r"\+?=(?![=>])\s{0,8}" + _VALUE,
        # name: value, as YAML, JSON and headers write it: a name that ends in such a word.
        r"(?:token|secret|password|passwd|passphrase|credentials?|(?<=[\w-])key)"
        r"""["']?\s{0,8}:(?!:)\s{0,8}""" + _VALUE,
        r"""authorization["']?\s{0,8}[:=]\\?\s{0,8}["']?(?:(?:bearer|basic|token)\\?\s+)?"""
        r"""([^\s"']++)""",
        r"""cookie["']?\s{0,8}:\s{0,8}["']?([^"'\n]++)""",
        r"(?<![\w-])--?[\w-]{0,64}(?:token|secret|password|passwd|passphrase|api-?key|cookie)"
        r"\s+(?!-)" + _VALUE,
        r"""\bcurl\s(?:[^\n;|&]{0,256}?\s)?(?:-u|--(?:proxy-)?user)[=\s]?\s{0,8}["']?"""
        r"""[^\s:"']{0,64}:([^\s"']++)""",
        r"\bcurl\s(?:[^\n;|&]{0,256}?\s)?-b\s{0,8}" + _VALUE,
        r"\b(?:sshpass\s{1,8}|login\s(?:[^\n;|&]{0,256}?\s)?)-p\s{0,8}" + _VALUE,
        r"\b(?:mysql|mariadb)[\w-]{0,20}+\s(?:[^\n;|&]{0,256}?\s)?-p" + _VALUE,
        r"\s-pass(?:in|out)?\s{1,8}pass:(\S++)",  # openssl's
        # set -x NAME value, as fish and csh have it.
        r"\bset(?:env)?\s+(?:--?[\w-]{1,16}\s+){0,4}\w{0,64}"
        rf"{_WORD}\w{{0,64}}\s+(?!-)" + _VALUE,
        r"eyJ[\w-]{6,}(?:\.[\w-]*+){0,2}",  # a JSON web token
        # Tokens that say by their beginning whose they are: GitHub's, GitLab's, Slack's, AWS's, ...
        r"(?<![^\W_])(?-i:gh[opsur]_([^\W_]++)|github_pat_(\w++)|gl(?:pa|pt)t-([\w.-]++)"
        r"|xox[a-z]-([\w-]++)|A[KS]IA([A-Z\d]{4,}+)|[rs]k_(?:live|test)_(\w++)|AIza([\w-]{16,}+)"
        r"|(?:npm|hf)_([^\W_]{16,}+)|pypi-([\w-]{16,}+)"
        r"|(?<!-)sk-([\w-]{16,}+))",
        r"https?://([\w-]{20,256}+)(?=@|:[^\s/@]{0,256}+@)",  # one that is the name of a user
        rf"{KEY_BEGIN.pattern}((?s:.*?))(?:{KEY_END}|\Z)",
    )
]
_URL_PASSWORD = re.compile(r"""://[^\s/:@\["'<>]{0,256}:([^\s/"'<>]{0,1024})""")
# Regular expressions whose first characters stand for themselves, as few as can be.
_HINTS: tuple[str, ...] = (
    *(
        *_WORDS,
        "cookie",
        "authorization",
        "://",
        "eyJ",
        "curl",
        "login",
        "mysql",
        "mariadb",
        "sk-",
        "k_live_",
        "k_test_",
        "xox[a-z]-",
    ),
    *(
        "_(?<=gh[opsur]_)",
        "_(?<=npm_)",
        "_(?<=hf_)",
        "_pat_",
        "pypi-",
        "pat-",
        "ptt-",
        "akia",
        "asia",
        "aiza",
    ),
)
_PORT = re.compile(r"\d{0,5}")

_WORD_REST = re.compile(r"\S*")
_SUBSTITUTED = re.compile(r"\$\(|`")
_SHELL = re.compile(
    r"""\\. | \$\( | \$'(?:[^'\\]|\\.)*+'? | ['"`()] | [;&|<>] | \s""", re.VERBOSE | re.DOTALL
)
MOST_NESTED = 50
_WORD_END, _COMMAND_END = " \t\r\n;&|<>)", "\r\n;&|)"
# What gives a value to variables, whose names are the first group; and what ends that value.
_ASSIGNED = re.compile(
    r"(?<![A-Za-z0-9_])([A-Za-z_]\w{0,255}+)(?:\[[^\]\s]{0,64}\])?\+?=", re.ASCII
)
_GIVEN = (
    (re.compile(r"\b(?:read|mapfile|readarray)\s([^\n;|&<]{0,256}+)<<<\s{0,8}"), _WORD_END),
    (
        re.compile(r"\bprintf\s{1,8}-v\s{0,8}(\w{1,256}+)(?:\[[^\]\s]{0,64}\])?\s{1,8}"),
        _COMMAND_END,
    ),
)
_GIVEN_NAMES = tuple(f"*{word}*" for word in _WORDS)


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
    words = (*_HINTS, *map(re.escape, others))
    first = re.escape("".join(word[0] for word in words))  # looked at alone it is twice as fast
    return re.compile(f"(?=[{first}])(?:{'|'.join(words)})", re.IGNORECASE)


def secret_spans(
    line: str, names: Collection[str] = ()
) -> tuple[list[tuple[int, int]], int | None]:
    """Where a line of text holds secrets, as (start, end); and from where on it may hold one.

    Secrets are the values of names that look like it (TOKEN=…, password: …, --api-key …), what
    follows Authorization: and Cookie:, tokens of well-known forms, private keys as PEM, passwords
    and long user names in URLs, and what variables of such `names` are given. A command may have
    several lines. A line that ends in what is either a port or the start of such a password is
    undecided from there on.
    """
    spans = [span for pattern in _SECRETS for span in _values(pattern, line)]
    spans += _given(_ASSIGNED, _WORD_END, line, names)
    for pattern, ends in _GIVEN:
        spans += _given(pattern, ends, line, (*names, *_GIVEN_NAMES))
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


def _values(pattern: re.Pattern[str], line: str) -> Iterator[tuple[int, int]]:
    """Where the secrets of a pattern are; what ends a command in a shell is no part of them."""
    at = 0
    while match := pattern.search(line, at):
        start, end = match.span(match.lastindex or 0)
        before = line[start - 1 : start]
        if before != "'" and (line.startswith("(", start) or _SUBSTITUTED.search(line, start, end)):
            ends = " \t\r\n" if before == "=" else ' \t\r\n"'
            behind = _end(line, start, ends, quoted=before == '"')
            if before not in ("=", '"'):  # a quote around name and value goes, too, as elsewhere
                rest = _WORD_REST.match(line, behind)
                behind = rest.end() if rest else behind
            end = max(end, behind)
        yield start, start + len(line[start:end].rstrip(";"))
        at = max(end, match.end())


def _given(
    pattern: re.Pattern[str], ends: str, line: str, names: Collection[str]
) -> Iterator[tuple[int, int]]:
    at = 0
    while match := pattern.search(line, at):
        at = start = match.end()
        if any(is_secret(name, names) for name in match[1].split()):
            at = _end(line, start, ends)
            yield start, at


def _end(line: str, at: int, ends: str, *, quoted: bool = False) -> int:
    """Where a shell's word or command ends, from `at` on: behind what is quoted or nested in it."""
    inside = ['"'] if quoted else []
    while (token := _SHELL.search(line, at)) and len(inside) < MOST_NESTED:
        mark, at = token[0], token.end()
        innermost = inside[-1] if inside else ""
        if not inside and mark[0] in ends:
            return token.start()
        if mark in ("$(", "(") and (mark, innermost) != ("(", '"'):
            inside.append("(")
        elif mark == ")" and innermost == "(":
            inside.pop()
        elif mark == "'" and innermost != '"':
            at = line.find("'", at) + 1 or len(line)
        elif mark[:2] == "$'" and innermost == '"':
            at = token.start() + 2
        elif mark == "`" and "`" in inside:
            del inside[inside.index("`") :]
        elif mark == innermost == '"':
            inside.pop()
            if quoted and not inside:
                return token.start()
        elif mark in ('"', "`"):
            inside.append(mark)
    return len(line)


def readable(content: bytes, reveal: Collection[str] = ()) -> Any:
    """A JSON value with every variable hidden but those named in `reveal`.

    What is nested more than 100 deep is hidden too. Raises ValueError when it is not JSON.
    """
    try:
        text = content.decode()
        return redacted(json.loads(text, parse_float=finite, parse_constant=finite), reveal)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def redacted(value: Any, reveal: Collection[str] | None = None) -> Any:
    """What was a JSON value, as `readable` shows it."""
    return _redacted(value, reveal or (), MAX_DEPTH)


def _redacted(value: Any, reveal: Collection[str], depth: int) -> Any:
    if not depth:
        return HIDDEN
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
