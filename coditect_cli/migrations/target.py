"""Where a migration goes: account, project, region, cluster; and whether they agree."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coditect_cli.errors import CoditectError, Conflict, NotAuthenticated
from coditect_cli.migrations import programs
from coditect_cli.migrations.settings import MigrateSettings

# What `gcloud container clusters get-credentials` calls a cluster in a kubeconfig.
_GKE = re.compile(r"gke_(?P<project>[^_]+)_(?P<region>[^_]+)_(?P<name>.+)")


@dataclass(frozen=True)
class Target:
    """What every plan and every run opens with; None is what could not be found out."""

    context: str
    account: str | None
    project: str | None
    project_source: str
    gcloud_project: str | None
    region: str
    cluster: str | None  # the cluster of kubeconfig's current context
    cluster_region: str | None = None  # where it is not that of `region`
    old_cluster_region: str | None = None
    # Where `cluster` must be what is migrated to, since --kube-context chose it: region and name.
    wanted_cluster: tuple[str, str] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The target as JSON has it."""
        return {
            "context": self.context,
            "account": self.account,
            "project": self.project,
            "projectSource": self.project_source,
            "gcloudProject": self.gcloud_project,
            "region": self.region,
            "cluster": self.cluster,
            "clusterRegion": self.cluster_region,
            "oldClusterRegion": self.old_cluster_region,
        }

    def disagreement(self) -> str | None:
        """What contradicts what; None when the targets agree, or say nothing."""
        if self.gcloud_project and self.project and self.gcloud_project != self.project:
            return (
                f"the project is {self.project} ({self.project_source}), "
                f"but gcloud's is {self.gcloud_project}"
            )
        gke = _GKE.fullmatch(self.cluster or "")
        if gke and self.project and gke["project"] != self.project:
            return (
                f"the project is {self.project} ({self.project_source}), "
                f"but kubeconfig's cluster {gke['name']} is in {gke['project']}"
            )
        if gke and self.wanted_cluster not in (None, (gke["region"], gke["name"])):
            region, name = self.wanted_cluster
            return (
                f"the cluster is {name} in {region} (--cluster), but --kube-context leads to "
                f"{gke['name']} in {gke['region']}"
            )
        return None

    def check(self) -> None:
        """Raises Conflict (migrate.target) on a disagreement, NotAuthenticated without project."""
        if self.project is None:
            raise NotAuthenticated(
                "there is no project to migrate",
                code="migrate.no_project",
                hint="pass --project ID, or coditect context set NAME migrate.project=ID, or "
                "gcloud config set project ID",
            )
        if (reason := self.disagreement()) is not None:
            raise Conflict(
                f"stopped before anything was done: {reason}",
                code="migrate.target",
                hint="make them agree: gcloud config set project ID, kubectl config use-context "
                "NAME, --cluster NAME, --cluster-region REGION, or coditect context set NAME "
                "migrate.project=ID",
            )


def find_target(
    context: str,
    settings: MigrateSettings,
    sources: Mapping[str, str],
    environ: Mapping[str, str] = os.environ,
) -> tuple[Target, CoditectError | None]:
    """Where things point now, and why gcloud could not be asked. Changes nothing."""
    account = configured = problem = None
    try:
        core = (programs.run_json(["gcloud", "config", "list", "--format=json"]) or {}).get("core")
        account, configured = (core or {}).get("account"), (core or {}).get("project")
    except CoditectError as error:
        problem = error
    variable = environ.get("CLOUDSDK_CORE_PROJECT")
    gcloud_project = variable or configured
    if account is None and environ.get("CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"):
        account = "(an access token)"
    source = "CLOUDSDK_CORE_PROJECT" if variable else "gcloud config"
    if not gcloud_project:
        source = "nothing names one"
    if settings.project is not None:
        source = sources.get("project", "the run's journal")
    current = kubeconfig_contexts(environ).get(settings.kube_context or "")
    target = Target(
        context,
        account,
        settings.project or gcloud_project,
        source,
        gcloud_project,
        settings.region,
        current.cluster if current is not None else None,
        settings.cluster_region,
        settings.old_cluster_region,
        (settings.region_of_cluster, settings.cluster) if settings.kube_context else None,
    )
    return target, problem


def kube_context_of(settings: MigrateSettings, target: Target) -> str:
    """The kubeconfig context of the cluster that is migrated to: the setting, else gcloud's."""
    place = f"{target.project or '{project}'}_{settings.region_of_cluster}"
    return settings.kube_context or f"gke_{place}_{settings.cluster}"


@dataclass(frozen=True)
class KubeContext:
    """A context of the kubeconfig: what it calls its cluster, where that answers, and whom it
    takes it from (a certificate, or the name of its file).
    """

    cluster: str
    server: str | None
    authority: str | None = None


def kubeconfig_contexts(environ: Mapping[str, str] = os.environ) -> dict[str, KubeContext]:
    """Each context of the kubeconfig; "" is the current one."""
    import yaml

    files = [Path(name) for name in environ.get("KUBECONFIG", "").split(os.pathsep) if name]
    clusters: dict[str, str] = {}
    places: dict[str, dict[str, Any]] = {}
    current = None
    for file in files or [Path.home() / ".kube" / "config"]:
        try:
            document = yaml.safe_load(file.read_text())
            for entry in document.get("clusters") or ():
                places.setdefault(str(entry["name"]), dict(entry["cluster"]))
            for entry in document.get("contexts") or ():
                clusters.setdefault(str(entry["name"]), str(entry["context"]["cluster"]))
            current = current or document.get("current-context")
        except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError):
            continue  # whoever uses it says what is wrong with it
    if current in clusters:
        clusters[""] = clusters[str(current)]
    return {name: _kube_context(one, places.get(one, {})) for name, one in clusters.items()}


def _kube_context(cluster: str, place: Mapping[str, Any]) -> KubeContext:
    authority = place.get("certificate-authority-data") or place.get("certificate-authority")
    words = (None if word is None else str(word) for word in (place.get("server"), authority))
    return KubeContext(cluster, *words)
