"""docs/protocol.md and the code say the same."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coditect_cli.gateway import v1
from coditect_cli.protocol import gateway_message, messages, shape

PAGE = (Path(__file__).parent.parent / "docs/protocol.md").read_text()
MODULES: dict[str, Any] = {"v1": gateway_message, "v2": messages}
ROW = re.compile(r"^\| `(\w+)` \| (client|gateway|both) \| (.*?) ?\| ", re.MULTILINE)


def examples() -> list[tuple[str, str, str]]:
    """(protocol, sender, text) of each line of the page's marked blocks."""
    found = []
    for mark, block in re.findall(r"^```(\w[^\n]*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        _, protocol, sender = mark.split()
        found += [(protocol, sender, line) for line in block.splitlines()]
    return found


def parser(protocol: str, sender: str) -> Callable[[str], Any]:
    parse: Callable[[str], Any] = getattr(MODULES[protocol], f"parse_{sender}")
    return parse


def kinds(protocol: str, sender: str) -> dict[str, type]:
    found: dict[str, type] = getattr(MODULES[protocol], f"FROM_{sender.upper()}")
    return found


EVERY = [
    (protocol, sender, name)
    for protocol in MODULES
    for sender in ("client", "gateway")
    for name in kinds(protocol, sender)
]


@pytest.mark.parametrize(("protocol", "sender", "text"), examples())
def test_an_example_is_what_the_code_writes(protocol: str, sender: str, text: str) -> None:
    message = parser(protocol, sender)(text)
    assert MODULES[protocol].encode(message) == text
    assert text.startswith('{"type":"')


@pytest.mark.parametrize(("protocol", "sender", "name"), EVERY)
def test_every_message_has_an_example(protocol: str, sender: str, name: str) -> None:
    shown = {type(parser(one, other)(text)) for one, other, text in examples()}
    assert kinds(protocol, sender)[name] in shown


@pytest.mark.parametrize(("protocol", "sender", "name"), EVERY)
def test_every_message_has_a_row_with_its_fields(protocol: str, sender: str, name: str) -> None:
    rows = [row for row in ROW.findall(PAGE) if row[0] == name and row[1] in (sender, "both")]
    assert len(rows) == 1
    assert fields(rows[0][2]) == expected(protocol, kinds(protocol, sender)[name])


def fields(cell: str) -> list[str]:
    return [field.strip() for field in cell.replace("`", "").split(",") if field.strip()]


def expected(protocol: str, kind: type) -> list[str]:
    """The fields of a class as a row has them: in v1 those that may be missing in brackets."""
    if protocol == "v2":
        return [re.sub("_(.)", lambda at: at[1].upper(), f.name) for f in dataclasses.fields(kind)]
    return [
        field.name if field.default is dataclasses.MISSING else f"[{field.name}]"
        for field in dataclasses.fields(kind)
    ]


def test_every_row_is_a_message() -> None:
    names = {name for _, _, name in EVERY}
    assert [row for row in ROW.findall(PAGE) if row[0] not in names] == []


@pytest.mark.parametrize(
    "number",
    [
        messages.WINDOW,
        shape.MAX_SIDE,
        shape.MAX_CELLS,
        messages.MAX_TOKEN,
        gateway_message.LARGEST_FILE,
    ],
)
def test_limits_are_the_codes(number: int) -> None:
    assert f"{number:,}" in PAGE


def test_the_limits_of_earlier_clients_are_the_codes() -> None:
    assert f"after {v1.MOST_BAD} such in a row" in PAGE
    assert f"at most {v1.MOST_FILES} may wait" in PAGE
    assert f"more than {v1.MOST_QUEUED >> 20} MiB of a connection's input" in PAGE
