"""One control plane for all workers of a test run, with a stand-in for a node.

`python -m tests.support.shared_cluster FOLDER` runs it for as long as somebody holds
FOLDER/users.lock.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.cluster import PATIENCE, Cluster, ControlPlane, assets, control_plane
from tests.support.gateway import until
from tests.support.kubelet import Kubelet


@contextmanager
def shared_cluster(folder: Path) -> Iterator[Cluster]:
    """The control plane of a folder, started by whoever comes first.

    A process of its own runs it: it ends when the last user has, even by a crash.
    """
    assets()
    plane = None
    with open(folder / "start.lock", "wb") as start, open(folder / "users.lock", "wb") as users:
        fcntl.flock(start, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_SH)
        address = folder / "cluster.json"
        if not address.exists():
            plane = subprocess.Popen(
                [sys.executable, "-m", "tests.support.shared_cluster", folder],
                cwd=Path(__file__).parents[2],
                start_new_session=True,
            )
            started = lambda: address.exists() or plane.poll() is not None  # noqa: E731
            until(started, "a control plane", 2 * PATIENCE)
            assert address.exists(), "no control plane: its error is above"
        fcntl.flock(start, fcntl.LOCK_UN)
        yield Cluster(folder / "cluster", json.loads(address.read_text())["url"])
    if plane is not None:
        plane.wait()  # for the others of this run, too


def _serve(folder: Path) -> None:
    address, part = folder / "cluster.json", folder / "cluster.json.part"
    with open(folder / "users.lock", "wb") as users:
        with control_plane(ControlPlane(folder / "cluster")) as cluster:
            Kubelet(cluster)
            part.write_text(json.dumps({"url": cluster.url}))
            part.rename(address)
            fcntl.flock(users, fcntl.LOCK_EX)
            address.unlink()
        shutil.rmtree(folder / "cluster")


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
