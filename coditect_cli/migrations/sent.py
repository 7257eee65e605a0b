"""Which files an action sends, and what is in them: a saved plan holds only while they are so."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|\\.|.", re.DOTALL)
_WILD = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def digests(files: Iterable[Path]) -> dict[str, str]:
    """Each file's SHA-256, by its path; of a link what it leads to, of what can't be read that."""
    return {str(file): _digest(file) for file in files}


def one_digest(files: Mapping[str, str]) -> str:
    """One for all of digests()."""
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()


def _digest(file: Path) -> str:
    try:
        if file.is_symlink():
            return f"link to {os.readlink(file)}"
        with open(file, "rb") as content:
            return f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"
    except OSError as error:
        return f"not readable: {error.strerror}"


def build_files(source: Path, dockerfile: Path) -> Iterator[Path]:
    """What `docker build` is given: the Dockerfile, and the folder without what is ignored.

    .git is left out too: looking at a work tree changes it.
    https://docs.docker.com/build/concepts/context/#dockerignore-files
    """
    yield dockerfile
    rules = _rules(dockerfile.with_name(dockerfile.name + ".dockerignore"))
    rules = rules or _rules(source / ".dockerignore")
    is_final = all(is_ignored for _, is_ignored in rules)  # nothing in an ignored folder comes back
    for place, folders, names in os.walk(source):
        here = Path(place).relative_to(source)
        folders[:] = sorted(
            name
            for name in folders
            if name != ".git" and not (is_final and _is_ignored(here / name, rules))
        )
        links = [name for name in folders if (source / here / name).is_symlink()]
        for name in sorted([*names, *links]):
            file = source / here / name
            is_sent = file.is_symlink() or file.is_file()  # no socket, no pipe
            if is_sent and file != dockerfile and not _is_ignored(here / name, rules):
                yield file


Rules = list[tuple[re.Pattern[str], bool]]  # what matches, and whether it is then ignored


def _rules(file: Path) -> Rules:
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return []
    rules = []
    for line in map(str.strip, lines):
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").strip().strip("/")
            words = [_WILD.get(token) or _literal(token) for token in _TOKEN.findall(pattern)]
            rules.append((re.compile("".join(words) + "(?:/.*)?"), line[0] != "!"))
    return rules


def _literal(token: str) -> str:
    if token[0] == "[" and len(token) > 1:
        return token
    return re.escape(token[-1])


def _is_ignored(path: Path, rules: Rules) -> bool:
    """As the last rule says that matches it, or a folder that it is in."""
    verdicts = [is_ignored for pattern, is_ignored in rules if pattern.fullmatch(path.as_posix())]
    return bool(verdicts) and verdicts[-1]
