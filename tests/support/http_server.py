"""An HTTP server for the time of a test."""

from __future__ import annotations

import sys
from http.server import ThreadingHTTPServer
from typing import Any


class HTTPServer(ThreadingHTTPServer):
    """One that says nothing of clients that leave: by then stderr may be another test's."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)
