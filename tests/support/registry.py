"""A registry on loopback, and a podman that knows it and an image to build from; needs root.

Debian's docker-registry keeps what is pushed; podman has all that it stores below one folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest

from tests.support.cluster import free_ports
from tests.support.gateway import until
from tests.support.images import run

PROGRAMS = ("docker-registry", "podman", "runc", "busybox")
BASE = "localhost/base:1"  # nothing but busybox
PODMAN = ("podman", "--runtime=runc")
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)


class Registry:
    """`host` is its address; `environ` what podman is told with, as its manual has it."""

    def __init__(self, folder: Path) -> None:
        (port,) = free_ports(1)
        self.host = f"127.0.0.1:{port}"
        self._folder = folder
        self.environ = {
            "CONTAINERS_CONF": self._write(
                "containers.conf",
                f'[engine]\nlock_type = "file"\ntmp_dir = "{folder / "libpod"}"\n',
            ),
            "CONTAINERS_STORAGE_CONF": self._write(
                "storage.conf",
                f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/storage"\n'
                f'runroot = "{folder}/run"\n',
            ),
            "CONTAINERS_REGISTRIES_CONF": self._write(
                "registries.conf", f'[[registry]]\nlocation = "{self.host}"\ninsecure = true\n'
            ),
        }
        config = (
            f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/pushed}}}}\n"
            f"http: {{addr: '{self.host}'}}\n"
        )
        with open(folder / "registry.log", "wb") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", self._write("registry.yaml", config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _write(self, name: str, content: str) -> str:
        (self._folder / name).write_text(content)
        return str(self._folder / name)

    def digest(self, repository: str, reference: str) -> str:
        """The digest that it gave a tag, or a digest that it has. Raises HTTPError for none."""
        request = urllib.request.Request(
            f"http://{self.host}/v2/{repository}/manifests/{reference}",
            headers={"Accept": MANIFESTS},
            method="HEAD",
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return str(answer.headers["Docker-Content-Digest"])

    def is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.host}/v2/", timeout=10):
                return True
        except OSError:
            assert self._process.poll() is None, (self._folder / "registry.log").read_text()
            return False

    def import_base(self) -> None:
        """An image to build from, so that nothing is pulled."""
        layer = BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as tar:
            tar.add(shutil.which("busybox") or "busybox", "bin/busybox")
        archive = self._folder / "base.tar"
        archive.write_bytes(layer.getvalue())
        self.podman("import", str(archive), BASE)

    def podman(self, *args: str) -> None:
        run(*PODMAN, *args, environ=self.environ)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self.podman("rmi", "--all", "--force")


@contextmanager
def registry() -> Iterator[Registry]:
    """A running one; skips the test where a part is missing."""
    if os.geteuid() != 0:
        pytest.skip("podman builds as root here")
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"nothing can be built and pushed without {', '.join(missing)}")
    folder = Path(tempfile.mkdtemp(prefix="coditect-registry-"))  # podman wants a short path
    running = Registry(folder)
    try:
        until(running.is_up, "the registry")
        running.import_base()
        yield running
    finally:
        running.close()
        shutil.rmtree(folder)
