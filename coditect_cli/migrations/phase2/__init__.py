"""Phase 2: a cluster where each workspace is a StatefulSet with its volume."""

from __future__ import annotations

from coditect_cli.migrations.phase2.cluster import GetCredentials, MakeCluster
from coditect_cli.migrations.phase2.manifests import ApplyManifests
from coditect_cli.migrations.phase2.namespace import MakeNamespace
from coditect_cli.migrations.phase2.secret import StoreSecret
from coditect_cli.migrations.phase2.verify import Verify
from coditect_cli.migrations.step import Step, World


def steps(world: World) -> list[Step]:
    """The steps, in order."""
    return [
        MakeCluster(),
        GetCredentials(),
        MakeNamespace(),
        StoreSecret(),
        ApplyManifests(),
        Verify(),
    ]
