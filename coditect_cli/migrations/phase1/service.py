"""What the steps of phase 1 ask of Cloud Run."""

from __future__ import annotations

from collections.abc import Mapping

from coditect_cli.migrations.cloud_run import CloudRun, Revision, Service
from coditect_cli.migrations.step import World


def cloud_run(world: World) -> CloudRun:
    """The services of the run's project and region."""
    return CloudRun(world.project, world.settings.region)


def tagged_revision(world: World, service: Service) -> Revision | None:
    """The revision with the tag, when it has the image that this run pushed."""
    target = service.tagged(world.settings.tag)
    if target is None or "digest" not in world.outputs:
        return None
    revision = cloud_run(world).revision(target.revision)
    if revision is None or not revision.image.endswith("@" + world.output("digest")):
        return None
    return revision


def told(percents: Mapping[str, int]) -> str:
    """Who gets how much, in words."""
    parts = [f"{percent} % to {revision}" for revision, percent in percents.items()]
    return ", ".join(parts) or "nothing serves yet"


def shares_differ(service: Service | None, wanted: Mapping[str, int]) -> str | None:
    """What production serves, where that is not what was wanted."""
    found = service.percents if service is not None else {}
    if found == wanted:
        return None
    if wanted:
        return f"{told(found)}; it was {told(wanted)}"
    return (
        f"{told(found)}; nothing had any, and Cloud Run takes it from the only one that is ready "
        "where the service is deleted"
    )
