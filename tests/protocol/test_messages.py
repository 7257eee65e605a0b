"""The control messages of coditect.v2, without a connection."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coditect_cli.errors import NotFound, UsageError, from_dict
from coditect_cli.protocol import messages as m

CLIENT = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
ATTACH = {
    "type": "attach",
    "client": CLIENT,
    "session": None,
    "cols": 80,
    "rows": 24,
    "term": "xterm",
    "readOnly": False,
    "resume": None,
}
EXEC = {
    "type": "exec",
    "client": CLIENT,
    "argv": ["ls"],
    "env": {},
    "workdir": None,
    "stdin": True,
    "tty": None,
    "resume": None,
}


def refused(message: dict[str, Any]) -> str:
    with pytest.raises(UsageError) as caught:
        m.parse_client(json.dumps(message))
    assert caught.value.code == "message.invalid"
    return caught.value.message


def test_fields_are_named_as_the_wire_names_them() -> None:
    message = m.parse_client(json.dumps({**ATTACH, "readOnly": True, "later": 1}))
    assert message == m.Attach(CLIENT, None, 80, 24, "xterm", True, None)
    assert json.loads(m.encode(message)) == {**ATTACH, "readOnly": True}


@pytest.mark.parametrize("name", sorted(ATTACH.keys() - {"type", "session", "resume"}))
def test_a_missing_field_is_refused(name: str) -> None:
    assert f"attach: {name} must be" in refused({k: v for k, v in ATTACH.items() if k != name})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("client", "0F1E2D3C4B5A69788796A5B4C3D2E1F0"),
        ("client", CLIENT + "\n"),
        ("client", "\u0660" * 32),
        ("session", "../x"),
        ("session", "-x"),
        ("session", "a" * 129),
        ("session", "\U0001f600"),
        ("session", ""),
        ("cols", 0),
        ("cols", 65_535),
        ("cols", 80.0),
        ("cols", True),
        ("cols", "80"),
        ("cols", 10**400),
        ("term", "../../etc"),
        ("term", "a b"),
        ("readOnly", 0),
        ("resume", {"input": 0}),
        ("resume", {"output": -1}),
        ("resume", {"output": 2**63}),
        ("resume", [0]),
    ],
)
def test_a_field_of_the_wrong_shape_is_refused(field: str, value: Any) -> None:
    assert f"attach: {field} must be" in refused({**ATTACH, field: value})


def test_a_screen_of_too_many_cells_is_refused() -> None:
    assert "cells" in refused({**ATTACH, "cols": 4096, "rows": 4096})
    assert "cells" in refused({**EXEC, "tty": {"cols": 4096, "rows": 4096, "term": "xterm"}})
    assert m.parse_client(json.dumps({**ATTACH, "cols": 4096, "rows": 244}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("argv", []),
        ("argv", "ls"),
        ("argv", ["a\0b"]),
        ("argv", ["\ud800"]),
        ("argv", ["a"] * 65_537),
        ("env", {"A=B": ""}),
        ("env", {"": ""}),
        ("env", {"A": 1}),
        ("env", {"A": "\0"}),
        ("workdir", ""),
        ("tty", {}),
        ("tty", {"cols": 80, "rows": 24}),
        ("tty", True),
    ],
)
def test_a_program_of_the_wrong_shape_is_refused(field: str, value: Any) -> None:
    assert f"exec: {field} must be" in refused({**EXEC, field: value})


@pytest.mark.parametrize("kind", sorted(m.FROM_GATEWAY.keys() - m.FROM_CLIENT.keys()))
def test_a_client_cannot_send_what_a_gateway_sends(kind: str) -> None:
    assert "unknown message type" in refused({"type": kind})


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "null", b"\xff", "[" * 100_000])
def test_what_is_no_json_object_is_refused(text: str | bytes) -> None:
    for parse in (m.parse_client, m.parse_gateway):
        with pytest.raises(UsageError, match="must be"):
            parse(text)


def test_a_counter_that_is_not_there_is_not_written() -> None:
    started = m.Started("id", 0, m.WINDOW, 1, "0.1.0", output=5)
    assert '"output":5' in m.encode(started)
    assert "stdout" not in m.encode(started)
    assert m.parse_gateway(m.encode(started)) == started


def test_an_error_arrives_as_it_was_raised() -> None:
    error = NotFound("no session x", code="session.not_found", hint="h", retryable=True)
    message = json.loads(m.encode(m.Error.of(error)))
    arrived = from_dict(message)
    assert type(arrived) is NotFound
    assert arrived.as_dict() == error.as_dict()


def test_an_errors_long_words_fit_a_message() -> None:
    error = NotFound("m" * 10_000, code="a", hint="h" * 10_000)
    text = m.encode(m.Error.of(error))
    assert m.encode(m.parse_gateway(text)) == text
