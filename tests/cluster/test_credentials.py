"""How a context finds its cluster: kubeconfig, its contexts and plugins, or the pod's own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from coditect_cli import tokens
from tests.conftest import RunCli
from tests.support.cluster import MANIFESTS, Cluster
from tests.workspaces.conformance import document, refusal

pytestmark = pytest.mark.usefixtures("provider")


def with_plugin(cluster: Cluster, folder: Path, program: str) -> Path:
    """A kubeconfig whose user is what a program says, as gke-gcloud-auth-plugin is one."""
    plugin = folder / "plugin"
    plugin.write_text(f"#!{sys.executable}\n{program}")
    plugin.chmod(0o755)
    user = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(plugin),
        "interactiveMode": "Never",
    }
    return cluster.write_kubeconfig(f"plugin-{folder.name}", {"exec": user})


def admin_token(cluster: Cluster, namespace: str) -> str:
    kubeconfig = yaml.safe_load(cluster.service_account(namespace, "default").read_text())
    cluster.kubectl(
        *("create", "rolebinding", "all", "-n", namespace, "--clusterrole=admin"),
        f"--serviceaccount={namespace}:default",
    )
    return str(kubeconfig["users"][0]["user"]["token"])


def test_a_credential_plugin_is_run(
    run_cli: RunCli,
    cluster: Cluster,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": admin_token(cluster, namespace)},
    }
    kubeconfig = with_plugin(cluster, tmp_path, f"print({json.dumps(answer)!r})")
    monkeypatch.setenv("CODITECT_KUBECONFIG", str(kubeconfig))
    assert document(run_cli, "workspace", "list")["items"] == []


class Metadata(BaseHTTPRequestHandler):
    """Answers as Google's metadata server, to whom asks it through a proxy."""

    token: str

    def do_GET(self) -> None:
        place = "computeMetadata/v1/instance/service-accounts/default/token"
        is_right = self.path.split("?")[0] == f"http://metadata.google.internal/{place}"
        self.send_response(200 if is_right and self.headers["Metadata-Flavor"] == "Google" else 404)
        self.end_headers()
        self.wfile.write(json.dumps({"access_token": self.token, "expires_in": 3_599}).encode())

    def log_message(self, *_: object) -> None: ...


def test_the_page_gives_a_kubeconfig_for_cloud_run(
    run_cli: RunCli,
    cluster: Cluster,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = (MANIFESTS.parent / "docs" / "kubernetes.md").read_text()
    [text] = re.findall(r"^```yaml\n(.*?)^```$", page, re.M | re.S)
    config = yaml.safe_load(text)
    ours = yaml.safe_load(cluster.kubeconfig.read_text())
    config["clusters"][0]["cluster"] = ours["clusters"][0]["cluster"]
    config["users"][0]["user"]["exec"]["command"] = sys.executable
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("CODITECT_KUBECONFIG", str(tmp_path / "kubeconfig"))
    handler = type("Handler", (Metadata,), {"token": admin_token(cluster, namespace)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=[0.05])
        serving.start()
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
        found = run_cli("workspace", "list", "-o", "name")
        server.shutdown()
        serving.join()
    assert found == (0, "", "")


class Issuer(BaseHTTPRequestHandler):
    """An OpenID provider that renews a login."""

    token: str

    def do_GET(self) -> None:
        self.answer({"token_endpoint": f"http://{self.headers['Host']}/token"})

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers["Content-Length"]))
        renews = b"grant_type=refresh_token" in form and b"refresh_token=before" in form
        token = self.token if renews else "wrong"
        self.answer({"id_token": token, "access_token": "a", "refresh_token": "after"})

    def answer(self, body: dict[str, str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None: ...


def test_an_openid_login_that_has_expired_is_renewed(cluster: Cluster, namespace: str) -> None:
    handler = type("Handler", (Issuer,), {"token": admin_token(cluster, namespace)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=[0.05])
        serving.start()
        config = {
            "client-id": "kubernetes",
            "client-secret": "secret",
            "id-token": tokens.issue(
                bytes(32), workspace_id="x", user_id="ada", ttl=1, now=time.time() - 3_600
            ),
            "idp-issuer-url": f"http://127.0.0.1:{server.server_port}",
            "refresh-token": "before",
        }
        user = {"auth-provider": {"name": "oidc", "config": config}}
        kubeconfig = cluster.write_kubeconfig(f"openid-{namespace}", user)
        done = subprocess.run(  # by itself: other tests may have imported all of the package
            [sys.executable, "-m", "coditect_cli", "workspace", "list", "-o", "name"],
            env=os.environ
            | {"CODITECT_KUBECONFIG": str(kubeconfig), "OAUTHLIB_INSECURE_TRANSPORT": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        server.shutdown()
        serving.join()
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "print('{}')", "print('secret')"])
def test_a_plugin_that_fails_is_told(
    run_cli: RunCli,
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
) -> None:
    monkeypatch.setenv("CODITECT_KUBECONFIG", str(with_plugin(cluster, tmp_path, program)))
    assert refusal(run_cli, "workspace", "list") == (4, "kube.credentials")
    assert "secret" not in run_cli("workspace", "list")[2]


def test_a_context_of_the_kubeconfig_is_chosen(
    run_cli: RunCli, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.delenv("CODITECT_KUBECONFIG")
    assert run_cli("workspace", "list", "-o", "name") == (0, "", "")
    monkeypatch.setenv("CODITECT_KUBE_CONTEXT", "test")
    assert run_cli("workspace", "list", "-o", "name") == (0, "", "")
    monkeypatch.setenv("CODITECT_KUBE_CONTEXT", "other")
    assert refusal(run_cli, "workspace", "list") == (2, "kube.config")


@pytest.mark.parametrize("content", [None, "", "{", "a: 1", "[]"])
def test_a_kubeconfig_that_is_none(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("CODITECT_KUBECONFIG", str(file))
    assert refusal(run_cli, "workspace", "list") == (2, "kube.config")


def test_in_a_pod_its_service_account_is_used(
    run_cli: RunCli,
    cluster: Cluster,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from kubernetes.config import incluster_config

    token, authority = tmp_path / "token", cluster.authority.certificate
    token.write_text(admin_token(cluster, namespace))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority))
    host, port = cluster.url.removeprefix("https://").split(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CODITECT_KUBECONFIG")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert document(run_cli, "workspace", "list")["items"] == []
