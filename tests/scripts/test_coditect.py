"""scripts/coditect in a copy of the checkout; pip is replaced, for it needs a network."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent

PYTHON = """#!/bin/sh
# Stands for the environment's python: notes its arguments, and "installs" the program.
here=$(cd "$(dirname "$0")" && pwd)
echo "$*" >> "$here/../../installs"
printf '#!/bin/sh\\necho "ran: $*"\\n' > "$here/coditect"
chmod +x "$here/coditect"
"""

UV = """#!/bin/sh
# Stands for uv: notes its arguments, and makes or fills the environment.
echo "$*" >> "$CHECKOUT/installs"
bin=$CHECKOUT/.venv/bin
mkdir -p "$bin"
printf '#!/bin/sh\\necho "ran: $*"\\n' > "$bin/coditect"
chmod +x "$bin/coditect"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose .venv was made but is empty."""
    folder = tmp_path / "a checkout"
    shutil.copytree(REPOSITORY / "scripts", folder / "scripts")
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    (folder / ".venv" / "bin").mkdir(parents=True)
    python = folder / ".venv" / "bin" / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return folder


def run(program: Path, cwd: Path, *folders: Path) -> subprocess.CompletedProcess[str]:
    """The program with what Debian has in its PATH, behind these folders."""
    path = ":".join(map(str, (*folders, "/usr/bin", "/bin")))
    environ = {**os.environ, "PATH": path, "CHECKOUT": str(program.parent.parent)}
    return subprocess.run(
        [str(program), "up", "a b"],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )


def installs(checkout: Path) -> list[str]:
    return (checkout / "installs").read_text().splitlines()


@pytest.mark.skipif(Path("/usr/bin/uv").exists(), reason="uv would be used in place of pip")
def test_it_installs_once_and_again_when_the_project_changed(checkout: Path) -> None:
    program = checkout / "scripts" / "coditect"
    first = run(program, Path("/"))
    assert first.stdout == "ran: up a b\n"
    assert "Setting up" in first.stderr
    second = run(program, Path("/"))
    assert (second.stdout, second.stderr) == ("ran: up a b\n", "")
    assert len(installs(checkout)) == 1
    assert installs(checkout)[0].endswith(f"--editable {checkout}")
    with open(checkout / "pyproject.toml", "a") as file:
        file.write("# changed\n")
    run(program, Path("/"))
    run(program, Path("/"))
    assert len(installs(checkout)) == 2


@pytest.mark.skipif(Path("/usr/bin/uv").exists(), reason="uv would be used in place of pip")
def test_it_works_through_links_and_from_anywhere(checkout: Path, tmp_path: Path) -> None:
    absolute = tmp_path / "absolute"
    absolute.symlink_to(checkout / "scripts" / "coditect")
    relative = tmp_path / "relative"
    relative.symlink_to("absolute")
    for program in (absolute, relative):
        assert run(program, tmp_path).stdout == "ran: up a b\n"
    here = subprocess.run(
        ["./relative", "x"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert here.stdout == "ran: x\n"


def test_uv_makes_and_fills_the_environment_where_it_is_there(
    checkout: Path, tmp_path: Path
) -> None:
    shutil.rmtree(checkout / ".venv")
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(UV)
    uv.chmod(0o755)
    for _ in range(2):
        assert (
            run(checkout / "scripts" / "coditect", Path("/"), uv.parent).stdout == "ran: up a b\n"
        )
    python = checkout / ".venv" / "bin" / "python"
    assert installs(checkout) == [
        f"venv --quiet --clear --python >=3.11 {checkout / '.venv'}",
        f"pip install --quiet --python {python} --editable {checkout}",
    ]
