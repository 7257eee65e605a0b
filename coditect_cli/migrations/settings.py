"""The settings of migrations: `migrate.NAME` in a context, CODITECT_MIGRATE_NAME, --name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from coditect_cli import config
from coditect_cli.errors import UsageError
from coditect_cli.paths import Paths
from coditect_cli.settings import parse_duration

PHASES = ("phase1", "phase2", "cutover")
# What may change when a run is resumed: nothing that was done, and no way back, depends on it.
LATE = {
    *("tests", "docker", "source", "dockerfile", "build_flags", "probe"),
    *("cluster_file", "replace_secret", "gateway_image", "workspace_image", "ready_timeout"),
    *("change_timeout", "build_timeout"),
    *("bake", "gate_interval", "hold", "min_sessions", "min_requests", "max_error_increase"),
    *("max_error_rate", "old_logs", "old_metrics", "look_back"),
}
# https://cloud.google.com/resource-manager/docs/creating-managing-projects; a domain may be before
_PROJECT = re.compile(r"(?:[a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
_RECORD = re.compile(r"(?:[a-z0-9_*](?:[a-z0-9_-]{0,62})\.)+")
_RECORD_DATA = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]*")
_LABEL = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_IMAGE = re.compile(r"[a-z0-9][a-z0-9.:-]*(?:/[a-z0-9._-]+)+")


def _matching(pattern: re.Pattern[str], rule: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError(rule)
        return value

    return parse


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable() or value[0] == "-":
        raise ValueError("a line of text that does not begin with a dash")
    return value


def _path(value: object) -> str:
    return _text(value)


def _words(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        import shlex

        value = shlex.split(value)  # its ValueError says what is wrong with the quotes
    if not isinstance(value, list) or not value or not all(isinstance(w, str) for w in value):
        raise ValueError("a command: a text, or a list of texts")
    return tuple(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,9}", str(value)):
        raise ValueError("a whole number")
    return int(str(value))


def _percent(value: object) -> int:
    text = str(value).removesuffix("%")
    if isinstance(value, bool) or not re.fullmatch(r"[1-9]\d?|100", text):
        raise ValueError("a percentage from 1 to 100")
    return int(text)


def _shifts(value: object) -> tuple[int, ...]:
    items = value.replace(",", " ").split() if isinstance(value, str) else value
    if isinstance(items, list):
        shifts = tuple(_percent(item) for item in items)
        if shifts and shifts[-1] == 100 and list(shifts) == sorted(set(shifts)):
            return shifts
    raise ValueError("percentages that rise to 100, such as 25,50,75,100")


def _via(value: object) -> str:
    if value not in ("dns", "url-map"):
        raise ValueError('"dns" or "url-map"')
    return str(value)


def _record(value: object) -> str:
    text = str(value)
    name = text if text.endswith(".") else text + "."
    if not isinstance(value, str) or not _RECORD.fullmatch(name):
        raise ValueError("a DNS name such as ws.example.com")
    return name


def _record_type(value: object) -> str:
    if value not in ("A", "AAAA", "CNAME"):
        raise ValueError('"A", "AAAA" or "CNAME"')
    return str(value)


def _pages(value: object) -> tuple[str, ...]:
    items = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(items, list) or not all(
        isinstance(item, str) and re.fullmatch(r"https?://[^/\s?#@]+(/[^\s?#@]*)?", item)
        for item in items
    ):
        raise ValueError("URLs such as http://10.0.0.7:8080/metrics")
    return tuple(items)


def _ratio(value: object) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", str(value))
    ratio = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if isinstance(value, bool) or not 0 <= ratio <= 1:
        raise ValueError("a ratio such as 0.01 or 1%")
    return ratio


def _bool(value: object) -> bool:
    if str(value).lower() not in ("true", "false"):
        raise ValueError("true or false")
    return str(value).lower() == "true"


def _store(value: object) -> str:
    if value not in ("sqlite", "foundationdb"):
        raise ValueError('"sqlite" or "foundationdb"')
    return str(value)


_project = _matching(_PROJECT, "a project's id: 6 to 30 lower-case letters, digits and dashes")
_name = _matching(_LABEL, "a name: lower-case letters, digits and dashes, at most 63")
_image = _matching(_IMAGE, "an image's name such as gcr.io/PROJECT/NAME, with no tag")


_data = _matching(_RECORD_DATA, "an address or a host's name")


def setting(default: Any, parse: Callable[[object], Any], meaning: str, *phases: str) -> Any:
    """A field of MigrateSettings, which is a flag of `phases` (of all of them when none)."""
    metadata = {"parse": parse, "meaning": meaning, "phases": phases or PHASES}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class MigrateSettings:
    """Every setting of migrations; durations in seconds."""

    store: str | None = setting(
        None, _store, "where journal and lock are: sqlite or foundationdb; unset: the context's"
    )
    project: str | None = setting(None, _project, "the Google Cloud project; unset: gcloud's")
    region: str = setting("us-central1", _name, "the region of Cloud Run's services")
    service: str = setting(
        "websocket-gateway", _name, "the Cloud Run service in production", "phase1", "cutover"
    )

    staging_service: str = setting(
        "websocket-gateway-staging", _name, "the Cloud Run service for staging", "phase1"
    )
    image: str | None = setting(
        None, _image, "the image; unset: gcr.io/PROJECT/websocket-gateway", "phase1"
    )
    tag: str = setting("pty-fix", _name, "the tag of image and revision", "phase1")
    docker: tuple[str, ...] = setting(
        ("docker",), _words, "what builds and pushes: docker, or podman", "phase1"
    )
    source: str = setting(".", _path, "the folder that docker builds", "phase1")
    dockerfile: str | None = setting(
        None, _path, "its Dockerfile; unset: the folder's own", "phase1"
    )
    build_flags: tuple[str, ...] = setting(
        (), _words, "more flags of docker build, such as --build-arg=BASE=debian:12", "phase1"
    )
    tests: tuple[str, ...] | None = setting(
        None, _words, "the bridge tests; unset: coditect gateway selftest", "phase1"
    )
    probe: tuple[str, ...] | None = setting(
        None, _words, "what tries staging; unset: coditect gateway probe", "phase1"
    )
    canary_percent: int = setting(10, _percent, "traffic of the first shift", "phase1", "cutover")

    max_instances: int = setting(100, _count, "the most instances of the service", "cutover")
    shifts: tuple[int, ...] = setting(
        (25, 50, 75, 100), _shifts, "the shares of traffic after the first shift", "cutover"
    )
    traffic_via: str = setting("dns", _via, "what shares the traffic: dns or url-map", "cutover")
    dns_zone: str | None = setting(None, _name, "the managed zone of the record", "cutover")
    dns_name: str | None = setting(None, _record, "the name that clients look up", "cutover")
    dns_type: str = setting("A", _record_type, "the record's type", "cutover")
    dns_ttl: int = setting(30, _count, "seconds that the record may be cached", "cutover")
    dns_new: str | None = setting(
        None, _data, "the record's data that leads to Cloud Run", "cutover"
    )
    url_map: str | None = setting(None, _name, "the load balancer's URL map", "cutover")
    new_backend: str | None = setting(
        None, _name, "its backend service that leads to Cloud Run", "cutover"
    )
    old_backend: str | None = setting(
        None, _name, "its backend service that leads to the old cluster", "cutover"
    )
    dashboard: str | None = setting(
        None, _path, "the dashboard's file; unset: the one that comes with coditect", "cutover"
    )
    old_cluster: str = setting(
        "websocket-gateway-cluster", _name, "the cluster that is replaced", "cutover"
    )
    old_cluster_region: str | None = setting(
        None, _name, "the region of that cluster; unset: --region's", "cutover"
    )
    old_logs: str | None = setting(
        None, _text, "a Logging filter of its requests; unset: its containers", "cutover"
    )
    old_metrics: tuple[str, ...] = setting(
        (), _pages, "the /metrics page of each of its gateways", "cutover"
    )

    look_back: float = setting(
        7 * 86_400.0,
        parse_duration,
        "the age of the oldest session that may still live on the old cluster",
        "cutover",
    )

    cluster: str = setting("coditect-cluster", _name, "the Autopilot cluster", "phase2")
    cluster_region: str | None = setting(
        None, _name, "the region of that cluster; unset: --region's", "phase2"
    )
    kube_context: str | None = setting(
        None, _text, "the kubeconfig context; unset: the cluster's own", "phase2"
    )
    namespace: str = setting("coditect", _name, "the namespace of workspaces", "phase2")
    secret_name: str = setting("fdb-cluster", _name, "the secret with the cluster file", "phase2")
    cluster_file: str = setting("fdb.cluster", _path, "FoundationDB's cluster file", "phase2")
    replace_secret: bool = setting(
        False, _bool, "update a secret that has another cluster file", "phase2"
    )
    manifests: str | None = setting(
        None, _path, "a folder of manifests; unset: those that come with coditect", "phase2"
    )
    workspace_image: str | None = setting(
        None, _text, "the workspaces' image; unset: gcr.io/PROJECT/workspace:latest", "phase2"
    )
    gateway_image: str | None = setting(
        None, _text, "the edge gateway's image; unset: gcr.io/PROJECT/gateway:latest", "phase2"
    )
    canary_workspace: str = setting(
        "migration-canary", _name, "the workspace that is made to try it, and removed", "phase2"
    )
    ready_timeout: float = setting(
        600.0, parse_duration, "how long to wait for workloads to be ready", "phase2"
    )

    change_timeout: float = setting(
        600.0,
        parse_duration,
        "how long one change of a service, of traffic or in the cluster may take",
    )
    build_timeout: float = setting(
        3600.0, parse_duration, "how long a build, a push, a test, or making a cluster may take"
    )

    bake: float = setting(
        3600.0, parse_duration, "how long each shift of traffic is watched", "phase1", "cutover"
    )
    min_sessions: int = setting(
        50, _count, "new sessions that a gate needs to decide", "phase1", "cutover"
    )
    min_requests: int = setting(
        500, _count, "requests that a gate needs to decide", "phase1", "cutover"
    )
    max_error_increase: float = setting(
        0.01, _ratio, "by how much the error rate may exceed the serving one's", "phase1", "cutover"
    )
    max_error_rate: float = setting(
        0.5, _ratio, "the error rate that fails with too little to compare", "phase1", "cutover"
    )
    hold: float = setting(
        1800.0, parse_duration, "how long a gate waits for enough data", "phase1", "cutover"
    )

    gate_interval: float = setting(
        60.0, parse_duration, "how often a gate looks while it waits", "phase1", "cutover"
    )

    @property
    def region_of_cluster(self) -> str:
        """Where the cluster is that is migrated to."""
        return self.cluster_region or self.region

    @property
    def region_of_old_cluster(self) -> str:
        """Where the cluster is that is replaced."""
        return self.old_cluster_region or self.region

    def as_dict(self) -> dict[str, Any]:
        """The settings as the journal keeps them for the run's whole life."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def changes(cls, phase: str, pairs: Iterable[str]) -> dict[str, Any]:
        """What NAME=VALUE change in a run that goes on, as as_dict() has it. Raises UsageError.

        A path is of the working directory, whatever the run's own is.
        """
        parsers = {
            one.name: one.metadata["parse"]
            for one in fields(cls)
            if one.name in LATE and phase in one.metadata["phases"]
        }
        found = {}
        for pair in pairs:
            name, equals, value = pair.partition("=")
            if not equals or name not in parsers:
                raise UsageError(
                    f"{pair!r} can't be set in a run of {phase} that was begun",
                    code="migrate.setting",
                    hint=f"NAME=VALUE, with NAME one of {', '.join(sorted(parsers))}",
                )
            try:
                found[name] = parsers[name](value)
                if parsers[name] is _path:
                    found[name] = os.path.abspath(value)
            except ValueError as rule:
                raise UsageError(f"{name} is not {rule}", code="migrate.setting") from None
        return {name: list(one) if isinstance(one, tuple) else one for name, one in found.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MigrateSettings:
        """The settings that a journal kept. Raises TypeError for those of another release."""
        kept: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**kept)


def load_settings(
    paths: Paths, environ: Mapping[str, str], flags: Mapping[str, str], context: str
) -> tuple[MigrateSettings, dict[str, str]]:
    """The settings in effect, and where each came from. Raises UsageError."""
    return config.load_section("migrate", MigrateSettings, paths, environ, flags, context)
