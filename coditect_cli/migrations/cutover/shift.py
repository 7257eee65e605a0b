"""Cutover, steps 2 and 4: a share of new connections to Cloud Run, watched before the next."""

from __future__ import annotations

import time
from collections.abc import Sequence

from coditect_cli.errors import CoditectError, Failed, NotFound
from coditect_cli.migrations.cutover.dns import WeightedRecord
from coditect_cli.migrations.cutover.metrics import counted_since, note_counters
from coditect_cli.migrations.cutover.split import Split
from coditect_cli.migrations.cutover.url_map import UrlMap
from coditect_cli.migrations.gates import (
    Limits,
    decide,
    of_cluster,
    of_service,
    read_entries,
    sample,
)
from coditect_cli.migrations.step import Action, Facts, Observation, Step, Verdict, World

ALL = 100  # percent


class Shift(Step):
    """Who is connected stays where they are: a share is one of new connections."""

    expected = 15.0
    moves = "traffic"

    def __init__(self, percent: int, bake: float) -> None:
        self.name = f"traffic-{percent}"
        self.title = f"Give Cloud Run {percent} % of new connections"
        self.bake = bake
        self._percent = percent
        self._counters = f"old_counters_at_{percent}"

    def precondition(self, world: World) -> str | None:
        return why_not_shared(world)

    def observe(self, world: World) -> Observation:
        split = split_of(world)
        if missing := split.missing(world):
            return Observation(False, f"not known without {', '.join(missing)}")
        facts = split.look(world)
        share = facts["share"]
        return Observation(share >= self._percent, f"Cloud Run has {share} %", facts)

    def actions(self, world: World) -> Sequence[Action]:
        shift = split_of(world).shift(world, self._percent, world.before)
        pages = world.settings.old_metrics

        def note() -> Facts:
            return {self._counters: note_counters(pages)}

        noted = [Action(note, call=f"note the counters of {', '.join(pages)}")] if pages else []
        return [*shift, *noted]

    def inverse(self, world: World, before: Facts) -> Sequence[Action]:
        return split_of(world).back(world, before)

    def restored(self, world: World, before: Facts) -> str | None:
        now = split_of(world).look(world)
        if now == dict(before):
            return None
        return f"Cloud Run has {now['share']} %, and had {before['share']} %"

    def gate(self, world: World, since: float) -> Verdict:
        settings, project = world.settings, str(world.target.project)
        until = time.time()
        cloud_run = of_service(settings.service, settings.region)
        old = settings.old_logs or of_cluster(settings.old_cluster, settings.region)
        new = sample(read_entries(project, cloud_run, since, until))
        serving = None
        if self._percent < ALL:
            logged = sample(read_entries(project, old, since, until))
            counted = counted_since(world.outputs.get(self._counters, {}))
            serving = max(logged, counted, key=lambda one: one.requests)
        limits = Limits(settings.min_sessions, settings.min_requests, settings.max_error_increase)
        return decide(new, serving, limits)


def split_of(world: World) -> Split:
    """What shares the traffic, as --traffic-via says."""
    return UrlMap() if world.settings.traffic_via == "url-map" else WeightedRecord()


def why_not_shared(world: World) -> str | None:
    """Why the traffic can't be shared; None when it can."""
    split = split_of(world)
    if missing := split.missing(world):
        return f"not known what shares the traffic: pass {', '.join(missing)}"
    try:
        split.look(world)
    except (NotFound, Failed) as error:
        return error.message
    return None


def share_of(world: World) -> int | None:
    """Cloud Run's share in percent; None where it can't be found out."""
    split = split_of(world)
    try:
        return None if split.missing(world) else int(split.look(world)["share"])
    except CoditectError:
        return None
