"""An HTTP server with the state of a few Google APIs, and the faults that a test switches on."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.http_server import HTTPServer

# https://cloud.google.com/apis/design/errors#error_codes
STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


class Refused(Exception):
    """An answer that is an error, as these APIs write it."""

    def __init__(self, status: int, message: str, name: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.name = name or STATUS[status]


@dataclass(frozen=True)
class Request:
    """One request: `path` without query, `body` decoded."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: Any = None


@dataclass
class Fault:
    """Answers matching requests with an error, `times` times (None: always)."""

    method: str
    path: re.Pattern[str]
    refusal: Refused
    times: int | None


Handler = Callable[[Request, re.Match[str]], Any]
Route = tuple[str, str, Handler]  # method, pattern of the whole path, what answers


class Server:
    """Answers on a free port of loopback, as a server and as a proxy; keeps every request."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = [(method, re.compile(path), handler) for method, path, handler in routes]
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.lock = threading.Lock()
        server = self

        class Answering(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                url = urlsplit(self.path)  # absolute where we are the proxy
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                query = {name: values[-1] for name, values in parse_qs(url.query).items()}
                request = Request(self.command, url.path, query, json.loads(body or "null"))
                status, document = server.answer(request, self.headers.get("Authorization"))
                data = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = HTTPServer(("127.0.0.1", 0), Answering)
        self._http.daemon_threads = True
        self.port = self._http.server_port
        # Half a second, the default, is what each test would wait at its end.
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def answer(self, request: Request, authorization: str | None) -> tuple[int, Any]:
        with self.lock:
            self.requests.append(request)
            try:
                if not (authorization or "").startswith("Bearer "):
                    raise Refused(401, "Request had invalid authentication credentials.")
                return 200, self._handle(request)
            except Refused as error:
                detail = {"code": error.status, "message": error.message, "status": error.name}
                return error.status, {"error": detail}

    def _handle(self, request: Request) -> Any:
        for fault in self.faults:
            if fault.method == request.method and fault.path.search(request.path):
                if fault.times is not None:
                    fault.times -= 1
                    self.faults = [one for one in self.faults if one.times != 0]
                raise fault.refusal
        for method, path, handler in self.routes:
            if method == request.method and (match := path.fullmatch(request.path)):
                return handler(request, match)
        raise Refused(404, f"the emulator has no {request.method} {request.path}")

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(10)
