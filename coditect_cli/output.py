"""What commands return, and the one place that prints it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from coditect_cli.errors import CoditectError, Failed
from coditect_cli.streams import Streams, printable

if TYPE_CHECKING:
    from msgspec import Struct

    Items = Sequence[dict[str, Any] | Struct]

Format = Literal["table", "wide", "json", "yaml", "name", "ndjson"]
API_VERSION = "coditect/v1"
NARROWEST = 20  # columns for a text that is wrapped
_PRECISE_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d+Z")  # shown to the second


class Result(NamedTuple):
    """What a command found or did.

    `fields` are the document's, beside apiVersion and kind; a list has them in `items`. A person
    sees `text` where it is given, else a table of `rows` (the items, where not given) with
    `columns`, title to field, and `wide` ones more with -o wide, else the fields one by one. On a
    terminal the column `below` is a line of its own under each row that has something there. With
    -o name it is the field `name` of each, or the fields, with slashes between them as there.
    """

    kind: str
    fields: dict[str, Any]
    columns: dict[str, str] | None = None
    wide: dict[str, str] | None = None
    below: str | None = None
    rows: Sequence[dict[str, Any]] | None = None
    text: str | None = None
    name: str = "id"
    exit_code: int = 0


class Stream(NamedTuple):
    """A list that is printed as it is found, page by page, and never held whole.

    An item is a dict, or a Struct, which takes a fraction of the time where there are many.
    `tail` is asked when the last page is printed: the document's fields beside `items`.
    """

    kind: str
    pages: Iterable[Items]
    columns: dict[str, str]
    wide: dict[str, str]
    name: str
    tail: Callable[[], dict[str, Any]]


def emit(result: Result, form: Format, streams: Streams) -> None:
    """Print a result to stdout as -o asks. Raises Failed when stdout takes no more."""
    width = shutil.get_terminal_size().columns if streams.stdout.isatty() else None
    _write((_rendered(result, form, width),), streams)


def emit_stream(stream: Stream, form: Format, streams: Streams) -> None:
    """Print a stream to stdout as -o asks. Raises Failed when stdout takes no more."""
    pages = iter(stream.pages)
    first = list(islice(pages, 1))  # what fails at once leaves stdout empty
    stream = stream._replace(pages=chain(first, pages))
    chunks: Iterable[str | bytes]
    if form == "json":
        chunks = _json_chunks(stream)
    elif form == "yaml":
        chunks = _yaml_chunks(stream)
    elif form in ("table", "wide"):
        chunks = _table_chunks(stream, form)
    elif form == "ndjson":
        chunks = map(_json_lines, stream.pages)
    else:
        empty = Result(stream.kind, {"items": []}, name=stream.name)
        pages = map(_dicts, stream.pages)
        chunks = (_rendered(empty._replace(fields={"items": p}), form) for p in pages)
    _write(chunks, streams)


def _write(chunks: Iterable[str | bytes], streams: Streams) -> None:
    try:
        for chunk in chunks:
            if isinstance(chunk, bytes):
                streams.stdout.buffer.write(chunk)
            else:
                streams.stdout.write(chunk)
            streams.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failed(f"cannot write to stdout: {error.strerror}", code="output.failed") from error


def _json_chunks(stream: Stream) -> Iterator[str]:
    head = json.dumps({"apiVersion": API_VERSION, "kind": stream.kind, "items": []}, indent=2)
    yield head.removesuffix("]\n}")
    between, end = "\n    ", "]"
    for page in filter(None, stream.pages):
        text = _indented(page).removeprefix("[\n  ").removesuffix("\n]")
        yield between + text.replace("\n", "\n  ")
        between, end = ",\n    ", "\n  ]"
    tail = json.dumps(stream.tail(), indent=2).removeprefix("{")
    separator = "\n" if tail == "}" else ","
    yield f"{end}{separator}{tail}\n"


def _indented(items: Items) -> str:
    """As json.dumps(indent=2), in a fraction of the time."""
    from msgspec.json import encode, format

    try:
        text = format(encode(items))
    except UnicodeEncodeError:  # half of a surrogate pair
        text = b"\xff"
    return text.decode() if text.isascii() else json.dumps(_dicts(items), indent=2)


def _json_lines(items: Items) -> str | bytes:
    from msgspec.json import Encoder

    try:
        lines = Encoder().encode_lines(items)
    except UnicodeEncodeError:  # half of a surrogate pair
        lines = b"\xff"
    if lines.isascii():
        return lines
    return "".join(json.dumps(item, separators=(",", ":")) + "\n" for item in _dicts(items))


def _dicts(items: Items) -> list[dict[str, Any]]:
    dicts = [item for item in items if isinstance(item, dict)]
    if len(dicts) < len(items):
        from msgspec import to_builtins

        dicts = to_builtins(items)
    return dicts


def _yaml_chunks(stream: Stream) -> Iterator[str]:
    import yaml

    yield yaml.safe_dump({"apiVersion": API_VERSION, "kind": stream.kind}, sort_keys=False)
    items = "items: []\n"
    for page in filter(None, stream.pages):
        text = yaml.safe_dump({"items": _dicts(page)}, sort_keys=False)
        yield text if items else text.removeprefix("items:\n")
        items = ""
    tail = stream.tail()
    yield items + (yaml.safe_dump(tail, sort_keys=False) if tail else "")


def _table_chunks(stream: Stream, form: Format) -> Iterator[str]:
    columns = {**stream.columns, **(stream.wide if form == "wide" else {})}
    widths: list[int] = []
    for number, page in enumerate(stream.pages):
        lines = [[_cell(row.get(field)) for field in columns.values()] for row in _dicts(page)]
        lines = lines if number else [list(columns), *lines]
        widest = [max(map(_width, column)) for column in zip(*lines, strict=True)]
        widths = [max(pair) for pair in zip(widths, widest, strict=True)] if widths else widest
        yield _lines(lines, widths)
    if not widths:
        yield _lines([list(columns)], [0] * len(columns))


def emit_error(error: CoditectError, form: Format, streams: Streams) -> None:
    """Tell an error on stderr: for people, or as one JSON document where -o is for programs."""
    if form in ("table", "wide", "name"):
        streams.say(f"error: {error.message}")
        if error.hint:
            streams.say(f"hint: {error.hint}")
        return
    document = {"apiVersion": API_VERSION, "kind": "Error", "error": error.as_dict()}
    streams.say(json.dumps(document))


def _rendered(result: Result, form: Format, width: int | None = None) -> str:
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
        names = result.name.split("/")
        return "".join(
            _cell("/".join(str(item[name]) for name in names)) + "\n"
            for item in named
            if names[0] in item
        )
    if result.text is not None:
        return printable(result.text) + "\n"
    if result.columns is not None:
        columns = {**result.columns, **((result.wide or {}) if form == "wide" else {})}
        rows: Sequence[dict[str, Any]] = (items if result.rows is None else result.rows) or ()
        return (
            _table(columns, rows) if width is None else _fitted(columns, rows, result.below, width)
        )
    width = max(map(len, result.fields), default=0)
    return "".join(f"{key:<{width}}  {_cell(value)}\n" for key, value in result.fields.items())


def _table(columns: dict[str, str], rows: Sequence[dict[str, Any]]) -> str:
    lines = [list(columns)]
    lines += [[_cell(row.get(field)) for field in columns.values()] for row in rows]
    return _lines(lines, [max(map(_width, column)) for column in zip(*lines, strict=True)])


def _fitted(
    columns: dict[str, str], rows: Sequence[dict[str, Any]], below: str | None, width: int
) -> str:
    """A table in which what the last column has too much of goes on below itself."""
    import textwrap

    beside = {title: field for title, field in columns.items() if title != below}
    head, *lines = _table(beside, rows).splitlines()
    indent = " " * head.rindex(list(beside)[-1])
    fill = partial(
        textwrap.fill,
        width=max(width, len(indent) + NARROWEST),
        subsequent_indent=indent,
        break_long_words=False,  # a path or a command is to be copied whole
        break_on_hyphens=False,
    )
    text = [head]
    for line, row in zip(lines, rows, strict=True):
        text.append(fill(line) if _width(line) > width else line)
        if below is not None and row.get(columns[below]):
            note = f"{below.lower()}: {_cell(row[columns[below]])}"
            text.append(fill(note, initial_indent=indent))
    return "\n".join(text) + "\n"


def _lines(lines: list[list[str]], widths: list[int]) -> str:
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
    text = str(value)
    if time := _PRECISE_TIME.fullmatch(text):
        return time[1] + "Z"
    return printable(text).replace("\n", "\\n")


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(
        0 if combining(character) else 2 if east_asian_width(character) in "WF" else 1
        for character in text
    )
