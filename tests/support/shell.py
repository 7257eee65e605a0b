"""Shells that tests use, and what they need."""

from __future__ import annotations

from pathlib import Path

import pytest


def needs_shell(name: str) -> None:
    """Skip the test where this shell is not installed."""
    if not Path("/bin", name).exists():
        pytest.skip(f"needs {name}: apt install {name}")


def plain_shell(folder: Path) -> Path:
    """A program in `folder` to be the setting `shell`: an interactive bash, just as it comes."""
    program = folder / "bash"
    program.write_text(
        "#!/bin/sh\nunset ENV CODITECT_HOOK CODITECT_SAVED\n"
        "HISTFILE= exec /bin/bash --noprofile --norc\n"
    )
    program.chmod(0o755)
    return program


def hooked_shell(folder: Path, name: str = "bash", rc: str = "PS1='$ '\n") -> Path:
    """A program in `folder` to be the setting `shell`: bash or zsh with a home of its own.

    `rc` is what its interactive start-up file has.
    """
    needs_shell(name)
    home = folder / f"home-of-{name}"
    home.mkdir()
    (home / {"bash": ".bash_profile", "zsh": ".zshrc"}[name]).write_text(rc)
    program = folder / name
    program.write_text(f'#!/bin/bash\nHOME={home}; cd "$PWD"\nexec -a -{name} /bin/{name} "$@"\n')
    program.chmod(0o755)
    return program
