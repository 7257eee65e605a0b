"""Phase 2 killed by the system after each line of its journal, there and back, and resumed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.migrations.far import killed_at, store_in
from tests.migrations.phase2 import dying
from tests.migrations.phase2.conftest import CLUSTER, FILE, Field

PARTS = 4  # so that several processes can share them

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@contextmanager
def another(field: Field, folder: Path) -> Iterator[None]:
    """Let the field be in a namespace of its own, without a cluster, and its journal empty."""
    field.remove()
    field.move(folder)
    with closing(store_in(folder)) as store:
        field.use(store, folder)
        yield


@pytest.mark.parametrize("part", range(PARTS))
def test_killed_by_the_system_after_any_line_the_next_process_brings_it_to_its_end(
    field: Field, tmp_path: Path, part: int
) -> None:
    field.go(field.steps())
    for line in range(1 + part, len(field.events()), PARTS):
        with another(field, tmp_path / str(line)):
            assert _is_killed(field, line)
            assert field.go(field.steps()).state == "done"
            assert field.secret() == FILE
            assert field.get("/api/v1//services/workspace-service") is not None
            assert list(field.cloud.clusters.clusters) == [CLUSTER]


def test_killed_on_its_way_back_the_next_process_removes_what_the_run_made(
    field: Field, tmp_path: Path
) -> None:
    """Each eighth line: most of the time goes by until a namespace is gone."""
    field.go(field.steps())
    there = len(field.events())
    field.roll_back()
    for line in range(there + 1, len(field.events()), 8):
        with another(field, tmp_path / str(line)):
            field.go(field.steps())
            assert _is_killed(field, line)
            assert field.go(field.steps()).state == "rolled back"
            assert not field.is_there
            assert not field.cloud.clusters.clusters


def _is_killed(field: Field, line: int) -> bool:
    killed = killed_at(dying.__name__, field.run, field.programs, field.folder, line)
    return killed and len(field.events()) == line
