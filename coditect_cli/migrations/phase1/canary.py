"""Phase 1, step 5: a share of production's new connections; the rest where it is now."""

from __future__ import annotations

from collections.abc import Sequence

from coditect_cli.errors import NotFound
from coditect_cli.migrations import programs
from coditect_cli.migrations.cloud_run import DEPLOY, SHIFT
from coditect_cli.migrations.phase1.image import image_by_digest
from coditect_cli.migrations.phase1.service import cloud_run, restored, tagged_revision, told
from coditect_cli.migrations.step import Action, Facts, Observation, Step, World, program


class Canary(Step):
    """A service that is not there yet has nothing to keep: its first revision gets all traffic."""

    name = "canary"
    expected = 90.0
    moves = "traffic"

    def __init__(self, percent: int) -> None:
        self.title = f"Give it {percent} % of production"
        self._percent = percent

    def observe(self, world: World) -> Observation:
        name, tag = world.settings.service, world.settings.tag
        service = cloud_run(world).describe(name)
        if service is None:
            first = f"there is no service {name} yet: its first revision gets all traffic at once"
            return Observation(False, first, {"serving": {}, "canary": None, "exists": False})
        revision = tagged_revision(world, service)
        detail = f"{name}: {told(service.percents)}"
        if revision is None:
            detail += f"; {tag} is another image" if service.tagged(tag) else f"; no {tag} yet"
        elif not revision.is_ready:
            detail += f"; {revision.name} is not ready: {revision.why_not}"
        canary = revision.name if revision is not None else None
        share = service.percents.get(canary or "", 0)
        is_done = share == self._percent or (share == 100 and canary is not None)
        facts = {"serving": service.percents, "canary": canary, "exists": True}
        return Observation(is_done, detail, facts)

    def actions(self, world: World) -> Sequence[Action]:
        run, settings, image = cloud_run(world), world.settings, image_by_digest(world)
        is_first = world.before.get("exists") is False
        argv = run.deploy_argv(settings.service, image, tag=settings.tag, traffic=is_first)

        def deploy() -> Facts:
            service = run.describe(settings.service)
            if service is None or tagged_revision(world, service) is None:
                programs.run(argv, timeout=DEPLOY)
            return {}

        split = run.split_argv(settings.service, settings.tag, self._percent)
        shift = [] if is_first else [program(split, timeout=SHIFT)]
        return [Action(deploy, argv=argv), *shift]

    def inverse(self, world: World, before: Facts) -> Sequence[Action]:
        if before.get("exists") is False:
            argv = _delete_argv(world)
            return [Action(lambda: _delete(argv), argv=argv)]
        serving = before.get("serving") or {"{serving}": 100}
        argv = cloud_run(world).percents_argv(world.settings.service, serving)
        return [program(argv, timeout=SHIFT)]

    def restored(self, world: World, before: Facts) -> str | None:
        return restored(world, before["serving"])


def _delete_argv(world: World) -> tuple[str, ...]:
    where = (f"--region={world.settings.region}", f"--project={world.project}")
    return ("gcloud", "run", "services", "delete", world.settings.service, *where, "--quiet")


def _delete(argv: Sequence[str]) -> Facts:
    """Remove the service that this run made; one that is gone already is fine."""
    try:
        programs.run(argv, timeout=SHIFT)
    except NotFound:
        return {"deleted": False}
    return {"deleted": True}
