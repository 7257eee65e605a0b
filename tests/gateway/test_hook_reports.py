"""What the prompt hook reports of history and variables, in real shells."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.support.hook import bash, zsh


def test_deleted_lines_are_reported_missing(stack: ExitStack, tmp_path: Path) -> None:
    shell = bash(stack, tmp_path, "HISTFILE=\n")
    for line in ("echo one", "echo 't\nwo'", "echo three", "history -d -3", "history -c"):
        shell.type(line)
        shell.shown(b"ready$ ")
    reports = [shell.report() for _ in range(6)]
    assert [one.is_list for one in reports] == [True, False, False, False, True, True]
    assert reports[-2].recent == [(1, "echo one"), (2, "echo three"), (3, "history -d -3")]
    assert reports[-1].recent == []


def test_what_the_shell_does_not_remember_is_not_reported(stack: ExitStack, tmp_path: Path) -> None:
    shell = bash(stack, tmp_path, "HISTIGNORE='hide*' HISTCONTROL=ignorespace\n")
    shell.type("echo kept")
    shell.shown(b"ready$ ")
    shell.type("hide this")
    shell.shown(b"ready$ ")
    shell.type(" echo spaced")
    shell.shown(b"ready$ ")
    reports = [shell.report() for _ in range(4)]
    assert [one.recent and one.recent[-1][1] for one in reports[1:]] == ["echo kept"] * 3


def test_zsh_reports_what_was_typed_in_this_session_alone(stack: ExitStack, tmp_path: Path) -> None:
    rc = "HISTFILE=~/.history SAVEHIST=100 HISTSIZE=100\nsetopt share_history\n"
    mine, other = zsh(stack, tmp_path, rc), zsh(stack, tmp_path, rc)
    mine.report()
    for shell, line in (
        (mine, "echo mine"),
        (other, "echo theirs"),
        (mine, ""),
        (mine, "fc -l"),
        (mine, "echo two; print -s echo three"),
    ):
        shell.type(line)
        shell.shown(b"ready$ ")
    reports = [mine.report() for _ in range(4)]
    assert [one.recent for one in reports] == [
        [(1, "echo mine")],
        [(1, "echo mine")],
        [(2, "fc -l")],
        [(3, "echo two; print -s echo three"), (4, "echo three")],
    ]


def test_what_zsh_keeps_only_until_the_next_line_gives_way_to_it(
    stack: ExitStack, tmp_path: Path
) -> None:
    shell = zsh(stack, tmp_path, "setopt hist_ignore_space hist_no_store\n")
    shell.report()
    for line in (" echo spaced", "echo one", "fc -l 1", "echo two", "", "echo three"):
        shell.type(line)
        shell.shown(b"ready$ ")
    reports = [shell.report() for _ in range(6)]
    assert [one.recent for one in reports] == [
        [(1, " echo spaced")],
        [(1, "echo one")],
        [(2, "fc -l 1")],
        [(2, "echo two")],
        [(2, "echo two")],
        [(3, "echo three")],
    ]


def test_variables_of_every_kind_arrive(stack: ExitStack, tmp_path: Path) -> None:
    shell = bash(stack, tmp_path, "")
    shell.report()
    shell.type(
        r"""export A='x  y' B=$'l1\nl2\t\001' C='q"\$`'"'" D= E=é; declare -x F; unset HOME; """
        r"""declare -ax MY_TOKEN=(a 'declare -x G="1"') H=(b); declare -xi I=7; export -a J"""
    )
    variables = shell.report().variables
    assert [variables.get(name) for name in "ABCDEF"] == [
        "x  y", "l1\nl2\t\x01", "q\"\\$`'", "", "é", None
    ]  # fmt: skip
    assert "HOME" not in variables
    assert variables["I"] == "7"
    assert not {"MY_TOKEN", "G", "H", "J"} & set(variables)  # no program gets an array


def test_arrays_that_zsh_exports_are_what_programs_get(stack: ExitStack, tmp_path: Path) -> None:
    shell = zsh(stack, tmp_path, "")
    shell.report()
    shell.type(
        "typeset -xT MY_LIST my_list; my_list=(a b); typeset -x U='x y'; "
        "typeset -ax W=(c); export -i I=7"
    )
    variables = shell.report().variables
    assert [variables[name] for name in ("MY_LIST", "U", "I")] == ["a:b", "x y", "7"]
    assert not {"my_list", "W"} & set(variables)
