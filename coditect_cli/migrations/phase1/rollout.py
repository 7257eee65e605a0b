"""Phase 1, step 7: all of production."""

from __future__ import annotations

from collections.abc import Sequence

from coditect_cli.migrations.phase1.service import cloud_run, shares_differ, told
from coditect_cli.migrations.step import Action, Facts, Observation, Step, World, program


class Rollout(Step):
    name = "rollout"
    title = "Give it all of production"
    expected = 30.0
    moves = "traffic"

    def precondition(self, world: World) -> str | None:
        canary = world.outputs.get("canary")
        if canary is None:
            return None
        service = cloud_run(world).describe(world.settings.service)
        newest = service.newest_ready if service is not None else None
        if newest == canary:
            return None
        return (
            f"the newest revision of {world.settings.service} is {newest}, not {canary} that was "
            "watched: somebody deployed meanwhile"
        )

    def observe(self, world: World) -> Observation:
        service = cloud_run(world).describe(world.settings.service)
        percents = service.percents if service is not None else {}
        is_done = percents == {world.outputs.get("canary"): 100}
        detail = f"{world.settings.service}: {told(percents)}"
        return Observation(is_done, detail, {"serving_before_rollout": percents})

    def actions(self, world: World) -> Sequence[Action]:
        argv = cloud_run(world).latest_argv(world.settings.service)
        return [program(argv, timeout=world.settings.change_timeout)]

    def inverse(self, world: World, before: Facts) -> Sequence[Action]:
        percents = before.get("serving_before_rollout", {"{serving}": 100})
        if not percents:  # a first deployment, which a plan looks at before it was made
            return ()
        argv = cloud_run(world).percents_argv(world.settings.service, percents)
        return [program(argv, timeout=world.settings.change_timeout)]

    def restored(self, world: World, before: Facts) -> str | None:
        service = cloud_run(world).describe(world.settings.service)
        return shares_differ(service, before["serving_before_rollout"])
