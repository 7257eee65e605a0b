"""A client of the platform's earlier kind: JSON text frames of coditect.v1+json only."""

from __future__ import annotations

from typing import Any

from websockets.exceptions import ConnectionClosed

from coditect_cli.protocol import gateway_message as g
from tests.support.gateway import PATIENCE, Gateway


class EarlierClient:
    """A connection of GatewayMessages; keeps each session's output as text."""

    def __init__(self, gateway: Gateway, workspace: str = "demo", **options: Any) -> None:
        options.setdefault("subprotocols", ["coditect.v1+json"])
        self.connection = gateway.connect(workspace, **options).connection
        self.heard: list[g.GatewayMessage] = []
        self.text: dict[str, str] = {}

    def send(self, *messages: g.GatewayMessage) -> None:
        for message in messages:
            self.connection.send(g.encode(message))

    def step(self) -> g.GatewayMessage:
        message = g.parse_gateway(self.connection.recv(timeout=PATIENCE))
        self.heard.append(message)
        if isinstance(message, g.Output):
            before = "" if message.skipped else self.text.get(message.session_id, "")
            self.text[message.session_id] = before + message.data
        return message

    def message(self, kind: type[g.GatewayMessage]) -> Any:
        """The next message of this kind."""
        while not isinstance(message := self.step(), kind):
            if isinstance(message, g.Error):
                raise AssertionError(message)
        return message

    def create(self, *, cols: int = 80, rows: int = 24, session_id: str | None = None) -> str:
        self.send(g.Create(cols, rows, session_id))
        self.session: str = self.message(g.Connected).session_id
        return self.session

    def type(self, text: str, session: str | None = None) -> None:
        self.send(g.Input(text, session))

    def expect(self, wanted: str, session: str | None = None) -> str:
        """Receive until the session has shown this; what came before it."""
        id = session or self.session
        while wanted not in self.text.get(id, ""):
            message = self.step()
            if isinstance(message, g.Error | g.Closed):
                raise AssertionError((message, self.text.get(id, "")[-2000:]))
        before, _, self.text[id] = self.text[id].partition(wanted)
        return before

    def closed(self) -> int | None:
        try:
            while True:
                self.step()
        except ConnectionClosed:
            return self.connection.close_code
