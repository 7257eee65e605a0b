"""A phase is a package with its steps, one file each; `steps(world)` lists them in order."""

from __future__ import annotations

import importlib

from coditect_cli.errors import UsageError
from coditect_cli.migrations.settings import PHASES
from coditect_cli.migrations.step import Step, World


def steps_of(phase: str, world: World) -> list[Step]:
    """The phase's steps, read top to bottom. Raises UsageError for a phase we do not know."""
    if phase not in PHASES:
        raise UsageError(f"there is no phase {phase!r}", hint="phases are " + ", ".join(PHASES))
    module = importlib.import_module(f"coditect_cli.migrations.{phase}")
    steps: list[Step] = module.steps(world)
    return steps
