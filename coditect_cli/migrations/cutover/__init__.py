"""Cutover: clients go from the old cluster to Cloud Run by shares; then it is deleted."""

from __future__ import annotations

from coditect_cli.migrations.cutover.dashboard import MakeDashboard
from coditect_cli.migrations.cutover.scale import Scale
from coditect_cli.migrations.cutover.shift import Shift
from coditect_cli.migrations.cutover.tear_down import TearDown
from coditect_cli.migrations.step import Step, World


def steps(world: World) -> list[Step]:
    """The steps, in order."""
    settings = world.settings
    later = [share for share in settings.shifts if share > settings.canary_percent]
    return [
        Scale(),
        Shift(settings.canary_percent, settings.bake),
        MakeDashboard(),
        *(Shift(share, settings.bake) for share in later),
        TearDown(settings.old_cluster),
    ]
