from __future__ import annotations

import io
import json

import pytest
import yaml

from coditect_cli.errors import NotFound
from coditect_cli.output import Format, Result, emit, emit_error
from coditect_cli.streams import Streams

ITEMS = [
    {"id": "a", "state": "up", "note": None},
    {"id": "日本", "state": "x\x1b[2J", "note": True},
]
LIST = Result("ThingList", {"items": ITEMS}, {"ID": "id", "STATE": "state"}, {"NOTE": "note"})
ONE = Result("Thing", {"id": "a", "nested": {"b": 1}, "empty": []})


def printed(result: Result, form: Format) -> str:
    streams = Streams.test()
    emit(result, form, streams)
    streams.stdout.seek(0)
    return streams.stdout.read()


def test_a_table_is_aligned_and_harmless() -> None:
    assert printed(LIST, "table") == "ID    STATE\na     up\n日本  x\\x1b[2J\n"
    assert printed(LIST, "wide").splitlines()[1:] == [
        "a     up        -",
        "日本  x\\x1b[2J  yes",
    ]


def test_a_table_fits_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {"CHECK": "check", "FOUND": "found", "FIX": "fix"}
    items = [
        {"check": "日本", "found": "well", "fix": None},
        {"check": "long-one", "found": "more words than fit in it", "fix": "do this\nand that too"},
        {"check": "path", "found": "/a/path/that/does/not/fit", "fix": "-"},
    ]
    result = Result("Report", {"items": items}, columns, below="FIX")
    assert printed(result, "table").splitlines()[0].split() == list(columns)
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "32")
    emit(result, "table", Streams.test()._replace(stdout=terminal))
    assert terminal.getvalue().splitlines() == [
        "CHECK     FOUND",
        "日本      well",
        "long-one  more words than fit in",
        "          it",
        "          fix: do this\\nand that",
        "          too",
        "path",
        "          /a/path/that/does/not/fit",
        "          fix: -",
    ]


def test_one_thing_is_shown_field_by_field() -> None:
    assert printed(ONE, "table") == 'id      a\nnested  {"b": 1}\nempty   -\n'


def test_text_stands_for_the_table_only() -> None:
    result = Result("Thing", {"id": "a"}, text="a made\x07")
    assert printed(result, "table") == "a made\\x07\n"
    assert json.loads(printed(result, "json"))["id"] == "a"


def test_json_and_yaml_are_one_document_also_when_empty() -> None:
    envelope = {"apiVersion": "coditect/v1", "kind": "ThingList"}
    for items in (ITEMS, []):
        result = Result("ThingList", {"items": items}, {"ID": "id"})
        assert json.loads(printed(result, "json")) == {**envelope, "items": items}
        assert yaml.safe_load(printed(result, "yaml")) == {**envelope, "items": items}
    assert printed(LIST, "json").isascii()
    assert "\x1b" not in printed(LIST, "yaml")


def test_ndjson_has_one_item_a_line() -> None:
    assert [json.loads(line) for line in printed(LIST, "ndjson").splitlines()] == ITEMS
    assert json.loads(printed(ONE, "ndjson"))["kind"] == "Thing"


def test_names_are_one_a_line() -> None:
    assert printed(LIST, "name") == "a\n日本\n"
    assert printed(ONE, "name") == "a\n"


def error_text(form: Format) -> str:
    streams = Streams.test()
    error = NotFound("no x\x1b[2J", code="workspace.not_found", hint="look", retryable=True)
    emit_error(error, form, streams)
    for stream in (streams.stdout, streams.stderr):
        stream.seek(0)
    assert streams.stdout.read() == ""
    return streams.stderr.read()


def test_an_error_for_people_has_its_hint_on_a_line_of_its_own() -> None:
    assert error_text("table") == "error: no x\\x1b[2J\nhint: look\n"


@pytest.mark.parametrize("form", ["json", "yaml", "ndjson"])
def test_an_error_for_programs_is_one_document_on_the_last_line(form: Format) -> None:
    assert json.loads(error_text(form)) == {
        "apiVersion": "coditect/v1",
        "kind": "Error",
        "error": {
            "code": "workspace.not_found",
            "exitCode": 3,
            "message": "no x\x1b[2J",
            "hint": "look",
            "retryable": True,
        },
    }
