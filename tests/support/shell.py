"""A shell that reads nobody's start-up files and writes no history."""

from __future__ import annotations

from pathlib import Path


def plain_shell(folder: Path) -> Path:
    """A program in `folder` to be the setting `shell`: an interactive bash, just as it comes."""
    program = folder / "bash"
    program.write_text("#!/bin/sh\nHISTFILE= exec /bin/bash --noprofile --norc\n")
    program.chmod(0o755)
    return program
