"""What can be wrong between this machine and a context's cluster."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from coditect_cli.attach.credentials import Credentials
from coditect_cli.attach.link import Address
from coditect_cli.config import Context
from coditect_cli.errors import CoditectError, Forbidden, NotFound
from coditect_cli.finding import Finding
from coditect_cli.kube import Kube
from coditect_cli.paths import Paths
from coditect_cli.settings import Settings
from coditect_cli.workspaces.kubernetes import KubernetesWorkspaces
from coditect_cli.workspaces.manifest import build, grants
from coditect_cli.workspaces.permissions import missing
from coditect_cli.workspaces.spec import GATEWAY

TIMEOUT = 10.0  # seconds for the gateway
_ID = "coditect-doctor"  # of the workspace that the cluster is asked about, and that is not made
_FDB_TLS = ("fdb_tls_certificate_file", "fdb_tls_key_file", "fdb_tls_ca_file")


def examine_cluster(
    context: Context, paths: Paths, environ: Mapping[str, str], tell: Callable[[str], None]
) -> list[Finding]:
    """Every check's finding. Changes nothing; credential plugins and the token command are run.

    `tell` hears of what is tried again.
    """
    findings = list(_api(context.settings, tell))
    credentials = Credentials(context, paths, GATEWAY, environ)
    findings += [_image(context.settings), _gateway(context.settings), _token(credentials)]
    if context.settings.store == "foundationdb":
        findings.append(_fdb_tls(context.settings))
    return findings


def _api(settings: Settings, tell: Callable[[str], None]) -> Iterator[Finding]:
    """The cluster, and what is to be found there; nothing more where it can't be asked."""
    try:
        kube = Kube(settings, tell=tell)
        review = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        user = kube.create(review, {})["status"]["userInfo"]["username"]
    except CoditectError as error:
        yield _failure("cluster", error)
        return
    yield Finding("cluster", "pass", f"{kube.server} knows {user}")
    probe = replace(settings, image=settings.image or _ID)
    try:
        yield _permissions(kube)
        yield _namespace(kube, probe)
        yield _storage_class(kube, probe)
    except CoditectError as error:
        yield _failure("cluster", error)


def _permissions(kube: Kube) -> Finding:
    lacking = missing(kube, grants("operator-role.yaml"))
    if not lacking:
        message = f"all that workspaces in namespace {kube.namespace} need"
        return Finding("permissions", "pass", message)
    words = ", ".join(f"{one.verb} {one.resource}" for one in lacking)
    return Finding(
        "permissions",
        "fail",
        f"this user may not, in namespace {kube.namespace}: {words}",
        f"kubectl create rolebinding NAME -n {kube.namespace} --role=workspace-operator "
        "--user=USER, or for each command the rule that its error shows",
    )


def _namespace(kube: Kube, settings: Settings) -> Finding:
    """Whether a workspace could be made there: the cluster looks at one, and makes nothing."""
    try:
        KubernetesWorkspaces(kube, settings).dry_run(_ID, "doctor")
    except CoditectError as error:
        return _failure("namespace", error)
    return Finding("namespace", "pass", f"{kube.namespace} would take a workspace")


def _storage_class(kube: Kube, settings: Settings) -> Finding:
    claim, _ = build(_ID, "doctor", settings)
    name = claim["spec"]["storageClassName"]
    try:
        kube.get(f"/apis/storage.k8s.io/v1/storageclasses/{name}")
    except NotFound:
        message = f"the cluster has no storage class {name}"
        fix = "set the context's storage_class to one that kubectl get storageclass shows"
        return Finding("storage class", "fail", message, fix)
    except Forbidden:
        message = f"{name}; whether the cluster has it, this user may not see"
        return Finding("storage class", "pass", message)
    return Finding("storage class", "pass", name)


def _image(settings: Settings) -> Finding:
    if settings.image is not None:
        return Finding("image", "pass", settings.image)
    fix = "coditect context set NAME image=IMAGE, or --image at each create"
    return Finding("image", "warn", "no image is set for workspaces", fix)


def _gateway(settings: Settings) -> Finding:
    url = settings.gateway_url
    if url is None:
        message = "no gateway_url is set: attach, exec, cp and live sessions need one"
        fix = "coditect context set NAME gateway_url=wss://HOST/ws"
        return Finding("gateway", "warn", message, fix)
    fix = f"kubectl get pods -l app=gateway -n {settings.namespace}; or set gateway_url anew"
    try:
        status = _page(url, "/readyz")
    except (OSError, http.client.HTTPException) as error:
        return Finding("gateway", "fail", f"{url} does not answer: {error}", fix)
    if status == http.client.OK:
        if Address.parse(url).is_private():
            return Finding("gateway", "pass", f"{url} is ready")
        message = f"{url} is ready, and a token is not sent there unencrypted"
        return Finding("gateway", "warn", message, "wss://HOST/ws, or a port-forward to here")
    return Finding("gateway", "fail", f"{url} is not ready: HTTP status {status}", fix)


def _page(url: str, path: str) -> int:
    """The HTTP status of a gateway's page."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection = (
        http.client.HTTPSConnection(host, parts.port, timeout=TIMEOUT)
        if parts.scheme == "wss"
        else http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT)
    )
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def _token(credentials: Credentials) -> Finding:
    try:
        return Finding("token", "pass", f"it is {credentials.user()}'s")
    except Forbidden as error:  # CODITECT_TOKEN is a workspace's
        return Finding("token", "pass", error.message)
    except CoditectError as error:
        return _failure("token", error)


def _fdb_tls(settings: Settings) -> Finding:
    unset = [name for name in _FDB_TLS if getattr(settings, name) is None]
    if not unset:
        return Finding("fdb tls", "pass", "FoundationDB is reached with mutual TLS")
    return Finding(
        "fdb tls",
        "warn",
        "FoundationDB is reached without mutual TLS: a shell shares its pod's network, and could "
        "read everybody's sessions",
        f"set {', '.join(unset)}, and have the cluster ask for certificates",
    )


def _failure(check: str, error: CoditectError) -> Finding:
    return Finding(check, "fail", error.message, error.hint)
