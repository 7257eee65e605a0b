from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from coditect_cli.commands.keys import format_key, format_keys, parse_key
from coditect_cli.errors import UsageError
from coditect_cli.main import main
from coditect_cli.paths import Paths
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.stores import store as stores
from coditect_cli.stores.progress import Progress
from coditect_cli.stores.sqlite import SQLiteStore
from coditect_cli.stores.store import SessionStore, Transaction
from coditect_cli.streams import Streams
from tests.conftest import RunCli
from tests.sessions.test_session import output, state

SECRET = "hunter2hunter"


@pytest.fixture
def store(paths: Paths) -> Iterator[SessionStore]:
    store = SQLiteStore(paths.session_store)
    yield store
    store.close()


@pytest.fixture
def layer(store: SessionStore) -> SessionLayer:
    return SessionLayer(store)


def write(store: SessionStore, *keys: bytes, value: bytes = b"{}") -> None:
    def put(transaction: Transaction) -> None:
        for key in keys:
            transaction.set(key, value)

    store.transact(put)


def listed(run_cli: RunCli, *args: str) -> dict[str, Any]:
    code, out, _ = run_cli("keys", *args, "-o", "json")
    assert code == 0
    document: dict[str, Any] = json.loads(out)
    return document


@given(st.binary(max_size=40))
@example(b"-x")
@example(b"hex:61")
@example(b"\\x41")
@example(b"it's $(here) `now`; \xc3\xa9 \xff\x00\n")
def test_every_printed_form_is_the_same_key_again(key: bytes) -> None:
    printed = format_key(key)
    assert parse_key(printed) == key
    assert parse_key(f"hex:{key.hex()}") == key
    assert parse_key("".join(f"\\x{byte:02X}" for byte in key)) == key
    # In single quotes it is one word for any shell, and no option.
    assert printed.isascii() and printed.isprintable()
    assert "'" not in printed and not printed.startswith("-")


PATHS = [b"a/b", b"-x", b".", b"hex", b"hex:", b"hex:x", b"hex;", b"z/b", b"a\nb", b""]


@given(st.lists(st.sampled_from(PATHS) | st.binary(max_size=8), min_size=1), st.booleans())
@example([b"a/b", b"c/d"], True)
def test_many_keys_are_printed_as_each_one(keys: list[bytes], reverse: bool) -> None:
    keys.sort(reverse=reverse)
    assert format_keys(keys) == [format_key(key) for key in keys]


@given(st.text().filter(lambda text: "\\" not in text and not text.startswith("hex:")))
def test_a_path_is_its_own_bytes(text: str) -> None:
    assert parse_key(text) == text.encode("utf-8", "surrogateescape") or any(
        "\ud800" <= character <= "\udfff" for character in text
    )


@pytest.mark.parametrize("text", ["hex:1", "hex:zz", "hex: 61", "a\\b", "\\x4", "\\", "\\xzz"])
def test_what_is_no_form_of_a_key_is_refused(text: str, run_cli: RunCli) -> None:
    with pytest.raises(UsageError):
        parse_key(text)
    code, out, err = run_cli("keys", "get", text, "-o", "json")
    assert (code, out) == (2, "")
    assert json.loads(err)["error"]["code"] == "keys.invalid"


def test_a_key_of_any_bytes_is_listed_and_found_by_what_was_printed(
    run_cli: RunCli, store: SessionStore
) -> None:
    keys = [b"-o", b"hex:61", b"a b'c", b"\\x41", "é".encode(), b"\xfe/\x00", b"demo/x"]
    write(store, *keys)
    items = listed(run_cli, "ls")["items"]
    assert [bytes.fromhex(item["hex"][4:]) for item in items] == sorted(keys)
    for item in items:
        for form in (item["key"], item["hex"]):
            code, out, _ = run_cli("keys", "get", form, "-o", "json")
            assert (code, json.loads(out)["hex"]) == (0, item["hex"])


def test_ls_takes_a_prefix_a_limit_a_direction_and_where_to_go_on(
    run_cli: RunCli, store: SessionStore
) -> None:
    write(store, b"a/1", b"a/2", b"a/3", b"b/1")

    def keys(*args: str) -> tuple[list[str], str | None]:
        document = listed(run_cli, "ls", *args)
        return [item["key"] for item in document["items"]], document["next"]

    assert keys("a/") == (["a/1", "a/2", "a/3"], None)
    assert keys("a/", "--limit", "2") == (["a/1", "a/2"], "a/2")
    assert keys("a/", "--limit", "3") == (["a/1", "a/2", "a/3"], None)
    assert keys("a/", "--limit", "2", "--after", "a/2") == (["a/3"], None)
    assert keys("--reverse", "--limit", "2") == (["b/1", "a/3"], "a/3")
    assert keys("--reverse", "--after", "a/3") == (["a/2", "a/1"], None)
    code, out, err = run_cli("keys", "ls", "a/", "--limit", "1", "--reverse")
    assert (code, out) == (0, "KEY  BYTES\na/3  2\n")
    assert err == "there are more: coditect keys ls a/ --reverse --limit 1 --after a/3\n"


def test_ls_goes_through_all_pages_in_each_form(
    run_cli: RunCli, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "PAGE_ROWS", 2)
    names = [f"k/{n}" for n in range(5)]
    write(store, *(name.encode() for name in names))
    assert [item["key"] for item in listed(run_cli, "ls")["items"]] == names
    parsed = yaml.safe_load(run_cli("keys", "ls", "-o", "yaml")[1])
    assert parsed == listed(run_cli, "ls")
    assert run_cli("keys", "ls", "-o", "name")[1].split() == names
    lines = run_cli("keys", "ls", "-o", "ndjson")[1].splitlines()
    assert [json.loads(line)["key"] for line in lines] == names
    assert [line.split()[0] for line in run_cli("keys", "ls")[1].splitlines()] == ["KEY", *names]
    assert run_cli("keys", "ls", "--limit", "3", "-o", "name")[1].split() == names[:3]


def test_on_a_terminal_ls_stops_after_some_screenfuls_and_says_how_to_go_on(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINES", "4")
    monkeypatch.setenv("COLUMNS", "80")
    write(store, *(b"k/%02d" % n for n in range(50)))
    for args, count in (([], 40), (["--limit", "45"], 45), (["-o", "name"], 50)):
        streams = Streams.test()
        monkeypatch.setattr(streams.stdout, "isatty", lambda: True)
        assert main(["keys", "ls", *args], streams) == 0
        outputs = []
        for stream in (streams.stdout, streams.stderr):
            stream.seek(0)
            outputs.append(stream.read())
        assert outputs[0].count("k/") == count
        assert (f"--after k/{count - 1}" in outputs[1]) == (count < 50)


@pytest.mark.parametrize("verb", ["ls", "du", "check"])
def test_a_scan_shows_its_progress_on_a_terminal_and_wipes_it_before_a_row(
    store: SessionStore, layer: SessionLayer, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(Progress, "patience", 0.0)
    layer.save(state(), output([]))
    terminal = Streams.test()
    monkeypatch.setattr(terminal.stdout, "isatty", lambda: True)
    streams = terminal._replace(stderr=terminal.stdout)
    assert main(["keys", verb], streams) == 0
    streams.stdout.seek(0)
    text = streams.stdout.read()
    bar = r"\[#+\.+\] +\d+%  " if verb != "ls" else ""  # on a terminal `ls` does not read all
    assert re.search(rf"\n{bar}2 (keys|records)\n\x1b\[K", text)


@pytest.mark.parametrize("verb", ["ls", "du", "check"])
def test_an_empty_store_is_an_empty_document(run_cli: RunCli, home: str, verb: str) -> None:
    document = listed(run_cli, verb)
    assert (document["apiVersion"], document["items"]) == ("coditect/v1", [])
    assert yaml.safe_load(run_cli("keys", verb, "-o", "yaml")[1]) == document
    assert run_cli("keys", verb)[1].count("\n") == 1
    assert run_cli("keys", verb, "-o", "ndjson")[1] == ""


def test_pages_of_different_read_versions_are_told(
    run_cli: RunCli, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "PAGE_ROWS", 1)
    write(store, b"a", b"b", b"c")
    assert run_cli("keys", "ls")[2] == ""
    scan = stores.scan_sizes

    def disturbed(*args: Any, **kwargs: Any) -> Iterator[stores.Page[int]]:
        for page in scan(*args, **kwargs):
            yield page
            write(store, b"z")

    monkeypatch.setattr("coditect_cli.commands.keys.scan_sizes", disturbed)
    code, _, err = run_cli("keys", "ls", "--limit", "3")
    assert code == 0
    assert "3 read versions" in err or "4 read versions" in err


def test_variables_are_hidden_unless_they_are_named(run_cli: RunCli, layer: SessionLayer) -> None:
    variables = {"TOKEN": SECRET, "LANG": "C"}
    layer.save(state(environment_vars=variables, unknown={"old": {"environment_vars": variables}}))
    key = "demo/terminal_sessions/s1"
    for form in ("table", "wide", "json", "yaml", "ndjson", "name"):
        code, out, err = run_cli("keys", "get", key, "-o", form)
        assert code == 0
        assert SECRET not in out + err
    assert "environment_vars  TOKEN=••••(13)\n" in run_cli("keys", "get", key)[1]
    shown = listed(run_cli, "get", key, "--reveal", "LANG")["value"]
    assert shown["environment_vars"] == {"TOKEN": "••••(13)", "LANG": "C"}
    assert shown["old"]["environment_vars"] == {"TOKEN": "••••(13)", "LANG": "C"}


@pytest.mark.parametrize(
    "value",
    [
        b'{"environment_vars":{"T":"' + SECRET.encode(),
        b'{"environment_vars":["' + SECRET.encode() + b'"]}',
        b'{"environment_vars":{"T":{"nested":"' + SECRET.encode() + b'"}}}',
        b"\xff" + SECRET.encode(),
        b"[" * 5000 + b'"' + SECRET.encode() + b'"' + b"]" * 5000,
    ],
)
def test_a_value_that_is_not_as_it_should_be_gives_nothing_away(
    run_cli: RunCli, store: SessionStore, value: bytes
) -> None:
    write(store, b"demo/terminal_sessions/s1", value=value)
    for form in ("table", "json", "yaml"):
        code, out, err = run_cli(
            "keys", "get", "demo/terminal_sessions/s1", "-o", form, "--reveal", "T"
        )
        assert (code, err) == (0, "")
        assert SECRET not in out and SECRET.encode().hex(" ") not in out


def test_what_is_nested_is_shown_as_json(run_cli: RunCli, store: SessionStore) -> None:
    write(store, b"x", value=b'{"a":{"b":[true,null]},"c":"d"}')
    assert 'a  {"b": [true, null]}\nc  d\n' in run_cli("keys", "get", "x")[1]


def test_of_what_is_not_json_the_first_bytes_are_shown(
    run_cli: RunCli, store: SessionStore
) -> None:
    write(store, b"x", value=b'{"id":"s1","environment_vars":')
    out = run_cli("keys", "get", "x")[1]
    assert "not shown, for it is not JSON: Expecting value" in out
    assert "begins  7b 22 69 64 22 3a 22 73\n" in out


def test_get_shows_lines_one_by_one_and_escapes_what_a_terminal_obeys(
    run_cli: RunCli, layer: SessionLayer
) -> None:
    layer.save(state(), output(["\x1b[1m$ ls", "a\nb"]))
    out = run_cli("keys", "get", "demo/terminal_output/s1")[1]
    assert "lines  \\x1b[1m$ ls\nlines  a\\nb\n" in out


def test_a_key_that_is_not_there_is_not_found(run_cli: RunCli, home: str) -> None:
    code, out, err = run_cli("keys", "get", "demo/terminal_sessions/s1", "-o", "json")
    assert (code, out) == (3, "")
    assert json.loads(err)["error"]["code"] == "keys.not_found"


def test_du_adds_up_by_parts_of_the_path(run_cli: RunCli, store: SessionStore) -> None:
    write(store, b"a/x/1", b"a/x/2", b"a/y/1", b"ab/x", b"lone", value=b"12345")
    by_one = listed(run_cli, "du")
    assert [(i["key"], i["keys"], i["bytes"]) for i in by_one["items"]] == [
        ("a", 3, 30),
        ("ab", 1, 9),
        ("lone", 1, 9),
    ]
    assert by_one["total"] == {"keys": 5, "bytes": 48}
    by_two = listed(run_cli, "du", "--depth", "2")["items"]
    assert [(i["key"], i["keys"]) for i in by_two] == [
        ("a/x", 2),
        ("a/y", 1),
        ("ab/x", 1),
        ("lone", 1),
    ]
    write(store, b"a", b"a-b/x", b"m/x", b"m/y\xff", b"m/z", value=b"")
    mixed = [(i["key"], i["keys"]) for i in listed(run_cli, "du")["items"]]
    assert mixed == [("a", 1), ("a-b", 1), ("a", 3), ("ab", 1), ("lone", 1), ("m", 3)]


def test_check_passes_what_is_whole_and_fails_what_is_not(
    run_cli: RunCli, store: SessionStore, layer: SessionLayer
) -> None:
    layer.save(state(), output([]))
    assert run_cli("keys", "check")[0] == 0
    write(store, b"demo/terminal_sessions/s2", value=b"junk")
    code, out, err = run_cli("keys", "check", "-o", "json")
    assert code == 8
    document = json.loads(out)
    assert {i["problem"] for i in document["items"]} == {"unparsable", "no-output"}
    assert (document["fail"], document["warn"]) == (1, 1)
    assert err == "1 wrong, 1 to look at\n"


def test_no_verb_changes_the_store(
    run_cli: RunCli, store: SessionStore, layer: SessionLayer
) -> None:
    layer.save(state(), output([]))
    before = store.read(lambda snapshot: (snapshot.version, snapshot.range(b"", stores.END)))
    for verb in (["ls"], ["get", "demo/terminal_sessions/s1"], ["du"], ["check"]):
        assert run_cli("keys", *verb)[0] == 0
    after = store.read(lambda snapshot: (snapshot.version, snapshot.range(b"", stores.END)))
    assert after == before


def test_the_store_of_the_settings_is_used(
    run_cli: RunCli, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = os.path.join(home, "fdb.cluster")
    monkeypatch.setenv("CODITECT_STORE", "foundationdb")
    monkeypatch.setenv("CODITECT_FDB_CLUSTER_FILE", missing)
    code, out, err = run_cli("keys", "ls")
    assert (code, out) == (2, "")
    assert missing in err
