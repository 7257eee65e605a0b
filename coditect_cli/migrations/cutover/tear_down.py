"""Cutover, step 5: delete the old cluster, when nobody is on it any more."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from coditect_cli.errors import Failed, NotFound
from coditect_cli.migrations import gke, programs
from coditect_cli.migrations.cutover.metrics import read_metrics
from coditect_cli.migrations.cutover.shift import ALL, share_of
from coditect_cli.migrations.gates import MOST_ENTRIES, read_entries
from coditect_cli.migrations.step import Action, Facts, Observation, Step, World
from coditect_cli.sessions.session import parse_time

DAY = 86_400.0  # seconds
_GAUGES = ("coditect_sessions", "coditect_connections")
_EVENT = re.compile(r"\b(?P<event>session_started|session_ended|joined|left) (?P<fields>.*)")


class TearDown(Step):
    """That nobody is on it must have been seen: a cluster that says nothing is not deleted."""

    name = "tear-down"
    expected = 420.0
    no_inverse = "a deleted cluster can't be brought back"

    def __init__(self, cluster: str) -> None:
        self.title = f"Delete the cluster {cluster}"
        self.confirm = cluster

    def needs(self, world: World) -> str | None:
        self.observe(world)  # who may not look is told before anything
        for url in world.settings.old_metrics:
            read_metrics(url)
        return None

    def precondition(self, world: World) -> str | None:
        if self._status(world) in (None, gke.DELETING):
            return None
        share = share_of(world)
        if share != ALL:
            found = "an unknown part" if share is None else f"{share} %"
            return f"Cloud Run must have all traffic, and has {found}"
        return why_in_use(world)

    def observe(self, world: World) -> Observation:
        settings = world.settings
        try:
            found = programs.run_json(_argv(world, "describe"))
        except NotFound as error:
            if "Did you mean" in error.message:  # gcloud knows one of this name elsewhere
                raise Failed(
                    f"{settings.old_cluster} is not in {settings.region_of_old_cluster}: "
                    f"{error.message}",
                    code="cutover.elsewhere",
                    hint="name its region: --old-cluster-region",
                ) from error
            return Observation(True, f"there is no cluster {settings.old_cluster}")
        status = found.get("status", "of unknown status")
        return Observation(False, f"{settings.old_cluster} is {status}", {"status": status})

    def _status(self, world: World) -> gke.Status:
        return self.observe(world).facts.get("status")

    def actions(self, world: World) -> Sequence[Action]:
        argv = _argv(world, "delete")

        def delete() -> Facts:
            patience = world.settings.build_timeout
            # Deleting it goes on where an attempt was cut off, and is refused a second time.
            if gke.settled(lambda: self._status(world), gke.DELETING, patience=patience) is None:
                return {}
            if (reason := why_in_use(world)) is not None:  # it may have been asked for long ago
                raise Failed(reason, code="cutover.in_use")
            programs.run(argv, timeout=patience)
            return {}

        return [Action(delete, argv=argv)]

    def restored(self, world: World, before: Facts) -> str | None:
        seen = self.observe(world)
        return None if seen.facts == dict(before) else seen.detail


def why_in_use(world: World) -> str | None:
    """Why the old cluster can't be said to have no live sessions; None when it can."""
    settings, region = world.settings, world.settings.region_of_old_cluster
    for url in settings.old_metrics:
        found = read_metrics(url)
        told = {name: found[name] for name in _GAUGES if name in found}
        if not told:
            return f"{url} tells neither {' nor '.join(_GAUGES)}"
        if any(told.values()):
            return f"{url} tells " + ", ".join(f"{name} {told[name]:g}" for name in told)
    now = time.time()
    source = (
        f'resource.type="k8s_container" AND '
        f'resource.labels.cluster_name="{settings.old_cluster}" AND '
        f'resource.labels.location="{region}" AND (textPayload:"session_started " OR '
        'textPayload:"session_ended " OR textPayload:"joined " OR textPayload:"left ")'
    )
    entries = read_entries(world.project, source, now - settings.look_back, now)
    live = live_sessions(entries)
    if live:
        return f"{live} sessions of {settings.old_cluster} have started and not ended"
    is_cut = len(entries) >= MOST_ENTRIES  # who started before the oldest line may still be there
    if (is_cut or not entries) and not settings.old_metrics:
        many = f"{MOST_ENTRIES:,} lines or more" if is_cut else "none"
        logged = f"it logged {many} in {settings.look_back / DAY:g} days"
        return (
            f"nothing tells whether {settings.old_cluster} has live sessions: {logged}; name its "
            "gateways' /metrics: --old-metrics URL, or coditect migrate resume "
            "--set old_metrics=URL"
        )
    return None


def live_sessions(entries: Iterable[Mapping[str, Any]]) -> int:
    """How many sessions have started and not ended, and connections joined and not left.

    A session lives when its last line is its start: one that was restored starts again. Who left
    without having joined in these entries is not set off against those who joined later.
    """
    sessions: dict[str, bool] = {}
    connections: Counter[str] = Counter()
    for event, fields in _in_order(entries):
        identity = re.search(r"\bid=(\S+)", fields)
        if event == "joined":
            connections[fields] += 1
        elif event == "left":
            connections[fields] = max(0, connections[fields] - 1)
        elif identity is not None:
            sessions[identity[1]] = event == "session_started"
    return sum(sessions.values()) + connections.total()


def _in_order(entries: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """The gateways' events and their fields, the oldest first; of one moment, ends before starts.

    Raises Failed for an entry without its time.
    """
    lines = []
    for entry in entries:
        line = _EVENT.search(str(entry.get("textPayload", "")))
        if line is None:
            continue
        try:
            at = parse_time(entry.get("timestamp"))
        except ValueError as rule:
            raise Failed(f"a time in the log is {rule}", code="cutover.unknown_time") from None
        is_start = line["event"] in ("session_started", "joined")
        lines.append((at, is_start, line["event"], line["fields"].strip()))
    for _, _, event, fields in sorted(lines):
        yield event, fields


def _argv(world: World, verb: str) -> tuple[str, ...]:
    where = (
        f"--region={world.settings.region_of_old_cluster}",
        f"--project={world.project}",
        "--format=json",
    )
    return ("gcloud", "container", "clusters", verb, world.settings.old_cluster, *where)
