"""Phase 1, step 6: watch both revisions under the same load, then decide."""

from __future__ import annotations

from collections.abc import Sequence

from coditect_cli.migrations import gates
from coditect_cli.migrations.phase1.service import cloud_run, told
from coditect_cli.migrations.step import Action, Step, Verdict, Watch, World, moved_meanwhile


class Bake(Step):
    name = "bake"
    title = "Watch it beside the serving revisions"
    expected = 10.0
    no_inverse = "it only watches"

    def __init__(self, bake: float) -> None:
        self.bake = bake

    def needs(self, world: World) -> str | None:
        gates.check_readable(world.project, [_source(world)])
        return None

    def actions(self, world: World) -> Sequence[Action]:
        return []

    def watch(self, world: World) -> Watch:
        return gates.watch(world.settings, world.project, [_source(world)])

    def gate(self, world: World, since: float) -> Verdict:
        canary = world.output("canary")
        window = gates.read_window(world.project, [_source(world)], since)
        new, others = gates.compare_revisions(window, canary)
        is_alone = set(world.outputs["serving"]) == {canary}
        limits = gates.limits_of(world.settings)
        return window.named_in(gates.decide(new, None if is_alone else others, limits))

    def moved(self, world: World) -> str | None:
        service, canary = cloud_run(world).describe(world.settings.service), world.output("canary")
        percents = service.percents if service is not None else {}
        if percents.get(canary) in (world.settings.canary_percent, 100):
            return None
        return moved_meanwhile(f"{world.settings.service} is {told(percents)}")


def _source(world: World) -> str:
    return gates.of_service(world.settings.service, world.settings.region)
