"""Who gets in: the token, its workspace and its owner, the page's origin, and the limits."""

from __future__ import annotations

import asyncio
import http
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from websockets.datastructures import Headers

from coditect_cli import __version__
from coditect_cli.errors import (
    CoditectError,
    Conflict,
    Failed,
    Forbidden,
    LimitReached,
    NotAuthenticated,
    NotFound,
    Unreachable,
    UsageError,
)
from coditect_cli.protocol.handshake import BEARER, V1, V2, WORKSPACE_HEADER
from coditect_cli.settings import Settings
from coditect_cli.signing import Keys
from coditect_cli.tokens import Claims, local_user, verify
from coditect_cli.workspaces.spec import (
    GATEWAY,
    WorkspaceRecord,
    Workspaces,
    check_workspace_id,
)

PATHS = ("/ws", "/ws/terminal")
PAGES = ("/healthz", "/readyz", "/metrics")
_STATUS = {
    UsageError: http.HTTPStatus.BAD_REQUEST,
    NotAuthenticated: http.HTTPStatus.UNAUTHORIZED,
    Forbidden: http.HTTPStatus.FORBIDDEN,
    NotFound: http.HTTPStatus.NOT_FOUND,
    Conflict: http.HTTPStatus.CONFLICT,
    LimitReached: http.HTTPStatus.TOO_MANY_REQUESTS,
    Unreachable: http.HTTPStatus.SERVICE_UNAVAILABLE,
}


@dataclass(frozen=True)
class Admitted:
    """Who a connection is: its user, the workspace (None: the gateway itself), its protocol."""

    user: str
    record: WorkspaceRecord | None
    protocol: str
    client_version: str


def http_status(error: CoditectError) -> http.HTTPStatus:
    """The status that an error before the upgrade is answered with."""
    if error.code == "protocol.unsupported":
        return http.HTTPStatus.BAD_REQUEST
    return _STATUS.get(type(error), http.HTTPStatus.INTERNAL_SERVER_ERROR)


class Access:
    """Checks a request's origin, token, path, owner and subprotocol, in this order."""

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        workspaces: Workspaces,
        only_workspace: str | None = None,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._workspaces = workspaces
        self._only = only_workspace

    async def admit(self, request: Asked, paths: Sequence[str] = PATHS) -> Admitted:
        """Who is asking, when all is in order; else raises the error that says why not."""
        claims = await claims_of(request, self._settings, self._keys, paths)
        record = self._workspace(claims)
        agent, _, version = request.user_agent.partition("/")
        client_version = version if agent == "coditect" else "of another kind"
        protocol = choose(request.offered, client_version)
        return Admitted(claims.user_id, record, protocol, client_version)

    async def admit_to_page(self, request: Asked) -> None:
        """Let a request for one of PAGES in: anyone's in a cluster, a token's owner's here.

        Raises NotAuthenticated, Forbidden.
        """
        check_origin(request, self._settings)
        if self._only is None:
            await verified(bearer(request), self._settings, self._keys)

    def _workspace(self, claims: Claims) -> WorkspaceRecord | None:
        if self._only is not None and claims.workspace_id != self._only:
            raise Forbidden(
                f"this gateway serves workspace {self._only} only",
                code="workspace.forbidden",
                hint="use the token of that workspace, or the gateway of yours",
            )
        if claims.workspace_id == GATEWAY:
            if claims.user_id != local_user():
                raise Forbidden("this gateway belongs to another user", code="gateway.forbidden")
            return None
        record = self._workspaces.get(checked_workspace(claims))
        check_owner(record.id, record.owner, claims)
        return record


@dataclass(frozen=True)
class Asked:
    """What of an HTTP request decides whether it is let in.

    `offered` are its subprotocols; `named` is the workspace that the client means, where it says
    so: a token of another one must not act on that one instead.
    """

    path: str
    authorization: list[str]
    origin: str | None
    offered: list[str]
    user_agent: str
    named: str | None

    @classmethod
    def of(cls, path: str, headers: Headers) -> Asked:
        lines = headers.get_all("Sec-WebSocket-Protocol")
        return cls(
            path,
            headers.get_all("Authorization"),
            headers.get("Origin"),
            [name.strip() for line in lines for name in line.split(",") if name.strip()],
            headers.get("User-Agent", ""),
            headers.get(WORKSPACE_HEADER),
        )


async def claims_of(
    request: Asked, settings: Settings, keys: Keys, paths: Sequence[str] = PATHS
) -> Claims:
    """What the token of a request for the endpoint says. Raises the error that says why not."""
    check_origin(request, settings)
    claims = await verified(bearer(request), settings, keys)
    if request.path.partition("?")[0] not in paths:
        raise NotFound(
            "there is nothing at this path", code="path.not_found", hint="the endpoint is /ws"
        )
    if request.named is not None and request.named != claims.workspace_id:
        raise Forbidden(
            "the token is for another workspace than the one that was named",
            code="workspace.forbidden",
            hint="use a token of that workspace",
        )
    return claims


def check_origin(request: Asked, settings: Settings) -> None:
    """Raises Forbidden for a browser's page from elsewhere than the settings allow."""
    if request.origin is not None and request.origin not in settings.allowed_origins:
        raise Forbidden(
            "pages of this origin may not use the gateway",
            code="origin.forbidden",
            hint="add it to the setting allowed_origins",
        )


def bearer(request: Asked) -> str:
    """The request's token. Raises NotAuthenticated where it has none, or several."""
    authorization = request.authorization
    scheme, _, token = authorization[0].partition(" ") if authorization else ("", "", "")
    if request.origin is not None and not token:
        bearers = [name for name in request.offered if name.startswith(BEARER)]
        scheme, token = "bearer", bearers[0].removeprefix(BEARER) if bearers else ""
    if len(authorization) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise NotAuthenticated(
            "the request has no bearer token",
            code="token.missing",
            hint="send it as Authorization: Bearer TOKEN",
        )
    return token.strip()


async def verified(token: str, settings: Settings, keys: Keys) -> Claims:
    """What the token says; a key that is not known may be a new one, so the set is read again."""
    now, issuer, audience = time.time(), settings.token_issuer, settings.token_audience
    try:
        return verify(token, keys.all, now=now, issuer=issuer, audience=audience)
    except NotAuthenticated as error:
        unknown = error.code in ("token.unknown_key", "token.algorithm", "token.signature")
        if not unknown or not await asyncio.to_thread(keys.refresh):
            raise
    return verify(token, keys.all, now=now, issuer=issuer, audience=audience)


def checked_workspace(claims: Claims) -> str:
    """The token's workspace id. Raises NotAuthenticated where it is none."""
    try:
        return check_workspace_id(claims.workspace_id)
    except UsageError as error:
        raise NotAuthenticated(
            "the token's workspace_id is not a workspace id", code="token.claims"
        ) from error


def check_owner(id: str, owner: str, claims: Claims) -> None:
    """Raises Forbidden where the workspace belongs to another user than the token's."""
    if owner != claims.user_id:
        raise Forbidden(
            f"workspace {id} belongs to another user",
            code="workspace.forbidden",
            hint="coditect workspace list shows yours",
        )


def choose(offered: Iterable[str], client_version: str) -> str:
    """The protocol to speak. Raises Failed with both sides' versions when there is none."""
    names = [name for name in offered if not name.startswith(BEARER)]
    for name in (V2, V1):
        if name in names:
            return name
    if not names:
        return V1
    shown = ", ".join(name[:64] for name in names)
    raise Failed(
        f"gateway {__version__} speaks {V2} and {V1}, client {client_version[:32]} speaks {shown}",
        code="protocol.unsupported",
        hint="install the same release at both ends",
    )
