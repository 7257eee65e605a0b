from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coditect_cli.app import TREE, Lazy, tree
from coditect_cli.output import API_VERSION
from coditect_cli.paths import Paths
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.stores.sqlite import SQLiteStore
from tests.conftest import RunCli
from tests.sessions.test_session import state

REPOSITORY = Path(__file__).parent.parent


def leaves(command: Any, *words: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(command, Lazy):
        command = command.load()
    children = getattr(command, "commands", None)
    if children is None:
        yield words, command
    for name, child in (children or {}).items():
        yield from leaves(child, *words, name)


LEAVES = dict(leaves(tree()))


def test_help_lists_every_command_without_loading_one() -> None:
    code = """
import sys
from coditect_cli.main import main
code = main(["--help"])
loaded = [name for name in sys.modules if name.startswith("coditect_cli.commands.")]
heavy = [name for name in ("rich", "jwt", "psutil", "tomlkit", "websockets", "ssl", "asyncio")
         if name in sys.modules]
print(code, loaded, heavy)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "0 [] []"
    for name, node in TREE.items():
        assert f"  {name} " in run.stdout
        assert node.summary in run.stdout


def test_plain_commands_load_nothing_heavy(home: Path) -> None:
    code = """
import sys
from coditect_cli.main import main
for line in sys.argv[1:]:
    assert main(line.split()) == 0
print([name for name in ("rich", "jwt", "psutil", "tomlkit", "websockets", "ssl", "asyncio",
                         "coditect_cli.protocol.messages") if name in sys.modules])
"""
    lines = ["workspace create demo", "workspace list -o json", "context show", "version -o json"]
    run = subprocess.run(
        [sys.executable, "-c", code, *lines], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_each_command_has_help_with_an_example_and_its_exit_codes(
    run_cli: RunCli, words: tuple[str, ...]
) -> None:
    code, out, err = run_cli(*words, "--help")
    assert (code, err) == (0, "")
    assert "\n  Examples:\n    " in out
    assert f"coditect {' '.join(words)}" in out.partition("Examples:")[2]
    assert "\n  Exit codes: " in out
    assert run_cli(*words, "-h")[1] == out


def test_global_options_work_before_and_after_the_command(run_cli: RunCli) -> None:
    for args in (("-o", "json", "version"), ("version", "-o", "json"), ("version", "-ojson")):
        code, out, _ = run_cli(*args)
        assert code == 0
        assert json.loads(out)["apiVersion"] == API_VERSION
    for line in ("--context x context show", "context show --context x"):
        assert run_cli(*line.split())[0] == 3


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_can_be_shown_for(shell: str, home: Path) -> None:
    environ = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [sys.executable, "-m", "coditect_cli", "--show-completion", shell]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    assert "_CODITECT_COMPLETE" in run.stdout


def complete(line: str) -> list[str]:
    words = line.split(" ")
    environ = {
        **os.environ,
        "_CODITECT_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    run = subprocess.run(
        [sys.executable, "-m", "coditect_cli"],
        capture_output=True,
        text=True,
        env=environ,
        check=False,
    )
    assert run.stderr == ""
    return run.stdout.split()


def test_completion_knows_commands_verbs_options_and_workspaces(run_cli: RunCli) -> None:
    assert run_cli("workspace", "create", "demo")[0] == 0
    assert complete("coditect wor") == ["workspace"]
    assert set(complete("coditect workspace s")) == {"show", "start", "stop"}
    assert complete("coditect workspace delete --pu") == ["--purge"]
    assert complete("coditect workspace show d") == ["demo"]
    assert complete("coditect attach d") == ["demo"]
    assert complete("coditect cp d") == ["demo:"]
    assert complete("coditect cp notes.txt d") == ["demo:"]
    assert complete("coditect cp notes.txt demo:n") == []


def test_completion_knows_contexts(run_cli: RunCli, paths: Paths) -> None:
    assert run_cli("context", "set", "far", "gateway_url=wss://far.example/ws")[0] == 0
    assert complete("coditect context use f") == ["far"]
    assert complete("coditect context show ") == ["local", "far"]
    assert complete("coditect --context f") == ["far"]
    assert complete("coditect workspace list --context f") == ["far"]
    paths.config_file.write_text("nonsense = 1")
    assert complete("coditect context use f") == []


def test_completion_knows_saved_sessions_and_makes_no_store(run_cli: RunCli, paths: Paths) -> None:
    assert complete("coditect session show demo 5") == []
    assert not paths.session_store.exists()
    store = SQLiteStore(paths.session_store)
    for id in ("5e0c", "5e1d", "7a"):
        SessionLayer(store).save(state(id=id))
    store.close()
    assert complete("coditect session show demo 5") == ["5e0c", "5e1d"]
    assert complete("coditect session show other 5") == []


def test_the_reference_is_not_stale() -> None:
    run = subprocess.run(
        [sys.executable, str(REPOSITORY / "scripts" / "docs"), "-"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (REPOSITORY / "docs" / "cli.md").read_text() == run.stdout, "run scripts/docs"
