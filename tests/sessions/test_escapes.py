from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coditect_cli.sessions.escapes import LONGEST, Kind, Splitter, ends_unfinished

OUTPUT = st.text(
    st.sampled_from("ab\n\a\x18\\0;m[]P_^X(%\x1b\x90\x9b\x9c\x9déß日"), max_size=60
) | st.text(max_size=40)


@given(OUTPUT)
def test_the_tokens_and_the_rest_are_what_came(text: str) -> None:
    splitter = Splitter()
    assert "".join(token for _, token in splitter.split(text)) + splitter.rest == text
    assert ends_unfinished(text) or splitter.is_between or splitter.rest.endswith("\x1b")


@given(OUTPUT, st.data())
def test_where_chunks_are_cut_does_not_matter(text: str, data: st.DataObject) -> None:
    """But for text, which comes as it does."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    whole, cut = Splitter(), Splitter()
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert _joined([token for piece in pieces for token in cut.split(piece)]) == _joined(
        list(whole.split(text))
    )
    assert cut.rest == whole.rest


def _joined(tokens: list[tuple[Kind, str]]) -> list[tuple[Kind, str]]:
    found: list[tuple[Kind, str]] = []
    for kind, token in tokens:
        if kind is Kind.TEXT and found and found[-1][0] is kind:
            found[-1] = (kind, found[-1][1] + token)
        else:
            found.append((kind, token))
    return found


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("a\r\nb", [Kind.TEXT, Kind.CONTROL, Kind.CONTROL, Kind.TEXT]),
        ("\x1b[1;31mx\x1b[m", [Kind.CSI, Kind.TEXT, Kind.CSI]),
        ("\x9b?25h", [Kind.CSI]),
        ("\x1b]0;t\ax\x1b]0;t\x1b\\", [Kind.STRING, Kind.TEXT, Kind.STRING]),
        ("\x1bPq#0\x1b[mx", [Kind.STRING, Kind.CSI, Kind.TEXT]),
        ("\x1b(B\x1b7\x1bM", [Kind.ESCAPE] * 3),
        ("\x1b[3\x0em", [Kind.ESCAPE, Kind.TEXT, Kind.CONTROL, Kind.TEXT]),
    ],
)
def test_kinds(text: str, kinds: list[Kind]) -> None:
    assert [kind for kind, _ in Splitter().split(text)] == kinds


@pytest.mark.parametrize("end", ["\a", "\x1b\\"])
def test_a_string_of_any_length_takes_bounded_memory(end: str) -> None:
    splitter = Splitter()
    text = "\x1bP" + "x" * LONGEST + "y" * LONGEST + end + "after"
    found = []
    for start in range(0, len(text), 1000):
        found += list(splitter.split(text[start : start + 1000]))
        assert len(splitter.rest) <= LONGEST + 1000
    assert {kind for kind, token in found if "x" in token or "y" in token} == {Kind.STRING}
    assert "".join(token for _, token in found) == text
    assert _joined(found)[-1] == (Kind.TEXT, "after")
