"""Coming back to a session whose client was killed: the screen and its modes are right."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from coditect_cli.paths import Paths
from tests.support.gateway import until
from tests.support.tmux import INSIDE, OUTSIDE, Pane, Tmux, needs

FindClient = Callable[[], psutil.Process]

# Asks a terminal for its kind, its version, its cursor, a mode and its colours.
# The answer to the last one, and to no other, ends in n.
QUERIES = r"printf '\033[c\033[>c\033[6n\033[?2004$p\033]11;?\033\\\033[5n'"


def _kill(client: psutil.Process, pane: Pane) -> None:
    client.kill()
    until(lambda: not client.is_running(), "the end of the client")
    pane.close()


@needs("vim")
def test_vim_is_right_in_another_size_after_the_client_was_killed(
    tmux: Tmux, paths: Paths, client: FindClient
) -> None:
    vim = "vim -u NONE -N -S settings.vim text.txt"
    pane = tmux.shell(80, 24)
    pane.coditect("up", "demo")
    folder = paths.workspaces / "demo" / "root"
    text = "".join(f"{n} grüße, 日本 {'long ' * (n % 40)}\n" for n in range(1, 200))
    (folder / "text.txt").write_text(text)
    (folder / "settings.vim").write_text(
        "set mouse=a laststatus=2 number list | syntax on | vsplit | normal 57G\n"
    )
    pane.enter(vim)
    pane.shows(" 57 grüße")
    until(lambda: pane.modes()["cursor_flag"] == "1", "the end of vim's drawing")
    modes, shown = pane.modes(), pane.screen(colours=True)
    assert modes["mouse_any_flag"] == "1"
    _kill(client(), pane)

    same = tmux.shell(80, 24)
    same.enter("coditect attach demo")
    same.until(lambda text: same.screen(colours=True) == shown, "\n".join(shown))
    assert same.modes() == modes
    _kill(client(), same)

    again = tmux.shell(101, 31)
    again.enter("coditect attach demo")
    direct = tmux.shell(101, 31)
    direct.enter(f"cd {folder} && {vim} -n -R")
    for one in (again, direct):
        one.until(lambda text: "text.txt" in str(text.splitlines()[29:30]), "vim in the new size")
        one.enter(":wincmd = | normal zz")
    wanted = direct.until(lambda text: "text.txt" in text.splitlines()[29], "vim's status line")
    again.until(lambda text: _rows(text) == _rows(wanted), wanted)
    assert _but_margins(again.modes()) == _but_margins(modes)
    again.enter(":qa!")
    again.prompts(INSIDE)
    assert again.modes()["mouse_any_flag"] == "0"


def _rows(text: str) -> list[str]:
    """What vim shows of its text; below it is what differs, as `[RO]`."""
    return text.splitlines()[:29]


def _but_margins(modes: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in modes.items() if not name.startswith("scroll_region")}


@needs("htop")
def test_htop_and_its_mouse_come_back(tmux: Tmux, client: FindClient) -> None:
    pane = tmux.shell()
    pane.coditect("up", "demo")
    pane.enter("htop -d 100")
    pane.shows("F10")
    modes = pane.modes()
    assert modes["mouse_any_flag"] == modes["alternate_on"] == "1"
    _kill(client(), pane)
    again = tmux.shell(120, 40)
    again.enter("coditect attach demo")
    again.until(lambda text: "F10" in text.splitlines()[-1], "htop's last row at the bottom")
    assert len(again.screen()) == 40
    assert _but_margins(again.modes()) == _but_margins(modes)
    again.press("q")
    again.prompts(INSIDE)


def test_every_mode_comes_back(tmux: Tmux, client: FindClient) -> None:
    pane = tmux.shell()
    pane.coditect("up", "demo")
    modes = r"\033[?1003h\033[?1006h\033[?1h\033=\033[?25l\033[4h\033[3;9r"
    pane.enter(f"echo go''es; cat; printf '{modes}'")
    pane.shows("\ngoes")  # cat gets what is typed from here on
    pane.press("C-d")
    pane.until(lambda text: pane.modes()["mouse_all_flag"] == "1", "the modes")
    pane.enter(r"printf '\033[?2004h'; cat -v")
    pane.shows("cat -v")
    before = pane.modes()
    _kill(client(), pane)
    again = tmux.shell()
    again.enter("coditect attach demo")
    again.until(lambda text: again.modes() == before, str(before))
    again.paste("text")
    again.shows("^[[200~text^[[201~")


def test_queries_of_before_are_not_answered_into_the_shell(tmux: Tmux, client: FindClient) -> None:
    pane = tmux.shell()
    pane.coditect("up", "demo")
    pane.enter(f"{QUERIES}; read -rsd n; printf 'answe''red\\n'")
    pane.shows("answered")
    _kill(client(), pane)
    again = tmux.shell(90, 30)
    again.enter("coditect attach demo")
    again.prompts(INSIDE)
    again.enter("echo cle''an")
    shown = again.shows("\nclean")
    assert f"{INSIDE} echo cle''an\nclean" in shown
    assert OUTSIDE not in shown
    assert not re.search(r"\d[cnR;]|rgb:", shown.split("answered\n")[1])


@pytest.mark.parametrize("size", ["10M", pytest.param("100M", marks=pytest.mark.slow)])
def test_after_a_flood_the_screen_is_right(tmux: Tmux, client: FindClient, size: str) -> None:
    pane = tmux.shell(CODITECT_RESUME_GRACE="10ms")
    pane.coditect("up", "demo")
    pane.enter(f"yes 'a flood of output' | head -c {size}; seq 100; echo en''d")
    pane.until(lambda text: "\n" in text.strip(), "the end of the line that was typed")
    client().kill()
    again = tmux.shell()
    again.enter("coditect attach demo")
    again.shows("\nend")
    lines = [*map(str, range(79, 101)), "end", INSIDE]
    again.until(lambda text: text.splitlines() == lines, "the last screenful")


def test_a_killed_client_leaves_the_session_alone(tmux: Tmux, client: FindClient) -> None:
    pane = tmux.shell()
    pane.coditect("up", "demo")
    pane.enter("cd /; echo $$")
    shell = pane.until(lambda text: re.search(r"\n\d+\n", text), "a pid").split()[-2]
    _kill(client(), pane)
    again = tmux.shell()
    again.enter("coditect up demo")
    again.enter('clear; echo "$PWD-$$-"')
    again.shows(f"/-{shell}-")
    assert Path(f"/proc/{shell}").exists()
    until(lambda: client().is_running(), "one client")
