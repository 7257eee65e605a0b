"""The names that both ends use before the first message; loaded without any message."""

from __future__ import annotations

V1 = "coditect.v1+json"
V2 = "coditect.v2"
BEARER = "coditect.bearer."
WORKSPACE_HEADER = "Coditect-Workspace"
SESSIONS_PAGE = "/sessions"
