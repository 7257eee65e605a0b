"""Several terminals on one session, and what a client says about itself."""

from __future__ import annotations

import itertools
import re

import pytest

from tests.support.tmux import INSIDE, OUTSIDE, Pane, Tmux

_marks = itertools.count()


@pytest.fixture
def first(tmux: Tmux) -> Pane:
    """A terminal that is attached to the workspace demo."""
    pane = tmux.shell(80, 24)
    pane.coditect("up", "demo")
    return pane


def join(tmux: Tmux, cols: int, rows: int, *args: str) -> Pane:
    """Another terminal on the same session."""
    pane = tmux.shell(cols, rows)
    pane.enter(" ".join(("coditect attach demo", *args)))
    pane.prompts(INSIDE)
    pane.until(lambda text: OUTSIDE not in text, "the session's screen")
    return pane


def stty_size(pane: Pane, other: Pane) -> str:
    """What `stty size` says to one who types on `pane`; `other` sees it too."""
    mark = next(_marks)
    pane.enter(f"clear; stty size; echo ma''rk {mark}")
    shown = pane.shows(f"\nmark {mark}\n").splitlines()[0]
    other.shows(f"{shown}\nmark {mark}\n")
    return shown


def test_the_last_client_that_typed_sets_the_size(tmux: Tmux, first: Pane) -> None:
    second = join(tmux, 100, 30)
    assert stty_size(second, first) == "30 100"
    assert stty_size(first, second) == "24 80"
    second.resize(70, 20)
    assert stty_size(first, second) == "24 80"
    assert stty_size(second, first) == "20 70"
    second.press("Enter")
    second.type("~d")
    second.shows("detached")
    first.enter("clear; until [ \"$(stty size)\" = '24 80' ]; do :; done; echo ba''ck")
    first.shows("back\n")


def test_the_first_key_of_another_size_reaches_a_program_that_redraws_first(
    tmux: Tmux, first: Pane
) -> None:
    first.enter("seq 1000 | less; echo le''ft")
    first.shows("\n:")
    second = tmux.shell(50, 12)
    second.enter("coditect attach demo")
    second.shows("\n:")
    second.press("q")
    second.shows("left\n")


def test_a_query_gets_one_answer(tmux: Tmux, first: Pane) -> None:
    second = join(tmux, 80, 24)
    third = join(tmux, 80, 24)
    ask = r"printf '\033[6n'; read -rsd R answer; echo answe''red; read -rsn1 key; "
    second.enter(f'clear; {ask} printf \'%q %s\\n\' "$answer" "$key"')
    for pane in (first, second, third):
        pane.prompts("answered")
    second.type("k")
    for pane in (first, second, third):
        pane.until(
            lambda text: re.search(r"^\$'\\E\[1;1' k\n", text, re.MULTILINE), "one answer, then k"
        )
        pane.prompts(INSIDE)


def test_a_read_only_client_watches(tmux: Tmux, first: Pane) -> None:
    watcher = join(tmux, 100, 30, "--read-only")
    watcher.enter("echo never''typed")
    watcher.resize(60, 10)
    assert stty_size(first, watcher) == "24 80"
    assert "never" not in first.text()
    watcher.press("Enter")
    watcher.type("~d")
    watcher.shows("detached; to return: coditect attach demo")
    assert stty_size(first, first) == "24 80"


def test_who_left_a_session_that_was_named_is_told_how_to_return_to_it(
    tmux: Tmux, first: Pane
) -> None:
    other = tmux.shell(100, 30)
    other.coditect("attach", "demo", "--new")
    other.press("Enter")
    other.type("~d")
    text = other.shows("detached; to return: ")
    again = re.search(r"coditect attach demo --session [0-9a-f-]{36}", text)
    assert again
    other.enter(f"clear; {again[0]}")
    other.prompts(INSIDE)


def test_a_client_that_is_behind_skips_ahead(tmux: Tmux, first: Pane) -> None:
    """Both see the end of a flood; the one that did not type may have missed some of it."""
    second = join(tmux, 80, 24)
    second.enter("yes | head -c 3M; clear; seq 30; echo en''d")
    for pane in (first, second):
        pane.until(
            lambda text: text.splitlines() == [*map(str, range(9, 31)), "end", INSIDE], "the end"
        )


def test_status_and_help_are_about_this_client(tmux: Tmux, first: Pane) -> None:
    second = join(tmux, 80, 24)
    first.press("Enter")
    first.type("~s")
    status = first.shows("bytes of input taken")
    session = re.search(r"session ([0-9a-f-]{36}), this terminal leads", status)
    assert session
    assert re.search(r"link up, round trip \d+\.\d ms", status)
    second.type("~s")
    assert f"session {session[1]}, another terminal leads" in second.shows("bytes of input taken")
    second.type("~?")
    shown = second.shows("the character ~ itself")
    assert "~.  leave at once (exit 255); the session goes on" in shown
    assert "~d  detach (exit 0); the session goes on" in shown
    second.type("~~")
    second.prompts("~")
