"""The volume of a workspace on Kubernetes: what it really is, beside what was asked for."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

from coditect_cli.errors import Conflict
from coditect_cli.kube import Object
from coditect_cli.workspaces.manifest import claim_name

_SUFFIXES = {"": Decimal(1)} | {s: Decimal(1000) ** -n for n, s in enumerate("mun", 1)}
_SUFFIXES |= {suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", 1)}
_SUFFIXES |= {f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", 1)}


def described(id: str, claim: Object) -> dict[str, Any]:
    """A claim as `show` has it."""
    return {
        "name": claim_name(id),
        "phase": claim.get("status", {}).get("phase"),
        "size": size(claim),
        "class": storage_class(claim),
    }


def size(claim: Object | None) -> str | None:
    """The volume's own once there is one, until then as it is asked for; None without a claim."""
    if claim is None:
        return None
    own: str | None = claim.get("status", {}).get("capacity", {}).get("storage")
    return own or requested(claim)


def requested(claim: Object) -> str | None:
    """The size that a claim asks for; what was asked last, where its volume was made larger."""
    size: str | None = claim["spec"]["resources"].get("requests", {}).get("storage")
    return size


def storage_class(claim: Object) -> str | None:
    name: str | None = claim["spec"].get("storageClassName")
    return name


def differences(kept: Object, wanted: Object) -> dict[str, str]:
    """What of a claim is other than it is wanted: the setting, and both values in words."""
    found = {}
    own, other = requested(kept), requested(wanted)
    if own and other and amount(own) != amount(other):
        found["storage"] = f"its size is {own}, not {other}"
    if storage_class(kept) != storage_class(wanted):
        found["storage_class"] = f"its class is {storage_class(kept)}, not {storage_class(wanted)}"
    return found


def refusal(
    id: str, namespace: str, differing: dict[str, str], wanted: Object, kept: Object
) -> Conflict:
    """The error for a volume that can't be what was asked for; its size can only grow."""
    hint = (
        "leave --storage and --storage-class out to take it over as it is; "
        f"coditect workspace delete {id} --purge removes it with its files"
    )
    own, other = requested(kept), requested(wanted)
    if "storage" in differing and own and other and amount(other) > amount(own):
        change = json.dumps({"spec": {"resources": {"requests": {"storage": other}}}})
        hint += (
            "; where its class lets it grow: "
            f"kubectl patch pvc {claim_name(id)} -n {namespace} -p '{change}'"
        )
    return Conflict(
        f"the volume that an earlier workspace {id} left is not as it is asked for: "
        + ", ".join(differing.values()),
        code="workspace.volume_differs",
        hint=hint,
    )


def take_over(stateful_set: Object, kept: Object) -> None:
    """Let a StatefulSet's template say what the claim is that its pod will find."""
    spec = stateful_set["spec"]["volumeClaimTemplates"][0]["spec"]
    for name in ("resources", "storageClassName"):
        if name in kept["spec"]:
            spec[name] = kept["spec"][name]


def amount(quantity: str) -> Decimal:
    """The number that a Quantity is: 1Ki is 1024, 1e3 and 1k are 1000."""
    number, exponent, suffix = re.findall(r"^([\d.]+)(?:[eE]([+-]?\d+))?(\w*)$", quantity)[0]
    return Decimal(f"{number}e{exponent or 0}") * _SUFFIXES[suffix]
