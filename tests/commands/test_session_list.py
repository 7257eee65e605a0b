"""`coditect session list`."""

from __future__ import annotations

import json
import re
import shlex

import pytest
import yaml

from coditect_cli.main import main
from coditect_cli.paths import Paths
from coditect_cli.sessions import listing as listings
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.stores.progress import Progress
from coditect_cli.stores.store import SessionStore
from coditect_cli.streams import Streams
from coditect_cli.tokens import local_user
from tests.commands.session_documents import document, listed, refused
from tests.conftest import RunCli
from tests.sessions.test_session import state


def test_list_is_of_ones_own_workspaces_or_of_those_that_are_asked_for(
    run_cli: RunCli, paths: Paths, layer: SessionLayer
) -> None:
    run_cli("workspace", "create", "demo")
    run_cli("workspace", "create", "bobs")
    record = paths.workspaces / "bobs" / "workspace.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "owner": "bob"}))
    for workspace_id in ("demo", "bobs", "gone"):
        layer.save(state(workspace_id=workspace_id))
    assert listed(run_cli) == ["demo/s1"]
    assert listed(run_cli, "--user", "bob") == ["bobs/s1"]
    assert listed(run_cli, "--user", "nobody") == []
    assert listed(run_cli, "--all") == ["bobs/s1", "demo/s1", "gone/s1"]
    assert listed(run_cli, "gone") == ["gone/s1"]
    assert refused(run_cli, "list", "nosuch") == (3, "workspace.not_found")
    assert refused(run_cli, "list", "demo", "--all") == (2, "usage")
    assert refused(run_cli, "list", "--all", "--user", "bob") == (2, "usage")
    assert refused(run_cli, "list", "--active", "--older-than", "1d") == (2, "usage")
    assert refused(run_cli, "list", "--older-than", "soon") == (2, "usage")
    assert refused(run_cli, "list", "a/b") == (2, "workspace.invalid_id")
    assert refused(run_cli, "list", "--after", "s1") == (2, "session.invalid_id")


@pytest.mark.parametrize("args", [[], ["--all"], ["--active"]])
def test_without_a_store_the_list_is_an_empty_document(run_cli: RunCli, args: list[str]) -> None:
    found = document(run_cli, "list", *args)
    assert (found["kind"], found["items"]) == ("SessionList", [])
    assert run_cli("session", "list", *args, "-o", "ndjson") == (0, "", "")
    assert run_cli("session", "list", *args)[1].startswith("WORKSPACE  SESSION")


def test_list_goes_through_all_pages_in_each_form(
    run_cli: RunCli, layer: SessionLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "PAGE_ROWS", 2)
    ids = [f"s{n}" for n in range(5)]
    for id in ids:
        layer.save(state(id=id, working_directory="/grüße"))
    parsed = document(run_cli, "list", "demo")
    assert [item["session"] for item in parsed["items"]] == ids
    assert yaml.safe_load(run_cli("session", "list", "demo", "-o", "yaml")[1]) == parsed
    assert run_cli("session", "list", "demo", "-o", "name")[1].split() == ids
    lines = run_cli("session", "list", "demo", "-o", "ndjson")[1]
    assert [json.loads(line) for line in lines.splitlines()] == parsed["items"]
    assert lines.isascii()
    rows = run_cli("session", "list", "demo")[1].splitlines()
    assert [row.split()[1] for row in rows] == ["SESSION", *ids]
    assert "1970-01-01T00:00:00Z" in rows[1]


def test_list_says_how_to_go_on(run_cli: RunCli, layer: SessionLayer) -> None:
    for id in ("s1", "s2", "s3"):
        layer.save(state(id=id))
    code, _, err = run_cli("session", "list", "demo", "--older-than", "1d", "--limit", "2")
    assert code == 0
    assert err == (
        "there are more: coditect session list demo --older-than 1d --limit 2 --after demo/s2\n"
    )
    args = ["demo", "--older-than", "1d", "--after", "demo/s2"]
    assert listed(run_cli, *args) == ["demo/s3"]
    assert document(run_cli, "list", "demo", "--limit", "2")["next"] == "demo/s2"
    assert document(run_cli, "list", "demo")["next"] is None


@pytest.mark.parametrize(
    "after", ["demo", "demo//", "/s1", "demo/a/b", "demo/a\nb", "\x1b/s", "\\xff/s"]
)
def test_only_what_can_be_a_session_is_gone_on_behind(
    run_cli: RunCli, layer: SessionLayer, after: str
) -> None:
    assert refused(run_cli, "list", "--all", "--after", after) == (2, "session.invalid_id")


def test_a_session_of_any_bytes_is_shown_and_deleted_as_it_is_listed(
    run_cli: RunCli, store: SessionStore
) -> None:
    keys = [b"demo/terminal_sessions/\xff\xfe", b"demo/terminal_sessions/x y"]
    store.transact(lambda transaction: [transaction.set(key, state().encode()) for key in keys])
    assert document(run_cli, "list", "--all", "--limit", "1")["next"] == "demo/x y"
    _, out, _ = run_cli("session", "list", "--all", "-o", "name")
    for line in out.splitlines():
        workspace, _, name = line.partition("/")
        assert workspace == "demo"
        assert document(run_cli, "show", "demo", name)["session"] == name
        assert run_cli("session", "delete", "demo", name, "--yes")[0] == 0
    assert listed(run_cli, "--all") == []


def test_a_key_without_a_session_id_is_listed_as_what_it_is(
    run_cli: RunCli, store: SessionStore
) -> None:
    keys = [b"demo/terminal_sessions/", b"demo/terminal_sessions/s1"]
    store.transact(lambda transaction: [transaction.set(key, state().encode()) for key in keys])
    items = document(run_cli, "list", "demo")["items"]
    assert [(item["session"], item["state"]) for item in items] == [
        ("", "unreadable"),
        ("s1", "saved"),
    ]
    assert "no session id" in items[0]["problem"]
    _, _, err = run_cli("session", "list", "--all", "--limit", "1")
    words = shlex.split(err.partition("there are more: coditect ")[2])
    assert "s1" in run_cli(*words)[1]


def test_on_a_terminal_list_stops_after_some_screenfuls(
    layer: SessionLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINES", "2")
    monkeypatch.setenv("COLUMNS", "80")
    for n in range(25):
        layer.save(state(id=f"s{n:02}"))
    streams = Streams.test()
    monkeypatch.setattr(streams.stdout, "isatty", lambda: True)
    assert main(["session", "list", "demo"], streams) == 0
    streams.stdout.seek(0)
    streams.stderr.seek(0)
    assert streams.stdout.read().count("demo") == 20
    assert "--after demo/s19" in streams.stderr.read()


def test_progress_is_shown_on_a_terminal_and_wiped_also_at_a_limit(
    layer: SessionLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(Progress, "patience", 0.0)
    monkeypatch.setattr(listings, "PAGE_ROWS", 1)
    for id in ("s1", "s2", "s3"):
        layer.save(state(id=id))
    streams = Streams.test()
    monkeypatch.setattr(streams.stderr, "isatty", lambda: True)
    assert main(["session", "list", "demo", "--limit", "1", "-o", "wide"], streams) == 0
    streams.stderr.seek(0)
    shown, wiped, rest = streams.stderr.read().partition("\x1b[K")
    assert "1 sessions" in shown and wiped
    assert rest == (
        "there are more: coditect session list demo -o wide --limit 1 --after demo/s1\n"
    )


@pytest.mark.parametrize("args", [["--all"], []])
def test_a_whole_listing_has_a_bar_of_the_workspaces_it_has_gone_through(
    layer: SessionLayer, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(Progress, "patience", 0.0)
    monkeypatch.setattr(listings, "PAGE_ROWS", 1)
    for id in ("w0", "w1", "w2", "w3"):
        main(["workspace", "create", id], Streams.test())
        layer.save(state(workspace_id=id))
    streams = Streams.test()
    monkeypatch.setattr(streams.stderr, "isatty", lambda: True)
    assert main(["session", "list", *args, "-o", "ndjson"], streams) == 0
    streams.stderr.seek(0)
    parts = re.findall(r"\[[#.]{30}\] +(\d+)%  \d sessions", streams.stderr.read())
    assert list(dict.fromkeys(parts)) == ["0", "25", "50", "75"]


def test_names_of_several_workspaces_say_which(run_cli: RunCli, layer: SessionLayer) -> None:
    run_cli("workspace", "create", "demo")
    for workspace_id in ("demo", "gone"):
        layer.save(state(workspace_id=workspace_id))

    def names(*args: str) -> str:
        return run_cli("session", *args, "-o", "name")[1]

    assert names("list", "demo") == "s1\n"
    assert names("list") == names("list", "--user", local_user()) == "demo/s1\n"
    assert names("list", "--all") == "demo/s1\ngone/s1\n"
    assert names("list", "--all", "--after", "demo/s1") == "gone/s1\n"
    old = ("delete", "--older-than", "1d", "--dry-run")
    assert names(*old, "--all") == "demo/s1\ngone/s1\n"
    assert names(*old, "gone") == "s1\n"


def test_how_to_go_on_names_the_context_and_quotes(run_cli: RunCli, store: SessionStore) -> None:
    keys = [b"it's/terminal_sessions/a b", b"it's/terminal_sessions/b"]
    store.transact(lambda transaction: [transaction.set(key, state().encode()) for key in keys])
    words = ["session", "list", "it's", "--context", "local", "--limit", "1"]
    _, _, err = run_cli(*words)
    assert shlex.split(err)[3:] == ["coditect", *words, "--after", "it's/a b"]


@pytest.mark.parametrize(
    "words",
    [
        ["session", "list", "--all", "-o", "name"],
        ["session", "list", "--all", "--older-than", "1d", "-o", "name"],
        ["session", "list", "-o", "name", "--", "-rf"],
        ["session", "list", "-o", "name", "it's"],
        ["keys", "ls", "-o", "name"],
        ["keys", "ls", "--reverse", "-o", "name"],
        ["keys", "ls", "-o", "name", "it's/"],
    ],
)
def test_what_is_said_about_going_on_goes_on_to_the_end(
    run_cli: RunCli, store: SessionStore, words: list[str]
) -> None:
    ids = [b"a", b"a b", b"-x", b"\xff", b"$(id)", b"--limit"]
    keys = [name + b"/terminal_sessions/" + id for name in (b"it's", b"-rf", b"demo") for id in ids]
    store.transact(lambda transaction: [transaction.set(key, state().encode()) for key in keys])
    code, everything, _ = run_cli(*words)
    assert code == 0 and everything.count("\n") in (6, 18)
    at = words.index("--") if "--" in words else len(words)
    _, found, said = run_cli(*words[:at], "--limit", "2", *words[at:])
    while "there are more: " in said:
        _, more, said = run_cli(*shlex.split(said.partition("there are more: coditect ")[2]))
        found += more
    assert found == everything


def test_a_record_that_cannot_be_read_is_listed_and_counted(
    run_cli: RunCli, store: SessionStore, layer: SessionLayer
) -> None:
    layer.save(state())
    store.transact(lambda transaction: transaction.set(b"demo/terminal_sessions/s2", b"junk"))
    code, out, err = run_cli("session", "list", "demo")
    assert code == 0
    assert [row.split()[2] for row in out.splitlines()[1:]] == ["saved", "unreadable"]
    assert err.startswith("warning: records that cannot be read: 1")
    for verb in ("show", "history", "output"):
        assert refused(run_cli, verb, "demo", "s2") == (8, "session.unreadable")


def test_only_the_records_that_are_shown_are_warned_of(
    run_cli: RunCli, store: SessionStore, layer: SessionLayer
) -> None:
    layer.save(state())
    store.transact(lambda transaction: transaction.set(b"demo/terminal_sessions/s2", b"junk"))
    assert "warning" not in run_cli("session", "list", "demo", "--limit", "1")[2]
    assert "warning" in run_cli("session", "list", "demo", "--limit", "2")[2]


def test_no_value_makes_a_row_of_its_own(run_cli: RunCli, layer: SessionLayer) -> None:
    forged = "x\nstate       live"
    layer.save(state(working_directory=forged, unknown={"u\nstate": forged}))
    _, out, _ = run_cli("session", "show", "demo", "s1")
    assert [line for line in out.splitlines() if line.startswith("state")] == ["state       saved"]


def test_an_empty_file_name_is_refused(run_cli: RunCli) -> None:
    assert refused(run_cli, "record", "demo", "s1", "") == (2, "usage")


def test_a_store_that_is_none_is_a_clear_error(run_cli: RunCli, paths: Paths) -> None:
    paths.state.mkdir(parents=True)
    paths.session_store.write_bytes(b"garbage" * 1000)
    assert refused(run_cli, "list", "--all") == (8, "store.damaged")
