"""The project's images, built from a Debian that debootstrap makes; needs root and podman.

`python -m tests.support.images FOLDER` builds them into FOLDER, which CODITECT_NODE_IMAGES may
then name for the tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("debootstrap", "podman", "runc", "unshare")
PACKAGES = "bash ca-certificates ncurses-base procps python3"
FOUNDATIONDB = "foundationdb>=7.1.67,<7.2"
NAMES = ("workspace", "gateway")


def name_of(image: str) -> str:
    return f"localhost/coditect-{image}:test"


def archive(folder: Path) -> Path:
    """An archive of the images, to be imported; skips the test where programs are missing."""
    found = Path(os.environ.get("CODITECT_NODE_IMAGES", folder)) / "images.tar"
    if not found.exists():
        if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
            pytest.skip(f"images can't be built without {', '.join(missing)}")
        build(found.parent)
    return found


def build(folder: Path) -> None:
    """Make the archive, in memory: it is a thousand small files, many times over."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="coditect-images-") as work:  # podman wants it short
        # The mount, and whatever is mounted below it, goes with the process.
        script = 'mount -t tmpfs images "$0" && cd "$1" && shift && exec "$@"'
        inner = (sys.executable, "-m", "tests.support.images", "--in", work, str(folder))
        run("unshare", "--mount", "sh", "-c", script, work, str(ROOT), *inner)


class Builder:
    """podman, with all that it stores below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def build(self, archive: Path) -> None:
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(self._make_base), pool.submit(self._make_wheels)]:
                done.result()
            list(pool.map(self._build, NAMES))
        part = archive.with_suffix(".part")
        names = [name_of(image) for image in NAMES]
        self._podman("save", "--multi-image-archive", "--output", str(part), *names)
        part.rename(archive)

    def _make_base(self) -> None:
        tree = self.folder / "base"
        included = ",".join([*PACKAGES.split(), "python3-venv"])
        run("debootstrap", "--variant=minbase", f"--include={included}", "bookworm", str(tree))
        unneeded = [f"--exclude=./var/{name}" for name in ("cache/apt", "lib/apt/lists")]
        argv = ["tar", "c", "-C", str(tree), *unneeded, "."]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as tar:
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

    def _build(self, image: str) -> None:
        self._podman(
            *("build", "--format=docker", "--network=none", "--build-arg=BASE=localhost/base:1"),
            f"--build-arg=PACKAGES={PACKAGES}",
            *(f"--file={ROOT / 'images' / image / 'Dockerfile'}", f"--tag={name_of(image)}"),
            str(self.folder / "context"),
        )

    def _podman(self, *args: str, stdin: object = None) -> None:
        storage = ("--root", str(self.folder / "storage"), "--runroot", str(self.folder / "run"))
        run("podman", *storage, "--runtime=runc", *args, stdin=stdin)


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


if __name__ == "__main__":
    if sys.argv[1] == "--in":
        Builder(Path(sys.argv[2])).build(Path(sys.argv[3]) / "images.tar")
    else:
        build(Path(sys.argv[1]))
