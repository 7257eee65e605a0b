"""One connection that speaks `coditect.v1+json`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from websockets.asyncio.server import ServerConnection

from coditect_cli.gateway.access import Admitted

if TYPE_CHECKING:
    from coditect_cli.gateway.server import Server


async def serve(server: Server, connection: ServerConnection, admitted: Admitted) -> None:
    """Serve the connection until it is closed."""
