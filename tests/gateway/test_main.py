from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from coditect_cli.gateway import place as places_of
from coditect_cli.gateway.place import place
from coditect_cli.paths import Paths, make_private


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    found = Paths.from_environ({"CODITECT_HOME": str(tmp_path)})
    make_private(found.state)
    return found


def test_a_folder_made_anew_at_the_same_path_is_another_place(paths: Paths) -> None:
    """So is one that another mount namespace, pod or machine of this name has there."""
    first = place(paths, "local")
    assert place(paths, "local") == first
    shutil.rmtree(paths.state)
    make_private(paths.state)
    assert place(paths, "local") != first


def test_a_pods_place_is_of_its_node_and_another_one_of_its_machine_id(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = set()
    for machine, boot in (("image", "node1"), ("image", "node2"), ("", "node2")):
        for name, text in (("MACHINE_ID", machine), ("BOOT_ID", boot)):
            (tmp_path / name).write_text(text)
            monkeypatch.setattr(places_of, name, tmp_path / name)
        places.add((place(paths, "local"), place(paths, "workspace")))
    local, pod = (set(column) for column in zip(*places, strict=True))
    assert (len(local), len(pod)) == (2, 2)
