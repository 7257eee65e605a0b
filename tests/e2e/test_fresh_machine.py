"""What the README promises to an ordinary user on a fresh machine, from a clean checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
PYTHON = Path("/usr/bin/python3")
USER = f"fresh-{os.getpid()}"


def _has_venv() -> bool:
    return PYTHON.exists() and (
        subprocess.run(
            [PYTHON, "-c", "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"],
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )


pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not _has_venv(),
        reason="no /usr/bin/python3 of 3.11 or later with venv: apt-get install python3-venv",
    ),
    pytest.mark.skipif(shutil.which("git") is None, reason="no git: apt-get install git"),
]


class Machine:
    """An ordinary user's account with a clean checkout in its home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.checkout = home / "checkout"

    def run(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command as that user, with nothing of our environment but how to reach PyPI."""
        kept = {
            k: v for k, v in os.environ.items() if k.lower().startswith(("pip_", "http", "no_"))
        }
        environ = {**kept, "HOME": str(self.home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        return subprocess.run(
            command,
            user=USER,
            group=USER,
            extra_groups=[],
            cwd=cwd or self.checkout,
            env={**environ, "USER": USER, "LOGNAME": USER},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A new user with a clone of the checkout; both are gone after the test."""
    with tempfile.TemporaryDirectory(prefix="fresh-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        subprocess.run(
            ["useradd", "--no-create-home", "--home-dir", folder, "--shell", "/bin/bash", USER],
            check=True,
        )
        try:
            checkout = str(home / "checkout")
            clone = ["git", "clone", "--quiet", "--no-hardlinks", str(REPOSITORY), checkout]
            subprocess.run(clone, check=True)
            subprocess.run(["chown", "-R", f"{USER}:", folder], check=True)
            machine = Machine(home)
            yield machine
            program = machine.checkout / ".venv" / "bin" / "coditect"
            if program.exists():
                machine.run(str(program), "gateway", "stop", "--force")
        finally:
            subprocess.run(["userdel", USER], check=True)


def test_one_command_from_nothing_to_a_workspace(machine: Machine) -> None:
    first = machine.run("scripts/coditect", "up", "demo", "--exec", "echo hello")
    assert (first.returncode, first.stdout) == (0, "hello\n"), first.stderr
    assert "Setting up" in first.stderr
    second = machine.run("scripts/coditect", "up", "demo", "--exec", "id -un; pwd")
    assert second.returncode == 0
    assert second.stderr == ""
    user, folder = second.stdout.splitlines()
    assert user == USER
    assert Path(folder).is_relative_to(machine.home / ".local" / "share")
    without = machine.run("scripts/coditect", "up", "demo")
    assert (without.returncode, without.stdout) == (
        0,
        "workspace demo runs; to attach: coditect attach demo\n",
    )
    checkout = machine.run("git", "status", "--porcelain")
    assert (checkout.returncode, checkout.stdout) == (0, "")


def test_pip_installs_a_working_program(machine: Machine) -> None:
    venv = machine.home / "venv"
    assert machine.run(str(PYTHON), "-m", "venv", str(venv)).returncode == 0
    pip = machine.run(str(venv / "bin" / "pip"), "install", "--quiet", ".")
    assert pip.returncode == 0, pip.stderr
    program = str(venv / "bin" / "coditect")
    try:
        shown = machine.run(program, "up", "demo", "--exec", "echo hello", cwd=machine.home)
        assert (shown.returncode, shown.stdout) == (0, "hello\n"), shown.stderr
        doctor = machine.run(program, "doctor", cwd=machine.home)
        assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    finally:
        machine.run(program, "gateway", "stop", "--force", cwd=machine.home)
