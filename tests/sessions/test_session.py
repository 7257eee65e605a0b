from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coditect_cli.errors import Failed, LimitReached
from coditect_cli.sessions.session import (
    SessionOutput,
    SessionState,
    format_time,
    parse_time,
)
from coditect_cli.stores.store import MAX_VALUE

# One line for each key: KEY, a tab, VALUE; written by serde_json 1 and chrono 0.4 from the
# structs of the platform's Rust side.
GOLDEN = [
    line.split("\t")
    for line in (Path(__file__).parent / "golden" / "rust.tsv").read_text().splitlines()
]

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
UNKNOWN = st.dictionaries(TEXT.map(lambda name: "x_" + name), JSON, max_size=3)
TIMES = st.integers(parse_time("0001-01-02T00:00:00Z"), parse_time("9999-12-30T00:00:00Z"))
SIDES = st.integers(0, 65535)
STATES = st.builds(
    SessionState,
    TEXT,
    TEXT,
    TIMES,
    TIMES,
    TEXT,
    TEXT,
    st.dictionaries(TEXT, TEXT),
    st.lists(TEXT),
    st.integers(0),
    st.integers(0),
    TIMES,
    st.lists(TEXT),
    UNKNOWN,
)
OUTPUTS = st.builds(
    SessionOutput,
    TEXT,
    st.lists(TEXT),
    st.tuples(SIDES, SIDES),
    st.tuples(SIDES, SIDES),
    st.integers(0),
    UNKNOWN,
)


def state(**changes: Any) -> SessionState:
    fields: dict[str, Any] = {
        "id": "s1",
        "workspace_id": "demo",
        "started_at": 0,
        "last_active": 1,
        "shell_type": "bash",
        "working_directory": "/srv",
    }
    return SessionState(**{**fields, **changes})


def output(lines: list[str]) -> SessionOutput:
    return SessionOutput("s1", lines, (0, 0), (80, 24))


@pytest.mark.parametrize(("key", "value"), GOLDEN, ids=[key for key, _ in GOLDEN])
def test_what_the_rust_side_wrote_is_written_again_byte_for_byte(key: str, value: str) -> None:
    workspace_id, kind, session_id = key.split("/")
    content = value.encode()
    if kind == "terminal_sessions":
        read = SessionState.decode(content)
        assert (read.workspace_id, read.id) == (workspace_id, session_id)
        assert read.encode() == content
        assert read.unknown == {}
    else:
        screen = SessionOutput.decode(content)
        assert screen.session_id == session_id
        assert screen.encode() == content


def test_null_is_as_good_as_a_field_that_is_missing() -> None:
    missing = ("ended_at", "variables_unset", "history_trimmed", "variables_trimmed")
    nothing = dict.fromkeys(missing)
    assert SessionState.decode(state(unknown=nothing).encode()) == state()


@given(STATES)
def test_a_state_survives_its_json(record: SessionState) -> None:
    assert SessionState.decode(record.encode()) == record


@given(OUTPUTS)
def test_an_output_survives_its_json(record: SessionOutput) -> None:
    assert SessionOutput.decode(record.encode()) == record


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("2025-01-01T00:00:00Z", "2025-01-01T00:00:00Z"),
        ("2025-01-01T00:00:00.1Z", "2025-01-01T00:00:00.100Z"),
        ("2025-01-01T00:00:00.0001Z", "2025-01-01T00:00:00.000100Z"),
        ("2025-01-01T00:00:00.123456789Z", "2025-01-01T00:00:00.123456789Z"),
        ("2025-01-01T00:00:00.1234567891234Z", "2025-01-01T00:00:00.123456789Z"),
        ("2025-01-01T00:00:00.000Z", "2025-01-01T00:00:00Z"),
        ("2025-01-01t00:00:00+01:30", "2024-12-31T22:30:00Z"),
        ("2025-01-01T00:00:00.5-00:30", "2025-01-01T00:30:00.500Z"),
        ("1969-12-31T23:59:59.9Z", "1969-12-31T23:59:59.900Z"),
    ],
)
def test_a_time_is_read_with_any_fraction_and_written_as_chrono_does(text: str, again: str) -> None:
    assert format_time(parse_time(text)) == again


@given(TIMES)
def test_a_time_survives_to_the_nanosecond(nanoseconds: int) -> None:
    assert parse_time(format_time(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    "text",
    ["", "2025-01-01", "2025-01-01T00:00:00", "2025-13-01T00:00:00Z", "2025-01-01T24:00:01Z",
     "2025-01-01T00:00:00+24:00", "٢٠٢٥-01-01T00:00:00Z", 5, None],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"RFC 3339|month|hour"):
        parse_time(text)


VALID_STATE = json.loads(state().encode())
VALID_OUTPUT = json.loads(output([]).encode())


@pytest.mark.parametrize("name", sorted(VALID_STATE))
def test_a_state_without_one_of_its_fields_is_unreadable(name: str) -> None:
    content = json.dumps({key: VALID_STATE[key] for key in VALID_STATE if key != name})
    with pytest.raises(Failed, match=name) as caught:
        SessionState.decode(content.encode())
    assert caught.value.code == "session.unreadable"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", 5), ("started_at", "yesterday"), ("environment_vars", {"A": 1}),
        ("environment_vars", []), ("command_history", "ls"), ("command_history", [None]),
        ("history_trimmed", -1), ("history_trimmed", True), ("variables_unset", "A"),
    ],
)  # fmt: skip
def test_a_state_with_a_wrong_field_is_unreadable(name: str, value: object) -> None:
    with pytest.raises(Failed, match=name):
        SessionState.decode(json.dumps({**VALID_STATE, name: value}).encode())


@pytest.mark.parametrize("pair", [[1], [1, 2, 3], [1, -1], [1, 65536], [1, True], "80x24", None])
def test_a_pair_is_two_numbers_of_16_bits(pair: object) -> None:
    for name in ("cursor_position", "screen_size"):
        with pytest.raises(Failed, match=name):
            SessionOutput.decode(json.dumps({**VALID_OUTPUT, name: pair}).encode())


@given(st.binary(max_size=60) | st.sampled_from([b"[" * 100_000, b"1e999", b'{"a":NaN}', b"[]"]))
def test_whatever_is_stored_is_a_record_or_unreadable(content: bytes) -> None:
    for kind in (SessionState, SessionOutput):
        with pytest.raises(Failed) as caught:
            kind.decode(content)
        assert caught.value.code == "session.unreadable"


def test_half_a_surrogate_pair_does_not_stop_a_save() -> None:
    assert SessionState.decode(state(shell_type="a\ud800b").encode()).shell_type == "a?b"


def test_a_value_of_exactly_the_limit_is_left_whole() -> None:
    room = MAX_VALUE - len(output([""]).encode())
    for size, trimmed in ((room, 0), (room + 1, 1)):
        content = output(["x" * size]).encode()
        assert SessionOutput.decode(content).lines_trimmed == trimmed
        assert len(content) <= MAX_VALUE


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=30), st.integers(0, 3))
def test_the_oldest_lines_go_first_and_no_more_than_needed(lines: list[str], before: int) -> None:
    lines = [f"{n} {line}" for n, line in enumerate(line * 200 for line in lines for _ in "ab")]
    content = SessionOutput("s1", lines, (0, 0), (80, 24), lines_trimmed=before).encode()
    kept = SessionOutput.decode(content)
    dropped = kept.lines_trimmed - before
    assert len(content) <= MAX_VALUE
    encodable = [line.encode("utf-8", "replace").decode() for line in lines]
    assert kept.lines == encodable[dropped:]
    if dropped:  # one more would not have fitted
        line = json.dumps(lines[dropped - 1], ensure_ascii=False).encode("utf-8", "replace")
        assert len(content) + len(line) + 1 > MAX_VALUE - 20


def test_history_goes_before_variables_and_the_largest_variables_first() -> None:
    history = [f"command {n} " + "x" * 1000 for n in range(20)]
    variables = {"SMALL": "s", "LARGE": "l" * 48_000, "MEDIUM": "m" * 40_000}
    fits = SessionState.decode(state(environment_vars=variables, command_history=history).encode())
    assert fits.environment_vars == variables
    assert 0 < fits.history_trimmed < 20
    assert fits.command_history == history[fits.history_trimmed :]

    variables["LARGEST"] = "h" * 49_000
    tight = SessionState.decode(
        state(environment_vars=variables, command_history=history, variables_trimmed=2).encode()
    )
    assert (tight.command_history, tight.history_trimmed) == ([], 20)
    assert set(tight.environment_vars) == {"SMALL", "LARGE", "MEDIUM"}
    assert tight.variables_trimmed == 3

    unset = [f"NAME_{n}_{'x' * 1000}" for n in range(100)]
    assert SessionState.decode(state(variables_unset=unset).encode()).variables_unset == []


@pytest.mark.parametrize(
    "record",
    [
        state(working_directory="/" * (MAX_VALUE + 1), command_history=["ls"]),
        SessionOutput("s1", ["a"], (0, 0), (80, 24), unknown={"x": "y" * MAX_VALUE}),
    ],
)
def test_what_cannot_be_trimmed_is_refused(record: SessionState | SessionOutput) -> None:
    with pytest.raises(LimitReached) as caught:
        record.encode()
    assert caught.value.code == "store.value_too_large"


def test_what_was_not_trimmed_has_no_count_in_the_json() -> None:
    assert "trimmed" not in state().encode().decode() + output([]).encode().decode()


@pytest.mark.parametrize("size", [51_000, 120_000])
def test_a_huge_variable_takes_no_history_with_it(size: int) -> None:
    history = [f"echo {n} " + "y" * 1_000 for n in range(60)]
    variables = {"BIG": "x" * size, "SMALL": "1"}
    state = SessionState("s1", "demo", 0, 0, "bash", "/", variables, history)
    kept = SessionState.decode(state.encode())
    assert (kept.environment_vars, kept.variables_trimmed) == ({"SMALL": "1"}, 1)
    assert (kept.command_history, kept.history_trimmed) == (history, 0)
