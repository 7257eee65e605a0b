from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coditect_cli.errors import Conflict, Failed
from coditect_cli.stores import store as stores
from coditect_cli.stores.sqlite import SQLiteStore
from coditect_cli.stores.store import SessionStore
from tests.stores.contract import Open, P, StoreContract, put, rows_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "sessions.db"


@pytest.fixture
def open_store(file: Path) -> Iterator[Open]:
    opened: list[SessionStore] = []

    def open_one() -> SessionStore:
        opened.append(SQLiteStore(file))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


class TestSQLiteStore(StoreContract):
    pass


def test_only_its_owner_can_read_its_files(file: Path, open_store: Open) -> None:
    file.parent.mkdir(mode=0o755)
    file.touch(mode=0o644)
    store = open_store()
    put(store, (b"a", b"1"))
    files = sorted(file.parent.iterdir())
    assert [one.name for one in files] == ["sessions.db", "sessions.db-shm", "sessions.db-wal"]
    assert {stat.S_IMODE(one.stat().st_mode) for one in files} == {0o600}
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_it_is_made_once_when_many_open_it_first(file: Path) -> None:
    def write(n: int) -> None:
        store = SQLiteStore(file)
        put(store, (b"%02d" % n, b""))
        store.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(16)))
    store = SQLiteStore(file)
    assert [key for key, _ in rows_of(store)] == [b"%02d" % n for n in range(16)]
    store.close()


def test_each_commit_is_on_disk_before_it_returns(open_store: Open) -> None:
    store = open_store()
    assert isinstance(store, SQLiteStore)
    pragmas = [
        store._connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous")
    ]
    assert pragmas == [b"wal", 2]


WRITER = """
import sys
from pathlib import Path
from coditect_cli.stores.sqlite import SQLiteStore
store, prefix = SQLiteStore(Path(sys.argv[1])), sys.argv[2].encode()
n = 0
while True:
    def write(transaction):
        transaction.set(prefix + b"a", b"%d" % n)
        transaction.set(prefix + b"b", b"%d" % n)
    store.transact(write)
    print(n, flush=True)
    n += 1
"""


def test_a_writer_killed_at_any_moment_loses_nothing_that_it_was_told_is_kept(file: Path) -> None:
    for kept_at_least in range(0, 50, 10):
        command = [sys.executable, "-c", WRITER, str(file), P.decode()]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            while int(writer.stdout.readline()) < kept_at_least:
                pass
            writer.kill()
            told = [kept_at_least, *map(int, writer.stdout.read().split("\n")[:-1])][-1]
        store = SQLiteStore(file)
        rows = dict(rows_of(store))
        store.close()
        assert rows[b"a"] == rows[b"b"]
        assert int(rows[b"a"]) in (told, told + 1)


def test_a_store_held_by_another_is_a_conflict_that_can_be_tried_again(file: Path) -> None:
    SQLiteStore(file).close()
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    store = SQLiteStore(file, busy_seconds=0.05)
    with pytest.raises(Conflict) as caught:
        put(store, (b"a", b"1"))
    assert (caught.value.code, caught.value.retryable) == ("store.conflict", True)
    holder.execute("ROLLBACK")
    holder.close()
    put(store, (b"a", b"1"))
    store.close()


def test_pages_of_different_versions_can_be_told_apart(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "PAGE_ROWS", 1)
    store = open_store()
    put(store, (b"a", b""), (b"b", b""), (b"c", b""))
    pages = stores.scan(store, P, stores.prefix_end(P))
    versions = [next(pages).version, next(pages).version]
    put(store, (b"z", b""))
    versions.append(next(pages).version)
    assert versions[0] == versions[1] < versions[2]


@pytest.mark.parametrize("command", ["damage", "newer"])
def test_a_file_that_cannot_be_used_is_told_and_left_alone(file: Path, command: str) -> None:
    store = SQLiteStore(file)
    store.close()
    if command == "damage":
        file.write_bytes(b"not a database, but a text of some length" * 100)
    else:
        with sqlite3.connect(file) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
    content = file.read_bytes()
    with pytest.raises(Failed) as caught:
        SQLiteStore(file)
    assert caught.value.code == ("store.damaged" if command == "damage" else "store.version")
    assert caught.value.hint
    assert file.read_bytes() == content


def test_what_was_cleared_is_in_none_of_its_files(file: Path, open_store: Open) -> None:
    """Also while another process, such as a gateway, has it open."""
    other, store = open_store(), SQLiteStore(file)
    secret = b"hunter2" * 1000
    other.transact(lambda transaction: transaction.set(b"key", secret))
    store.transact(lambda transaction: transaction.clear(b"key"))
    store.close()
    assert [path.name for path in file.parent.iterdir() if b"hunter2" in path.read_bytes()] == []


def test_what_another_program_wrote_as_text_is_read_as_bytes(file: Path, open_store: Open) -> None:
    store = open_store()
    store.transact(lambda transaction: transaction.set(b"key", b"abc"))
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE entries SET value = replace(value, 'a', 'b')")
    connection.close()
    assert store.read(lambda snapshot: snapshot.get(b"key")) == b"bbc"


def test_what_another_program_wrote_as_a_number_is_told(file: Path, open_store: Open) -> None:
    store = open_store()
    with sqlite3.connect(file) as connection:
        connection.execute("INSERT INTO entries VALUES (CAST('key' AS BLOB), 7)")
    connection.close()
    for look in (lambda one: one.get(b"key"), lambda one: one.range(b"k", b"l")):
        with pytest.raises(Failed, match="b'key' is no BLOB"):
            store.read(look)
