"""The scripts that the platform's own documents name."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The scripts beside a coditect that prints what it was asked."""
    place = tmp_path / "scripts"
    place.mkdir()
    for script in SCRIPTS.glob("*.sh"):
        (place / script.name).write_bytes(script.read_bytes())
    (place / "coditect").write_text('#!/bin/sh\necho "$@"\n')
    (place / "coditect").chmod(0o755)
    return place


@pytest.mark.parametrize(
    ("script", "args", "asked"),
    [
        ("deploy-pty-fix.sh", ["--plan"], "migrate phase1 --plan"),
        ("deploy-statefulset-workspaces.sh", ["--plan"], "migrate phase2 --plan"),
        ("test-terminal-input.sh", ["staging"], "gateway probe --service staging"),
        (
            "test-terminal-input.sh",
            ["ws://127.0.0.1:1/ws", "--writes", "5"],
            "gateway probe --url ws://127.0.0.1:1/ws --writes 5",
        ),
    ],
)
def test_a_script_is_one_command_of_ours(
    folder: Path, script: str, args: list[str], asked: str
) -> None:
    run = subprocess.run(
        ["bash", str(folder / script), *args],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, asked + "\n", "")
    assert os.access(SCRIPTS / script, os.X_OK)


def test_another_place_than_those_known_is_a_usage_error(folder: Path) -> None:
    script = str(folder / "test-terminal-input.sh")
    run = subprocess.run(["bash", script, "prod"], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "staging|production" in run.stderr
