"""A cluster whose own rules refuse what is sent: a webhook's, and a policy's."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from tests.conftest import RunCli
from tests.support.cluster import PATIENCE, Cluster
from tests.support.gateway import until
from tests.support.http_server import HTTPServer
from tests.workspaces.conformance import refusal

pytestmark = pytest.mark.usefixtures("provider")

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
RULE = {"apiVersions": ["v1"], "operations": ["CREATE"]}


class Deny(BaseHTTPRequestHandler):
    """Denies what it is asked about, in the words of GKE Autopilot's."""

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = {"message": "GKE Warden rejected the request"}
        review["response"] = {"uid": review["request"]["uid"], "allowed": False, "status": status}
        body = json.dumps(review).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def webhook(cluster: Cluster) -> Iterator[str]:
    """The address of one that denies."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*cluster.authority.issue("webhook", "webhook", hosts=["127.0.0.1"]))
    with HTTPServer(("127.0.0.1", 0), Deny) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever).start()
        yield f"https://127.0.0.1:{server.server_port}/"
        server.shutdown()


def deny(cluster: Cluster, namespace: str, url: str, resource: str) -> None:
    """Have the webhook asked about this namespace's objects, and wait until it is."""
    authority = base64.b64encode(cluster.authority.certificate.read_bytes()).decode()
    hook = {
        "name": "deny.example.com",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {"url": url, "caBundle": authority},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "rules": [{**RULE, "apiGroups": ["", "apps"], "resources": [resource, "configmaps"]}],
    }
    path = f"{ADMISSION}/validatingwebhookconfigurations"
    cluster.request("POST", path, {"metadata": {"name": namespace}, "webhooks": [hook]})
    probe = ("create", "configmap", "probe", "-n", namespace, "--dry-run=server")
    until(lambda: "denied" in cluster.kubectl(*probe, check=False), "a webhook", PATIENCE)


@pytest.mark.parametrize(
    ("resource", "status", "code"),
    [("statefulsets", 5, "kube.forbidden"), ("pods", 8, "workspace.refused")],
)
def test_what_a_webhook_denies_is_refused_in_its_words(
    run_cli: RunCli,
    cluster: Cluster,
    namespace: str,
    webhook: str,
    resource: str,
    status: int,
    code: str,
) -> None:
    deny(cluster, namespace, webhook, resource)
    try:
        assert refusal(run_cli, "workspace", "create", "demo") == (status, code)
        run_cli("workspace", "delete", "demo", "--force")
        said = run_cli("workspace", "create", "demo")[2]
        assert "denied the request: GKE Warden rejected the request" in said
    finally:
        cluster.request("DELETE", f"{ADMISSION}/validatingwebhookconfigurations/{namespace}")


def test_what_a_policy_denies_is_refused_in_its_words(
    run_cli: RunCli, cluster: Cluster, namespace: str
) -> None:
    rule = {**RULE, "apiGroups": ["", "apps"], "resources": ["statefulsets", "configmaps"]}
    policy = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "false", "message": "images must be signed"}],
    }
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    binding = {"policyName": namespace, "validationActions": ["Deny"], "matchResources": here}
    kinds = {"validatingadmissionpolicies": policy, "validatingadmissionpolicybindings": binding}
    for kind, spec in kinds.items():
        body = {"metadata": {"name": namespace}, "spec": spec}
        cluster.request("POST", f"{ADMISSION}/{kind}", body)
    probe = ("create", "configmap", "probe", "-n", namespace, "--dry-run=server")
    try:
        until(lambda: "denied" in cluster.kubectl(*probe, check=False), "a policy", PATIENCE)
        code, _, said = run_cli("workspace", "create", "demo")
        assert code == 2
        assert "the cluster refuses these values:\n  ValidatingAdmissionPolicy" in said
        assert "images must be signed" in said
    finally:
        for kind in kinds:
            cluster.request("DELETE", f"{ADMISSION}/{kind}/{namespace}")
