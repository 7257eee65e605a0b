"""What a build is given, as docker says it, and how its files are told apart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coditect_cli.migrations.cutover.dashboard import MakeDashboard
from coditect_cli.migrations.phase1.image import PushImage
from coditect_cli.migrations.phase2.manifests import ApplyManifests
from coditect_cli.migrations.phase2.secret import StoreSecret
from coditect_cli.migrations.sent import build_files, digests
from coditect_cli.migrations.step import Step
from tests.migrations.toy import world

TREE = ("Dockerfile", "app/main.py", "app/main.pyc", "app/data/a.log", "b.log", ".git/index", "[x")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in TREE:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return tmp_path


def sent(source: Path) -> set[str]:
    return {str(file.relative_to(source)) for file in build_files(source, source / "Dockerfile")}


IGNORE = ".dockerignore"


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        ("", {IGNORE, "app/main.py", "app/main.pyc", "app/data/a.log", "b.log", "[x"}),
        ("*.log\n", {IGNORE, "app/main.py", "app/main.pyc", "app/data/a.log", "[x"}),
        ("# all\n**/*.log\n/app/*.pyc\n\\[x", {IGNORE, "app/main.py"}),
        ("app/\n", {IGNORE, "b.log", "[x"}),
        ("*\n!app/main.py\n", {"app/main.py"}),
        ("app/data/[a-c].log\n?.log", {IGNORE, "app/main.py", "app/main.pyc", "[x"}),
    ],
)
def test_a_build_is_given_what_is_not_ignored(source: Path, ignore: str, left: set[str]) -> None:
    (source / IGNORE).write_text(ignore)
    assert sent(source) == {"Dockerfile", *left}


def test_what_a_dockerfile_of_its_own_ignores_goes_first(source: Path) -> None:
    (source / ".dockerignore").write_text("*\n")
    (source / "Dockerfile.dockerignore").write_text("*.log\napp\n*.dockerignore\n")
    assert sent(source) == {"Dockerfile", "[x"}


def test_a_file_is_told_by_its_content_and_a_link_by_where_it_leads(tmp_path: Path) -> None:
    one, link, gone = tmp_path / "one", tmp_path / "link", tmp_path / "gone"
    one.write_text("1")
    link.symlink_to("one")
    first = digests([one, link, gone])
    assert first[str(one)].startswith("sha256:6b86b273")
    assert first[str(link)] == "link to one"
    assert "No such file" in first[str(gone)]
    one.write_text("2")
    assert digests([one, link, gone])[str(one)] != first[str(one)]


def test_pipes_are_no_files_and_links_to_folders_are_not_followed(source: Path) -> None:
    os.mkfifo(source / "pipe")
    (source / "loop").symlink_to(".")
    found = sent(source)
    assert "pipe" not in found
    assert "loop" in found


@pytest.mark.parametrize("step", [PushImage(), StoreSecret(), ApplyManifests(), MakeDashboard()])
def test_each_step_that_sends_files_names_them(tmp_path: Path, step: Step) -> None:
    file = tmp_path / "base.yaml"
    file.write_text("a:b@10.0.0.1:4500\n" if isinstance(step, StoreSecret) else "# nothing\n")
    here = world(
        source=str(tmp_path),
        dockerfile=str(file),
        cluster_file=str(file),
        manifests=str(tmp_path),
        dashboard=str(file),
    )
    before = step.sends(here)
    assert list(before) == [str(file)]
    assert step.sends(here) == before
    with open(file, "a") as more:
        more.write("# more\n")
    assert step.sends(here) != before
