from __future__ import annotations

import json
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest

from coditect_cli import tokens
from coditect_cli.paths import Paths
from coditect_cli.signing import parse_set
from tests.conftest import RunCli
from tests.support.gateway import local_keys

ISSUE = ("token", "issue", "--workspace", "demo", "--user", "ada")


def test_issue_prints_the_token_and_nothing_else(run_cli: RunCli, paths: Paths) -> None:
    code, out, err = run_cli(*ISSUE, "--ttl", "10m")
    assert (code, err) == (0, "")
    now = time.time()
    claims = tokens.verify(out.removesuffix("\n"), local_keys(paths), now=now)
    assert (claims.workspace_id, claims.user_id) == ("demo", "ada")
    assert 500 < claims.expires_at - now < 602


def test_the_shortest_and_the_longest_hold(run_cli: RunCli, paths: Paths) -> None:
    for ttl in ("1s", "365d"):
        token = run_cli(*ISSUE, "--ttl", ttl)[1].strip()
        issued = tokens.inspect(token)["claims"]["iat"]
        tokens.verify(token, local_keys(paths), now=issued)


@pytest.mark.parametrize(("ttl", "seconds"), [("1m", 60), ("1500ms", 2)])
def test_a_token_holds_for_as_long_as_was_asked_and_says_so(
    run_cli: RunCli, ttl: str, seconds: int
) -> None:
    document = json.loads(run_cli(*ISSUE, "--ttl", ttl, "-o", "json")[1])
    claims = tokens.inspect(document["token"])["claims"]
    assert claims["exp"] - claims["iat"] == seconds
    said = datetime.fromisoformat(document["expiresAt"])
    assert said.timestamp() == claims["exp"]


def test_issue_follows_the_context(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODITECT_TOKEN_ISSUER", "us")
    document = json.loads(run_cli(*ISSUE, "-o", "json")[1])
    assert set(document) == {"apiVersion", "kind", "token", "workspace", "user", "expiresAt"}
    assert tokens.inspect(document["token"])["claims"]["iss"] == "us"


def test_the_gateway_itself_can_be_named(run_cli: RunCli) -> None:
    assert run_cli("token", "issue", "--workspace", "_gateway")[0] == 0


@pytest.mark.parametrize(
    "args",
    [
        ("--workspace", "../x"),
        ("--workspace", "demo", "--user", ""),
        ("--workspace", "demo", "--user", "a\nb"),
        ("--workspace", "demo", "--user", "a" * 257),
        ("--workspace", "demo", "--ttl", "soon"),
        ("--workspace", "demo", "--ttl", "0"),
        ("--workspace", "demo", "--ttl", "366d"),
        ("--workspace", "demo", "--ttl", "9" * 400),
        (),
    ],
)
def test_mistakes_end_2_and_make_no_key(
    run_cli: RunCli, paths: Paths, args: tuple[str, ...]
) -> None:
    code, out, err = run_cli("token", "issue", *args)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert not paths.key_file.exists()


def test_inspect_reads_stdin_or_the_variable_and_hides_the_signature(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = run_cli(*ISSUE)[1].strip()
    code, out, _ = run_cli("token", "inspect", "-o", "json", stdin=token.encode())
    assert code == 0
    assert json.loads(out)["claims"]["user_id"] == "ada"
    assert token.rpartition(".")[2] not in out
    assert run_cli("token", "inspect", "-", "-o", "json", stdin=token.encode())[1] == out
    monkeypatch.setenv("CODITECT_TOKEN", token)
    table = run_cli("token", "inspect")[1]
    assert "workspace_id" in table
    assert token.rpartition(".")[2] not in table


def test_inspect_refuses_what_is_no_token_without_showing_it(run_cli: RunCli) -> None:
    assert run_cli("token", "inspect")[0] == 2
    for secret in (b"hush", b"hush" * 2000, b"\xff\xfe"):
        code, out, err = run_cli("token", "inspect", stdin=secret)
        assert (code, out) == (4, "")
        assert "hush" not in err
    for words in (("hush",), ("hush", "hush"), ("-o", "json", "hush")):
        code, out, err = run_cli("token", "inspect", *words)
        assert (code, out) == (2, "")
        assert "CODITECT_TOKEN" in err
        assert "hush" not in err


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "platform.pem"
    make = ("openssl", "genpkey", "-algorithm", "ed25519", "-out", str(path))
    subprocess.run(make, check=True, capture_output=True)
    path.chmod(0o600)
    return str(path)


def test_a_private_key_signs_and_its_printed_set_verifies(
    run_cli: RunCli, key_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, token, err = run_cli(*ISSUE, "--key-file", key_file)
    assert (code, err) == (0, "")
    for form in ("table", "json"):
        keys = parse_set(
            run_cli("token", "jwks", "--key-file", key_file, "-o", form)[1].encode(), ""
        )
        assert tokens.verify(token.strip(), keys, now=time.time()).user_id == "ada"
    monkeypatch.setenv("CODITECT_TOKEN_KEY_FILE", key_file)
    assert tokens.inspect(run_cli(*ISSUE)[1].strip())["header"]["alg"] == "EdDSA"


def test_without_a_key_file_there_is_no_set(run_cli: RunCli) -> None:
    assert run_cli("token", "jwks")[0] == 2
    code, out, err = run_cli("token", "jwks", "--key-file", "/nonexistent", "-o", "json")
    assert (code, out, json.loads(err)["error"]["code"]) == (8, "", "path.unusable")
