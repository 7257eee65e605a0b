"""Phase 1, step 4: type into a terminal through the staging service."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from coditect_cli.migrations.step import Action, Step, World, program


class ProbeStaging(Step):
    name = "probe-staging"
    title = "Type into a terminal on staging"
    expected = 20.0
    no_inverse = "it leaves nothing behind"

    def actions(self, world: World) -> Sequence[Action]:
        url = world.output("staging_url").replace("http", "ws", 1) + "/ws"
        own = (sys.executable, "-m", "coditect_cli", "gateway", "probe", "--url", "{url}")
        words = [word.replace("{url}", url) for word in world.settings.probe or own]
        return [program(words, timeout=world.settings.build_timeout)]
