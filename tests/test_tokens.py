from __future__ import annotations

import base64
import hashlib
import hmac
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coditect_cli import tokens
from coditect_cli.errors import NotAuthenticated
from coditect_cli.paths import Paths
from coditect_cli.signing import Key

KEY = bytes(range(32))
KEYS = [Key("HS256", KEY)]
NOW = 1_000_000.5


def issue(**changes: Any) -> str:
    arguments = {"workspace_id": "demo", "user_id": "ada", "ttl": 60.0, "now": NOW, **changes}
    return tokens.issue(KEY, **arguments)


def signed(claims: object, header: dict[str, Any] | None = None, key: bytes = KEY) -> str:
    """A token made by hand, so that it can be wrong in ways that a library would not write."""
    parts = [header or {"alg": "HS256", "typ": "JWT"}, claims]
    text = ".".join(_encoded(json.dumps(part).encode()) for part in parts)
    return text + "." + _encoded(hmac.digest(key, text.encode(), hashlib.sha256))


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


GOOD = {"sub": "ada", "user_id": "ada", "workspace_id": "demo", "exp": NOW + 60}


def refusal(token: str, **checks: Any) -> str:
    with pytest.raises(NotAuthenticated) as caught:
        tokens.verify(token, KEYS, **{"now": NOW, **checks})
    error = caught.value
    assert token not in f"{error.message}{error.hint}{error.__cause__!r}" or not token
    return error.code


def test_what_was_issued_is_verified() -> None:
    claims = tokens.verify(issue(), KEYS, now=NOW)
    assert (claims.workspace_id, claims.user_id) == ("demo", "ada")
    assert claims.expires_at == int(NOW) + 60


def test_two_tokens_never_have_one_id() -> None:
    ids = {tokens.inspect(issue())["claims"]["jti"] for _ in range(10)}
    assert len(ids) == 10


def test_a_token_made_by_hand_is_good() -> None:
    assert tokens.verify(signed(GOOD), KEYS, now=NOW).user_id == "ada"


@pytest.mark.parametrize("algorithm", ["none", "None", "HS384", "HS512", "RS256", "", None, 1])
def test_every_other_algorithm_is_refused(algorithm: object) -> None:
    code = refusal(signed(GOOD, {"alg": algorithm, "typ": "JWT"}))
    assert code in ("token.algorithm", "token.signature")
    if isinstance(algorithm, str):
        assert code == "token.algorithm"


def test_an_unsigned_token_is_refused() -> None:
    head = _encoded(b'{"alg":"none"}')
    assert refusal(f"{head}.{_encoded(json.dumps(GOOD).encode())}.") == "token.algorithm"
    body = signed(GOOD).rpartition(".")[0]
    assert refusal(body + ".") == "token.signature"


def test_another_key_and_a_changed_claim_are_refused() -> None:
    assert refusal(signed(GOOD, key=bytes(32))) == "token.signature"
    head, _, signature = signed(GOOD).split(".")
    forged = _encoded(json.dumps({**GOOD, "user_id": "eve", "sub": "eve"}).encode())
    assert refusal(f"{head}.{forged}.{signature}") == "token.signature"


@pytest.mark.parametrize(
    "token",
    ["", "x", "a.b.c", "...", "é.é.é", "\udce9", "\x00", signed([1]), signed("x"), signed(1)],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    assert refusal(token) == "token.invalid"


def test_the_size_is_checked_before_anything_else() -> None:
    longest = "x" * tokens.MAX_TOKEN
    assert refusal(longest) == "token.invalid"
    assert refusal(longest + "x") == "token.too_large"
    assert refusal("é" * (tokens.MAX_TOKEN // 2 + 1)) == "token.too_large"


def test_it_expires_to_the_second() -> None:
    assert refusal(signed(GOOD), now=NOW + 60) == "token.expired"
    tokens.verify(signed(GOOD), KEYS, now=NOW + 59.9)


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_it_does_not_hold_before_its_time(claim: str) -> None:
    assert refusal(signed({**GOOD, claim: NOW + tokens.LEEWAY + 1})) == "token.not_yet_valid"


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_the_issuers_clock_may_be_a_little_ahead(claim: str) -> None:
    tokens.verify(signed({**GOOD, claim: NOW + tokens.LEEWAY}), KEYS, now=NOW)


@pytest.mark.parametrize("claim", ["sub", "user_id", "workspace_id", "exp"])
@pytest.mark.parametrize("value", [None, "", 7, ["ada"], True])
def test_each_claim_must_be_there_and_of_its_type(claim: str, value: object) -> None:
    if (claim, value) == ("exp", 7):
        assert refusal(signed({**GOOD, claim: value})) == "token.expired"
    else:
        assert refusal(signed({**GOOD, claim: value})) == "token.claims"
    assert refusal(signed({k: v for k, v in GOOD.items() if k != claim})) == "token.claims"


def test_sub_must_be_the_user() -> None:
    assert refusal(signed({**GOOD, "sub": "eve"})) == "token.claims"


@pytest.mark.parametrize("time", [float("nan"), float("inf"), 10**400, "soon", {}])
def test_a_time_that_never_comes_is_refused(time: object) -> None:
    assert refusal(signed({**GOOD, "exp": time})) == "token.claims"
    assert refusal(signed({**GOOD, "nbf": time})) == "token.claims"


def test_issuer_and_audience_are_checked_where_set() -> None:
    token = issue(issuer="us", audience="gateway")
    tokens.verify(token, KEYS, now=NOW, issuer="us", audience="gateway")
    tokens.verify(token, KEYS, now=NOW)
    assert refusal(token, issuer="them") == "token.claims"
    assert refusal(token, audience="other") == "token.claims"
    assert refusal(issue(), issuer="us") == "token.claims"
    assert refusal(issue(), audience="gateway") == "token.claims"
    tokens.verify(signed({**GOOD, "aud": ["a", "gateway"]}), KEYS, now=NOW, audience="gateway")


def test_inspect_shows_everything_but_the_signature() -> None:
    token = issue()
    parts = tokens.inspect(token)
    assert set(parts) == {"header", "claims"}
    assert parts["claims"]["workspace_id"] == "demo"
    assert token.rpartition(".")[2] not in str(parts)
    with pytest.raises(NotAuthenticated):
        tokens.inspect("no token")


def test_the_key_is_made_once_and_private(paths: Paths) -> None:
    key = tokens.local_key(paths)
    assert len(key) == 32
    assert tokens.local_key(paths) == key
    assert stat.S_IMODE(paths.key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(paths.config.stat().st_mode) == 0o700
    assert list(paths.config.iterdir()) == [paths.key_file]


def test_racing_first_uses_get_one_key(paths: Paths) -> None:
    with ThreadPoolExecutor(16) as pool:
        keys = set(pool.map(lambda _: tokens.local_key(paths), range(16)))
    assert len(keys) == 1
    assert list(paths.config.iterdir()) == [paths.key_file]


def test_a_key_that_others_can_read_is_refused(paths: Paths) -> None:
    tokens.local_key(paths)
    paths.key_file.chmod(0o640)
    with pytest.raises(NotAuthenticated) as caught:
        tokens.local_key(paths)
    assert caught.value.code == "token.key_exposed"


@pytest.mark.parametrize("content", ["", "00", "zz" * 32, "00" * 31, "00" * 33, "\xff" * 64])
def test_a_damaged_key_is_refused_not_replaced(paths: Paths, content: str) -> None:
    tokens.local_key(paths)
    paths.key_file.write_text(content, encoding="latin-1")
    with pytest.raises(NotAuthenticated) as caught:
        tokens.local_key(paths)
    assert caught.value.code == "token.key_damaged"
    assert paths.key_file.read_text(encoding="latin-1") == content
