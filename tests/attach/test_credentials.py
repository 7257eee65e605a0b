from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from coditect_cli import config, tokens
from coditect_cli.attach.credentials import LEFT, Credentials
from coditect_cli.errors import Forbidden, NotAuthenticated
from coditect_cli.paths import Paths
from coditect_cli.tokens import local_user
from tests.support.gateway import local_keys


def credentials(home: Path, **environ: str) -> Credentials:
    environ["CODITECT_HOME"] = str(home)
    paths = Paths.from_environ(environ)
    return Credentials(config.load(paths, environ), paths, "demo", environ)


def python(code: str) -> str:
    return f"{sys.executable} -c '{code}'"


def test_the_local_key_gives_a_token_of_a_minute_for_this_user(tmp_path: Path) -> None:
    paths = Paths.from_environ({"CODITECT_HOME": str(tmp_path)})
    token = credentials(tmp_path).token()
    claims = tokens.verify(token, local_keys(paths), now=time.time())
    assert (claims.workspace_id, claims.user_id) == ("demo", local_user())
    assert claims.expires_at <= time.time() + 61


def test_the_environments_token_comes_first(tmp_path: Path) -> None:
    found = credentials(tmp_path, CODITECT_TOKEN="given", CODITECT_TOKEN_COMMAND="false")
    assert found.token() == "given"


def test_a_token_command_is_told_the_workspace(tmp_path: Path) -> None:
    command = python('import os; print(os.environ["CODITECT_WORKSPACE_ID"])')
    assert credentials(tmp_path, CODITECT_TOKEN_COMMAND=command).token() == "demo"


def test_a_token_command_runs_for_each_connection(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    code = f'f = open("{counter}", "a+"); f.write("x"); f.seek(0); print(len(f.read()))'
    found = credentials(tmp_path, CODITECT_TOKEN_COMMAND=python(code))
    assert [found.token(), found.token()] == ["1", "2"]


@pytest.mark.parametrize(("ttl", "runs"), [(60, 1), (LEFT - 1, 2)])
def test_a_token_is_shown_again_while_it_is_good(tmp_path: Path, ttl: float, runs: int) -> None:
    counter = tmp_path / "counter"
    token = tokens.issue(b"key", workspace_id="demo", user_id="me", ttl=ttl, now=time.time())
    code = f'open("{counter}", "a").write("x"); print("{token}")'
    found = credentials(tmp_path, CODITECT_TOKEN_COMMAND=python(code))
    assert [found.recent(), found.recent()] == [token, token]
    assert counter.read_text() == "x" * runs


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ('import sys; print("secret"); sys.exit("no login")', "ended with status 1"),
        ("pass", "printed no token"),
        ('print("secret one"); print("two")', "is not a token"),
    ],
)
def test_a_token_command_that_fails_says_why_but_never_what_it_printed(
    tmp_path: Path, code: str, message: str
) -> None:
    with pytest.raises(NotAuthenticated) as failed:
        credentials(tmp_path, CODITECT_TOKEN_COMMAND=python(code)).token()
    assert message in failed.value.message
    assert "secret" not in f"{failed.value.message}{failed.value.hint}"


@pytest.mark.parametrize(
    ("command", "words"),
    [("yes", "printed more than a token"), ("sh -c 'kill -9 $$'", "was killed (signal 9)")],
)
def test_a_token_command_without_end_or_killed_is_named(
    tmp_path: Path, command: str, words: str
) -> None:
    with pytest.raises(NotAuthenticated) as failed:
        credentials(tmp_path, CODITECT_TOKEN_COMMAND=command).token()
    assert words in failed.value.message


def test_what_a_token_command_says_without_end_is_not_kept(tmp_path: Path) -> None:
    code = 'import sys; sys.stderr.write("x" * 10**6 + "\\nthe end"); sys.exit(3)'
    with pytest.raises(NotAuthenticated) as failed:
        credentials(tmp_path, CODITECT_TOKEN_COMMAND=python(code)).token()
    assert "the end" in (failed.value.hint or "")


def test_a_token_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotAuthenticated, match=r"no-such-program.*cannot be run"):
        credentials(tmp_path, CODITECT_TOKEN_COMMAND="no-such-program").token()


@pytest.mark.parametrize("by", ["variable", "command"])
def test_a_token_of_another_workspace_is_not_sent(tmp_path: Path, by: str) -> None:
    token = tokens.issue(b"key", workspace_id="other", user_id="me", ttl=60, now=time.time())
    environ = {"CODITECT_TOKEN": token}
    if by == "command":
        environ = {"CODITECT_TOKEN_COMMAND": python(f'print("{token}")')}
    with pytest.raises(Forbidden, match="for workspace other, not demo") as refused:
        credentials(tmp_path, **environ).token()
    assert refused.value.code == "workspace.forbidden"
    assert token not in f"{refused.value.message}{refused.value.hint}"


def test_a_token_of_this_workspace_is_sent(tmp_path: Path) -> None:
    token = tokens.issue(b"key", workspace_id="demo", user_id="me", ttl=60, now=time.time())
    assert credentials(tmp_path, CODITECT_TOKEN=token).token() == token


def test_a_token_that_is_too_large_is_not_sent(tmp_path: Path) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        credentials(tmp_path, CODITECT_TOKEN="x" * 9000).token()
    assert caught.value.code == "token.too_large"
