"""Where a connection's token comes from: the environment, a command, or the local key."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import selectors
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from coditect_cli import tokens
from coditect_cli.config import Context
from coditect_cli.errors import Forbidden, NotAuthenticated
from coditect_cli.paths import Paths

COMMAND_TIMEOUT = 30.0  # seconds
MOST_PRINTED = 65_536  # bytes by a token command; a token is much smaller
LOCAL_TTL = 60.0  # seconds
LEFT = 10.0  # seconds that a token must still be good for, to be shown again


class Credentials:
    """A fresh token for each connection to one workspace."""

    def __init__(
        self, context: Context, paths: Paths, workspace_id: str, environ: Mapping[str, str]
    ) -> None:
        self._context = context
        self._paths = paths
        self._workspace_id = workspace_id
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self._last = ""

    def token(self) -> str:
        """The token for a connection made now.

        Raises NotAuthenticated when there is none, or the command that should print it fails,
        Forbidden when it is for another workspace.
        """
        if token := self._environ.get("CODITECT_TOKEN", "").strip():
            return self._checked(token, "CODITECT_TOKEN")
        settings = self._context.settings
        if settings.token_command is not None:
            return self._checked(self._run(settings.token_command), "the token command's output")
        if settings.provider != "local":
            raise NotAuthenticated(
                f"there is no token for context {self._context.name}",
                code="token.missing",
                hint="set CODITECT_TOKEN, or the context's token_command",
            )
        return tokens.issue(
            tokens.local_key(self._paths),
            workspace_id=self._workspace_id,
            user_id=tokens.local_user(),
            ttl=LOCAL_TTL,
            now=time.time(),
            issuer=settings.token_issuer,
            audience=settings.token_audience,
        )

    def recent(self) -> str:
        """The token that was got last, while it is good, for a request soon after another.

        Raises what `token` does.
        """
        ends = _claims(self._last).get("exp")
        if not isinstance(ends, int | float) or ends < time.time() + LEFT:
            self._last = self.token()
        return self._last

    def user(self) -> str:
        """Whom the token is for, unverified; without one, on this machine, its user.

        Raises NotAuthenticated when there is no token, or it does not say.
        """
        if self._context.settings.provider == "local":
            return tokens.local_user()
        user = _claimed(self.token(), "user_id")
        if user is None:
            raise NotAuthenticated("the token does not say whom it is for: it has no user_id")
        return user

    def stop(self) -> None:
        """End a token command that still runs."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.kill()

    def _checked(self, token: str, source: str) -> str:
        if not (token.isascii() and token.isprintable() and " " not in token):
            raise NotAuthenticated(
                f"{source} is not a token: it has spaces, line breaks or characters beyond ASCII",
                hint="it must be one JSON Web Token and nothing else",
            )
        tokens.check_size(token)
        claimed = _claimed(token, "workspace_id")
        if claimed not in (None, self._workspace_id):
            raise Forbidden(
                f"the token is for workspace {claimed}, not {self._workspace_id}",
                code="workspace.forbidden",
                hint=f"it comes from {source}; get one for {self._workspace_id}",
            )
        return token

    def _run(self, argv: tuple[str, ...]) -> str:
        try:
            with subprocess.Popen(
                argv,
                env={**self._environ, "CODITECT_WORKSPACE_ID": self._workspace_id},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            ) as self._process:
                try:
                    output, complaint = _printed_by(self._process)
                except BaseException:
                    self._process.kill()
                    raise
        except OSError as error:
            raise self._failed(argv[0], f"cannot be run: {error.strerror}") from error
        except subprocess.TimeoutExpired:
            # The exception itself holds what the command printed, so it is not chained.
            raise self._failed(argv[0], f"took longer than {COMMAND_TIMEOUT:g} s") from None
        if len(output) > MOST_PRINTED:
            raise self._failed(argv[0], "printed more than a token")
        status = self._process.returncode
        if status != 0:
            last = complaint.decode(errors="replace").strip().splitlines()[-1:]
            ended = (
                f"ended with status {status}" if status > 0 else f"was killed (signal {-status})"
            )
            raise self._failed(argv[0], ended, last[0][:200] if last else None)
        if not (token := output.decode(errors="replace").strip()):
            raise self._failed(argv[0], "printed no token")
        return token

    def _failed(self, program: str, why: str, complaint: str | None = None) -> NotAuthenticated:
        said = f"it said: {complaint}" if complaint else "run it by hand to see why"
        return NotAuthenticated(
            f"the token command ({program}) {why}",
            code="token.command_failed",
            hint=f"{said}; coditect context set {self._context.name} token_command= takes it out",
            retryable=True,
        )


def _printed_by(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """The first of what a process prints on stdout, and the last of what it says on stderr.

    One that prints more than a token is killed. Raises subprocess.TimeoutExpired.
    """
    assert process.stdout and process.stderr  # noqa: S101 - pipes, as it was started
    output, complaint = bytearray(), bytearray()
    deadline = time.monotonic() + COMMAND_TIMEOUT
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, output)
        selector.register(process.stderr, selectors.EVENT_READ, complaint)
        while selector.get_map() and len(output) <= MOST_PRINTED:
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(process.args, COMMAND_TIMEOUT)
            for key, _ in selector.select(left):
                data = os.read(key.fd, MOST_PRINTED)
                key.data.extend(data)
                if not data:
                    selector.unregister(key.fileobj)
            del complaint[:-MOST_PRINTED]
    if len(output) > MOST_PRINTED:
        process.kill()
    else:
        process.wait(max(0.0, deadline - time.monotonic()))
    return bytes(output), bytes(complaint)


def _claimed(token: str, claim: str) -> str | None:
    """What the token says, unverified; None where only the gateway can tell what is wrong."""
    claimed = _claims(token).get(claim)
    return claimed if isinstance(claimed, str) else None


def _claims(token: str) -> dict[str, Any]:
    try:
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    except (IndexError, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
