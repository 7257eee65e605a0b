"""Asymmetric keys of tokens: private ones that sign, and sets of public ones that verify.

A JSON Web Key Set (RFC 7517) holds Ed25519 keys (RFC 8037), for `EdDSA`, and RSA keys, for `RS256`.
Each key has the one algorithm that it is used with; a token's header never chooses another.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import stat
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coditect_cli.errors import Failed, NotAuthenticated, Unreachable
from coditect_cli.paths import unusable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

log = logging.getLogger("coditect.signing")

LARGEST_SET = 256 << 10  # bytes
LEAST_RSA = 2048  # bits, RFC 7518 section 3.3
LEAST_SECRET = 32  # bytes, RFC 7518 section 3.2
FETCH_SECONDS = 5.0
REFETCH_SECONDS = 1.0  # the least time between two fetches for keys that are not known


@dataclass(frozen=True)
class Key:
    """What verifies tokens of one algorithm: a secret's bytes, or a public key."""

    algorithm: str
    material: Any
    id: str | None = None


@dataclass(frozen=True)
class PrivateKey:
    """A key that signs tokens; `id` is its thumbprint (RFC 7638), and its tokens' `kid`."""

    algorithm: str
    id: str
    jwk: dict[str, str]
    _key: Ed25519PrivateKey | RSAPrivateKey

    @classmethod
    def load(cls, path: str) -> PrivateKey:
        """The Ed25519 or RSA key in a PEM file. Raises NotAuthenticated, Failed."""
        from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        content = read_secret(path)
        try:
            key = load_pem_private_key(content, None)
        except (ValueError, TypeError):  # TypeError: it is encrypted
            raise _bad_key(path, "is no private key in PEM form without a password") from None
        if isinstance(key, ed25519.Ed25519PrivateKey):
            x = _base64url(key.public_key().public_bytes_raw())
            public = {"crv": "Ed25519", "kty": "OKP", "x": x}
            return cls("EdDSA", _thumbprint(public), public, key)
        if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= LEAST_RSA:
            numbers = key.public_key().public_numbers()
            public = {"e": _number(numbers.e), "kty": "RSA", "n": _number(numbers.n)}
            return cls("RS256", _thumbprint(public), public, key)
        raise _bad_key(path, f"is neither an Ed25519 key nor an RSA key of {LEAST_RSA} bits")

    def sign(self, data: bytes) -> bytes:
        """The signature of `data` by this key's algorithm."""
        from cryptography.hazmat.primitives.asymmetric import ed25519, padding
        from cryptography.hazmat.primitives.hashes import SHA256

        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(data)
        return self._key.sign(data, padding.PKCS1v15(), SHA256())

    def public_set(self) -> dict[str, Any]:
        """The JSON Web Key Set that verifies what this key signs."""
        use = {"kid": self.id, "alg": self.algorithm, "use": "sig"}
        return {"keys": [{**self.jwk, **use}]}


class Keys:
    """The keys that verify tokens: fixed ones, and those of a key set that is read again.

    `place` is a file or an https URL. Methods may be called by several threads.
    """

    def __init__(self, *fixed: Key, place: str | None = None) -> None:
        self._fixed = fixed
        self._place = place
        self._lock = threading.Lock()
        self._read: tuple[Key, ...] = ()
        self._read_at = -REFETCH_SECONDS

    @property
    def all(self) -> tuple[Key, ...]:
        return (*self._fixed, *self._read)

    def load(self) -> None:
        """Read the key set. Raises Unreachable, Failed (`token.keys`) and keeps what it had."""
        if self._place is not None:
            with self._lock:
                self._load(self._place)

    def refresh(self) -> bool:
        """Read the key set again, not more often than every REFETCH_SECONDS; whether it was.

        One that cannot be read leaves the keys as they are.
        """
        asked_at = time.monotonic()
        with self._lock:
            if self._place is None:
                return False
            if self._read_at > asked_at:  # by another thread, while this one waited
                return True
            if asked_at - self._read_at < REFETCH_SECONDS:
                return False
            try:
                self._load(self._place)
            except (Unreachable, Failed) as error:
                log.warning("keys_not_read why=%s", error)
                return False
            return True

    def _load(self, place: str) -> None:
        try:
            self._read = parse_set(_fetch(place), place)
        finally:
            self._read_at = time.monotonic()


def parse_set(content: bytes, place: str) -> tuple[Key, ...]:
    """The keys of a JSON Web Key Set that sign by EdDSA or RS256; others are passed over, as are
    those that are not whole (RFC 7517, section 5).

    Raises Failed (`token.keys`) where it is no set, has none of them, or holds a private key.
    """
    try:
        items = json.loads(content)["keys"]
        keys = tuple(key for item in items if (key := _usable_key(item)) is not None)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = str(error) if isinstance(error, _PrivateKeyFound) else "is no JSON Web Key Set"
        raise _bad_set(place, why) from None
    if not keys:
        raise _bad_set(place, "has no key for EdDSA (Ed25519) or RS256")
    return keys


class _PrivateKeyFound(ValueError):
    """Raised for a key that must not be where tokens are only verified."""


def _usable_key(item: object) -> Key | None:
    if not isinstance(item, dict):
        raise TypeError
    try:
        return _public_key(item)
    except _PrivateKeyFound:
        raise
    except (KeyError, ValueError, TypeError):
        return None


def _public_key(item: Mapping[str, Any]) -> Key | None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

    if "d" in item or item.get("kty") == "oct":
        raise _PrivateKeyFound("holds a private or secret key, which must not be there")
    if item.get("use", "sig") != "sig":
        return None
    kid = item.get("kid")
    if kid is not None and not isinstance(kid, str):
        return None
    if (item.get("kty"), item.get("crv")) == ("OKP", "Ed25519"):
        algorithm, public = "EdDSA", Ed25519PublicKey.from_public_bytes(_bytes(item["x"]))
        named = item.get("alg", algorithm) in (algorithm, "Ed25519")  # the second by RFC 9864
        return Key(algorithm, public, kid) if named else None
    if item.get("kty") == "RSA" and item.get("alg", "RS256") == "RS256":
        e, n = (int.from_bytes(_bytes(item[name])) for name in ("e", "n"))
        if n.bit_length() < LEAST_RSA:
            return None
        return Key("RS256", RSAPublicNumbers(e, n).public_key(), kid)
    return None


def read_secret(path: str) -> bytes:
    """The content of a file that holds a key. Raises NotAuthenticated where others can read it.

    Its group may: that is how Kubernetes shows a secret to a user that is not root.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(LARGEST_SET)
    except OSError as error:
        raise unusable(Path(path), error) from error
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o007:
        raise NotAuthenticated(
            f"other users can read the key file {path}",
            code="token.key_exposed",
            hint=f"chmod o= {path}, and make a new key where somebody may have read it",
        )
    return content


def shared_secret(path: str) -> Key:
    """The HS256 key in a file, without the line's end. Raises NotAuthenticated, Failed."""
    secret = read_secret(path).rstrip(b"\r\n")
    if len(secret) < LEAST_SECRET:
        raise _bad_key(path, f"has fewer than {LEAST_SECRET} bytes, which HS256 needs")
    return Key("HS256", secret)


def _fetch(place: str) -> bytes:
    try:
        if place.startswith("/"):
            with open(place, "rb") as file:
                content = file.read(LARGEST_SET + 1)
        else:
            content = _get(place)
    except OSError as error:  # urllib's errors too
        why = getattr(error, "reason", None) or error.strerror or str(error)
        raise Unreachable(
            f"the key set {place} can't be read: {why}",
            code="token.keys_unreachable",
            hint="check the setting token_jwks",
            retryable=True,
        ) from error
    if len(content) > LARGEST_SET:
        raise _bad_set(place, f"is larger than {LARGEST_SET} bytes")
    return content


def _get(url: str) -> bytes:
    """What is there. Raises OSError."""
    import http.client
    import urllib.request

    class NoRedirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            """Keys come from where the setting says, and from nowhere else."""

    opener = urllib.request.build_opener(NoRedirects)
    try:
        with opener.open(url, timeout=FETCH_SECONDS) as answer:
            return _read(answer)
    except http.client.HTTPException as error:
        raise OSError(f"the answer is not HTTP, or not whole ({type(error).__name__})") from error


def _read(answer: Any) -> bytes:
    """An answer, however slowly it comes, but for no longer than FETCH_SECONDS. Raises OSError."""
    content, deadline = b"", time.monotonic() + FETCH_SECONDS
    while len(content) <= LARGEST_SET and (data := answer.read1(LARGEST_SET + 1)):
        content += data
        if time.monotonic() > deadline:
            raise TimeoutError("it takes too long")
    return content


def _thumbprint(jwk: Mapping[str, str]) -> str:
    canonical = json.dumps(jwk, separators=(",", ":"), sort_keys=True).encode()
    return _base64url(hashlib.sha256(canonical).digest())


def _number(value: int) -> str:
    return _base64url(value.to_bytes((value.bit_length() + 7) // 8))


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _bad_key(path: str, why: str) -> Failed:
    hint = "openssl genpkey -algorithm ed25519 -out FILE makes one"
    return Failed(f"the key file {path} {why}", code="token.key_damaged", hint=hint)


def _bad_set(place: str, why: str) -> Failed:
    hint = "coditect token jwks prints the set of a private key"
    return Failed(f"the key set {place} {why}", code="token.keys", hint=hint)
