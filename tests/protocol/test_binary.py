from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import SERVER, Protocol, Side, State

from coditect_cli.protocol import binary

SIZES = [0, 1, 125, 126, 127, 65_535, 65_536]


def opened(side: Side = SERVER) -> Protocol:
    """The library's end of an open connection: a judge that did not see our code."""
    return Protocol(side, state=State.OPEN)


def message(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", list(Side))
def test_the_library_reads_what_is_written(size: int, side: Side) -> None:
    payload = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    reader = opened(side)
    reader.receive_data(binary.frame(payload, masked=side is SERVER))
    [frame] = reader.events_received()
    assert isinstance(frame, Frame)
    assert (frame.opcode, frame.fin, bytes(frame.data)) == (Opcode.BINARY, True, payload)


def test_each_mask_is_another() -> None:
    masks = {binary.frame(b"\0\0\0\0", masked=True)[2:6] for _ in range(20)}
    assert len(masks) > 1


@pytest.mark.parametrize("masked", [True, False])
@given(payload=st.binary(min_size=1, max_size=125))
def test_a_lone_short_frame_of_the_library_is_read(masked: bool, payload: bytes) -> None:
    data = Frame(Opcode.BINARY, payload).serialize(mask=masked)
    assert binary.lone_payload(data, masked=masked) == payload


OTHERS = {
    "nothing": b"",
    "empty": message(Opcode.BINARY),
    "long": message(Opcode.BINARY, b"x" * 126),
    "cut": message(Opcode.BINARY, b"key")[:-1],
    "begun another": message(Opcode.BINARY, b"key") + b"\x82",
    "two": message(Opcode.BINARY, b"key") * 2,
    "first of several": message(Opcode.BINARY, b"key", fin=False),
    "last of several": message(Opcode.CONT, b"key"),
    "text": message(Opcode.TEXT, b"key"),
    "ping": message(Opcode.PING, b"key"),
    "not masked": Frame(Opcode.BINARY, b"key").serialize(mask=False),
    "reserved bit": b"\xc2" + message(Opcode.BINARY, b"key")[1:],
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_all_else_is_left_to_the_library(data: bytes) -> None:
    assert binary.lone_payload(data, masked=True) is None


@given(
    st.lists(
        st.sampled_from(
            [
                message(Opcode.BINARY, b"key"),
                message(Opcode.BINARY, b"p" * 300),
                message(Opcode.PING, b"p"),
                message(Opcode.TEXT, b"a", fin=False) + message(Opcode.CONT, b"b"),
                message(Opcode.TEXT, b"a", fin=False)
                + message(Opcode.PING)
                + message(Opcode.CONT, b"b"),
            ]
        ),
        max_size=4,
    )
)
def test_a_boundary_is_where_a_message_may_begin(messages: list[bytes]) -> None:
    stream = b"".join(messages)
    ends = {len(b"".join(messages[:count])) for count in range(len(messages) + 1)}
    protocol = opened()
    found = {0} if binary.at_boundary(protocol) else set()
    for position in range(len(stream)):
        protocol.receive_data(stream[position : position + 1])
        if binary.at_boundary(protocol):
            found.add(position + 1)
    assert found == ends


def test_nothing_begins_once_the_end_has_begun() -> None:
    protocol = opened()
    protocol.receive_data(message(Opcode.CLOSE, Close(1000, "").serialize()))
    assert not binary.at_boundary(protocol)
