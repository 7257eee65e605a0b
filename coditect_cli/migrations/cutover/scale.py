"""Cutover, step 1: Cloud Run may grow, and keeps a client on one instance where it can."""

from __future__ import annotations

from collections.abc import Sequence

from coditect_cli.migrations.cloud_run import CloudRun, Service, follow_latest
from coditect_cli.migrations.cutover.shift import why_not_shared
from coditect_cli.migrations.step import Action, Facts, Observation, Step, World, program


class Scale(Step):
    """Both are a revision's settings, so a new one is made, and takes over from the one before.

    Affinity is best effort, and Cloud Run ends each WebSocket at its request time-out: that a
    client resumes where it was does not depend on either.
    """

    name = "scale"
    title = "Let Cloud Run grow, with session affinity"
    expected = 60.0

    def precondition(self, world: World) -> str | None:
        if reason := why_not_shared(world):  # growing is of no use before it is
            return reason
        service = _cloud_run(world).describe(world.settings.service)
        if service is None:
            return f"there is no service {world.settings.service}: coditect migrate phase1 makes it"
        if service.percents == {service.newest_ready: 100}:
            return None
        if _cloud_run(world).runs_as_newest(service.percents, service):
            return None
        return (
            f"{service.name} has a rollout under way ({_shares(service)}, "
            f"the newest is {service.newest_ready}): finish it first"
        )

    def observe(self, world: World) -> Observation:
        settings = world.settings
        service = _cloud_run(world).describe(settings.service)
        if service is None:
            return Observation(False, f"there is no service {settings.service}")
        is_scaled = service.session_affinity and service.max_instances == settings.max_instances
        most = service.max_instances
        bound = "no bound of instances" if most is None else f"at most {most} instances"
        affinity = "with" if service.session_affinity else "without"
        return Observation(
            is_scaled and service.percents == {service.newest_ready: 100},
            f"{_shares(service)}; {bound}, {affinity} session affinity",
            {
                "serving_before_scale": service.percents,
                "scale_before": {
                    "max_instances": service.max_instances,
                    "session_affinity": service.session_affinity,
                    "follows_latest": service.follows_latest,
                },
            },
        )

    def actions(self, world: World) -> Sequence[Action]:
        run, settings = _cloud_run(world), world.settings
        return [
            program(
                run.scale_argv(settings.service, settings.max_instances),
                timeout=world.settings.change_timeout,
            ),
            # Where the traffic was given to a revision by name, the new one has none yet.
            program(run.latest_argv(settings.service), timeout=world.settings.change_timeout),
        ]

    def inverse(self, world: World, before: Facts) -> Sequence[Action]:
        """The revisions that served, at once; then a newest one that is as they were."""
        run, name = _cloud_run(world), world.settings.service
        percents = before.get("serving_before_scale") or {"{serving}": 100}
        back = [program(run.percents_argv(name, percents), timeout=world.settings.change_timeout)]
        if (scale := before.get("scale_before")) is None:
            return back
        argv = run.scale_argv(name, scale["max_instances"], scale["session_affinity"])
        back.append(program(argv, timeout=world.settings.change_timeout))
        if scale["follows_latest"]:
            back.append(follow_latest(run, name, percents, world.settings.change_timeout))
        return back

    def restored(self, world: World, before: Facts) -> str | None:
        service = _cloud_run(world).describe(world.settings.service)
        if service is None:
            return f"there is no service {world.settings.service} any more"
        scale = before.get("scale_before") or {}
        if scale.get("follows_latest"):
            is_back = service.follows_latest
        else:
            is_back = service.percents == before["serving_before_scale"]
        if not is_back:
            return f"traffic is {_shares(service)}, and the newest is {service.newest_ready}"
        found = (service.max_instances, service.session_affinity)
        wanted = (scale.get("max_instances"), scale.get("session_affinity"))
        return None if not scale or found == wanted else "the newest revision is scaled otherwise"


def _cloud_run(world: World) -> CloudRun:
    return CloudRun(world.project, world.settings.region)


def _shares(service: Service) -> str:
    return ", ".join(f"{revision} {percent} %" for revision, percent in service.percents.items())
