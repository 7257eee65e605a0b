"""Asymmetric tokens: each key has its own algorithm, sets rotate, and private keys stay private."""

from __future__ import annotations

import base64
import itertools
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from coditect_cli import signing, tokens
from coditect_cli.errors import CoditectError, Failed, NotAuthenticated, Unreachable
from coditect_cli.signing import Key, Keys, PrivateKey, parse_set
from tests.support.authority import Authority

NOW = 1_000_000.0
CLAIMS: dict[str, Any] = {"workspace_id": "demo", "user_id": "ada", "ttl": 60.0, "now": NOW}


def write_pem(path: Path, key: Any, password: bytes | None = None) -> str:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    path.touch(0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return str(path)


def private_key(tmp_path: Path, kind: str = "EdDSA") -> PrivateKey:
    if kind == "EdDSA":
        key: Any = ed25519.Ed25519PrivateKey.generate()
    else:
        key = rsa.generate_private_key(65537, 2048)
    return PrivateKey.load(write_pem(tmp_path / f"{kind}.pem", key))


def key_set(*keys: PrivateKey) -> bytes:
    return json.dumps(
        {"keys": [item for key in keys for item in key.public_set()["keys"]]}
    ).encode()


def code(token: str, keys: tuple[Key, ...]) -> str:
    with pytest.raises(NotAuthenticated) as caught:
        tokens.verify(token, keys, now=NOW)
    return caught.value.code


@pytest.mark.parametrize("kind", ["EdDSA", "RS256"])
def test_what_a_private_key_signs_its_public_set_verifies(tmp_path: Path, kind: str) -> None:
    key = private_key(tmp_path, kind)
    token = tokens.issue(key, **CLAIMS)
    assert tokens.inspect(token)["header"] == {"alg": kind, "kid": key.id, "typ": "JWT"}
    assert tokens.verify(token, parse_set(key_set(key), "test"), now=NOW).user_id == "ada"


def test_the_key_id_is_the_thumbprint_of_rfc_8037() -> None:
    """Appendix A.3 of RFC 8037."""
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert signing._thumbprint(jwk) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_public_key_is_never_used_as_a_secret(tmp_path: Path) -> None:
    """The oldest forgery: HS256 with the public key's bytes as the secret."""
    key = private_key(tmp_path, "RS256")
    keys = parse_set(key_set(key), "test")
    public = keys[0].material
    for form in (Encoding.PEM, Encoding.DER):
        secret = public.public_bytes(form, PublicFormat.SubjectPublicKeyInfo)
        assert code(tokens.issue(secret, **CLAIMS), keys) == "token.algorithm"
        assert code(tokens.issue(secret, **CLAIMS), (*keys, Key("HS256", bytes(32)))) == (
            "token.signature"
        )


def test_a_token_of_another_key_or_a_changed_one_is_refused(tmp_path: Path) -> None:
    ours, other = private_key(tmp_path), private_key(tmp_path)
    keys = parse_set(key_set(ours), "test")
    assert code(tokens.issue(other, **CLAIMS), keys) == "token.unknown_key"
    head, _, signature = tokens.issue(ours, **CLAIMS).split(".")
    body = tokens.issue(ours, **{**CLAIMS, "user_id": "eve"}).split(".")[1]
    assert code(f"{head}.{body}.{signature}", keys) == "token.signature"
    assert code(tokens.issue(private_key(tmp_path, "RS256"), **CLAIMS), keys) == "token.algorithm"


def test_a_token_without_a_key_id_is_tried_with_each_key_of_its_algorithm(tmp_path: Path) -> None:
    ours, other = private_key(tmp_path), private_key(tmp_path)
    keys = parse_set(key_set(other, ours), "test")
    head = base64.urlsafe_b64encode(b'{"alg":"EdDSA"}').rstrip(b"=").decode()
    body = tokens.issue(ours, **CLAIMS).split(".")[1]
    signature = base64.urlsafe_b64encode(ours.sign(f"{head}.{body}".encode())).rstrip(b"=").decode()
    assert tokens.verify(f"{head}.{body}.{signature}", keys, now=NOW).user_id == "ada"


def test_ed25519_is_eddsa_by_another_name(tmp_path: Path) -> None:
    key = private_key(tmp_path)
    keys = parse_set(key_set(key), "test")
    named = tokens.issue(replace(key, algorithm="Ed25519"), **CLAIMS)
    assert tokens.inspect(named)["header"]["alg"] == "Ed25519"
    assert tokens.verify(named, keys, now=NOW).user_id == "ada"
    head, body, signature = named.split(".")
    assert code(f"{head}.{body}.{signature[:-8]}AAAAAAAA", keys) == "token.signature"
    rsa_only = parse_set(key_set(private_key(tmp_path, "RS256")), "test")
    assert code(named, rsa_only) == "token.algorithm"


def test_a_key_that_is_none_hides_no_other(tmp_path: Path) -> None:
    ours = private_key(tmp_path)
    items = [*json.loads(bad(kid=7))["keys"], *ours.public_set()["keys"]]
    content = json.dumps({"keys": items}).encode()
    assert [key.id for key in parse_set(content, "test")] == [ours.id]


def bad(**changes: Any) -> bytes:
    item = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    return json.dumps({"keys": [{**item, **changes}]}).encode()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no JSON Web Key Set"),
        (b"[]", "no JSON Web Key Set"),
        (b'{"keys":{}}', "has no key"),
        (b'{"keys":[]}', "has no key"),
        (b'{"keys":[1]}', "no JSON Web Key Set"),
        (bad(x="AA"), "has no key"),
        (bad(x="*"), "has no key"),
        (bad(kid=7), "has no key"),
        (bad(x=7), "has no key"),
        (bad(d="AA"), "private or secret"),
        (bad(kty="oct", k="AA"), "private or secret"),
        (bad(use="enc"), "has no key"),
        (bad(alg="ES256"), "has no key"),
        (bad(kty="EC", crv="P-256"), "has no key"),
        (b'{"keys":[{"kty":"RSA","e":"AQAB","n":"AQAB"}]}', "has no key"),
    ],
)
def test_a_set_that_holds_no_usable_key_or_a_private_one_is_refused(
    content: bytes, says: str
) -> None:
    with pytest.raises(Failed, match=says) as caught:
        parse_set(content, "test")
    assert caught.value.code == "token.keys"


@pytest.mark.parametrize("what", ["public", "encrypted", "curve", "short", "garbage"])
def test_a_file_that_is_no_usable_private_key_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "key.pem"
    key: Any = ed25519.Ed25519PrivateKey.generate()
    write_pem(path, key)
    if what == "public":
        path.write_bytes(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
    elif what == "encrypted":
        write_pem(path, key, b"secret")
    elif what == "curve":
        write_pem(path, ec.generate_private_key(ec.SECP256R1()))
    elif what == "short":
        write_pem(path, rsa.generate_private_key(65537, 1024))  # noqa: S505
    else:
        path.write_bytes(b"\0")
    with pytest.raises(Failed) as caught:
        PrivateKey.load(str(path))
    assert caught.value.code == "token.key_damaged"


def test_keys_that_others_can_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    write_pem(path, ed25519.Ed25519PrivateKey.generate())
    path.chmod(0o440)  # as Kubernetes mounts a secret for a group
    PrivateKey.load(str(path))
    path.chmod(0o604)
    for read in (PrivateKey.load, signing.shared_secret):
        with pytest.raises(NotAuthenticated) as caught:
            read(str(path))
        assert caught.value.code == "token.key_exposed"


def test_a_shared_secret_is_the_files_line(tmp_path: Path) -> None:
    path = tmp_path / "jwt_secret"
    path.touch(0o600)
    path.write_bytes(b"k" * 32 + b"\n")
    assert signing.shared_secret(str(path)) == Key("HS256", b"k" * 32)
    path.write_bytes(b"k" * 31 + b"\n")
    with pytest.raises(Failed):
        signing.shared_secret(str(path))


def test_a_set_is_read_again_for_an_unknown_key_and_not_too_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(signing.time, "monotonic", lambda: now)
    file = tmp_path / "jwks.json"
    first, second = private_key(tmp_path), private_key(tmp_path)
    file.write_bytes(key_set(first))
    keys = Keys(place=str(file))
    keys.load()
    file.write_bytes(key_set(second))
    now += signing.REFETCH_SECONDS / 2
    assert not keys.refresh()  # just read
    assert [key.id for key in keys.all] == [first.id]
    now += signing.REFETCH_SECONDS
    assert keys.refresh()
    assert [key.id for key in keys.all] == [second.id]
    now += signing.REFETCH_SECONDS
    file.unlink()
    assert not keys.refresh()
    assert [key.id for key in keys.all] == [second.id]  # what can't be read changes nothing
    with pytest.raises(Unreachable):
        keys.load()


def test_fixed_keys_have_nothing_to_read_again() -> None:
    keys = Keys(Key("HS256", bytes(32)))
    keys.load()
    assert not keys.refresh()
    assert len(keys.all) == 1


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = self.server.answers[self.path]  # type: ignore[attr-defined]
        if not status:  # it brings its own
            self.wfile.write(body)
            return
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/jwks")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for part in body.splitlines(keepends=True):
            self.wfile.write(part)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(folder: Path, answers: dict[str, tuple[int, bytes]]) -> Iterator[str]:
    """An https server with a certificate that the environment's authority signed."""
    certificate, key = Authority(folder).issue("server", "localhost", hosts=["localhost"])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.answers = answers  # type: ignore[attr-defined]
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_set_comes_over_https_from_one_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = private_key(tmp_path)
    answers = {
        "/jwks": (200, key_set(key)),
        "/moved": (302, b""),
        "/absent": (404, b""),
        "/large": (200, b" " * (signing.LARGEST_SET + 1)),
        "/garbage": (0, b"SSH-2.0-server\r\n"),
        "/cut": (0, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{"),
    }
    with serving(tmp_path, answers) as url:
        with pytest.raises(Unreachable):  # its authority is not trusted
            Keys(place=f"{url}/jwks").load()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
        keys = Keys(place=f"{url}/jwks")
        keys.load()
        assert [one.id for one in keys.all] == [key.id]
        for path in answers.keys() - {"/jwks"}:
            with pytest.raises(CoditectError, match=path):
                Keys(place=url + path).load()


def test_a_set_that_comes_too_slowly_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"/slow": (200, b"{\n}\n" * 3)}
    with serving(tmp_path, answers) as url:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
        hours = itertools.count(step=3600)
        monkeypatch.setattr(signing.time, "monotonic", lambda: next(hours))
        with pytest.raises(Unreachable, match="takes too long"):
            Keys(place=f"{url}/slow").load()
