"""Phase 1, step 5: a share of production's new connections; the rest where it is now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from coditect_cli.migrations import programs
from coditect_cli.migrations.cloud_run import CloudRun, Service, follow_latest
from coditect_cli.migrations.phase1.image import image_by_digest
from coditect_cli.migrations.phase1.service import cloud_run, shares_differ, tagged_revision, told
from coditect_cli.migrations.step import Action, Facts, Observation, Step, World, program, removal


class Canary(Step):
    """Where nothing serves yet there is nothing to keep: the first revision gets all traffic.

    That is so without a service, and of one whose revisions have all failed to start.
    """

    name = "canary"
    expected = 90.0
    moves = "traffic"

    def __init__(self, percent: int) -> None:
        self.title = f"Give it {percent} % of production"
        self._percent = percent

    def observe(self, world: World) -> Observation:
        name, tag = world.settings.service, world.settings.tag
        run = cloud_run(world)
        service = run.describe(name)
        if service is None:
            first = f"there is no service {name} yet: its first revision gets all traffic at once"
            return Observation(False, first, {"serving": {}, "canary": None, "exists": False})
        revision = tagged_revision(world, service)
        detail = f"{name}: {told(service.percents)}"
        if not service.percents:
            detail += ": what is deployed gets all traffic at once"
        if revision is None:
            detail += f"; {tag} is another image" if service.tagged(tag) else f"; no {tag} yet"
        elif not revision.is_ready:
            detail += f"; {revision.name} is not ready: {revision.why_not}"
        canary = revision.name if revision is not None else None
        share = service.percents.get(canary or "", 0)
        is_done = share == self._percent or (share == 100 and canary is not None)
        target = service.tagged(tag)
        facts = {
            "serving": service.percents,
            "canary": canary,
            "exists": True,
            "tag_before": target.revision if target is not None else None,
            "latest_before": _image_of_latest(run, service),
        }
        return Observation(is_done, detail, facts)

    def actions(self, world: World) -> Sequence[Action]:
        run, settings, image = cloud_run(world), world.settings, image_by_digest(world)
        is_first = world.before.get("serving") == {}
        argv = run.deploy_argv(settings.service, image, tag=settings.tag, traffic=is_first)

        def deploy() -> Facts:
            service = run.describe(settings.service)
            if service is None or tagged_revision(world, service) is None:
                programs.run(argv, timeout=world.settings.change_timeout)
            return {}

        split = run.split_argv(settings.service, settings.tag, self._percent)
        shift = [] if is_first else [program(split, timeout=world.settings.change_timeout)]
        return [Action(deploy, argv=argv), *shift]

    def inverse(self, world: World, before: Facts) -> Sequence[Action]:
        if before.get("exists") is False:
            return [_delete(world)]
        run, name = cloud_run(world), world.settings.service
        serving = before.get("serving", {"{serving}": 100})
        retag = _retag(world, before.get("tag_before"))
        if not serving:
            return [retag]
        back = [
            program(run.percents_argv(name, serving), timeout=world.settings.change_timeout),
            retag,
        ]
        if image := before.get("latest_before", "{image}"):
            # The newest revision is what is undone here: another one is made that is as before.
            follow = follow_latest(run, name, serving, world.settings.change_timeout)
            back += [_renew(world, serving, image), follow]
        return back

    def restored(self, world: World, before: Facts) -> str | None:
        service = cloud_run(world).describe(world.settings.service)
        if service is None or not before["exists"]:
            return shares_differ(service, before["serving"])
        target, tag = service.tagged(world.settings.tag), world.settings.tag
        found = target.revision if target is not None else None
        if found != before["tag_before"]:
            was = before["tag_before"] or "no revision"
            return f"{tag} is the tag of {found or 'no revision'}, and was that of {was}"
        if not before["latest_before"]:
            return shares_differ(service, before["serving"])
        if service.follows_latest:
            return None
        return f"{told(service.percents)}, and not to the newest, which is {service.newest_ready}"


def _image_of_latest(run: CloudRun, service: Service) -> str | None:
    """The image that serves, where traffic follows the newest revision; else None."""
    if not service.follows_latest or len(service.percents) != 1:
        return None
    revision = run.revision(*service.percents)
    return revision.image if revision is not None else None


def _retag(world: World, revision: str | None) -> Action:
    run, name, tag = cloud_run(world), world.settings.service, world.settings.tag
    argv = run.tag_argv(name, tag, revision)

    def retag() -> Facts:
        service = run.describe(name)
        target = service.tagged(tag) if service is not None else None
        if (target.revision if target is not None else None) != revision:
            programs.run(argv, timeout=world.settings.change_timeout)
        return {}

    return Action(retag, argv=argv)


def _renew(world: World, serving: Mapping[str, int], image: str) -> Action:
    run, name = cloud_run(world), world.settings.service
    argv = run.image_argv(name, image)

    def renew() -> Facts:
        service = run.describe(name)
        if service is not None and not run.runs_as_newest(serving, service):
            programs.run(argv, timeout=world.settings.change_timeout)
        return {}

    return Action(renew, argv=argv)


def _delete(world: World) -> Action:
    """Remove the service that this run made."""
    where = (f"--region={world.settings.region}", f"--project={world.project}")
    argv = ("gcloud", "run", "services", "delete", world.settings.service, *where, "--quiet")
    return removal(argv, timeout=world.settings.change_timeout)
