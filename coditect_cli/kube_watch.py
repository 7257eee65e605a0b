"""Lists of the API server, followed as they change."""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from msgspec import Struct

from coditect_cli.errors import CoditectError
from coditect_cli.kube import Kube, Object, answer_of
from coditect_cli.kube_errors import Answer, refusal, unanswered

log = logging.getLogger("coditect.kube")

LONGEST = 60  # seconds after which a watch is taken up anew: a dead link is noticed by then
PATIENT = 3  # the failure to take up a watch that is told
PAUSE = 0.5  # seconds before a broken watch is taken up


@dataclass(frozen=True)
class Change:
    """`kind` is LIST (`object` is all of it, what is not in it is gone), ADDED, MODIFIED, DELETED.

    `key` says which of the lists it is about; of each object it has what its source picks.
    """

    key: str
    kind: str
    object: Any


@dataclass(frozen=True)
class Source:
    """A list to follow; from `version` on, where it was read before.

    `pick` makes of an object what is kept of it: a list is read in pages, and never held whole.
    """

    path: str
    query: dict[str, object] = field(default_factory=dict)
    version: str = ""
    pick: Callable[[Object], Any] = lambda found: found


class Watches:
    """Follows several lists at once, each in a thread; a context manager.

    A watch that breaks goes on where it was, one that can't (410) begins again with LIST. Only a
    list that can't be had at first is an error, and one that is refused for good. `tell` hears of
    what keeps a watch from going on, once until it does.
    """

    def __init__(
        self, kube: Kube, sources: dict[str, Source], tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self._kube = kube
        self._tell = tell
        self._broken: dict[str, CoditectError] = {}
        self._changes: queue.SimpleQueue[Change | Exception] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._open: set[Any] = set()
        self._threads = [
            threading.Thread(target=self._follow, args=item, daemon=True)
            for item in sources.items()
        ]

    def __enter__(self) -> Watches:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._stopping.set()
            for response in self._open:
                with suppress(OSError, ValueError):
                    response.shutdown()

    @property
    def problem(self) -> CoditectError | None:
        """What keeps one of the watches from being heard; None while all are."""
        return next(iter(self._broken.values()), None)

    def next(self, patience: float | None = None) -> Change | None:
        """The next change, or None when none came within `patience` seconds.

        Raises what ended one of the watches.
        """
        try:
            change = self._changes.get(timeout=patience)
        except queue.Empty:
            return None
        if isinstance(change, Exception):
            raise change
        return change

    def _follow(self, key: str, source: Source) -> None:
        version, begun = source.version, bool(source.version)
        failures = 0
        while not self._stopping.is_set():
            try:
                if not version:
                    version = self._list(key, source)
                    begun = True
                for kind, found in self._events(source, version):
                    failures = 0
                    self._broken.pop(key, None)
                    version = found["metadata"]["resourceVersion"]
                    if kind != "BOOKMARK":
                        self._changes.put(Change(key, kind, source.pick(found)))
            except _Expired:
                log.info("watch expired path=%s", source.path)
                version = ""
            except CoditectError as error:
                if not (error.retryable and begun):
                    self._changes.put(error)
                    return
                log.info("watch broke path=%s code=%s", source.path, error.code)
                failures += 1
                if failures == PATIENT:
                    if not self._broken:
                        self._tell(f"not heard of the cluster: {error.message}; trying again")
                    self._broken[key] = error
                self._stopping.wait(PAUSE)
            except Exception as error:  # a bug, of which whoever waits for changes must hear
                self._changes.put(error)
                return

    def _list(self, key: str, source: Source) -> str:
        """Put all that is there; returns the version from which on it is to be watched."""
        version, items = "", []
        for page in self._kube.pages(source.path, Objects, **source.query):
            version = version or page.metadata["resourceVersion"]
            items += [source.pick(found) for found in page.items]
        self._changes.put(Change(key, "LIST", {"items": items}))
        return version

    def _events(self, source: Source, version: str) -> Iterator[tuple[str, Object]]:
        from urllib3.exceptions import HTTPError

        query = source.query | {"resourceVersion": version}
        response = None
        try:
            response = self._kube.open_watch(source.path, LONGEST, **query)
            with self._lock:
                self._open.add(response)
                if self._stopping.is_set():
                    return
            if response.status != 200:
                raise _problem(
                    answer_of("GET", source.path, response, response.read()), self._kube.server
                )
            yield "BOOKMARK", {"metadata": {"resourceVersion": version}}  # it is heard
            for kind, found in _lines(response):
                if kind == "ERROR":
                    code = int(found.get("code", 500))
                    raise _problem(Answer("GET", source.path, code, found), self._kube.server)
                yield kind, found
        except (HTTPError, OSError, ValueError) as error:
            raise unanswered(self._kube.server, error) from error
        finally:
            if response is not None:
                with self._lock:
                    self._open.discard(response)
                response.close()


class Objects(Struct):
    """A page of a list."""

    metadata: dict[str, Any]
    items: list[Object]


class _Expired(Exception):
    """The version to watch from is no longer kept."""


def _problem(answer: Answer, server: str) -> Exception:
    return _Expired() if answer.status == 410 else refusal(answer, server)


def _lines(response: Any) -> Iterator[tuple[str, Object]]:
    """A watch's events, each a line; raises ValueError for one that is torn, or none."""
    rest = b""
    for chunk in response.stream(65_536, decode_content=True):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield _event(line)
    if rest:
        raise ValueError("the watch ended in the middle of a line")


def _event(line: bytes) -> tuple[str, Object]:
    event = json.loads(line)
    try:
        kind, found = event["type"], event["object"]
        if kind != "ERROR":
            found["metadata"]["resourceVersion"]
    except (KeyError, TypeError):
        raise ValueError("a line of the watch is no event") from None
    return kind, found
