from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coditect_cli.attach.escape import Action, EscapeKeys, help_text, parse_char
from coditect_cli.errors import UsageError

TYPED = st.lists(st.sampled_from([b"~", b".", b"d", b"?", b"s", b"a", b"\r", b"\n"])).map(b"".join)


def meaning(chunks: list[bytes], keys: EscapeKeys) -> list[bytes | Action]:
    """The parts of all chunks, with neighbouring bytes joined."""
    parts: list[bytes | Action] = []
    for part in (part for chunk in chunks for part in keys.feed(chunk)):
        if isinstance(part, bytes) and parts and isinstance(parts[-1], bytes):
            parts[-1] += part
        else:
            parts.append(part)
    return parts


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        (b"~.", [Action.LEAVE]),
        (b"ls\r~d", [b"ls\r", Action.DETACH]),
        (b"ls\n~?~s", [b"ls\n", Action.HELP, Action.STATUS]),
        (b"~~.", [b"~."]),
        (b"~x", [b"~x"]),
        (b"cd ~.", [b"cd ~."]),
        (b"~\r~.", [b"~\r", Action.LEAVE]),
        (b"a~.\r~", [b"a~.\r"]),
        (b":w\r\x1b[O\x1b[I~.", [b":w\r\x1b[O\x1b[I", Action.LEAVE]),
        (b"~\x1b[>84;0;0c.", [b"\x1b[>84;0;0c", Action.LEAVE]),
        (b"\x1b[A~.", [b"\x1b[A~."]),  # a key
    ],
)
def test_escape_keys_count_at_the_start_of_a_line(
    typed: bytes, parts: list[bytes | Action]
) -> None:
    assert meaning([typed], EscapeKeys("~")) == parts


@given(TYPED, st.data())
def test_it_does_not_matter_how_the_keys_arrive(typed: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(typed)))))
    bounds = [0, *cuts, len(typed)]
    chunks = [typed[start:end] for start, end in itertools.pairwise(bounds)]
    assert meaning(chunks, EscapeKeys("~")) == meaning([typed], EscapeKeys("~"))


@given(st.binary())
def test_without_an_escape_character_every_byte_goes_through(typed: bytes) -> None:
    assert meaning([typed], EscapeKeys(None)) == ([typed] if typed else [])


@given(st.binary())
def test_bytes_without_the_escape_character_go_through(typed: bytes) -> None:
    typed = typed.replace(b"~", b"")
    assert meaning([typed], EscapeKeys("~")) == ([typed] if typed else [])


def test_an_action_that_is_not_offered_is_typed() -> None:
    assert EscapeKeys("~", frozenset({Action.LEAVE})).feed(b"~d~.") == [b"~d~."]


@pytest.mark.parametrize(("text", "char"), [("~", "~"), ("%", "%"), ("^b", "\x02"), ("none", None)])
def test_an_escape_character_is_one_ascii_character_or_none(text: str, char: str | None) -> None:
    assert parse_char(text) == char


@pytest.mark.parametrize("text", ["", "~~", "é", "\n", "^M", "None"])
def test_anything_else_is_no_escape_character(text: str) -> None:
    with pytest.raises(UsageError):
        parse_char(text)


def test_help_names_only_what_is_offered() -> None:
    text = "\n".join(help_text("%", frozenset({Action.LEAVE})))
    assert "%." in text
    assert "%d" not in text
