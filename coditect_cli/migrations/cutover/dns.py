"""Traffic shared by weighted DNS: a record whose answers are the old data or Cloud Run's.

https://cloud.google.com/dns/docs/configure-routing-policies
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coditect_cli.errors import Failed, NotFound
from coditect_cli.migrations import programs
from coditect_cli.migrations.cutover.split import Split
from coditect_cli.migrations.step import Action, Facts, World, program


class WeightedRecord(Split):
    """The old data stays in the record at every share, at last with weight 0: the way back."""

    def missing(self, world: World) -> list[str]:
        settings = world.settings
        needed = {
            "--dns-zone": settings.dns_zone,
            "--dns-name": settings.dns_name,
            "--dns-new": settings.dns_new,
        }
        return [flag for flag, value in needed.items() if value is None]

    def look(self, world: World) -> dict[str, Any]:
        settings = world.settings
        found = programs.run_json(
            _argv(world, "list", f"--zone={settings.dns_zone}", f"--name={settings.dns_name}")
        )
        if not found:
            raise NotFound(
                f"{settings.dns_name} has no {settings.dns_type} record in zone "
                f"{settings.dns_zone}",
                code="cutover.no_record",
            )
        return read_record(found[0], str(settings.dns_new))

    def shift(self, world: World, percent: int, before: Facts) -> Sequence[Action]:
        new = world.settings.dns_new or "{dns_new}"
        old = ";".join(before.get("old_data", ["{old_data}"]))
        return [_weights(world, {new: percent, old: 100 - percent}, world.settings.dns_ttl)]

    def back(self, world: World, before: Facts) -> Sequence[Action]:
        new = world.settings.dns_new or "{dns_new}"
        old = ";".join(before.get("old_data", ["{old_data}"]))
        share, ttl = before.get("share", 0), before.get("ttl", world.settings.dns_ttl)
        weights = {new: share, old: 100 - share}
        if before.get("is_weighted", True):
            return [_weights(world, weights, ttl)]
        # First the traffic, by a change of the kind that was made; then the record's own form.
        plain = f"--rrdatas={','.join(before['old_data'])}"
        quick = _weights(world, weights, world.settings.dns_ttl)
        return [quick, _update(world, f"--ttl={ttl}", plain)]


def read_record(record: Any, new: str) -> dict[str, Any]:
    """The facts of a record, as `gcloud dns record-sets list` gives it.

    Raises Failed for one that can't be shared in two: another policy, more than one other target.
    """
    name = record.get("name")
    policy = record.get("routingPolicy")
    if not policy:
        data = record.get("rrdatas", [])
        share = 100 if data == [new] else 0
        return {"share": share, "old_data": data, "is_weighted": False, "ttl": record.get("ttl")}
    items = (policy.get("wrr") or {}).get("items")
    if items is None:
        raise Failed(f"{name} has a routing policy that is not WRR", code="cutover.other_policy")
    others = [item for item in items if item.get("rrdatas") != [new]]
    if len(others) != 1:
        raise Failed(
            f"{name} leads to {len(others)} targets besides {new}; one is needed to share with",
            code="cutover.other_targets",
        )
    total = sum(item.get("weight", 0) for item in items)
    part = sum(item.get("weight", 0) for item in items if item not in others)
    return {
        "share": round(100 * part / total) if total else 0,
        "old_data": others[0]["rrdatas"],
        "is_weighted": True,
        "ttl": record.get("ttl"),
    }


def _weights(world: World, weights: dict[str, int], ttl: int) -> Action:
    items = [
        f"--routing-policy-item=weight={weight},rrdatas={data}" for data, weight in weights.items()
    ]
    return _update(world, f"--ttl={ttl}", "--routing-policy-type=WRR", *items)


def _update(world: World, *flags: str) -> Action:
    name = world.settings.dns_name or "{dns_name}"
    zone = f"--zone={world.settings.dns_zone or '{dns_zone}'}"
    return program(
        _argv(world, "update", name, zone, *flags), timeout=world.settings.change_timeout
    )


def _argv(world: World, *words: str) -> tuple[str, ...]:
    where = (
        f"--type={world.settings.dns_type}",
        f"--project={world.project}",
        "--format=json",
    )
    return ("gcloud", "dns", "record-sets", *words, *where)
