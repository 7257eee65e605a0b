"""A person at a real terminal: what is typed, what is shown, and how they leave."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from coditect_cli.paths import Paths
from tests.e2e.conftest import stop_process
from tests.support.gateway import until
from tests.support.proxy import Proxy
from tests.support.tmux import INSIDE, OUTSIDE, Pane, Tmux, needs

FindClient = Callable[[], psutil.Process]
# A program that left its terminal in a bad way; the marks keep it apart from its own echo.
SPOIL = r"stty -echo; printf '\033[?1049h\033[?1002h\033[?1006;2004h\033[?25l\033[?1;6h\033='"

# The program with a fault where `~s` is handled.
FAULTY = (
    "from coditect_cli.attach.client import TerminalPump; from coditect_cli.main import entry; "
    "TerminalPump._status_lines = lambda pump: 1 / 0; entry()"
)


@pytest.fixture
def pane(tmux: Tmux) -> Pane:
    """A terminal that is attached to the workspace demo."""
    pane = tmux.shell()
    pane.coditect("up", "demo")
    return pane


@needs("vim")
def test_vim_edits_and_saves(pane: Pane, paths: Paths) -> None:
    pane.enter("vim -u NONE -N notes.txt")
    pane.shows("notes.txt")
    pane.type("ifirst line\rgrüße, 日本 🙂")
    pane.press("Escape")
    pane.type("k0dwA!")
    pane.press("Escape")
    pane.shows("line!\ngrüße, 日本 🙂")
    pane.enter(":wq")
    pane.prompts(INSIDE)
    notes = paths.workspaces / "demo" / "root" / "notes.txt"
    assert notes.read_text() == "line!\ngrüße, 日本 🙂\n"


@needs("vim")
@pytest.mark.parametrize(
    ("keys", "said", "command"),
    [("~?", "this help", "vim"), ("~s", "link up", "vim"), ("~?", "this help", "exec")],
)
def test_what_the_client_says_over_a_full_screen_program_goes_away(
    pane: Pane, tmux: Tmux, keys: str, said: str, command: str
) -> None:
    pane.enter("seq 100 > numbers")
    pane.prompts(INSIDE)
    if command == "exec":
        pane = tmux.shell()
        pane.enter("coditect exec -it demo -- vim -u NONE -N numbers")
    else:
        pane.enter("vim -u NONE -N numbers")
    pane.shows('"numbers" 100')
    pane.press("Enter")

    def whole() -> tuple[list[str], str]:
        return pane.screen(colours=True), pane.show("#{cursor_x},#{cursor_y}")

    until(lambda: pane.show("#{cursor_y}") == "1", "the cursor in the second line")
    before = whole()
    pane.type(keys)
    assert pane.shows(said).startswith("1\n2\n3\n")
    pane.shows("Any key takes this away.")
    pane.type("j")
    until(lambda: whole() == before, "the screen as it was")
    pane.type("j")
    until(lambda: pane.show("#{cursor_y}") == "2", "a key that the program got")


@needs("top", "procps")
def test_top_redraws(pane: Pane) -> None:
    pane.enter("top -d 0.2")
    pane.shows("PID USER")
    clock = pane.screen()[0]
    pane.until(lambda text: text.splitlines()[0] != clock, "another second on top's clock")
    pane.press("q")
    pane.prompts(INSIDE)


@needs("vim")
def test_a_resize_reaches_the_program(pane: Pane) -> None:
    pane.resize(100, 30)
    until(lambda: _stty_size(pane) == "30 100", "the new size")
    pane.enter("vim -u NONE -N --cmd 'set laststatus=2'")
    pane.until(lambda text: "[No Name]" in text.splitlines()[28:29], "vim's status line")
    pane.resize(60, 12)
    pane.until(lambda text: "[No Name]" in text.splitlines()[10:11], "vim's status line moves")
    pane.enter(":set columns? lines?")
    pane.shows("columns=60")
    pane.shows("lines=12")


def _stty_size(pane: Pane) -> str:
    pane.enter("clear; stty size")
    pane.until(lambda text: text.count(INSIDE) == 1 and text.endswith(INSIDE), "the answer")
    return pane.screen()[0]


def test_utf_8_is_right_also_when_it_is_split(pane: Pane) -> None:
    pane.enter("echo 'grüße, 日本 🙂 e\u0301'")
    pane.shows("\ngrüße, 日本 🙂 e\u0301\n")
    pane.enter(
        r"printf 'split \xe2\x82'; read -rsn1; printf '\xac, \xf0\x9f'; read -rsn1; "
        r"printf '\x99\x82 whole\n'"
    )
    pane.shows("split")
    pane.press("x")
    pane.shows("split €,")
    pane.press("x")
    pane.shows("split €, 🙂 whole")
    pane.prompts(INSIDE)


@needs("vim")
def test_a_paste_into_vim_is_bracketed(pane: Pane, paths: Paths) -> None:
    text = "if x:\n    y\n        z\n"
    pane.enter("vim -u NONE -N --cmd 'set autoindent' pasted.txt")
    pane.shows("pasted.txt")
    pane.type("i")
    pane.shows("-- INSERT --")
    pane.paste(text)
    pane.shows("        z")
    pane.press("Escape")
    pane.enter(":wq")
    pane.prompts(INSIDE)
    pasted = paths.workspaces / "demo" / "root" / "pasted.txt"
    assert pasted.read_text().splitlines()[:3] == text.splitlines()


def test_a_paste_into_a_shell_is_not_run_before_enter(pane: Pane) -> None:
    pane.paste("echo on''e\necho tw''o")
    pane.shows("echo tw''o")
    assert "one" not in pane.screen()
    pane.press("Enter")
    pane.shows("\none\ntwo\n")


def test_ctrl_c_ctrl_z_and_ctrl_d(pane: Pane) -> None:
    pane.enter("sleep 1000")
    pane.press("C-c")
    pane.prompts(f"^C\n{INSIDE}")
    pane.enter("echo status $?")
    pane.prompts(f"status 130\n{INSIDE}")
    pane.enter("echo go''es; cat")
    pane.shows("\ngoes")  # what is typed before bash has left the line is not echoed
    pane.enter("before")
    pane.shows("before\nbefore")
    pane.press("C-z")
    pane.shows("Stopped")
    pane.prompts(INSIDE)
    pane.enter("fg")
    pane.prompts("fg\ncat")
    pane.enter("after")
    pane.shows("after\nafter")
    pane.press("C-d")
    pane.prompts(INSIDE)
    pane.press("C-d")
    pane.prompts(f"logout\n{OUTSIDE}")


@needs("vim")
def test_detaching_from_vim_brings_back_the_shell_that_was_there(pane: Pane) -> None:
    pane.enter("vim -u NONE -N --cmd 'set mouse=a'")
    pane.shows("VIM - Vi IMproved")
    pane.press("Enter")
    pane.type("~d")
    pane.prompts(OUTSIDE)
    assert pane.text().startswith(f"{INSIDE} vim -u NONE")
    assert "VIM" not in pane.text()
    assert pane.modes()["mouse_any_flag"] == pane.modes()["alternate_on"] == "0"


def test_a_client_that_was_stopped_is_raw_again_in_the_foreground(
    pane: Pane, client: FindClient
) -> None:
    client().send_signal(signal.SIGSTOP)
    pane.shows("Stopped")
    pane.press("C-j")
    pane.type("stty sane; printf '\\033c'")
    pane.press("C-j")
    pane.until(lambda text: text == OUTSIDE, "a sane terminal")
    pane.enter("fg")
    pane.prompts(f"{OUTSIDE} fg\ncoditect up demo")
    pane.enter("printf '\\033c'; sleep 1000")
    pane.until(lambda text: not text, "the command runs")
    pane.press("C-c")
    pane.prompts(INSIDE)


def leave_by_exit(pane: Pane, client: psutil.Process, status: dict[str, Any]) -> int:
    pane.enter("exit 7")
    return 7


def leave_by_detach(pane: Pane, client: psutil.Process, status: dict[str, Any]) -> int:
    pane.press("Enter")
    pane.type("~d")
    return 0


def leave_at_once(pane: Pane, client: psutil.Process, status: dict[str, Any]) -> int:
    pane.press("Enter")
    pane.type("~.")
    return 255


def leave_by_sigterm(pane: Pane, client: psutil.Process, status: dict[str, Any]) -> int:
    client.send_signal(signal.SIGTERM)
    return 128 + signal.SIGTERM


def leave_by_sighup(pane: Pane, client: psutil.Process, status: dict[str, Any]) -> int:
    client.send_signal(signal.SIGHUP)
    return 128 + signal.SIGHUP


def leave_a_killed_gateway(pane: Pane, client: psutil.Process, status: dict[str, Any]) -> int:
    os.kill(status["keeperPid"], signal.SIGKILL)
    return 255


@pytest.mark.parametrize(
    "way_out",
    [
        leave_by_exit,
        leave_by_detach,
        leave_at_once,
        leave_by_sigterm,
        leave_by_sighup,
        leave_a_killed_gateway,
    ],
)
def test_every_way_out_leaves_the_terminal_as_it_was(
    tmux: Tmux,
    client: FindClient,
    gateway_status: Callable[[], dict[str, Any]],
    way_out: Callable[[Pane, psutil.Process, dict[str, Any]], int],
) -> None:
    pane = tmux.shell()
    before = _settings(pane)
    pane.coditect("up", "demo")
    pane.enter(f"{SPOIL}; echo spoi''lt")
    pane.shows("spoilt")
    assert pane.modes() != before[0]
    status = way_out(pane, client(), gateway_status())
    pane.shows(OUTSIDE)
    pane.enter("echo left with $?")
    pane.shows(f"left with {status}")
    assert _settings(pane) == before
    pane.enter("echo rea''dy; cat -v")
    pane.shows("\nready")
    pane.paste("not in brackets")
    pane.press("Enter", "C-d")
    assert "~" not in pane.shows("\nnot in brackets\nnot in brackets\n").split("cat -v")[1]


def _settings(pane: Pane) -> tuple[dict[str, str], str]:
    """The terminal's modes, and what `stty -a` says."""
    pane.enter("clear")  # an earlier answer may be on the screen
    pane.until(lambda text: text == OUTSIDE, "a clean screen")
    pane.enter("stty -a; echo en''d")
    shown = pane.shows("\nend\n")
    return pane.modes(), shown


def test_an_exception_leaves_the_terminal_as_it_was(tmux: Tmux) -> None:
    pane = tmux.shell()
    before = _settings(pane)
    pane.enter(f"python -c '{FAULTY}' up demo")
    pane.until(lambda text: OUTSIDE not in text.splitlines()[-1], "the first output")
    pane.enter(f"{SPOIL}; echo spoi''lt")
    pane.shows("spoilt")
    pane.press("Enter")
    pane.type("~s")
    pane.shows("division by zero")
    pane.prompts(OUTSIDE)
    assert _settings(pane) == before


def test_leaving_a_dead_network_needs_no_network(
    start_proxy: Callable[[], Proxy], tmux: Tmux
) -> None:
    proxy = start_proxy()
    pane = tmux.shell(CODITECT_GATEWAY_URL=proxy.url)
    before = _settings(pane)
    pane.coditect("up", "demo")
    proxy.go_dead()
    pane.enter("never shown")
    pane.type("~.")
    pane.shows(OUTSIDE)
    assert "never shown" not in pane.text()
    assert _settings(pane) == before


def test_leaving_a_gateway_that_hangs_is_at_once(
    pane: Pane, gateway_status: Callable[[], dict[str, Any]]
) -> None:
    bridge = psutil.Process(gateway_status()["bridgePid"])
    stop_process(bridge)
    try:
        pane.press("Enter")
        pane.type("~.")
        pane.shows(OUTSIDE)
    finally:
        bridge.resume()
