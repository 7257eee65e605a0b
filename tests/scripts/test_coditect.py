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
[ "$*" = "-m pip --version" ] && exit
echo "$*" >> "$here/../../installs"
printf '#!/bin/sh\\n# %s/python\\necho "ran: $*"\\n' "$here" > "$here/coditect"
chmod +x "$here/coditect"
"""

UV = """#!/bin/sh
# Stands for uv: notes its arguments, and makes or fills the environment.
echo "$*" >> "$CHECKOUT/installs"
bin=$CHECKOUT/.venv/bin
mkdir -p "$bin"
printf '#!/bin/sh\\n# %s/python\\necho "ran: $*"\\n' "$bin" > "$bin/coditect"
touch "$bin/python"
chmod +x "$bin/python"
chmod +x "$bin/coditect"
"""

SYSTEMS_PYTHON = """#!/bin/sh
# Stands for the system's python3: makes an environment, which lacks pip where python3-venv does.
[ "$1 $2" = "-m venv" ] || exit 0
mkdir -p "$4/bin"
cp "$(dirname "$0")/environments-python" "$4/bin/python"
rm -f "$4/bin/coditect"
if [ -e "$CHECKOUT/no-venv" ]; then
  printf '#!/bin/sh\\necho No module named pip >&2; exit 1\\n' > "$4/bin/python"
  exit 1
fi
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A fresh checkout; beside it, `system` with a python3 that needs no network."""
    folder = tmp_path / "a checkout"
    shutil.copytree(REPOSITORY / "scripts", folder / "scripts")
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    (tmp_path / "system").mkdir()
    for name, text in (("python3", SYSTEMS_PYTHON), ("environments-python", PYTHON)):
        stub = tmp_path / "system" / name
        stub.write_text(text)
        stub.chmod(0o755)
    return folder


def run(
    program: Path, cwd: Path, *folders: Path, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """The program with what Debian has in its PATH, behind these folders."""
    checkout = program.resolve().parent.parent
    path = ":".join(map(str, (*folders, checkout.parent / "system", "/usr/bin", "/bin")))
    environ = {**os.environ, "PATH": path, "CHECKOUT": str(checkout)}
    return subprocess.run(
        [str(program), "up", "a b"],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        check=check,
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


@pytest.mark.skipif(Path("/usr/bin/uv").exists(), reason="uv would be used in place of pip")
def test_what_a_set_up_that_broke_off_left_is_made_anew(checkout: Path) -> None:
    program = checkout / "scripts" / "coditect"
    (checkout / "no-venv").touch()
    assert run(program, Path("/"), check=False).returncode != 0
    (checkout / "no-venv").unlink()
    assert run(program, Path("/")).stdout == "ran: up a b\n"


@pytest.mark.skipif(Path("/usr/bin/uv").exists(), reason="uv would be used in place of pip")
def test_a_checkout_may_be_moved(checkout: Path, tmp_path: Path) -> None:
    run(checkout / "scripts" / "coditect", Path("/"))
    moved = checkout.rename(tmp_path / "moved")
    run(moved / "scripts" / "coditect", Path("/"))
    assert installs(moved)[1].endswith(f"--editable {moved}")


@pytest.mark.parametrize("name", ["scripts/coditect", "coditect"])
def test_it_finds_its_checkout_by_any_name(checkout: Path, name: str) -> None:
    run(checkout / "scripts" / "coditect", Path("/"))
    folder = checkout if "/" in name else checkout / "scripts"
    environ = {**os.environ, "CDPATH": ".:/"}
    ran = subprocess.run(
        ["bash", name, "x"], cwd=folder, env=environ, capture_output=True, check=True
    )
    assert ran.stdout == b"ran: x\n"


def test_uv_makes_and_fills_the_environment_where_it_is_there(
    checkout: Path, tmp_path: Path
) -> None:
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
