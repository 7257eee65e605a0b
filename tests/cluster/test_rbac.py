"""Each Role is what its bearer needs: all of it, and nothing more."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from coditect_cli.errors import CoditectError, Forbidden
from coditect_cli.gateway.pods import sources
from coditect_cli.kube import Kube
from coditect_cli.kube_watch import Watches
from coditect_cli.settings import Settings
from coditect_cli.workspaces.kubernetes import KubernetesWorkspaces
from coditect_cli.workspaces.manifest import Grant, build, grants
from tests.cluster.conftest import IMAGE, OWNER
from tests.support.cluster import PATIENCE, Cluster

OPERATOR, GATEWAY = grants("operator-role.yaml"), grants("gateway-role.yaml")
names = itertools.count()


def quiet(_: str) -> None: ...


def grant(cluster: Cluster, namespace: str, wanted: list[Grant]) -> Path:
    """The kubeconfig of a new user who may do just that."""
    user = f"user-{next(names)}"
    rules = [rule(one) for one in wanted]
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


def rule(wanted: Grant) -> dict[str, Any]:
    return {"apiGroups": [wanted.group], "resources": [wanted.resource], "verbs": [wanted.verb]}


def use_everything(kubeconfig: Path, namespace: str, id: str) -> None:
    """Each method of the backend once; raises what the first that fails does."""
    settings = Settings(
        provider="kubernetes", kubeconfig=str(kubeconfig), namespace=namespace, image=IMAGE
    )
    workspaces = KubernetesWorkspaces(Kube(settings), settings)
    workspaces.create(id, OWNER)
    workspaces.wait(id, "running", PATIENCE, quiet)
    list(workspaces.pages(None, quiet, whole=True))
    follow(workspaces.watch(None, quiet, whole=False), workspaces, id)
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


def watch_everything(kubeconfig: Path, cluster: Cluster, namespace: str) -> None:
    """What an edge gateway does with the API; raises what the first watch that fails does."""
    settings = Settings(provider="kubernetes", kubeconfig=str(kubeconfig), namespace=namespace)
    wanted = {("pods", "LIST"), ("sets", "LIST"), ("pods", "ADDED"), ("sets", "ADDED")}
    with Watches(Kube(settings), sources(namespace)) as watches:
        made = False
        while wanted and (change := watches.next(PATIENCE)):
            wanted.discard((change.key, change.kind))
            if not made and all(kind == "ADDED" for _, kind in wanted):
                objects = build("demo", OWNER, Settings(namespace=namespace, image=IMAGE))
                cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))
                made = True
    assert not wanted


def test_the_operators_role_is_enough(cluster: Cluster, namespace: str) -> None:
    use_everything(grant(cluster, namespace, OPERATOR), namespace, "demo")


def test_the_gateways_role_is_enough(cluster: Cluster, namespace: str) -> None:
    watch_everything(grant(cluster, namespace, GATEWAY), cluster, namespace)


@pytest.mark.parametrize("spare", GATEWAY, ids="-".join)
def test_no_verb_of_the_gateways_is_spare(cluster: Cluster, namespace: str, spare: Grant) -> None:
    kubeconfig = grant(cluster, namespace, [one for one in GATEWAY if one != spare])
    with pytest.raises(Forbidden) as caught:
        watch_everything(kubeconfig, cluster, namespace)
    assert f"may not {spare.verb} {spare.resource}" in caught.value.message


@pytest.mark.slow
@pytest.mark.parametrize("spare", OPERATOR, ids="-".join)
def test_no_verb_of_the_operators_is_spare(cluster: Cluster, namespace: str, spare: Grant) -> None:
    kubeconfig = grant(cluster, namespace, [one for one in OPERATOR if one != spare])
    with pytest.raises(Forbidden) as caught:
        use_everything(kubeconfig, namespace, "demo")
    assert caught.value.code == "kube.forbidden"
    assert f"may not {spare.verb} {spare.resource}" in caught.value.message
    hint = caught.value.hint or ""
    assert yaml.safe_load(
        hint.split("rule, as", 1)[1].split(":\n", 1)[1].split("\nits volume")[0]
    ) == [rule(spare)]


def test_nobody_is_not_authenticated(cluster: Cluster, namespace: str) -> None:
    kubeconfig = cluster.write_kubeconfig("nobody", {"token": "wrong"})
    with pytest.raises(CoditectError) as caught:
        use_everything(kubeconfig, namespace, "demo")
    assert (caught.value.exit_code, caught.value.code) == (4, "kube.unauthorized")
    assert "wrong" not in str(caught.value.as_dict())
