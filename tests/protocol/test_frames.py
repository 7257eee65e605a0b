"""Where messages end, told for every way that a stream of frames can be cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from coditect_cli.protocol.frames import Boundaries

SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 70_000]
opcodes = st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.PING, Opcode.PONG, Opcode.CLOSE])


def frame(opcode: Opcode, size: int, masked: bool, fin: bool = True) -> bytes:
    if opcode >= Opcode.CLOSE:
        size = min(size, 125)  # RFC 6455, section 5.5
    return Frame(opcode, b"\x81" * size, fin).serialize(mask=masked)


@given(
    frames=st.lists(st.tuples(opcodes, st.sampled_from(SIZES), st.booleans()), max_size=6),
    cuts=st.lists(st.integers(1, 70_000), max_size=20),
)
def test_however_it_is_cut_the_ends_are_those_of_the_frames(
    frames: list[tuple[Opcode, int, bool]], cuts: list[int]
) -> None:
    parts = [frame(*one) for one in frames]
    ends = {sum(map(len, parts[: n + 1])) for n in range(len(parts))}
    stream, boundaries, at = b"".join(parts), Boundaries(), 0
    for size in [*cuts, len(stream)]:
        data = stream[at : at + size]
        last = boundaries.feed(data)
        found = [end - at for end in ends if at < end <= at + len(data)]
        assert last == max(found, default=0)
        at += len(data)
        assert boundaries.between_messages == (at in {0, *ends})


@pytest.mark.parametrize("masked", [False, True])
def test_between_the_parts_of_a_message_there_is_no_place(masked: bool) -> None:
    boundaries = Boundaries()
    boundaries.feed(frame(Opcode.TEXT, 10, masked, fin=False))
    assert not boundaries.between_messages
    boundaries.feed(frame(Opcode.PING, 3, masked))
    assert not boundaries.between_messages
    assert boundaries.feed(frame(Opcode.CONT, 5, masked) + b"\x82") == 5 + (6 if masked else 2)
    assert not boundaries.between_messages
