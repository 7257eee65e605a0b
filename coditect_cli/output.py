"""What commands return, and the one place that prints it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from coditect_cli.errors import CoditectError, Failed
from coditect_cli.streams import Streams, printable

Format = Literal["table", "wide", "json", "yaml", "name", "ndjson"]
API_VERSION = "coditect/v1"


@dataclass(frozen=True)
class Result:
    """What a command found or did.

    `fields` are the document's, beside apiVersion and kind; a list has them in `items`. A person
    sees `text` where it is given, else a table of `rows` (the items, where not given) with
    `columns`, title to field, and `wide` ones more with -o wide, else the fields one by one.
    """

    kind: str
    fields: dict[str, Any]
    columns: dict[str, str] | None = None
    wide: dict[str, str] | None = None
    rows: Sequence[dict[str, Any]] | None = None
    text: str | None = None
    name: str = "id"
    exit_code: int = 0


def emit(result: Result, form: Format, streams: Streams) -> None:
    """Print a result to stdout as -o asks. Raises Failed when stdout takes no more."""
    try:
        streams.stdout.write(_rendered(result, form))
        streams.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failed(f"cannot write to stdout: {error.strerror}", code="output.failed") from error


def emit_error(error: CoditectError, form: Format, streams: Streams) -> None:
    """Tell an error on stderr: for people, or as one JSON document where -o is for programs."""
    if form in ("table", "wide", "name"):
        streams.say(f"error: {error.message}")
        if error.hint:
            streams.say(f"hint: {error.hint}")
        return
    document = {"apiVersion": API_VERSION, "kind": "Error", "error": error.as_dict()}
    streams.say(json.dumps(document))


def _rendered(result: Result, form: Format) -> str:
    document = {"apiVersion": API_VERSION, "kind": result.kind, **result.fields}
    items = result.fields.get("items")
    if form == "json":
        return json.dumps(document, indent=2) + "\n"
    if form == "ndjson":
        return "".join(json.dumps(line) + "\n" for line in ([document] if items is None else items))
    if form == "yaml":
        import yaml

        return str(yaml.safe_dump(document, sort_keys=False))
    if form == "name":
        named = [result.fields] if items is None else items
        return "".join(_cell(item[result.name]) + "\n" for item in named if result.name in item)
    if result.text is not None:
        return printable(result.text) + "\n"
    if result.columns is not None:
        columns = {**result.columns, **((result.wide or {}) if form == "wide" else {})}
        return _table(columns, items if result.rows is None else result.rows)
    width = max(map(len, result.fields), default=0)
    return "".join(f"{key:<{width}}  {_cell(value)}\n" for key, value in result.fields.items())


def _table(columns: dict[str, str], rows: Sequence[dict[str, Any]] | None) -> str:
    lines = [list(columns)]
    lines += [[_cell(row.get(field)) for field in columns.values()] for row in rows or ()]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    text = ""
    for line in lines:
        cells = (
            cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)
        )
        text += "  ".join(cells).rstrip() + "\n"
    return text


def _cell(value: object) -> str:
    if value is None or value == [] or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict | list):
        value = json.dumps(value)
    return printable(str(value)).replace("\n", "\\n")


def _width(text: str) -> int:
    from unicodedata import combining, east_asian_width

    if text.isascii():
        return len(text)
    return sum(
        0 if combining(character) else 2 if east_asian_width(character) in "WF" else 1
        for character in text
    )
