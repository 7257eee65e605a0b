"""Phase 1: the gateway that gives each PTY one writer, to staging, then by shares to production."""

from __future__ import annotations

from coditect_cli.migrations.phase1.bake import Bake
from coditect_cli.migrations.phase1.canary import Canary
from coditect_cli.migrations.phase1.image import PushImage
from coditect_cli.migrations.phase1.probe import ProbeStaging
from coditect_cli.migrations.phase1.rollout import Rollout
from coditect_cli.migrations.phase1.staging import DeployStaging
from coditect_cli.migrations.phase1.tests import TestBridge
from coditect_cli.migrations.step import Step, World


def steps(world: World) -> list[Step]:
    """The steps, in order."""
    return [
        TestBridge(),
        PushImage(),
        DeployStaging(),
        ProbeStaging(),
        Canary(world.settings.canary_percent),
        Bake(world.settings.bake),
        Rollout(),
    ]
