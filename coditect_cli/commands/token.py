"""`coditect token`: issue, jwks, inspect."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coditect_cli import tokens
from coditect_cli.errors import UsageError
from coditect_cli.output import Result
from coditect_cli.runtime import Runtime
from coditect_cli.settings import parse_duration
from coditect_cli.tokens import local_user
from coditect_cli.workspaces.spec import GATEWAY, check_workspace_id

if TYPE_CHECKING:
    from coditect_cli.signing import PrivateKey

KeyFile = Annotated[
    Path | None,
    typer.Option("--key-file", metavar="FILE", help="A private key: Ed25519 or RSA, in PEM."),
]
LONGEST = 365 * 86_400.0  # seconds that a token may hold


def issue(
    ctx: typer.Context,
    workspace: Annotated[
        str,
        typer.Option(
            "--workspace", metavar="ID", help=f"The workspace, or {GATEWAY} to manage the gateway."
        ),
    ],
    user: Annotated[
        str | None, typer.Option("--user", metavar="USER", help="The user; else this one.")
    ] = None,
    ttl: Annotated[
        str, typer.Option("--ttl", metavar="DURATION", help="How long it holds, such as 10m.")
    ] = "1h",
    key_file: KeyFile = None,
) -> Result:
    """Issue a token, and print nothing else.

    It is signed with the private key of --key-file, else of the setting token_key_file, else
    with this machine's own key, which only its own gateway accepts.

    Examples:
      CODITECT_TOKEN=$(coditect token issue --workspace demo) some-client
      coditect token issue --workspace demo --user ada --ttl 10m -o json
      coditect token issue --workspace demo --user ada --key-file /secrets/platform.pem

    Exit codes: 0 done, 2 a bad id, user or duration, 4 the key file is damaged or exposed
    """
    runtime: Runtime = ctx.obj
    if workspace != GATEWAY:
        check_workspace_id(workspace)
    user = local_user() if user is None else user
    if not user or not user.isprintable() or len(user) > 256:
        raise UsageError("--user is 1 to 256 printable characters")
    try:
        seconds = parse_duration(ttl)
    except ValueError as rule:
        raise UsageError(f"--ttl {ttl!r} is not {rule}") from None
    if not 1 <= seconds <= LONGEST:
        raise UsageError(f"--ttl {ttl!r} is not a duration from 1s to 365d")
    now, lifetime = int(time.time()), math.ceil(seconds)
    token = tokens.issue(
        _signing_key(runtime, key_file) or tokens.local_key(runtime.paths),
        workspace_id=workspace,
        user_id=user,
        ttl=lifetime,
        now=now,
        issuer=runtime.context.settings.token_issuer,
        audience=runtime.context.settings.token_audience,
    )
    fields = {
        "token": token,
        "workspace": workspace,
        "user": user,
        "expiresAt": _rfc3339(now + lifetime),
    }
    return Result("Token", fields, text=token, name="token")


def jwks(ctx: typer.Context, key_file: KeyFile = None) -> Result:
    """Print the key set (JWKS) that verifies the tokens of a private key. It holds no secret.

    Where a key is replaced, the set holds the new and the old one until the old one's tokens
    have expired: join the `keys` of both.

    Examples:
      openssl genpkey -algorithm ed25519 -out platform.pem
      coditect token jwks --key-file platform.pem > jwks.json

    Exit codes: 0 done, 2 no key file was named, 4 other users can read it, 8 it is no such key
    """
    key = _signing_key(ctx.obj, key_file)
    if key is None:
        raise UsageError("there is no key file", hint="pass --key-file, or set token_key_file")
    fields = key.public_set()
    return Result("KeySet", fields, text=json.dumps(fields, indent=2), name="kid")


def _signing_key(runtime: Runtime, key_file: Path | None) -> PrivateKey | None:
    path = key_file or runtime.context.settings.token_key_file
    if path is None:
        return None
    from coditect_cli.signing import PrivateKey

    return PrivateKey.load(str(path))


def inspect(
    ctx: typer.Context,
    misplaced: Annotated[list[str] | None, typer.Argument(metavar="[< FILE]", hidden=True)] = None,
) -> Result:
    """Show what a token says: header and claims, not verified, and never its signature.

    The token comes from CODITECT_TOKEN, else from stdin (also written -); never from the command
    line, which other users can read.

    Examples:
      coditect token issue --workspace demo | coditect token inspect
      coditect token inspect -o json < token-file

    Exit codes: 0 done, 2 no token was given, 4 it is not a token
    """
    if misplaced not in (
        None,
        [],
        ["-"],
    ):  # said by hand: the parser's own words would show the token
        raise UsageError(
            "a token is not taken from the command line, which other users can read",
            hint="set CODITECT_TOKEN, or pass it on stdin",
        )
    streams = ctx.obj.streams
    token = os.environ.get("CODITECT_TOKEN", "").strip()
    if not token and not streams.stdin.isatty():
        token = streams.stdin.read(tokens.MAX_TOKEN + 2).strip()
    if not token:
        raise UsageError(
            "there is no token to inspect", hint="set CODITECT_TOKEN, or pass it on stdin"
        )
    parts = tokens.inspect(token)
    rows = [
        {"part": part, "name": name, "value": _readable(name, value)}
        for part, values in parts.items()
        for name, value in values.items()
    ]
    return Result(
        "TokenContents", parts, {"PART": "part", "NAME": "name", "VALUE": "value"}, rows=rows
    )


def _readable(name: str, value: object) -> object:
    is_time = name in ("exp", "iat", "nbf") and isinstance(value, int | float)
    return f"{value} ({_rfc3339(value)})" if is_time else value  # type: ignore[arg-type]


def _rfc3339(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    except (ValueError, OverflowError, OSError):
        return "not a time"
