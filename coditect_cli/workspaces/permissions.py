"""What the user of a cluster may do, as the cluster itself says."""

from __future__ import annotations

from collections.abc import Iterable

from coditect_cli.kube import Kube
from coditect_cli.workspaces.manifest import Grant

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def missing(kube: Kube, grants: Iterable[Grant]) -> list[Grant]:
    """Those of `grants` that this user does not have in the namespace."""
    return [grant for grant in grants if not _has(kube, grant)]


def _has(kube: Kube, grant: Grant) -> bool:
    wanted = {"namespace": kube.namespace, **grant._asdict()}
    review = kube.create(_REVIEWS, {"spec": {"resourceAttributes": wanted}})
    return bool(review["status"]["allowed"])
