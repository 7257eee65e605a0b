"""What a `GatewayMessage` may be, without a connection."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coditect_cli.errors import Conflict, UsageError
from coditect_cli.protocol.gateway_message import (
    Create,
    Error,
    FileContent,
    FileList,
    FileWrite,
    Input,
    Resize,
    content_bytes,
    encode,
    parse_client,
    parse_gateway,
)


def refused(**message: Any) -> str:
    with pytest.raises(UsageError) as caught:
        parse_client(json.dumps(message))
    assert caught.value.code == "message.invalid"
    return caught.value.message


def test_the_earlier_clients_messages_are_understood() -> None:
    assert parse_client('{"type":"Input","data":"ls\\n"}') == Input("ls\n")
    assert parse_client('{"type":"Resize","cols":80,"rows":24}') == Resize(80, 24)


def test_an_optional_field_may_be_null_and_is_not_written() -> None:
    text = '{"type":"Create","cols":null,"rows":null,"session_id":null,"shell":"zsh"}'
    assert parse_client(text) == Create()
    assert encode(Create()) == '{"type":"Create"}'
    assert encode(Create(80, 24)) == '{"type":"Create","cols":80,"rows":24}'


def test_characters_are_written_as_they_are() -> None:
    assert encode(Input("é\0\x1b")) == '{"type":"Input","data":"é\\u0000\\u001b"}'


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"type": "Input"}, "Input: data must be text"),
        ({"type": "Input", "data": 1}, "Input: data must be text"),
        ({"type": "Input", "data": "\ud800"}, "Input: data must be text without lone surrogates"),
        ({"type": "Input", "data": "", "session_id": "../x"}, "Input: session_id must be"),
        ({"type": "Input", "data": "", "session_id": "a" * 300}, "Input: session_id must be"),
        ({"type": "Input", "data": "", "session_id": "\U0001f600"}, "Input: session_id must be"),
        ({"type": "Resize", "cols": 0, "rows": 0}, "Resize: cols must be"),
        ({"type": "Resize", "cols": 65535, "rows": 65535}, "Resize: cols must be"),
        ({"type": "Resize", "cols": 4096, "rows": 4096}, "Resize: a screen may have at most"),
        ({"type": "Resize", "cols": 80.0, "rows": 24}, "Resize: cols must be an integer"),
        ({"type": "Resize", "cols": True, "rows": 24}, "Resize: cols must be an integer"),
        ({"type": "Create", "cols": 80}, "Create: cols and rows go together"),
        ({"type": "Create", "cols": 4096, "rows": 4096}, "Create: a screen may have at most"),
        ({"type": "FileRead", "path": ""}, "FileRead: path must be"),
        ({"type": "FileRead", "path": "a\0b"}, "FileRead: path must be"),
        ({"type": "FileRead", "path": "a" * 4097}, "FileRead: path must be"),
        ({"type": "FileWrite", "path": "a"}, "FileWrite: content must be text"),
        ({"type": "FileWrite", "path": "a", "content": "", "encoding": "x"}, "must be one of"),
        (
            {"type": "FileWrite", "path": "a", "content": "é", "encoding": "base64"},
            "FileWrite: content must be base64",
        ),
        ({"type": "Output", "data": "", "session_id": "a"}, "unknown message type 'Output'"),
        ({"type": "input", "data": ""}, "unknown message type 'input'"),
        ({"type": ["Input"]}, "unknown message type ['Input']"),
        ({"type": "\ud800"}, "unknown message type '\\ud800'"),
        ({}, "unknown message type None"),
    ],
)
def test_a_message_of_the_wrong_shape_is_refused(message: dict[str, Any], said: str) -> None:
    assert said in refused(**message)


@pytest.mark.parametrize("frame", [b'{"type":"Ping"}', "", "[]", "{", "1", "[" * 100_000])
def test_what_is_no_json_object_in_a_text_frame_is_refused(frame: str | bytes) -> None:
    for parse in (parse_client, parse_gateway):
        with pytest.raises(UsageError, match=r"text frames only|must be"):
            parse(frame)


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b"", "utf-8"),
        ("grüße\r\n\t\f\x7f".encode(), "utf-8"),
        (b"\xff", "base64"),
        (b"a\0b", "base64"),
        (b"\x1b[m", "base64"),
        (b"\x0b", "base64"),
    ],
)
def test_a_files_content_is_text_where_it_is_text(data: bytes, encoding: str) -> None:
    message = FileContent.of("file", data)
    assert message.encoding == encoding
    assert content_bytes(message.content, message.encoding) == data
    assert len(encode(message)) <= 2 * len(data) + 100
    assert parse_gateway(encode(message)) == message


def test_content_that_is_text_by_default() -> None:
    assert parse_client('{"type":"FileWrite","path":"a","content":"x"}') == FileWrite("a", "x")


@pytest.mark.parametrize(
    "entry",
    [
        "name",
        {},
        {"name": "", "type": "file", "size": 0, "mode": "0644", "mtime": ""},
        {"name": "a", "type": "pipe", "size": 0, "mode": "0644", "mtime": ""},
        {"name": "a", "type": "file", "size": -1, "mode": "0644", "mtime": ""},
        {"name": "a", "type": "file", "size": 0, "mode": "rw-r--r--", "mtime": ""},
    ],
)
def test_an_entry_of_the_wrong_shape_is_refused(entry: Any) -> None:
    text = json.dumps({"type": "FileEntries", "path": ".", "entries": [entry]})
    with pytest.raises(UsageError, match="FileEntries: entries must"):
        parse_gateway(text)


def test_an_error_names_what_it_is_about() -> None:
    error = Conflict("m" * 5_000, code="a.b")
    assert Error.of(error) == Error("a.b", "m" * 4_096)
    assert Error.of(error, FileList("x")).path == "x"
    assert Error.of(error, Input("", "id")).session_id == "id"
