"""Traffic shared by a load balancer: the weights of two backend services in its URL map.

https://cloud.google.com/load-balancing/docs/https/traffic-management-global
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from coditect_cli.errors import Failed
from coditect_cli.migrations import programs
from coditect_cli.migrations.cutover.split import Split
from coditect_cli.migrations.step import Action, Facts, World

_OURS = ("defaultService", "defaultRouteAction")
# Only the server writes these. gcloud prints the id as text in JSON, and refuses that as input.
_SERVERS = ("id", "kind", "selfLink", "creationTimestamp")


class UrlMap(Split):
    """The map's default is changed; all else is imported as it is."""

    def missing(self, world: World) -> list[str]:
        settings = world.settings
        needed = {
            "--url-map": settings.url_map,
            "--new-backend": settings.new_backend,
            "--old-backend": settings.old_backend,
        }
        return [flag for flag, value in needed.items() if value is None]

    def look(self, world: World) -> dict[str, Any]:
        settings = world.settings
        found = _read(world)
        if found.get("pathMatchers"):
            raise Failed(
                f"{settings.url_map} routes by path: its shares are to be changed by hand",
                code="cutover.path_matchers",
            )
        action = found.get("defaultRouteAction") or {}
        weighted = action.get("weightedBackendServices") or [
            {"backendService": found.get("defaultService"), "weight": 100}
        ]
        weights = {
            str(one.get("backendService")).rsplit("/", 1)[-1]: one.get("weight", 0)
            for one in weighted
        }
        if others := set(weights) - {settings.new_backend, settings.old_backend}:
            raise Failed(
                f"{settings.url_map} leads to {', '.join(sorted(others))} too",
                code="cutover.other_targets",
            )
        total = sum(weights.values())
        share = round(100 * weights.get(str(settings.new_backend), 0) / total) if total else 0
        kept = {key: found[key] for key in _OURS if key in found}
        return {"share": share, "url_map_default": kept}

    def shift(self, world: World, percent: int, before: Facts) -> Sequence[Action]:
        settings = world.settings
        place = f"projects/{world.project}/global/backendServices"
        weighted = [
            {"backendService": f"{place}/{name}", "weight": weight}
            for name, weight in (
                (settings.new_backend, percent),
                (settings.old_backend, 100 - percent),
            )
        ]
        return [_import(world, {"defaultRouteAction": {"weightedBackendServices": weighted}})]

    def back(self, world: World, before: Facts) -> Sequence[Action]:
        return [_import(world, before.get("url_map_default", {}))]


def _read(world: World) -> dict[str, Any]:
    found: dict[str, Any] = programs.run_json(_argv(world, "describe", "--format=json"))
    return found


def _import(world: World, default: dict[str, Any]) -> Action:
    """Import the map as it is, with this default; the map is given on stdin, as JSON."""
    argv = _argv(world, "import")

    def perform() -> Facts:
        ours = (*_OURS, *_SERVERS)
        rest = {key: value for key, value in _read(world).items() if key not in ours}
        programs.run(
            argv, timeout=world.settings.change_timeout, stdin=json.dumps({**rest, **default})
        )
        return {}

    return Action(perform, argv=argv, stdin=f"the map as it is, but {_told(default)}")


def _told(default: dict[str, Any]) -> str:
    """A map's default in words: which backend has which weight."""
    if not default:
        return "with the default that it has now"
    action = default.get("defaultRouteAction") or {}
    weights = [
        f"{str(one.get('backendService')).rsplit('/', 1)[-1]}={one.get('weight', 0)}"
        for one in action.get("weightedBackendServices", ())
    ]
    if weights:
        return f"with the weights {', '.join(weights)}"
    return f"with the default {str(default.get('defaultService')).rsplit('/', 1)[-1]}"


def _argv(world: World, verb: str, *flags: str) -> tuple[str, ...]:
    name = world.settings.url_map or "{url_map}"
    where = ("--global", f"--project={world.project}")
    return ("gcloud", "compute", "url-maps", verb, name, *where, *flags)
