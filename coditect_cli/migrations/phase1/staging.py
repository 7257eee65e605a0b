"""Phase 1, step 3: the image on the staging service."""

from __future__ import annotations

from collections.abc import Sequence

from coditect_cli.migrations.phase1.image import image_by_digest
from coditect_cli.migrations.phase1.service import cloud_run, tagged_revision
from coditect_cli.migrations.step import Action, Observation, Step, World, program


class DeployStaging(Step):
    name = "deploy-staging"
    title = "Deploy it to staging"
    expected = 60.0
    no_inverse = "only testers use staging; the next deployment replaces it"

    def needs(self, world: World) -> str | None:
        cloud_run(world).describe(world.settings.staging_service)  # with a login, and allowed to
        return None

    def observe(self, world: World) -> Observation:
        name = world.settings.staging_service
        service = cloud_run(world).describe(name)
        if service is None:
            return Observation(False, f"there is no service {name} yet: this is its first")
        revision = tagged_revision(world, service)
        if revision is None:
            return Observation(False, f"{name} has another image at {world.settings.tag}")
        target = service.tagged(world.settings.tag)
        url = target.url if target is not None else None
        return Observation(
            revision.is_ready,
            f"{name} has this image at {world.settings.tag}"
            + ("" if revision.is_ready else f", not ready: {revision.why_not}"),
            {"staging_url": url or service.url, "staging_revision": revision.name},
        )

    def actions(self, world: World) -> Sequence[Action]:
        settings = world.settings
        argv = cloud_run(world).deploy_argv(
            settings.staging_service, image_by_digest(world), tag=settings.tag, traffic=True
        )
        return [program(argv, timeout=world.settings.change_timeout)]
