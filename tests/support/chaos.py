"""A proxy before an API server that fails as they do: errors, delays, watches that are cut."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.cluster import Cluster
from tests.support.http_server import HTTPServer


@dataclass
class Fault:
    """What happens to the next `times` requests whose "METHOD path?query" matches `what`.

    An answer with `status`; or, with `forward`, the real answer that gets lost (the connection is
    cut); or `line` is sent as a watch's event, after which it is cut; `delay` comes first.
    """

    what: str
    times: int = 1
    status: int = 0
    reason: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    forward: bool = False
    line: object = None


class Chaos:
    """Forwards to a cluster as its administrator, but for the faults; `requests` are all."""

    def __init__(self, cluster: Cluster) -> None:
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self._lock = threading.Lock()
        authority, upstream = cluster.authority, urlsplit(cluster.url)
        client = ssl.create_default_context(cafile=str(authority.certificate))
        client.load_cert_chain(*authority.issue(uuid.uuid4().hex, "admin", ["system:masters"]))
        chaos = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                fault = chaos.fault_for(f"{self.command} {self.path}")
                if fault is None or not chaos.answer(self, fault):
                    chaos.forward(self, upstream.netloc, client, fault)

            do_GET = do_POST = do_PATCH = do_DELETE = handle_any

            def log_message(self, *_: object) -> None: ...

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(*authority.issue(uuid.uuid4().hex, "proxy", hosts=["127.0.0.1"]))
        self._server.socket = server.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.url = f"https://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05])
        self._thread.start()

    def fault_for(self, request: str) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.times and re.search(fault.what, request):
                    fault.times -= 1
                    return fault
        return None

    def answer(self, handler: BaseHTTPRequestHandler, fault: Fault) -> bool:
        """Whether the fault is all that there is to say."""
        if fault.delay:
            time.sleep(fault.delay)
        if fault.line is not None:
            handler.send_response(200)
            handler.send_header("Connection", "close")
            handler.end_headers()
            handler.wfile.write(json.dumps(fault.line).encode() + b"\n")
        elif fault.status:
            message = f"chaos {fault.status}"
            body = {"kind": "Status", "code": fault.status, "message": message}
            content = json.dumps(body | {"reason": fault.reason}).encode()
            length = int(handler.headers.get("Content-Length", 0))
            handler.rfile.read(length)
            handler.send_response(fault.status)
            for name, value in {**fault.headers, "Content-Length": str(len(content))}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(content)
        elif not fault.forward and not fault.delay:
            handler.close_connection = True
        else:
            return False
        handler.close_connection = handler.close_connection or fault.line is not None
        return True

    def forward(
        self,
        handler: BaseHTTPRequestHandler,
        host: str,
        context: ssl.SSLContext,
        fault: Fault | None,
    ) -> None:
        connection = http.client.HTTPSConnection(host, context=context, timeout=120)
        length = int(handler.headers.get("Content-Length", 0))
        headers = {
            name: value
            for name, value in handler.headers.items()
            if name.lower() not in ("host", "authorization", "content-length")
        }
        try:
            connection.request(handler.command, handler.path, handler.rfile.read(length), headers)
            answer = connection.getresponse()
            if fault is not None and fault.forward:
                answer.read()
                handler.close_connection = True
                return
            handler.send_response(answer.status)
            handler.send_header("Content-Type", answer.headers.get("Content-Type", ""))
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            while chunk := answer.read1(65_536):
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            handler.wfile.write(b"0\r\n\r\n")
        except (OSError, http.client.HTTPException):
            handler.close_connection = True
        finally:
            connection.close()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def kubeconfig(self, cluster: Cluster) -> Path:
        return cluster.write_kubeconfig(uuid.uuid4().hex, {"token": "any"}, self.url)


@contextmanager
def chaos_before(cluster: Cluster) -> Iterator[Chaos]:
    chaos = Chaos(cluster)
    try:
        yield chaos
    finally:
        chaos.close()
