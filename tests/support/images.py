"""The project's images, built from a Debian that debootstrap makes; needs root and podman.

CODITECT_NODE_IMAGES may name a folder that keeps the archives for the next run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("debootstrap", "podman", "runc")
PACKAGES = "bash ca-certificates ncurses-base procps python3"
FOUNDATIONDB = "foundationdb>=7.1.67,<7.2"
NAMES = ("workspace", "gateway")


def name_of(image: str) -> str:
    return f"localhost/coditect-{image}:test"


def archives(folder: Path) -> dict[str, Path]:
    """An archive of each image, to be imported; skips the test where programs are missing."""
    kept = os.environ.get("CODITECT_NODE_IMAGES")
    built = Path(kept) if kept else folder
    found = {image: built / f"{image}.tar" for image in NAMES}
    if not all(path.exists() for path in found.values()):
        if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
            pytest.skip(f"images can't be built without {', '.join(missing)}")
        built.mkdir(parents=True, exist_ok=True)
        # podman wants a short path
        Builder(Path(tempfile.mkdtemp(prefix="coditect-images-"))).build(found)
    return found


class Builder:
    """podman, with all that it stores below one folder, which is removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def build(self, wanted: dict[str, Path]) -> None:
        try:
            self._make_base()
            self._make_wheels()
            for image, archive in wanted.items():
                self._build(image, archive)
        finally:
            self._podman("rmi", "--all", "--force", check=False)
            shutil.rmtree(self.folder)

    def _make_base(self) -> None:
        tree = self.folder / "base"
        tree.mkdir(parents=True)
        included = ",".join([*PACKAGES.split(), "python3-venv"])
        run("debootstrap", "--variant=minbase", f"--include={included}", "bookworm", str(tree))
        with subprocess.Popen(["tar", "c", "-C", tree, "."], stdout=subprocess.PIPE) as tar:
            self._podman("import", "-", "localhost/base:1", stdin=tar.stdout)
        shutil.rmtree(tree)

    def _make_wheels(self) -> None:
        """For the image's Python, whichever runs the tests."""
        wheels = self.folder / "context" / "wheels"
        pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
        # foundationdb has no wheel of its own for 7.1, and is pure Python.
        run(*pip, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(ROOT), FOUNDATIONDB)
        (ours,) = wheels.glob("coditect-*.whl")
        run(
            *(*pip, "download", "--only-binary=:all:", "--python-version=3.11"),
            *("--find-links", str(wheels), "--dest", str(wheels)),
            f"{ours}[kubernetes,foundationdb]",
        )

    def _build(self, image: str, archive: Path) -> None:
        self._podman(
            *("build", "--format=docker", "--network=none", "--build-arg=BASE=localhost/base:1"),
            f"--build-arg=PACKAGES={PACKAGES}",
            *(f"--file={ROOT / 'images' / image / 'Dockerfile'}", f"--tag={name_of(image)}"),
            str(self.folder / "context"),
        )
        self._podman("save", "--output", str(archive), name_of(image))

    def _podman(self, *args: str, check: bool = True, stdin: object = None) -> None:
        storage = ("--root", str(self.folder / "storage"), "--runroot", str(self.folder / "run"))
        run("podman", *storage, "--runtime=runc", *args, check=check, stdin=stdin)


def run(
    *argv: str, check: bool = True, stdin: object = None, environ: dict[str, str] | None = None
) -> None:
    """Run a program, with more variables; what it said is in the error where it fails."""
    done = subprocess.run(
        argv,
        check=False,
        stdin=stdin,  # type: ignore[arg-type]
        env={**os.environ, **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert not check or done.returncode == 0, f"{argv}: {done.stdout[-4000:]}"
