"""An API server, spoken to in plain JSON.

The `kubernetes` package's typed models are left alone: decoding 10,000 objects takes them 9 s, and
plain JSON a tenth of that.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import urlencode

from coditect_cli.errors import CoditectError, TimedOut
from coditect_cli.kube_credentials import connect
from coditect_cli.kube_errors import Answer, Garbled, refusal, unanswered
from coditect_cli.settings import Settings

log = logging.getLogger("coditect.kube")

MANAGER = "coditect"  # of the fields that apply() sets
PAGE = 500  # objects
CONNECT, READ = 10.0, 30.0  # seconds
LEAST = 1.0  # seconds that a call is given, however little is left
ATTEMPTS = 5
TOLD = 2  # the failed attempt that people hear of, and one that took long
LONGEST_PAUSE = 30.0  # seconds between two attempts, also where the server asks for more

Object = dict[str, Any]


class Page(Protocol):
    """A part of a list, as `pages` decodes it."""

    metadata: dict[str, Any]


P = TypeVar("P", bound=Page)


def no_end() -> float | None:
    """What is left of the time for calls that may take as long as they do."""
    return None


class Kube:
    """An API server and the namespace of a context. Paths are the API's own.

    `left` says how many seconds calls may still take: then TimedOut is raised in place of what
    stood in the way. `tell` hears of what is tried again.
    """

    def __init__(
        self,
        settings: Settings,
        left: Callable[[], float | None] = no_end,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._left, self._tell = left, tell
        self._told = ""  # what was told last, until there is an answer
        self._telling = threading.Lock()
        self.namespace = settings.namespace
        self._connection = connect(settings)
        self.server = self._connection.server

    def get(self, path: str, **query: object) -> Object:
        """One object or list. Raises what `kube_errors` says, as all methods here do."""
        return cast(Object, self._call("GET", path, query))

    def create(self, path: str, body: Object, **query: object) -> Object:
        """Post an object with a name.

        An answer that got lost may leave it made: the next attempt then raises Conflict.
        """
        return cast(Object, self._call("POST", path, query, body))

    def patch(self, path: str, body: Object, **query: object) -> Object:
        """Merge `body` into an object (RFC 7396)."""
        kind = "application/merge-patch+json"
        return cast(Object, self._call("PATCH", path, query, body, kind))

    def apply(self, path: str, body: Object, **query: object) -> Object:
        """Apply `body` as what this program manages of an object, which it makes where it lacks.

        https://kubernetes.io/docs/reference/using-api/server-side-apply/
        Raises Conflict (kube.managed) for fields that another manages and that differ.
        """
        kind = "application/apply-patch+yaml"
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict", **query}
        return cast(Object, self._call("PATCH", path, query, body, kind))

    def replace(self, path: str, body: Object) -> Object:
        """Put a whole object; one that changed since its resourceVersion raises Conflict."""
        return cast(Object, self._call("PUT", path, {}, body))

    def delete(self, path: str, **options: object) -> Object:
        """Delete an object; `options` are those of DeleteOptions."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1"} | options
        return cast(Object, self._call("DELETE", path, {}, body))

    def pages(self, path: str, kind: type[P], **query: object) -> Iterator[P]:
        """A list, page by page, and never held whole; `kind` has the fields that are read.

        The next page comes while one is used. A list that grows so old that its next page is gone
        (410) is taken up where it stopped, without the consistency that it had.
        """
        from msgspec import DecodeError
        from msgspec.json import Decoder

        decoder = Decoder(kind)

        def decode(content: bytes) -> P:
            try:
                return decoder.decode(content)
            except DecodeError as error:
                raise Garbled(str(error)) from error

        query["limit"] = PAGE
        page = cast(P, self._call("GET", path, query, decode=decode))
        while token := page.metadata.get("continue"):
            later = query | {"continue": token}
            coming = _Ahead(partial(self._call, "GET", path, later, decode=decode))
            yield page
            page = cast(P, coming.result())
        yield page

    def open_watch(self, path: str, seconds: int, **query: object) -> Any:
        """The response to a watch, of which the body is still to come; close it."""
        query |= {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": seconds}
        return self._send("GET", path, query, read_timeout=seconds + READ)

    def _call(
        self,
        method: str,
        path: str,
        query: dict[str, object],
        body: Object | None = None,
        kind: str = "application/json",
        decode: Callable[[bytes], Any] | None = None,
    ) -> Any:
        """One request, repeated where the server says so, or gave no answer."""
        from urllib3.exceptions import HTTPError

        problem: CoditectError
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = self._send(method, path, query, body, kind)
                content = response.read()
                response.release_conn()
                if response.status < 300:
                    self._told = ""
                    return (decode or _object)(content)
                answer = answer_of(method, path, response, content)
            except (HTTPError, OSError, ValueError, Garbled) as error:
                problem = unanswered(self.server, error)
                pause = _backoff(attempt)
            else:
                token = answer.body.get("metadata", {}).get("continue")
                if answer.status == 410 and "continue" in query and token:
                    query = query | {"continue": token}
                    continue
                problem = refusal(answer, self.server)
                pause = answer.retry_after or _backoff(attempt)
            if not problem.retryable:
                raise problem
            left, pause = self._left(), min(pause, LONGEST_PAUSE)
            if left is not None and left <= pause:
                raise TimedOut(
                    f"not done in time: {problem.message}", code=problem.code, hint=problem.hint,
                    retryable=True,
                )  # fmt: skip
            if attempt == ATTEMPTS:
                raise problem
            log.info("attempt %d failed code=%s path=%s", attempt, problem.code, path)
            if attempt == TOLD or problem.code == "kube.timeout":
                self._tell_once(f"{problem.message}; trying again")
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _tell_once(self, words: str) -> None:
        """Tell what no other thread has told."""
        with self._telling:
            is_new, self._told = words != self._told, words
        if is_new:
            self._tell(words)

    def _send(
        self,
        method: str,
        path: str,
        query: dict[str, object],
        body: Object | None = None,
        kind: str = "application/json",
        read_timeout: float | None = None,
    ) -> Any:
        from urllib3 import HTTPHeaderDict, Timeout

        left = self._left()
        soon = READ if left is None else max(left, LEAST)
        headers = HTTPHeaderDict({"Accept": "application/json", "User-Agent": "coditect"})
        for name, value in self._connection.headers():
            headers.add(name, value)
        if body is not None:
            headers["Content-Type"] = kind
        return self._connection.pool.request(
            method,
            self.server + path + ("?" + urlencode(query) if query else ""),
            body=None if body is None else json.dumps(body),
            headers=headers,
            timeout=Timeout(connect=min(CONNECT, soon), read=read_timeout or min(READ, soon)),
            preload_content=False,
            redirect=False,
            retries=False,
        )


class _Ahead(threading.Thread):
    """A call that is made meanwhile; nobody has to wait for it."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._result: object = None
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._call()
        except Exception as error:
            self._error = error

    def result(self) -> object:
        """What it returned. Raises what it raised."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._result


def _object(content: bytes) -> Object:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise Garbled(str(error)) from error
    if not isinstance(found, dict):
        raise Garbled("it is no JSON object")
    return found


def _backoff(attempt: int) -> float:
    return 0.1 * float(4 ** (attempt - 1))


def answer_of(method: str, path: str, response: Any, content: bytes) -> Answer:
    try:
        body = json.loads(content)
    except ValueError:
        body = {"message": content[:500].decode(errors="replace").strip()}
    seconds = str(response.headers.get("Retry-After", ""))
    return Answer(
        method,
        path,
        int(response.status),
        body if isinstance(body, dict) else {},
        float(seconds) if seconds.isdecimal() else None,
    )
