"""What is read of a hook's reports, and kept of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coditect_cli.gateway.capture import Capture
from coditect_cli.gateway.hook import Report, Reports
from coditect_cli.gateway.ring import HISTORY, PAGE, Ring
from coditect_cli.sessions.session import SessionState
from coditect_cli.settings import SECRET_NAMES

FIELD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.lists(st.tuples(st.from_regex(r"[A-Za-z_]\w{0,8}", fullmatch=True), FIELD)), st.data())
def test_reports_are_found_in_any_pieces(pairs: list[tuple[str, str]], data: st.DataObject) -> None:
    fields = "".join(f"X{name}={value}\0" for name, value in pairs)
    record = f"\0\0D/x\0{fields}H7\t ls\n\0E".encode("utf-8", "surrogateescape")
    torn = record[: data.draw(st.integers(2, len(record) - 2))]
    stream = torn + record + b"junk" + record
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    reader = Reports()
    found: list[Report] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[start:end])
    assert found[-1] == Report("/x", {name: value for name, value in pairs}, [(7, "ls")])
    assert len(found) in (1, 2)


@given(st.binary(max_size=2000))
def test_junk_is_no_report(junk: bytes) -> None:
    for report in Reports().feed(b"\0\0D" + junk):
        assert report.directory.startswith("/")


@pytest.fixture
def capture() -> Iterator[Capture]:
    ring = Ring.create(PAGE)
    yield Capture(os.getpid(), ring.words, "/", 0, SECRET_NAMES)
    ring.close()


def said(number: int, line: str, **variables: str) -> bytes:
    fields = "".join(f"X{name}={value}\0" for name, value in variables.items())
    return f"\0\0D/\0{fields}H{number}\t {line}\n\0E".encode()


def listed(first: int, *lines: str) -> bytes:
    rows = "".join(f"{number}\t {line}\n" for number, line in enumerate(lines, first))
    return f"\0\0D/\0L{rows}\0E".encode()


def test_only_what_was_typed_here_is_history(capture: Capture) -> None:
    for number, line in [(5, "from a file"), (6, "one"), (6, "one"), (7, " quiet"), (8, "two")]:
        capture.feed(said(number, line))
    assert capture.history == ["one", "two"]


def test_a_line_that_another_one_replaced_is_forgotten(capture: Capture) -> None:
    for number, line in [(0, ""), (1, "one"), (2, "history"), (2, "two"), (3, " quiet"), (3, "x")]:
        capture.feed(said(number, line))
    assert capture.history == ["one", "two", "x"]


def test_lines_that_were_taken_out_of_history_are_forgotten(capture: Capture) -> None:
    for number, line in [(1, "a"), (2, "b"), (3, "MY_TOKEN=x"), (4, "secret"), (5, "c")]:
        capture.feed(said(number, line))
    capture.feed(listed(1, "a", "b", "MY_TOKEN=x", "c", "history -d 4"))
    assert capture.history == ["b", "MY_TOKEN=••••", "c", "history -d 4"]
    capture.feed(listed(1, "a", "MY_TOKEN=x", "c"))  # ` history -d`, with HISTCONTROL=ignorespace
    assert capture.history == ["MY_TOKEN=••••", "c"]
    capture.feed(listed(1))
    assert capture.history == []
    capture.feed(said(1, "d"))
    assert capture.history == ["d"]


def test_what_the_newest_lines_do_not_tell_of_stays(capture: Capture) -> None:
    for number in range(10):
        capture.feed(said(number, f"line {number}"))
    capture.feed(listed(6, "line 6", "line 8", "line 9", "history -d 7"))
    kept = [1, 2, 3, 4, 5, 6, 8, 9]
    assert capture.history == [*(f"line {number}" for number in kept), "history -d 7"]


def test_a_line_that_replaced_its_duplicates_is_there_once(capture: Capture) -> None:
    for number, line in [(1, "x"), (2, "a"), (3, "b")]:
        capture.feed(said(number, line))
    capture.feed(listed(1, "x", "b", "a"))
    assert capture.history == ["b", "a"]
    capture.feed(said(4, "b") + listed(2, "b", "a", "b", "b"))  # nothing was erased
    assert capture.history == ["b", "a", "b", "b"]


def test_a_successor_knows_which_line_was_the_newest(capture: Capture) -> None:
    capture.feed(said(1, "one"))
    assert capture.words[HISTORY] == 2
    successor = Capture(os.getpid(), capture.words, "/", 0, SECRET_NAMES, known=False)
    successor.feed(said(1, "one"))
    successor.feed(said(2, "two"))
    successor.take_back(SessionState("s", "demo", 1, 1, "bash", "/", {}, ["zero"]))
    assert successor.history == ["zero", "two"]


def test_secrets_and_code_are_not_kept(capture: Capture) -> None:
    capture.feed(said(1, "first"))
    line = "curl --token abc https://me:pass@host -H 'Authorization: Bearer xyz'; MY_KEY=k run"
    names = {"GH_TOKEN": "1", "LD_PRELOAD": "2", "PLAIN": "3", "PWD": "/", "BASH_ENV": "4"}
    names |= {"DATABASE_URL": "postgres://u:pw@h/db", "SENTRY_DSN": "https://k@h/1", "PASS": "5"}
    names |= {"GITHUB_PAT": "6", "NPM_AUTH": "7", "JWT": "8", "_coditect_next": "9"}
    capture.feed(said(2, line, **names))
    assert capture.variables == {"PLAIN": "3"}
    kept = capture.history[0]
    assert not [word for word in ("abc", "pass@", "xyz", "=k") if word in kept]
    assert kept.startswith("curl --token •••• https://me:••••@host")


def test_secrets_that_a_record_has_are_not_written_again(capture: Capture) -> None:
    variables = {"GH_TOKEN": "1", "PLAIN": "2", "URL": "https://a:hunter2@h", "LD_PRELOAD": "x"}
    history = ["API_KEY='a\nb'; ls", "ls"]
    capture.take_back(SessionState("s", "demo", 1, 1, "sh", "/", variables, history))
    assert capture.variables == {"PLAIN": "2"}
    assert capture.history == ["API_KEY=••••; ls", "ls"]


def test_a_secret_of_several_lines_is_hidden_whole(capture: Capture) -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIIE\nabc=\n-----END PRIVATE KEY-----"
    capture.feed(said(1, "first"))
    capture.feed(said(2, f"cat > id <<E\n{key}\nE", PEM=key, MY_SECRET="x", LINES="a\nb"))
    assert capture.variables == {"LINES": "a\nb"}
    assert not [word for word in ("MIIE", "abc") if word in capture.history[0]]


def test_what_a_restored_shell_was_not_given_was_not_unset_in_it(capture: Capture) -> None:
    """A prompt that runs programs is not taken back, nor what a shell has of its own."""
    variables = {"PS1": "$(date)> ", "HOME": "/root", "LD_PRELOAD": "x", "GONE": "1"}
    state = SessionState("s", "demo", 1, 1, "bash", "/", variables, [])
    state = replace(state, variables_unset=["a b;touch x", "UID", "OLD"])
    capture.take_back(state)
    capture.feed(said(1, "ls", PLAIN="2"))
    assert list(capture.unset) == ["OLD", "GONE"]


def test_all_lines_that_are_new_are_kept(capture: Capture) -> None:
    capture.feed(said(1, "before") + said(1, "before"))
    capture.feed(said(2, "two\n3\t echo three") + said(3, "echo three"))
    assert capture.history == ["two", "echo three"]
