"""How a context finds its cluster: kubeconfig, its contexts and plugins, or the pod's own."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
import time
import warnings
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import yaml

from coditect_cli import kube, tokens
from coditect_cli.kube import Kube
from coditect_cli.settings import Settings
from tests.conftest import RunCli
from tests.support.cluster import MANIFESTS, Cluster
from tests.support.http_server import HTTPServer
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
    with HTTPServer(("127.0.0.1", 0), handler) as server:
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
    with HTTPServer(("127.0.0.1", 0), handler) as server:
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
    assert "it has no context other, but test" in run_cli("workspace", "list")[2]


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


def test_a_user_who_acts_as_another_is_that_one(
    run_cli: RunCli, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As kubectl does: who gives up rights by it must not act with their own."""
    admin = yaml.safe_load(cluster.kubeconfig.read_text())["users"][0]["user"]
    bob = cluster.write_kubeconfig("bob", {**admin, "as": "bob"})
    monkeypatch.setenv("CODITECT_KUBECONFIG", str(bob))
    assert "bob may not list statefulsets" in run_cli("workspace", "list")[2]
    rights = {"as-groups": ["a", "system:masters"], "as-user-extra": {"reason/x": ["leave"]}}
    root = cluster.write_kubeconfig("root", {**admin, "as": "bob", "as-uid": "7", **rights})
    found = cluster.kubectl("--kubeconfig", str(root), "auth", "whoami", "-o", "json")
    monkeypatch.setenv("CODITECT_KUBECONFIG", str(root))
    assert run_cli("workspace", "list", "-o", "name") == (0, "", "")
    asked = Kube(Settings(kubeconfig=str(root)))
    review = asked.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
    assert review["status"] == json.loads(found)["status"]


def with_cluster(cluster: Cluster, name: str, fields: dict[str, object]) -> Path:
    """The administrator's kubeconfig, with other fields of its cluster."""
    found = yaml.safe_load(cluster.kubeconfig.read_text())
    found["clusters"][0]["cluster"] = {"server": cluster.url, **fields}
    file = cluster.folder / f"{name}.kubeconfig"
    file.write_text(yaml.safe_dump(found))
    return file


def test_a_certificate_that_need_not_be_checked_is_not_complained_of(
    run_cli: RunCli, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = with_cluster(cluster, "unchecked", {"insecure-skip-tls-verify": True})
    monkeypatch.setenv("CODITECT_KUBECONFIG", str(file))
    with warnings.catch_warnings(record=True) as said:
        assert run_cli("workspace", "list", "-o", "name") == (0, "", "")
    assert said == []


@pytest.mark.parametrize(
    ("scheme", "status", "words"),
    [("http", 9, "its proxy: Failed to"), ("socks5", 2, "pip install PySocks")],
)
def test_a_proxy_that_can_not_be_used_is_told(
    run_cli: RunCli,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    status: int,
    words: str,
) -> None:
    monkeypatch.setattr(kube, "_backoff", lambda attempt: 0.0)
    monkeypatch.setitem(sys.modules, "socks", None)  # PySocks
    monkeypatch.delitem(sys.modules, "urllib3.contrib.socks", raising=False)
    proxy = f"{scheme}://ada:secret@127.0.0.1:1"
    monkeypatch.setenv(
        "CODITECT_KUBECONFIG", str(with_cluster(cluster, scheme, {"proxy-url": proxy}))
    )
    code, _, err = run_cli("workspace", "list")
    assert (code, words in err, "secret" in err) == (status, True, False)


def test_keys_are_not_left_in_files_by_a_command_that_is_killed(
    cluster: Cluster, tmp_path: Path
) -> None:
    found = yaml.safe_load(cluster.kubeconfig.read_text())
    user = found["users"][0]["user"]
    for name in ("client-certificate", "client-key"):
        content = Path(user.pop(name)).read_bytes()
        user[f"{name}-data"] = base64.b64encode(content).decode()
    file = cluster.write_kubeconfig("inline", user)
    line = [sys.executable, "-m", "coditect_cli", "workspace", "list", "--watch"]
    environ = {**os.environ, "CODITECT_KUBECONFIG": str(file), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(line, env=environ, stdout=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().startswith(b"ID")
        watching.kill()
    assert os.listdir(tmp_path) == []


def test_a_proxy_is_shown_who_asks(
    run_cli: RunCli, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube, "_backoff", lambda attempt: 0.0)
    shown: set[str | None] = set()

    class Refusing(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            shown.add(self.headers["Proxy-Authorization"])
            self.send_error(407)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever).start()
        proxy = f"http://ada:p%40ss@127.0.0.1:{server.server_port}"
        file = with_cluster(cluster, "proxied", {"proxy-url": proxy})
        monkeypatch.setenv("CODITECT_KUBECONFIG", str(file))
        code, _, err = run_cli("workspace", "list")
        server.shutdown()
    assert (code, "its proxy: Tunnel connection failed: 407" in err) == (9, True)
    assert shown == {"Basic " + base64.b64encode(b"ada:p@ss").decode()}
