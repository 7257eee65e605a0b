"""Cutover, steps 2 and 4: a share of new connections to Cloud Run, watched before the next."""

from __future__ import annotations

import time
from collections.abc import Sequence

from coditect_cli.errors import CoditectError, Failed, NotFound, UsageError
from coditect_cli.migrations.cutover.dns import WeightedRecord
from coditect_cli.migrations.cutover.metrics import Counts, counted_since, note_counters
from coditect_cli.migrations.cutover.split import Split
from coditect_cli.migrations.cutover.url_map import UrlMap
from coditect_cli.migrations.gates import (
    Window,
    check_readable,
    decide,
    limits_of,
    of_cluster,
    of_service,
    read_window,
    sample,
    watch,
)
from coditect_cli.migrations.step import (
    Action,
    Facts,
    Observation,
    Step,
    Verdict,
    Watch,
    World,
    moved_meanwhile,
)

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
        self._notes: dict[int, Counts] = {}  # each look's, by its time

    def needs(self, world: World) -> str | None:
        if self._percent == world.settings.canary_percent:  # the others look at the same
            check_readable(world.project, self._sources(world))
        return None

    def precondition(self, world: World) -> str | None:
        return why_not_shared(world)

    def observe(self, world: World) -> Observation:
        if (unknown := _what_is_missing(world)) is not None:
            raise UsageError(unknown)
        facts = split_of(world).look(world)
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

    def watch(self, world: World) -> Watch:
        pages = world.settings.old_metrics if self._percent < ALL else ()
        return watch(world.settings, world.project, self._sources(world), pages, "{until}")

    def gate(self, world: World, since: float) -> Verdict:
        settings = world.settings
        window = read_window(world.project, self._sources(world), since, time.time())
        noted = world.outputs.get(self._counters, {})
        if window.is_cut:
            window, noted = self._since_a_note(window)
        if settings.old_metrics:
            self._notes[time.time_ns()] = note_counters(settings.old_metrics)
        new, *logged = map(sample, window.entries)
        serving = [*logged, counted_since(noted)] if logged else []
        best = max(serving, key=lambda one: one.requests, default=None)
        return window.named_in(decide(new, best, limits_of(settings)))

    def moved(self, world: World) -> str | None:
        share = share_of(world)
        if share is not None and share >= self._percent:
            return None
        found = "an unknown share" if share is None else f"{share} %"
        return moved_meanwhile(f"Cloud Run has {found}, not {self._percent} %")

    def _sources(self, world: World) -> list[str]:
        """What is new; then what served before, while it still does."""
        settings = world.settings
        cluster = of_cluster(settings.old_cluster, settings.region_of_old_cluster)
        old = [settings.old_logs or cluster] if self._percent < ALL else []
        return [of_service(settings.service, settings.region), *old]

    def _since_a_note(self, window: Window) -> tuple[Window, Counts]:
        """Where a window doesn't reach back to the shift: what the counters were within it."""
        self._notes = {at: one for at, one in self._notes.items() if at >= window.since}
        at = min(self._notes, default=None)
        return (window, {}) if at is None else (window.later(at), self._notes[at])


def split_of(world: World) -> Split:
    """What shares the traffic, as --traffic-via says."""
    return UrlMap() if world.settings.traffic_via == "url-map" else WeightedRecord()


def why_not_shared(world: World) -> str | None:
    """Why the traffic can't be shared; None when it can."""
    if (unknown := _what_is_missing(world)) is not None:
        return unknown
    try:
        split_of(world).look(world)
    except (NotFound, Failed) as error:
        return error.message
    return None


def _what_is_missing(world: World) -> str | None:
    missing = split_of(world).missing(world)
    if not missing:
        return None
    return f"not known what shares the traffic: pass {', '.join(missing)}"


def share_of(world: World) -> int | None:
    """Cloud Run's share in percent; None where it can't be found out."""
    split = split_of(world)
    try:
        return None if split.missing(world) else int(split.look(world)["share"])
    except CoditectError:
        return None
