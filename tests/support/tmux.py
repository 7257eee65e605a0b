"""A real terminal, tmux, with a shell in each pane and a person who types, looks and resizes."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from tests.support.gateway import until

OUTSIDE = "outside>"  # the prompt of the user's own shell
INSIDE = "inside>"  # the prompt of the shell in the workspace
_CONFIGURATION = """\
set -g default-terminal xterm-256color
set -g status off
set -s exit-empty off
set -g escape-time 0
set -g history-limit 5000
set -g scroll-on-clear off
"""

_MODES = (
    "alternate_on cursor_flag insert_flag keypad_cursor_flag keypad_flag mouse_all_flag "
    "mouse_any_flag mouse_button_flag mouse_sgr_flag mouse_standard_flag mouse_utf8_flag "
    "origin_flag wrap_flag scroll_region_upper scroll_region_lower"
)


def needs(program: str, package: str | None = None) -> pytest.MarkDecorator:
    """Skips a test where a program that it drives is not there."""
    return pytest.mark.skipif(
        shutil.which(program) is None,
        reason=f"{program} is not there: apt-get install {package or program}",
    )


class Tmux:
    """A tmux server of its own, in which `coditect` is on PATH."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tmux-")  # a socket's path is short
        self._socket = str(Path(self._folder.name) / "s")
        configuration = Path(self._folder.name) / "tmux.conf"
        configuration.write_text(_CONFIGURATION)
        self._program = ["tmux", "-u", "-S", self._socket, "-f", str(configuration)]
        here = str(Path(sys.executable).parent)
        self._environ = {**environ, "LANG": "C.UTF-8", "PATH": f"{here}:{os.environ['PATH']}"}
        self._environ.pop("TMUX", None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        subprocess.run([*self._program, "kill-server"], capture_output=True, check=False)
        self._folder.cleanup()

    def command(self, *args: str) -> str:
        """Run a tmux command; what it prints."""
        done = subprocess.run(
            [*self._program, *args], env=self._environ, capture_output=True, check=False
        )
        assert done.returncode == 0, (args, done.stderr)
        return done.stdout.decode()

    def shell(self, cols: int = 80, rows: int = 24, **environ: str) -> Pane:
        """A new terminal with a shell that leaves every mode of its terminal alone."""
        size = ["-x", str(cols), "-y", str(rows)]
        variables = [f"-e{name}={value}" for name, value in environ.items()]
        command = ["new-session", "-dPF", "#{pane_id}", *size, *variables]
        pane = Pane(self, self.command(*command, f"PS1='{OUTSIDE} ' exec sh").strip())
        pane.shows(OUTSIDE)
        return pane


class Pane:
    """One terminal."""

    def __init__(self, tmux: Tmux, id: str) -> None:
        self._tmux = tmux
        self._id = id

    def type(self, text: str) -> None:
        """Type text as it is."""
        self._tmux.command("send-keys", "-t", self._id, "-l", "--", text)

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names for them."""
        self._tmux.command("send-keys", "-t", self._id, *keys)

    def enter(self, line: str) -> None:
        """Type a line."""
        self.type(line)
        self.press("Enter")

    def paste(self, text: str) -> None:
        """Paste as a terminal does: in brackets where the program asked for them."""
        self._tmux.command("set-buffer", "--", text)
        self._tmux.command("paste-buffer", "-p", "-r", "-t", self._id)

    def resize(self, cols: int, rows: int) -> None:
        size = ["-x", str(cols), "-y", str(rows)]
        self._tmux.command("resize-window", "-t", self._id, *size)

    def close(self) -> None:
        """Close the terminal, as its window's button does."""
        self._tmux.command("kill-pane", "-t", self._id)

    def show(self, format: str) -> str:
        """What tmux knows about the terminal, `#{cursor_flag}` for one."""
        return self._tmux.command("display-message", "-p", "-t", self._id, format).rstrip("\n")

    def screen(self, *, colours: bool = False) -> list[str]:
        """The lines on the screen, without trailing blanks."""
        escapes = ["-e"] if colours else []
        shown = self._tmux.command("capture-pane", "-p", *escapes, "-t", self._id)
        return [line.rstrip() for line in shown.splitlines()]

    def text(self) -> str:
        return "\n".join(self.screen()).rstrip()

    def history(self) -> str:
        """What was scrolled off, and the screen."""
        return self._tmux.command("capture-pane", "-pS-", "-t", self._id)

    def until(self, condition: Callable[[str], object], what: str) -> str:
        """Wait until the screen's text meets the condition; the text."""
        shown = ""

        def met() -> bool:
            nonlocal shown
            shown = self.text()
            return bool(condition(shown))

        try:
            until(met, what)
        except AssertionError as error:
            raise AssertionError(f"{error}; the screen:\n{shown}") from None
        return shown

    def shows(self, wanted: str) -> str:
        """Wait until the screen has this text; the whole text."""
        return self.until(lambda text: wanted in text, repr(wanted))

    def prompts(self, prompt: str) -> str:
        """Wait until the screen ends with this, nothing typed behind it; the whole text."""
        return self.until(lambda text: text.endswith(prompt), f"{prompt!r} at the end")

    def coditect(self, *args: str) -> None:
        """Attach by `coditect ARGS`, and wait for a clean screen with a prompt of our own."""
        self.enter(f"coditect {shlex.join(args)}")
        self.until(lambda text: OUTSIDE not in text.splitlines()[-1], "the first output")
        self.enter(f"PS1='{INSIDE} '; history -c; printf '\\033c'")
        self.until(lambda text: text == INSIDE, "a clean screen")

    def modes(self) -> dict[str, str]:
        """Each of the terminal's modes that tmux tells about."""
        names = _MODES.split()
        values = self.show(" ".join(f"#{{{name}}}" for name in names)).split(" ")
        return dict(zip(names, values, strict=True))
