"""How real shells take a saved state back."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from coditect_cli.gateway import hook
from coditect_cli.sessions.session import SessionState
from tests.support.hook import Shell, bash, zsh
from tests.support.shell import needs_shell


def test_a_record_sets_nothing_that_is_code_or_the_shells_own() -> None:
    names = ("LD_PRELOAD", "PROMPT_COMMAND", "BASH_ENV", "TERM", "HOME", "IFS", "PS0", "X;id")
    record = SessionState("s", "demo", 0, 0, "bash", "/", {**dict.fromkeys(names, "x"), "FOO": "1"})
    record.environment_vars.update(dict.fromkeys(("PS1", "PS2"), "$(touch x)> "), PROMPT="`id`")
    record.environment_vars.update(PS3="${debian_chroot:+x}\\u> ", RPROMPT="${x@P}", UID="0")
    record.variables_unset.extend(["HOME", "X;id", "BAR"])
    with os.fdopen(hook.saved_state("/bin/bash", "/", record)) as commands:
        assert commands.read().splitlines() == [
            r"\builtin cd -- /",
            r"\builtin export FOO=1",
            "\\builtin export PS3='${debian_chroot:+x}\\u> '",
            r"\builtin unset -v BAR",
        ]


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_a_state_is_taken_back_with_the_shells_own_history(
    stack: ExitStack, tmp_path: Path, name: str
) -> None:
    needs_shell(name)
    (tmp_path / ".zshrc").write_text("PS1='ready$ '; unsetopt zle\n")
    (tmp_path / ".bash_profile").write_text("PS1='ready$ '\n")
    history = ["echo 'one  two'", "cat <<E\nlines\nE", "echo é"]
    state = SessionState("s", "demo", 0, 0, name, "/usr", {"FOO": "a'b\n$(touch x)"}, history)
    shell = Shell(name, tmp_path, hook.saved_state(f"/bin/{name}", "/usr", state))
    stack.callback(shell.close)
    report = shell.report()
    assert (report.directory, report.variables["FOO"]) == ("/usr", "a'b\n$(touch x)")
    assert report.recent is not None
    assert report.recent[-1][1] == "echo é"
    shell.type("fc -ln 1")
    shown = shell.shown(b"echo \xc3\xa9\r\n")
    assert b"one  tw" in shown
    assert b"cat <<E" in shown or name == "zsh"  # which shows the end of a long list
    assert not (tmp_path / "x").exists()


def test_a_readonly_variable_does_not_stop_the_rest_in_zsh(
    stack: ExitStack, tmp_path: Path
) -> None:
    needs_shell("zsh")
    variables = {"FIRST": "1", "RO": "2", "LAST": "3"}
    state = SessionState("s", "demo", 0, 0, "zsh", "/", variables, ["echo saved"])
    state.variables_unset.append("RO")
    saved = hook.saved_state("/bin/zsh", "/", state)
    shell = zsh(stack, tmp_path, "typeset -rx RO=0\n", saved)
    shell.type("echo $FIRST,$RO,$LAST; fc -l 1")
    shown = shell.shown(b"ready$ ")
    assert b"1,0,3" in shown
    assert b"echo saved" in shown


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_aliases_change_nothing_of_a_state(stack: ExitStack, tmp_path: Path, name: str) -> None:
    state = SessionState("s", "demo", 0, 0, name, "/usr", {"FOO": "1"}, ["echo saved"])
    state.variables_unset.append("GONE")
    saved = hook.saved_state(f"/bin/{name}", "/usr", state)
    kind = "-g" if name == "zsh" else ""
    words = ("builtin", "cd", "export", "unset", "history", "exec", "shopt", "declare")
    aliases = "".join(f"alias {kind} {word}=false\n" for word in words)
    shell = (bash if name == "bash" else zsh)(stack, tmp_path, f"export GONE=1\n{aliases}", saved)
    shell.type("echo $PWD,$FOO,${GONE-unset}; fc -l 1")
    shown = shell.shown(b"ready$ ")
    assert b"/usr,1,unset" in shown
    assert b"echo saved" in shown


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_an_agent_that_start_up_files_began_is_not_exchanged_for_the_one_before(
    stack: ExitStack, tmp_path: Path, name: str
) -> None:
    needs_shell(name)
    old = {"SSH_AUTH_SOCK": "/gone/agent.1", "SSH_AGENT_PID": "1", "FOO": "1"}
    saved = hook.saved_state(f"/bin/{name}", "/", SessionState("s", "demo", 0, 0, name, "/", old))
    rc = "export SSH_AUTH_SOCK=/new/agent.2 FOO=2\n"
    shell = (bash if name == "bash" else zsh)(stack, tmp_path, rc, saved)
    shell.type("echo $SSH_AUTH_SOCK,$SSH_AGENT_PID,$FOO")
    assert b"/new/agent.2,1,1" in shell.shown(b"ready$ ")


def hang_up(shell: Shell) -> None:
    """End it as a gateway that ends does: the shell saves its history."""
    os.close(shell.terminal)
    os.waitpid(shell.pid, 0)
    os.close(shell.out)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bash", ""),
        ("bash", "shopt -s histappend"),
        ("bash", "shopt -s histappend; PROMPT_COMMAND='history -a; history -n'"),
        ("zsh", ""),
        ("zsh", "setopt share_history"),
    ],
)
def test_a_restore_adds_nothing_to_the_shells_history_file(
    stack: ExitStack, tmp_path: Path, name: str, options: str
) -> None:
    file = tmp_path / "history"
    file.write_text("other\nmine\n")
    rc = f"HISTFILE={file} HISTSIZE=100 SAVEHIST=100\n{options}\n"
    state = SessionState("s", "demo", 0, 0, name, "/", {}, ["later", "mine", "two\nlines", "later"])
    for _ in range(2):
        saved = hook.saved_state(f"/bin/{name}", "/", state)
        shell = (bash if name == "bash" else zsh)(stack, tmp_path, rc, saved)
        with file.open("a") as history:
            history.write("of another shell\n")
        shell.type("fc -l 1")
        shown = shell.shown(b"ready$ ")
        listed = [re.sub(r"^ *\d+\s+", "", line) for line in shown.decode().splitlines()[1:]]
        both = ("other", "mine", "later")
        assert [line for line in listed if line in both] == list(both)
        if name == "bash":
            shell.type("[[ -v HISTCONTROL ]]; echo $?; shopt histappend")
            wanted = b"on" if "append" in options else b"off"
            assert shell.shown(b"ready$ ").split()[-3:] == [b"1", b"histappend", wanted]
        stack.pop_all()
        hang_up(shell)
    lines = [line.rpartition(":0;")[2] for line in file.read_text().splitlines()]
    typed = [line for line in lines if line.startswith(("fc", "[["))]
    assert sorted(set(lines) - set(typed)) == ["mine", "of another shell", "other"]
    assert len(typed) == (4 if name == "bash" else 2)
    assert len(lines) == len(typed) + 4
