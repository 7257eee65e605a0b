"""What is recorded of a terminal session, and its JSON, as serde and chrono write it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from dataclasses import fields as dataclass_fields
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, TypeVar

from coditect_cli.errors import Failed, LimitReached
from coditect_cli.stores.store import MAX_VALUE

T = TypeVar("T")

NANOSECONDS = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:)(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))",
    re.ASCII,
)


@dataclass(frozen=True)
class SessionState:
    """The value of `{workspace_id}/terminal_sessions/{session_id}`.

    Times are nanoseconds since 1970 in UTC; `ended_at` is 0 unless the shell ended by itself.
    `history_trimmed` and `variables_trimmed` count what was dropped to fit into a value;
    `variables_unset` are exported ones that the shell has no longer; `unknown` has the fields
    that others wrote.
    """

    id: str
    workspace_id: str
    started_at: int
    last_active: int
    shell_type: str
    working_directory: str
    environment_vars: dict[str, str] = field(default_factory=dict)
    command_history: list[str] = field(default_factory=list)
    history_trimmed: int = 0
    variables_trimmed: int = 0
    ended_at: int = 0
    variables_unset: list[str] = field(default_factory=list)
    unknown: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Its JSON in at most 100,000 bytes.

        When it is longer, variables go first that have no place even alone or take more than half
        of it, then the oldest history, then the largest variables, then the names of unset ones.
        Raises LimitReached when the rest is still too long.
        """
        state = self
        if len(_encoded(_state_fields(state))) > MAX_VALUE:
            state = state._without_huge_variables()
        while (excess := len(content := _encoded(_state_fields(state))) - MAX_VALUE) > 0:
            if state.command_history:
                count = _first_of(state.command_history, excess)
                state = replace(
                    state,
                    command_history=state.command_history[count:],
                    history_trimmed=state.history_trimmed + count,
                )
            elif state.environment_vars:
                largest = max(state.environment_vars.items(), key=_variable_size)[0]
                variables = {k: v for k, v in state.environment_vars.items() if k != largest}
                state = replace(
                    state,
                    environment_vars=variables,
                    variables_trimmed=state.variables_trimmed + 1,
                )
            elif state.variables_unset:
                state = replace(state, variables_unset=[])
            else:
                raise _too_large(f"the state of session {self.id}", content)
        return content

    def _without_huge_variables(self) -> SessionState:
        bare = replace(self, environment_vars={}, command_history=[], variables_unset=[])
        room = min(MAX_VALUE - len(_encoded(_state_fields(bare))), MAX_VALUE // 2)
        variables = {
            name: value
            for name, value in self.environment_vars.items()
            if _variable_size((name, value)) <= room
        }
        dropped = len(self.environment_vars) - len(variables)
        trimmed = self.variables_trimmed + dropped
        return replace(self, environment_vars=variables, variables_trimmed=trimmed)

    @classmethod
    def decode(cls, content: bytes) -> SessionState:
        """The state that a value holds. Raises Failed (session.unreadable)."""
        return _decoded(content, _state)


@dataclass(frozen=True)
class SessionOutput:
    """The value of `{workspace_id}/terminal_output/{session_id}`.

    `lines` are text with SGR sequences, the oldest first; `cursor_position` is (column, row)
    from zero, `screen_size` (columns, rows). `lines_trimmed` counts lines dropped to fit into a
    value; `unknown` has the fields that others wrote.
    """

    session_id: str
    lines: list[str]
    cursor_position: tuple[int, int]
    screen_size: tuple[int, int]
    lines_trimmed: int = 0
    unknown: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Its JSON in at most 100,000 bytes, without the oldest lines when it is longer.

        Raises LimitReached when the rest is still too long.
        """
        output = self
        while (excess := len(content := _encoded(_output_fields(output))) - MAX_VALUE) > 0:
            if not output.lines:
                raise _too_large(f"the output of session {self.session_id}", content)
            count = _first_of(output.lines, excess)
            output = replace(
                output,
                lines=output.lines[count:],
                lines_trimmed=output.lines_trimmed + count,
            )
        return content

    @classmethod
    def decode(cls, content: bytes) -> SessionOutput:
        """The output that a value holds. Raises Failed (session.unreadable)."""
        return _decoded(content, _output)


def format_time(nanoseconds: int) -> str:
    """RFC 3339 in UTC with 0, 3, 6 or 9 fractional digits, as few as keep it whole."""
    seconds, fraction = divmod(nanoseconds, NANOSECONDS)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    if not fraction:
        return text + "Z"
    digits = f"{fraction:09}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{text}.{digits}Z"


def parse_time(text: object) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time; digits past the ninth are dropped.

    Raises ValueError.
    """
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("not an RFC 3339 time")
    day, hours, second, fraction, sign, offset_hours, offset_minutes = match.groups()
    leap = second == "60"  # chrono reads and writes it; here it is the second after
    moment = datetime.fromisoformat(f"{day}T{hours}{'59' if leap else second}+00:00")
    seconds = (moment - _EPOCH) // timedelta(seconds=1) + leap
    if sign:
        offset = int(offset_hours) * 3600 + int(offset_minutes) * 60
        seconds -= offset if sign == "+" else -offset
    return seconds * NANOSECONDS + int((fraction or "0")[:9].ljust(9, "0"))


def unknown_fields(
    content: bytes | None, kind: type[SessionState | SessionOutput]
) -> dict[str, Any]:
    """The fields of a stored value that are not ours; none where it is not JSON or not there."""
    try:
        fields = {} if content is None else _parsed(content)
    except (ValueError, RecursionError):
        return {}
    return _unknown(fields, kind)


def _state_fields(state: SessionState) -> dict[str, Any]:
    return {
        "id": state.id,
        "workspace_id": state.workspace_id,
        "started_at": format_time(state.started_at),
        "last_active": format_time(state.last_active),
        "shell_type": state.shell_type,
        "working_directory": state.working_directory,
        "environment_vars": state.environment_vars,
        "command_history": state.command_history,
        **({"history_trimmed": state.history_trimmed} if state.history_trimmed else {}),
        **({"variables_trimmed": state.variables_trimmed} if state.variables_trimmed else {}),
        **({"ended_at": format_time(state.ended_at)} if state.ended_at else {}),
        **({"variables_unset": state.variables_unset} if state.variables_unset else {}),
        **state.unknown,
    }


def _output_fields(output: SessionOutput) -> dict[str, Any]:
    return {
        "session_id": output.session_id,
        "lines": output.lines,
        "cursor_position": output.cursor_position,
        "screen_size": output.screen_size,
        **({"lines_trimmed": output.lines_trimmed} if output.lines_trimmed else {}),
        **output.unknown,
    }


def _encoded(value: Any) -> bytes:
    # What is no character (half of a surrogate pair) has no place in Rust's text: it becomes "?".
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def _first_of(items: list[str], size: int) -> int:
    """How many of the first items have at least `size` bytes of JSON, commas included."""
    for count, item in enumerate(items, 1):
        size -= len(_encoded(item)) + 1
        if size <= 0:
            return count
    return len(items)


def _variable_size(variable: tuple[str, str]) -> int:
    return len(_encoded(variable))


def _too_large(what: str, content: bytes) -> LimitReached:
    return LimitReached(
        f"{what} is {len(content):,} bytes and cannot be made smaller: {MAX_VALUE:,} is the limit",
        code="store.value_too_large",
    )


def _decoded(content: bytes, read: Callable[[dict[str, Any]], T]) -> T:
    try:
        return read(_parsed(content))
    except KeyError as missing:
        reason = f"it has no field {missing}"
    except (ValueError, RecursionError, OverflowError) as error:
        reason = str(error)
    raise Failed(
        f"a session's record cannot be read: {reason}",
        code="session.unreadable",
        hint="coditect keys check finds such records; coditect keys get KEY tells of one",
    )


def _parsed(content: bytes) -> dict[str, Any]:
    fields = json.loads(content.decode(), parse_float=finite, parse_constant=finite)
    if not isinstance(fields, dict):
        raise ValueError("it is not a JSON object")
    return fields


def finite(number: str) -> float:
    """A number that JSON has; raises ValueError for NaN and what is too large."""
    value = float(number)
    if not isfinite(value):
        raise ValueError(f"{number} is out of range")
    return value


def _state(fields: dict[str, Any]) -> SessionState:
    return SessionState(
        id=_text(fields, "id"),
        workspace_id=_text(fields, "workspace_id"),
        started_at=_time(fields, "started_at"),
        last_active=_time(fields, "last_active"),
        shell_type=_text(fields, "shell_type"),
        working_directory=_text(fields, "working_directory"),
        environment_vars=_texts_by_name(fields, "environment_vars"),
        command_history=_texts(fields, "command_history"),
        history_trimmed=_count(fields, "history_trimmed"),
        variables_trimmed=_count(fields, "variables_trimmed"),
        ended_at=_time(fields, "ended_at") if _has(fields, "ended_at") else 0,
        variables_unset=_texts(fields, "variables_unset", needed=False),
        unknown=_unknown(fields, SessionState),
    )


def _output(fields: dict[str, Any]) -> SessionOutput:
    return SessionOutput(
        session_id=_text(fields, "session_id"),
        lines=_texts(fields, "lines"),
        cursor_position=_pair(fields, "cursor_position"),
        screen_size=_pair(fields, "screen_size"),
        lines_trimmed=_count(fields, "lines_trimmed"),
        unknown=_unknown(fields, SessionOutput),
    )


def _unknown(fields: dict[str, Any], kind: type[SessionState | SessionOutput]) -> dict[str, Any]:
    known = {one.name for one in dataclass_fields(kind)} - {"unknown"}
    return {name: value for name, value in fields.items() if name not in known}


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} is not a text")
    return value


def _texts(fields: dict[str, Any], name: str, *, needed: bool = True) -> list[str]:
    value = fields[name] if needed or _has(fields, name) else []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{name} is not a list of texts")
    return value


def _texts_by_name(fields: dict[str, Any], name: str) -> dict[str, str]:
    value = fields[name]
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError(f"{name} is not an object of texts")
    return value


def _time(fields: dict[str, Any], name: str) -> int:
    try:
        return parse_time(fields[name])
    except ValueError as rule:
        raise ValueError(f"{name} is {rule}") from None


def _pair(fields: dict[str, Any], name: str) -> tuple[int, int]:
    value = fields[name]
    if isinstance(value, list) and len(value) == 2 and all(map(_is_u16, value)):
        return value[0], value[1]
    raise ValueError(f"{name} is not two numbers from 0 to 65535")


def _is_u16(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0xFFFF


def _has(fields: dict[str, Any], name: str) -> bool:
    return fields.get(name) is not None  # serde writes null for what there is none of


def _count(fields: dict[str, Any], name: str) -> int:
    value = fields[name] if _has(fields, name) else 0
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} is not a count")
    return value
