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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coditect_cli.errors import NotAuthenticated
from coditect_cli.paths import Paths, make_private, unusable

MAX_TOKEN = 4096  # bytes
ALGORITHM = "HS256"


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
            hint="remove it (a new one is made on the next use), then: coditect gateway restart",
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
    key: bytes,
    *,
    workspace_id: str,
    user_id: str,
    ttl: float,
    now: float,
    issuer: str | None = None,
    audience: str | None = None,
) -> str:
    """A token for one user and one workspace that holds for `ttl` seconds from `now`."""
    claims: dict[str, Any] = {
        "sub": user_id,
        "user_id": user_id,
        "workspace_id": workspace_id,
        "iat": int(now),
        "exp": math.ceil(now + ttl),
        "jti": os.urandom(16).hex(),
    }
    if issuer is not None:
        claims["iss"] = issuer
    if audience is not None:
        claims["aud"] = audience
    # Without PyJWT, whose import takes longer than everything else that an attach does here.
    signed = _segment({"alg": ALGORITHM, "typ": "JWT"}) + b"." + _segment(claims)
    return (signed + b"." + _base64url(hmac.digest(key, signed, "sha256"))).decode()


def _segment(part: dict[str, Any]) -> bytes:
    return _base64url(json.dumps(part, separators=(",", ":")).encode())


def _base64url(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def verify(
    token: str,
    key: bytes,
    *,
    now: float,
    issuer: str | None = None,
    audience: str | None = None,
) -> Claims:
    """What the token says, once all of it holds.

    Raises NotAuthenticated with one of the codes token.too_large, token.invalid,
    token.algorithm, token.claims, token.not_yet_valid, token.expired.
    """
    import jwt

    _check_size(token)
    try:
        algorithm = jwt.get_unverified_header(token).get("alg")
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise _malformed() from None
    if algorithm != ALGORITHM:
        raise NotAuthenticated(
            "the token is signed with an algorithm that is not allowed here",
            code="token.algorithm",
            hint=f"only {ALGORITHM} is",
        )
    try:
        claims = json.loads(jwt.PyJWS().decode(token, key, algorithms=[ALGORITHM]))
        if not isinstance(claims, dict):
            raise _malformed()
    except jwt.InvalidSignatureError:
        raise NotAuthenticated(
            "the token is not signed with this gateway's key",
            hint="get a new one; a token of another machine or context does not hold here",
        ) from None
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise _malformed() from None
    _check_claims(claims, issuer, audience)
    _check_times(claims, now)
    return Claims(claims["workspace_id"], claims["user_id"], float(claims["exp"]))


def inspect(token: str) -> dict[str, Any]:
    """The token's `header` and `claims`, unverified; never its signature.

    Raises NotAuthenticated (token.too_large, token.invalid) when it is no token.
    """
    import jwt

    _check_size(token)
    try:
        parts = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise _malformed() from None
    return {"header": parts["header"], "claims": parts["payload"]}


def _check_size(token: str) -> None:
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
    if now < max(claims.get("nbf", 0), claims.get("iat", 0)):
        raise NotAuthenticated(
            "the token is not valid yet",
            code="token.not_yet_valid",
            hint="compare the clocks of the machines that issued it and that read it",
        )
