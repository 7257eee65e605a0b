"""The Tab key in a real shell on a real terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Coditect
from tests.support.tmux import Pane, Tmux, needs

STARTS = {
    "bash": "bash --norc --noprofile",
    "zsh": "zsh -f",
}


@pytest.fixture(params=[pytest.param("bash"), pytest.param("zsh", marks=needs("zsh"))])
def pane(
    request: pytest.FixtureRequest, tmux: Tmux, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Pane:
    """A shell with completion as --show-completion gives it, in a folder with the file `notes`."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "notes").touch()
    pane = tmux.shell(_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    pane.enter(f"cd {folder}; exec {STARTS[request.param]}")
    if request.param == "zsh":
        pane.enter("PS1='ready''> '; autoload -Uz compinit; compinit -D")
    else:
        pane.enter("PS1='ready''> '")
    pane.enter(f'eval "$(coditect --show-completion {request.param})"; clear')
    pane.until(lambda text: text == "ready>", "a shell that can complete")
    return pane


def test_a_path_follows_a_workspace_without_a_space(pane: Pane, coditect: Coditect) -> None:
    assert coditect("workspace", "create", "demo").returncode == 0
    pane.type("coditect cp no")
    pane.press("Tab")
    pane.shows("coditect cp notes")
    pane.type("de")
    pane.press("Tab")
    pane.shows("coditect cp notes demo:")
    pane.type("a")
    pane.shows("coditect cp notes demo:a")


def test_a_command_is_followed_by_a_space(pane: Pane) -> None:
    pane.type("coditect workspace cr")
    pane.press("Tab")
    pane.shows("coditect workspace create")
    pane.type("x")
    pane.shows("coditect workspace create x")
