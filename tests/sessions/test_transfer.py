from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coditect_cli.errors import Conflict, UsageError
from coditect_cli.sessions import transfer
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.sessions.transfer import (
    Export,
    Exported,
    Import,
    batches,
    read_export,
    record_pages,
)
from coditect_cli.stores.sqlite import SQLiteStore
from coditect_cli.stores.store import MAX_VALUE, SessionStore
from tests.sessions.test_session import output, state


def rows(store: SessionStore) -> list[tuple[bytes, bytes]]:
    return store.read(lambda snapshot: snapshot.range(b"", b"\xff"))


def put(store: SessionStore, found: dict[bytes, bytes]) -> None:
    store.transact(lambda transaction: [transaction.set(*row) for row in found.items()])


def exported(store: SessionStore, workspaces: list[str] | None = None) -> str:
    return "".join(Export("2025-01-01T00:00:00Z").lines(record_pages(store, workspaces)))


def read(text: str) -> list[Exported]:
    return list(read_export(io.BytesIO(text.encode())))


def sealed(fields: dict[str, Any]) -> str:
    text = json.dumps(fields, separators=(",", ":")).removesuffix("}")
    return f'{text},"sha256":"{hashlib.sha256(text.encode()).hexdigest()}"}}\n'


def file_of(*sessions: dict[str, Any]) -> str:
    head = {"format": "coditect-sessions", "version": 1, "exportedAt": "2025-01-01T00:00:00Z"}
    text = "".join(map(sealed, [head, *sessions]))
    lines = hashlib.sha256(text.encode()).hexdigest()
    return text + sealed({"sessions": len(sessions), "lines": lines})


@given(st.lists(st.tuples(st.binary(max_size=50), st.none() | st.binary(max_size=50)), max_size=5))
def test_any_values_come_back_byte_for_byte(values: list[tuple[bytes, bytes | None]]) -> None:
    states = [(f"demo/terminal_sessions/s{n}".encode(), one) for n, (one, _) in enumerate(values)]
    page = transfer.Records(states, 1, [other for _, other in values])
    text = "".join(Export("2025-01-01T00:00:00Z").lines([page]))
    assert text.isascii()
    assert [(one.state, one.output) for one in read(text)] == values


def test_states_and_outputs_of_all_workspaces_or_of_some(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PER_PAGE", 2)
    layer = SessionLayer(store)
    for workspace_id in ("a", "b", "terminal_sessions"):
        put(store, {f"{workspace_id}/terminal_sessions/s{n}".encode(): b"x" for n in range(3)})
    put(store, {b"a/terminal_output/s1": b"screen", b"a/terminal_output/orphan": b"x"})
    put(store, {b"terminal_sessions/terminal_output/s2": b"another"})
    layer.acquire("a", "s1", "bridge", now=0, ttl=1)
    found = {
        key: value
        for page in record_pages(store, None)
        for (key, _), value in zip(page.rows, page.outputs, strict=True)
    }
    assert len(found) == 9
    assert {key: value for key, value in found.items() if value} == {
        b"a/terminal_sessions/s1": b"screen",
        b"terminal_sessions/terminal_sessions/s2": b"another",
    }
    assert {one.workspace for one in read(exported(store, ["b"]))} == {"b"}
    assert read(exported(store, ["nosuch"])) == []


def test_what_an_import_would_refuse_is_left_out_and_counted(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "MAX_VALUE", 1_000)
    keys = [
        b"demo/terminal_sessions/a/b",
        b"demo/terminal_sessions/\xff",
        b"_x/terminal_sessions/s",
    ]
    put(store, {key: b"{}" for key in [*keys, b"demo/terminal_sessions/s1"]})
    put(store, {b"demo/terminal_sessions/other": state().encode()})
    put(store, {b"demo/terminal_sessions/large": b"x" * 1_001})
    export = Export("2025-01-01T00:00:00Z")
    text = "".join(export.lines(record_pages(store, None)))
    assert [one.session for one in read(text)] == ["s1"]
    assert (export.sessions, export.left_out) == (1, 5)
    assert export.why == "_x/s: '_x' is not a workspace id"


def test_every_change_of_a_byte_and_every_cut_is_found(store: SessionStore) -> None:
    SessionLayer(store).save(state(), output(["x"]))
    data = exported(store).encode()
    assert len(list(read_export(io.BytesIO(data)))) == 1
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(UsageError, match=r"^line [1-4] of the export: "):
            list(read_export(io.BytesIO(changed)))
        with pytest.raises(UsageError):
            list(read_export(io.BytesIO(data[:at])))


def test_lines_that_are_missing_or_too_many_are_found(store: SessionStore) -> None:
    for n in range(3):
        SessionLayer(store).save(state(id=f"s{n}"))
    lines = exported(store).splitlines(keepends=True)
    for damaged, number in (
        (lines[1:], 1),
        ([*lines[:2], *lines[3:]], 4),
        ([*lines, lines[1]], 6),
        (lines[:-1], 5),
        ([*lines[:2], "\n", *lines[2:]], 3),
        ([*lines[:2], lines[1], *lines[3:]], 5),
        ([lines[0], lines[2], lines[1], *lines[3:]], 5),
    ):
        with pytest.raises(UsageError, match=f"^line {number} of"):
            read("".join(damaged))


ONE = {"workspace": "demo", "session": "s1", "state": state().encode().decode(), "output": None}


@pytest.mark.parametrize(
    "changes",
    [
        {"workspace": "a/b"},
        {"workspace": ""},
        {"workspace": "_coditect"},
        {"workspace": 7},
        {"session": "a/b"},
        {"session": "a\nb"},
        {"session": "a b"},
        {"session": "-rf"},
        {"workspace": "\xdc x"},
        {"session": None},
        {"state": None},
        {"state": {"id": "s1"}},
        {"output": 7},
        {"state": "\ud800"},
        {"state": "x" * (MAX_VALUE + 1)},
        {"output": "é" * MAX_VALUE},
        {"session": "s2"},
        {"workspace": "other"},
        {"output": output([]).encode().decode().replace("s1", "s2")},
    ],
)
def test_what_could_not_have_been_exported_is_refused_by_line(changes: dict[str, Any]) -> None:
    good = file_of(ONE, {**ONE, "output": output(["x"]).encode().decode()})
    assert [one.line for one in read(good)] == [2, 3]
    with pytest.raises(UsageError) as error:
        read(file_of(ONE, {**ONE, **changes}))
    assert error.value.code == "import.damaged"
    assert error.value.message.startswith("line 3 of the export: ")


def test_a_file_of_another_format_is_refused() -> None:
    for text in ("", "\n", "x" * 3_000_000, "{}\n", sealed({"format": "coditect-sessions"})):
        with pytest.raises(UsageError, match=r"^line 1 of"):
            read(text)


def test_batches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "BATCH_SESSIONS", 3)
    monkeypatch.setattr(transfer, "BATCH_BYTES", 100)
    sizes = [10, 10, 10, 10, 90, 10, 200, 10]
    some = [Exported("demo", f"s{n}", b"x" * size, None) for n, size in enumerate(sizes)]
    assert [[one.size for one in batch] for batch in batches(some)] == [
        [10, 10, 10],
        [10, 90],
        [10],
        [200],
        [10],
    ]


def imported(store: SessionStore, text: str, **options: bool) -> dict[str, int]:
    importing = Import(store, now=10**18, **options)
    for batch in batches(read(text)):
        importing.check(batch)
        importing.put(batch)
    return {name: count for name, count in importing.counts.items() if count}


def test_an_import_makes_the_same_store_and_can_be_repeated(
    store: SessionStore, tmp_path: Path
) -> None:
    layer = SessionLayer(store)
    layer.save(state(unknown={"x": 1}), output(["x"]))
    layer.save(state(id="s2"))
    put(store, {b"demo/terminal_sessions/junk": b"\xff\x00", b"demo/terminal_output/junk": b""})
    text = exported(store)
    other = SQLiteStore(tmp_path / "other" / "sessions.db")
    assert imported(other, text) == {"new": 3}
    assert rows(other) == rows(store)
    assert imported(other, text) == {"same": 3}
    assert exported(other) == text
    other.close()


def test_what_is_newer_in_the_store_is_refused_kept_or_replaced(store: SessionStore) -> None:
    layer = SessionLayer(store)
    layer.save(state(last_active=5), output(["old"]))
    text = exported(store)
    layer.save(state(last_active=6), output(["new"]))
    newer = rows(store)
    with pytest.raises(Conflict, match=r"^line 2: session s1 of workspace demo is newer"):
        imported(store, text)
    assert imported(store, text, keep_newer=True) == {"newer": 1}
    assert rows(store) == newer
    assert imported(store, text, overwrite=True) == {"newer": 1}
    assert exported(store) == text


def test_what_is_older_in_the_store_is_replaced_whole(store: SessionStore) -> None:
    layer = SessionLayer(store)
    layer.save(state(last_active=6))
    text = exported(store)
    layer.save(state(last_active=5), output(["old"]))
    assert imported(store, text) == {"older": 1}
    assert exported(store) == text
    assert layer.load("demo", "s1")[1] is None


def test_what_cannot_be_compared_counts_as_newer(store: SessionStore) -> None:
    SessionLayer(store).save(state())
    text = exported(store)
    put(store, {b"demo/terminal_sessions/s1": b"junk"})
    with pytest.raises(Conflict):
        imported(store, text)
    assert imported(store, text, overwrite=True) == {"newer": 1}


def test_a_session_that_a_bridge_holds_is_never_replaced(store: SessionStore) -> None:
    layer = SessionLayer(store)
    layer.save(state(last_active=6))
    text = exported(store)
    layer.save(state(last_active=5))
    layer.acquire("demo", "s1", "bridge", now=10**18, ttl=1)
    before = rows(store)
    for options in ({}, {"overwrite": True}, {"keep_newer": True}):
        with pytest.raises(Conflict, match="belongs to another bridge"):
            imported(store, text, **options)
    assert rows(store) == before


def test_a_batch_is_put_whole_or_not_at_all(store: SessionStore) -> None:
    layer = SessionLayer(store)
    for id in ("s1", "s2"):
        layer.save(state(id=id, last_active=5))
    text = exported(store)
    layer.delete("demo", "s1")
    layer.save(state(id="s2", last_active=6))
    with pytest.raises(Conflict):
        Import(store, now=0).put(read(text))
    assert layer.load("demo", "s1") == (None, None)
