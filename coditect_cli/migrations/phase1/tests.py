"""Phase 1, step 1: the bridge's own tests, here."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from coditect_cli.migrations.step import Action, Step, World, program


class TestBridge(Step):
    name = "test-bridge"
    title = "Test the bridge"
    expected = 30.0
    no_inverse = "it changes nothing"

    def actions(self, world: World) -> Sequence[Action]:
        own = (sys.executable, "-m", "coditect_cli", "gateway", "selftest")
        return [program(world.settings.tests or own, timeout=world.settings.build_timeout)]
