"""Cloud Logging's entries.list, with as much of its query language as is asked here.

https://cloud.google.com/logging/docs/view/logging-query-language
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.cloud.server import Refused, Request, Route

_TOKEN = re.compile(
    r"\s*(?:(?P<paren>[()])|(?P<op>>=|<=|!=|=~|=|>|<|:)|(?P<text>\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<word>[\w./%@-]+))"
)
_SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT")


class Logs:
    """Entries, newest first. `add` makes one; `serve` the ones of requests to a revision."""

    def __init__(self, project: str) -> None:
        self.project = project
        self.entries: list[dict[str, Any]] = []

    def routes(self) -> list[Route]:
        return [("POST", "/v2/entries:list", self.list)]

    def add(self, resource: dict[str, Any], ago: float = 0.0, **fields: Any) -> None:
        """An entry of a resource ({"type", "labels"}), `ago` seconds old."""
        when = datetime.now(UTC) - timedelta(seconds=ago)
        entry = {
            "insertId": f"i{len(self.entries)}",
            "timestamp": when.isoformat().replace("+00:00", "Z"),
            "receiveTimestamp": when.isoformat().replace("+00:00", "Z"),
            "logName": f"projects/{self.project}/logs/run.googleapis.com%2Fstderr",
            "severity": "DEFAULT",
            "resource": resource,
            **fields,
        }
        self.entries.append(entry)

    def serve(
        self, service: str, revision: str, *, requests: int, errors: int, sessions: int
    ) -> None:
        """What a revision logs that answered so many requests, started so many sessions."""
        resource = {
            "type": "cloud_run_revision",
            "labels": {
                "service_name": service,
                "revision_name": revision,
                "location": "us-central1",
                "project_id": self.project,
            },
        }
        name = f"projects/{self.project}/logs/run.googleapis.com%2Frequests"
        for number in range(requests):
            status = 500 if number < errors else 101 if number < errors + sessions else 200
            self.add(
                resource,
                logName=name,
                severity="ERROR" if status == 500 else "INFO",
                httpRequest={"requestMethod": "GET", "requestUrl": "/ws", "status": status},
                trace=f"projects/{self.project}/traces/{revision}-{len(self.entries)}",
            )

    def serve_cluster(self, cluster: str, *, requests: int, errors: int, sessions: int) -> None:
        """What a cluster's gateway logs: a line on stderr is an ERROR there, whatever it says."""
        labels = {"cluster_name": cluster, "location": "us-central1", "project_id": self.project}
        resource = {"type": "k8s_container", "labels": labels}
        for number in range(requests):
            status = 500 if number < errors else 200
            self.add(resource, httpRequest={"requestUrl": "/ws", "status": status})
        for number in range(sessions):
            line = f"2026-01-02 03:04:05,678 coditect.gateway INFO session_started id=s{number} w"
            self.add(resource, severity="ERROR", textPayload=line)

    def leave_cluster(self, cluster: str, *, sessions: int) -> None:
        """Its first sessions end."""
        labels = {"cluster_name": cluster, "location": "us-central1", "project_id": self.project}
        for number in range(sessions):
            line = f"2026-01-02 03:04:05,678 coditect.gateway INFO session_ended id=s{number} w"
            resource = {"type": "k8s_container", "labels": labels}
            self.add(resource, severity="ERROR", textPayload=line)

    def list(self, request: Request, match: re.Match[str]) -> Any:
        wanted = Query(request.body.get("filter", ""))
        found = [entry for entry in self.entries if wanted.matches(entry)]
        found.sort(
            key=lambda entry: str(entry["timestamp"]),
            reverse=request.body.get("orderBy", "").endswith("desc"),
        )
        start = int(request.body.get("pageToken") or 0)
        end = start + int(request.body.get("pageSize") or 50)
        more = {"nextPageToken": str(end)} if end < len(found) else {}
        return {"entries": found[start:end], **more}


class Query:
    """A filter: comparisons, AND, OR, NOT, parentheses, log_id(). Refuses what it doesn't know."""

    def __init__(self, text: str) -> None:
        self._tokens = self._scan(text)
        self._tree = self._disjunction() if self._tokens else ("and", [])
        if self._tokens:
            raise Refused(400, f"Unparseable filter: at {self._tokens[0][1]!r}")

    def matches(self, entry: dict[str, Any]) -> bool:
        return _holds(self._tree, entry)

    def _scan(self, text: str) -> list[tuple[str, str]]:
        tokens, position, text = [], 0, text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise Refused(400, f"Unparseable filter: at {text[position:]!r}")
            tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
            position = match.end()
        return tokens

    def _next(self, *values: str) -> bool:
        if self._tokens and self._tokens[0][1] in values:
            self._tokens.pop(0)
            return True
        return False

    def _disjunction(self) -> Any:
        # In this language OR binds tighter than AND.
        parts = [self._alternatives()]
        while self._tokens and self._tokens[0][1] != ")":
            self._next("AND")
            parts.append(self._alternatives())
        return ("and", parts)

    def _alternatives(self) -> Any:
        parts = [self._term()]
        while self._next("OR"):
            parts.append(self._term())
        return ("or", parts)

    def _term(self) -> Any:
        if self._next("NOT", "-"):
            return ("not", self._term())
        if self._next("("):
            tree = self._disjunction()
            self._expect(")")
            return tree
        kind, name = self._pop()
        if kind != "word":
            raise Refused(400, f"Unparseable filter: {name!r} is no field")
        if name == "log_id":
            self._expect("(")
            wanted = self._value()
            self._expect(")")
            return ("log_id", wanted)
        kind, operator = self._pop()
        if kind != "op":
            raise Refused(400, f"Unparseable filter: {operator!r} is no operator")
        if self._next("("):
            values = [self._value()]
            while self._next("OR"):
                values.append(self._value())
            self._expect(")")
            return ("or", [("compare", name, operator, value) for value in values])
        return ("compare", name, operator, self._value())

    def _value(self) -> str:
        kind, text = self._pop()
        return re.sub(r"\\(.)", r"\1", text[1:-1]) if kind == "text" else text

    def _pop(self) -> tuple[str, str]:
        if not self._tokens:
            raise Refused(400, "Unparseable filter: it ends too early")
        return self._tokens.pop(0)

    def _expect(self, text: str) -> None:
        if not self._next(text):
            raise Refused(400, f"Unparseable filter: {text!r} is missing")


def _holds(tree: Any, entry: dict[str, Any]) -> bool:
    kind = tree[0]
    if kind == "and":
        return all(_holds(part, entry) for part in tree[1])
    if kind == "or":
        return any(_holds(part, entry) for part in tree[1])
    if kind == "not":
        return not _holds(tree[1], entry)
    if kind == "log_id":
        return str(entry["logName"]).endswith("/logs/" + tree[1].replace("/", "%2F"))
    _, name, operator, wanted = tree
    value: Any = entry
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value is not None and _compare(name, value, operator, wanted)


def _compare(name: str, value: Any, operator: str, wanted: str) -> bool:
    if operator == ":":
        return wanted.lower() in str(value).lower()
    if operator == "=~":
        return re.search(wanted, str(value)) is not None
    left: Any = str(value)
    right: Any = wanted
    if name == "severity":
        left, right = _SEVERITIES.index(left), _SEVERITIES.index(right)
    elif name == "timestamp":
        left, right = (datetime.fromisoformat(one.replace("Z", "+00:00")) for one in (left, right))
    elif isinstance(value, int):
        left, right = value, int(wanted)
    return bool(
        {
            "=": left == right,
            "!=": left != right,
            ">=": left >= right,
            "<=": left <= right,
            ">": left > right,
            "<": left < right,
        }[operator]
    )
