"""The Role workspace-operator is what our commands need: all of it, and nothing more."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from coditect_cli.errors import CoditectError, Forbidden
from coditect_cli.kube import Kube
from coditect_cli.settings import Settings
from coditect_cli.workspaces.kubernetes import KubernetesWorkspaces
from tests.cluster.conftest import IMAGE, OWNER
from tests.support.cluster import MANIFESTS, PATIENCE, Cluster

RULES = next(
    document["rules"]
    for document in yaml.safe_load_all((MANIFESTS / "base" / "operator-role.yaml").read_text())
    if document["kind"] == "Role"
)
GRANTS = [
    (group, resource, verb)
    for rule in RULES
    for group, resource, verb in itertools.product(
        rule["apiGroups"], rule["resources"], rule["verbs"]
    )
]
names = itertools.count()


def quiet(_: str) -> None: ...


def grant(cluster: Cluster, namespace: str, rules: list[dict[str, Any]]) -> Path:
    """The kubeconfig of a new user who may do just that."""
    user = f"operator-{next(names)}"
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    cluster.request("POST", f"{path}/roles", {"metadata": {"name": user}, "rules": rules})
    group = "rbac.authorization.k8s.io"
    binding = {
        "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": user},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    cluster.request("POST", f"{path}/rolebindings", binding)
    return cluster.user(user)


def use_everything(kubeconfig: Path, namespace: str, id: str) -> None:
    """Each method of the backend once; raises what the first that fails does."""
    settings = Settings(
        provider="kubernetes", kubeconfig=str(kubeconfig), namespace=namespace, image=IMAGE
    )
    workspaces = KubernetesWorkspaces(Kube(settings), settings)
    workspaces.create(id, OWNER)
    workspaces.wait(id, "running", PATIENCE, quiet)
    list(workspaces.pages(None, quiet, nodes=True))
    follow(workspaces.watch(None, quiet, nodes=False), workspaces, id)
    workspaces.details(id)
    workspaces.delete(id)
    workspaces.wait(id, "deleted", PATIENCE, quiet)
    workspaces.create(id, OWNER)  # with the volume that was kept
    workspaces.delete(id, purge=True)
    workspaces.wait(id, "deleted", PATIENCE, quiet)


def follow(watch: Iterator[Any], workspaces: KubernetesWorkspaces, id: str) -> None:
    next(watch)
    workspaces.set_desired(id, "stopped")
    next(watch)


def test_the_role_is_enough(cluster: Cluster, namespace: str) -> None:
    use_everything(grant(cluster, namespace, RULES), namespace, "demo")


@pytest.mark.slow
@pytest.mark.parametrize("spare", GRANTS, ids="-".join)
def test_no_verb_is_spare(cluster: Cluster, namespace: str, spare: tuple[str, str, str]) -> None:
    rules = [
        {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
        for group, resource, verb in GRANTS
        if (group, resource, verb) != spare
    ]
    with pytest.raises(Forbidden) as caught:
        use_everything(grant(cluster, namespace, rules), namespace, "demo")
    group, resource, verb = spare
    assert caught.value.code == "kube.forbidden"
    assert f"may not {verb} {resource}" in caught.value.message
    hint = caught.value.hint or ""
    assert yaml.safe_load(
        hint.split("rule, as", 1)[1].split(":\n", 1)[1].split("\nits volume")[0]
    ) == [{"apiGroups": [group], "resources": [resource], "verbs": [verb]}]


def test_nobody_is_not_authenticated(cluster: Cluster, namespace: str) -> None:
    kubeconfig = cluster.write_kubeconfig("nobody", {"token": "wrong"})
    with pytest.raises(CoditectError) as caught:
        use_everything(kubeconfig, namespace, "demo")
    assert (caught.value.exit_code, caught.value.code) == (4, "kube.unauthorized")
    assert "wrong" not in str(caught.value.as_dict())
