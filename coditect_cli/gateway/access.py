"""Who gets in: the token, its workspace and its owner, the page's origin, and the limits."""

from __future__ import annotations

import http
import time
from collections.abc import Iterable
from dataclasses import dataclass

from coditect_cli import __version__
from coditect_cli.config import Settings
from coditect_cli.errors import (
    CoditectError,
    Failed,
    Forbidden,
    LimitReached,
    NotAuthenticated,
    NotFound,
    UsageError,
)
from coditect_cli.protocol.messages import BEARER, V1, V2
from coditect_cli.tokens import Claims, local_user, verify
from coditect_cli.workspaces.local import LocalWorkspaces
from coditect_cli.workspaces.spec import GATEWAY, WorkspaceRecord, check_workspace_id

PATHS = ("/ws", "/ws/terminal")
PAGES = ("/healthz", "/readyz", "/metrics")
_STATUS = {
    UsageError: http.HTTPStatus.BAD_REQUEST,
    NotAuthenticated: http.HTTPStatus.UNAUTHORIZED,
    Forbidden: http.HTTPStatus.FORBIDDEN,
    NotFound: http.HTTPStatus.NOT_FOUND,
    LimitReached: http.HTTPStatus.TOO_MANY_REQUESTS,
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
    """Checks a request's path, origin, token, owner and subprotocol, in this order."""

    def __init__(
        self,
        settings: Settings,
        key: bytes,
        workspaces: LocalWorkspaces,
        only_workspace: str | None,
    ) -> None:
        self._settings = settings
        self._key = key
        self._workspaces = workspaces
        self._only = only_workspace

    def admit(
        self,
        path: str,
        authorization: list[str],
        origin: str | None,
        offered: list[str],
        user_agent: str,
        named: str | None,
    ) -> Admitted:
        """Who is asking, when all is in order; else raises the error that says why not.

        `named` is the workspace that the client means, where it says so: a token of another one
        must not act on that one instead.
        """
        if path.partition("?")[0] not in PATHS:
            raise NotFound(
                "there is nothing at this path", code="path.not_found", hint="the endpoint is /ws"
            )
        if origin is not None and origin not in self._settings.allowed_origins:
            raise Forbidden(
                "pages of this origin may not use the gateway",
                code="origin.forbidden",
                hint="add it to the setting allowed_origins",
            )
        claims = self._claims(authorization, offered, from_page=origin is not None)
        if named is not None and named != claims.workspace_id:
            raise Forbidden(
                "the token is for another workspace than the one that was named",
                code="workspace.forbidden",
                hint="use a token of that workspace",
            )
        record = self._workspace(claims)
        agent, _, version = user_agent.partition("/")
        client_version = version if agent == "coditect" else "of another kind"
        return Admitted(claims.user_id, record, choose(offered, client_version), client_version)

    def admit_to_page(self, authorization: list[str]) -> None:
        """Let a request for one of PAGES in: anyone's in a cluster, a token's owner's here.

        Raises NotAuthenticated.
        """
        if self._only is None:
            self._claims(authorization, [], from_page=False)

    def _claims(self, authorization: list[str], offered: list[str], *, from_page: bool) -> Claims:
        scheme, _, token = authorization[0].partition(" ") if authorization else ("", "", "")
        if from_page and not token:
            bearers = [name for name in offered if name.startswith(BEARER)]
            scheme, token = "bearer", bearers[0].removeprefix(BEARER) if bearers else ""
        if len(authorization) > 1 or scheme.lower() != "bearer" or not token.strip():
            raise NotAuthenticated(
                "the request has no bearer token",
                code="token.missing",
                hint="send it as Authorization: Bearer TOKEN",
            )
        return verify(
            token.strip(),
            self._key,
            now=time.time(),
            issuer=self._settings.token_issuer,
            audience=self._settings.token_audience,
        )

    def _workspace(self, claims: Claims) -> WorkspaceRecord | None:
        if claims.workspace_id == GATEWAY:
            if claims.user_id != local_user():
                raise Forbidden("this gateway belongs to another user", code="gateway.forbidden")
            return None
        try:
            check_workspace_id(claims.workspace_id)
        except UsageError as error:
            raise NotAuthenticated(
                "the token's workspace_id is not a workspace id", code="token.claims"
            ) from error
        if self._only is not None and claims.workspace_id != self._only:
            raise Forbidden(
                f"this gateway serves workspace {self._only} only",
                code="workspace.forbidden",
                hint="use the token of that workspace, or the gateway of yours",
            )
        record = self._workspaces.get(claims.workspace_id)
        if record.owner != claims.user_id:
            raise Forbidden(
                f"workspace {record.id} belongs to another user",
                code="workspace.forbidden",
                hint="coditect workspace list shows yours",
            )
        return record


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
