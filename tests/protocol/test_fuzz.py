"""Whatever comes over the wire is a message, or is refused; nobody else notices."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from coditect_cli.errors import UsageError
from coditect_cli.protocol import gateway_message, messages
from tests.support.gateway import Client, Gateway, running_gateway
from tests.test_protocol_doc import examples

Parse = Callable[[str | bytes], Any]
Encode = Callable[[Any], str]

PARSERS: list[tuple[Parse, Encode]] = [
    (messages.parse_client, messages.encode),
    (messages.parse_gateway, messages.encode),
    (gateway_message.parse_client, gateway_message.encode),
    (gateway_message.parse_gateway, gateway_message.encode),
]
VALID = [json.loads(text) for _, _, text in examples()]
NAMES = sorted({name for message in VALID for name in message})
TYPES = sorted({message["type"] for message in VALID})
CLIENT = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"


def nested(depth: int) -> Any:
    value: Any = 0
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


any_text = st.text(st.characters(exclude_categories=()), max_size=20)
nasty = st.sampled_from(
    [
        *(0, -1, 1, 24, 4_096, 4_097, 65_535, 2**31, 2**53, 2**63 - 1, 2**63, 10**400),
        *(0.0, -0.0, 80.5, 1e308, float("inf"), float("-inf")),
        *("", "new", "../x", "a" * 300, "\U0001f600", "\ud800", "\udc00\ud800", "a\0b", CLIENT),
        *(None, True, False, [], {}, [[]], [{}], [None], {"": None}),
        *({"output": 0}, {"cols": 0, "rows": 0, "term": ""}, nested(50)),
    ]
)
values = st.recursive(
    nasty | any_text | st.integers() | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(any_text | st.sampled_from(NAMES), inner)
    ),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A valid message with some of its fields changed, missing or doubled, then its text cut."""
    message = dict(draw(st.sampled_from(VALID)))
    for name in draw(st.lists(st.sampled_from([*message, *NAMES]), max_size=3)):
        if draw(st.booleans()):
            message[name] = draw(values)
        else:
            message.pop(name, None)
    if draw(st.integers(0, 9)) == 0:
        message["type"] = draw(st.sampled_from(TYPES))
    text = json.dumps(message, ensure_ascii=draw(st.booleans()))
    if draw(st.integers(0, 4)) == 0:
        name, value = draw(st.sampled_from(NAMES)), json.dumps(draw(values))
        text = f'{text[:-1]}, "{name}": {value}}}'
    if draw(st.integers(0, 4)) == 0:
        at = draw(st.integers(0, len(text)))
        rest = text[at + draw(st.integers(0, 3)) :]
        text = text[:at] + draw(any_text | st.sampled_from(["NaN", "1e999", '"', "}", "[" * 999]))
        text += rest
    return text


frames = mutated() | st.binary(max_size=200) | st.text(max_size=100) | values.map(json.dumps)


def check(frame: str | bytes) -> None:
    """Each parser refuses the frame in its own words, or gives a message that it writes again."""
    for parse, encode in PARSERS:
        try:
            message = parse(frame)
        except UsageError as error:
            assert error.code == "message.invalid"
            continue
        text = encode(message)
        assert encode(parse(text)) == text


@settings(max_examples=500, deadline=None, database=None)
@given(frames)
@example('{"type":"ping","type":"Ping"}')
@example('{"type":' * 100_000)
@example('{"type":"sessions","items":' + "[" * 500 + "]" * 500 + "}")
@example('{"type":"Input","data":"\\ud800"}')
@example('{"type":"Resize","cols":' + "9" * 5_000 + ',"rows":24}')
@example('{"type":"Resize","cols":NaN,"rows":Infinity}')
def test_a_frame_is_a_message_or_refused(frame: str | bytes) -> None:
    check(frame)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(20))
@settings(max_examples=5_000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(frame=frames)
def test_a_hundred_thousand_frames_are_messages_or_refused(part: int, frame: str | bytes) -> None:
    check(frame)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_json_does_not_have_is_refused(number: str) -> None:
    with pytest.raises(UsageError):
        messages.parse_gateway(f'{{"type":"sessions","items":[{number}]}}')


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("fuzz") / "home") as gateway:
        yield gateway


@pytest.fixture
def healthy(served: Gateway) -> Iterator[Client]:
    """A client on the session that others send nonsense to; it hears of nothing but its own."""
    client = served.attach(session="new")
    client.run("true")
    while client.heard[-1]["type"] != "ack":
        client.step()
    before = len(client.heard)
    yield client
    assert client.run("stty size; echo $((6 * 7))") == b"24 80\r\n42\r\n"
    assert {heard["type"] for heard in client.heard[before:]} <= {"ack"}
    client.send(b"exit\n")
    client.exit()


def attach(**changed: Any) -> str:
    message = {"type": "attach", "client": CLIENT, "session": None, "cols": 80, "rows": 24}
    return json.dumps({**message, "term": "xterm", "readOnly": False, "resume": None, **changed})


MALFORMED = {
    "not JSON": "{",
    "not an object": "[]",
    "nested": "[" * 10_000,
    "unknown": '{"type":"nonsense"}',
    "not the other protocol's": '{"type":"Nonsense","client":1}',
    "no type": "{}",
}
FIRST = {
    **MALFORMED,
    "binary": b"\0\1\2",
    "not a first message": '{"type":"done"}',
    "0x0": attach(cols=0, rows=0),
    "65535x65535": attach(cols=65_535, rows=65_535),
    "wrong types": attach(cols="80", readOnly="no"),
    "path as id": attach(session="../x"),
    "long id": attach(session="a" * 300),
    "emoji as id": attach(session="\U0001f600"),
    "lone surrogate": attach(term="\ud800"),
}
LATER = {
    **MALFORMED,
    "0x0": '{"type":"resize","cols":0,"rows":0}',
    "65535x65535": '{"type":"resize","cols":65535,"rows":65535}',
    "not for a terminal": '{"type":"eof","offset":0}',
    "negative": '{"type":"ack","stream":"output","offset":-1}',
    "a second attach": attach(),
}
EARLIER = {
    **MALFORMED,
    "binary": b"\0\1\2",
    "0x0": '{"type":"Resize","cols":0,"rows":0}',
    "65535x65535": '{"type":"Create","cols":65535,"rows":65535}',
    "wrong types": '{"type":"Input","data":["ls"]}',
    "path as id": '{"type":"Input","data":"x","session_id":"../x"}',
    "long id": json.dumps({"type": "Close", "session_id": "a" * 300}),
    "emoji as id": '{"type":"Create","session_id":"\U0001f600"}',
    "lone surrogate": '{"type":"Input","data":"\\ud800"}',
}


def refusal(client: Client) -> None:
    """The next message is the error, and the connection ends with it."""
    assert client.message()["code"] == "message.invalid"
    assert client.closed() == 1008


@pytest.mark.parametrize("frame", FIRST.values(), ids=FIRST)
def test_a_malformed_first_frame_is_refused(
    served: Gateway, healthy: Client, frame: str | bytes
) -> None:
    client = served.connect()
    client.connection.send(frame)
    refusal(client)


@pytest.mark.parametrize("frame", LATER.values(), ids=LATER)
def test_a_malformed_later_frame_is_refused(served: Gateway, healthy: Client, frame: str) -> None:
    client = served.attach(session=healthy.session)
    client.connection.send(frame)
    while client.step() is None or client.heard[-1]["type"] != "error":
        pass
    assert client.heard[-1]["code"] == "message.invalid"
    assert client.closed() == 1008


@pytest.mark.parametrize("frame", EARLIER.values(), ids=EARLIER)
def test_a_malformed_frame_of_an_earlier_client_is_answered(
    served: Gateway, healthy: Client, frame: str | bytes
) -> None:
    client = served.connect(subprotocols=["coditect.v1+json"])
    client.send({"type": "Create", "session_id": healthy.session})
    assert client.message()["type"] == "Connected"
    client.connection.send(frame)
    client.send({"type": "Ping"})
    client.message("Pong")
    answers = [heard for heard in client.heard if heard["type"] != "Output"]
    assert [one["type"] for one in answers] == ["Connected", "Error", "Pong"]
    assert answers[1]["code"] == "message.invalid"
    client.connection.close()


@pytest.mark.parametrize("protocol", ["coditect.v2", "coditect.v1+json"])
@pytest.mark.parametrize(
    ("code", "frame"),
    [
        (1007, b"\x81\x83" + b"\0" * 4 + b"\xc3\x28\xff"),
        (1002, b"\x83\x80" + b"\0" * 4),
        (1002, b"\x81\x01a"),
        (1009, b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"\0" * 4),
    ],
    ids=["not UTF-8", "reserved opcode", "not masked", "too large"],
)
def test_a_malformed_websocket_frame_closes(
    served: Gateway, healthy: Client, protocol: str, code: int, frame: bytes
) -> None:
    client = served.connect(subprotocols=[protocol])
    client.connection.socket.sendall(frame)
    assert client.closed() == code


@pytest.mark.parametrize("protocol", ["coditect.v2", "coditect.v1+json"])
def test_random_frames_end_nothing_but_their_connection(
    served: Gateway, healthy: Client, protocol: str
) -> None:
    for size in range(1, 40):
        client = served.connect(subprotocols=[protocol])
        client.connection.socket.sendall(os.urandom(size) + b"\xff" * 16)
        client.drop()
