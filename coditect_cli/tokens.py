"""Issue and verify the JSON Web Tokens that admit a user to a workspace.

The clock is an argument everywhere, and no error ever holds the token.
"""

from __future__ import annotations

import base64
import hmac
import json
import math
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coditect_cli.errors import NotAuthenticated
from coditect_cli.paths import Paths, make_private, unusable

if TYPE_CHECKING:
    from coditect_cli.signing import Key, PrivateKey

MAX_TOKEN = 4096  # bytes
LEEWAY = 5.0  # seconds that the issuer's clock may be ahead of ours
_ED25519 = "Ed25519"  # what RFC 9864 calls EdDSA with such a key, and we have no others


@dataclass(frozen=True)
class Claims:
    """What a verified token says; `expires_at` is in seconds since the epoch."""

    workspace_id: str
    user_id: str
    expires_at: float


def local_key(paths: Paths) -> bytes:
    """The local context's key (32 bytes), made on first use and never replaced.

    Raises NotAuthenticated when the key file is damaged or open to other users.
    """
    try:
        if not paths.key_file.exists():
            make_private(paths.config)
            _make_key(paths.key_file)
        descriptor = os.open(paths.key_file, os.O_RDONLY | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(100)
    except OSError as error:
        raise unusable(paths.key_file, error) from error
    _check_key_file(paths.key_file, status)
    try:
        key = bytes.fromhex(content.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != 32:
        raise NotAuthenticated(
            f"the key file {paths.key_file} is damaged",
            code="token.key_damaged",
            hint="remove it: a new one is made on the next use",
        )
    return key


def local_user() -> str:
    """The user of the local context: the name of this uid, or the number where it has none."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _make_key(path: Path) -> None:
    part = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(os.urandom(32).hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)
    except FileExistsError:
        pass  # another process made one at the same time: that one counts
    finally:
        os.unlink(part)


def _check_key_file(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        raise NotAuthenticated(
            f"the key file {path} is not a regular file of yours",
            code="token.key_foreign",
            hint="remove it, or set CODITECT_HOME to a folder of your own",
        )
    if status.st_mode & 0o077:
        raise NotAuthenticated(
            f"other users can read the key file {path}",
            code="token.key_exposed",
            hint=f"if nobody did, run: chmod 600 {path}; else remove it, and a new one is made",
        )


def issue(
    key: bytes | PrivateKey,
    *,
    workspace_id: str,
    user_id: str,
    ttl: float,
    now: float,
    issuer: str | None = None,
    audience: str | None = None,
) -> str:
    """A token for one user and one workspace that holds for `ttl` seconds from `now`.

    Its times are in whole seconds, `ttl` is rounded up. It is signed by HS256 with a key of
    bytes, else by the private key's algorithm.
    """
    claims: dict[str, Any] = {
        "sub": user_id,
        "user_id": user_id,
        "workspace_id": workspace_id,
        "iat": int(now),
        "exp": int(now) + math.ceil(ttl),
        "jti": os.urandom(16).hex(),
    }
    if issuer is not None:
        claims["iss"] = issuer
    if audience is not None:
        claims["aud"] = audience
    # Without PyJWT, whose import takes longer than everything else that an attach does here.
    if isinstance(key, bytes):
        signed = _segment({"alg": "HS256", "typ": "JWT"}) + b"." + _segment(claims)
        signature = hmac.digest(key, signed, "sha256")
    else:
        header = {"alg": key.algorithm, "kid": key.id, "typ": "JWT"}
        signed = _segment(header) + b"." + _segment(claims)
        signature = key.sign(signed)
    return (signed + b"." + _base64url(signature)).decode()


def _segment(part: dict[str, Any]) -> bytes:
    return _base64url(json.dumps(part, separators=(",", ":")).encode())


def _base64url(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def verify(
    token: str,
    keys: Sequence[Key],
    *,
    now: float,
    issuer: str | None = None,
    audience: str | None = None,
) -> Claims:
    """What the token says, once one of `keys` verifies it and all of it holds.

    A key is used with its own algorithm only. Raises NotAuthenticated with one of the codes
    token.too_large, token.invalid, token.algorithm, token.unknown_key, token.signature,
    token.claims, token.not_yet_valid, token.expired.
    """
    import jwt

    check_size(token)
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise _malformed() from None
    claims = _verified(token, _usable(header, keys))
    _check_claims(claims, issuer, audience)
    _check_times(claims, now)
    return Claims(claims["workspace_id"], claims["user_id"], float(claims["exp"]))


def _usable(header: dict[str, Any], keys: Sequence[Key]) -> list[Key]:
    """The keys that a token of this header may be signed with; at least one, of one algorithm."""
    named = header.get("alg")
    algorithm = "EdDSA" if named == _ED25519 else named
    of_algorithm = [key for key in keys if key.algorithm == algorithm]
    if not of_algorithm:
        allowed = " and ".join(sorted({key.algorithm for key in keys}))
        raise NotAuthenticated(
            "the token is signed with an algorithm that is not allowed here",
            code="token.algorithm",
            hint=f"allowed is {allowed}",
        )
    kid = header.get("kid")
    usable = [key for key in of_algorithm if kid is None or key.id in (None, kid)]
    if not usable:
        raise NotAuthenticated(
            "the token is signed with a key that is not known here",
            code="token.unknown_key",
            hint="get a new token; compare its kid with the key set (coditect token inspect)",
        )
    return usable


def _verified(token: str, keys: Sequence[Key]) -> dict[str, Any]:
    import jwt

    reader, algorithms = jwt.PyJWS(), [keys[0].algorithm]
    if algorithms == ["EdDSA"]:
        reader.register_algorithm(_ED25519, reader.get_algorithm_by_name("EdDSA"))
        algorithms.append(_ED25519)
    for key in keys:
        try:
            claims = json.loads(reader.decode(token, key.material, algorithms=algorithms))
        except jwt.InvalidSignatureError:
            continue
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise _malformed() from None
        if not isinstance(claims, dict):
            raise _malformed()
        return claims
    raise NotAuthenticated(
        "the token is not signed with this gateway's key",
        code="token.signature",
        hint="get a new one; a token of another machine or context does not hold here",
    )


def inspect(token: str) -> dict[str, Any]:
    """The token's `header` and `claims`, unverified; never its signature.

    Raises NotAuthenticated (token.too_large, token.invalid) when it is no token.
    """
    import jwt

    check_size(token)
    try:
        parts = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise _malformed() from None
    return {"header": parts["header"], "claims": parts["payload"]}


def check_size(token: str) -> None:
    """Raises NotAuthenticated (token.too_large)."""
    if len(token.encode("utf-8", "surrogateescape")) > MAX_TOKEN:
        raise NotAuthenticated(
            f"the token is larger than {MAX_TOKEN} bytes",
            code="token.too_large",
            hint="ask whoever issues it for fewer claims",
        )


def _malformed() -> NotAuthenticated:
    return NotAuthenticated("this is not a JSON Web Token", hint="get a new token")


def _check_claims(claims: dict[str, Any], issuer: str | None, audience: str | None) -> None:
    wrong = None
    for name in ("sub", "user_id", "workspace_id"):
        if not isinstance(claims.get(name), str) or not claims[name]:
            wrong = f"its claim {name} is missing or not a text"
    if wrong is None and claims["sub"] != claims["user_id"]:
        wrong = "its claims sub and user_id differ"
    for name in ("exp", "nbf", "iat"):
        if (name in claims or name == "exp") and not _is_time(claims.get(name)):
            wrong = f"its claim {name} is missing or not a time"
    if issuer is not None and claims.get("iss") != issuer:
        wrong = "it comes from another issuer"
    audiences = claims.get("aud")
    if audience is not None and audience not in (
        audiences if isinstance(audiences, list) else [audiences]
    ):
        wrong = "it is for another audience"
    if wrong is not None:
        raise NotAuthenticated(
            f"the token's claims do not hold: {wrong}", code="token.claims", hint="get a new token"
        )


def _is_time(value: object) -> bool:
    # JSON as Python reads it has NaN and Infinity, and a token that says so would never expire.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 2**53


def _check_times(claims: dict[str, Any], now: float) -> None:
    if now >= claims["exp"]:
        raise NotAuthenticated(
            "the token has expired", code="token.expired", hint="get a new token"
        )
    if now + LEEWAY < max(claims.get("nbf", 0), claims.get("iat", 0)):
        raise NotAuthenticated(
            "the token is not valid yet",
            code="token.not_yet_valid",
            hint="compare the clocks of the machines that issued it and that read it",
        )
