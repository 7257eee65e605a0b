"""Phase 1, step 6: watch both revisions under the same load, then decide."""

from __future__ import annotations

from collections.abc import Sequence

from coditect_cli.migrations import gates
from coditect_cli.migrations.step import Action, Step, Verdict, World


class Bake(Step):
    name = "bake"
    title = "Watch it beside the serving revisions"
    expected = 10.0
    no_inverse = "it only watches"

    def __init__(self, bake: float) -> None:
        self.bake = bake

    def actions(self, world: World) -> Sequence[Action]:
        return []

    def gate(self, world: World, since: float) -> Verdict:
        settings, canary = world.settings, world.output("canary")
        source = gates.of_service(settings.service, settings.region)
        window = gates.read_window(str(world.target.project), [source], since)
        new, others = gates.compare_revisions(window, canary)
        is_alone = set(world.outputs["serving"]) == {canary}
        limits = gates.Limits(
            settings.min_sessions, settings.min_requests, settings.max_error_increase
        )
        return window.named_in(gates.decide(new, None if is_alone else others, limits))
