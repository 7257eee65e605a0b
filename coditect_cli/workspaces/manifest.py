"""The manifest of a workspace, filled in from `manifests/base/workspace-statefulset.yaml`."""

from __future__ import annotations

import base64
import hashlib
import re
from copy import deepcopy
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from coditect_cli.errors import UsageError
from coditect_cli.kube import Object
from coditect_cli.settings import Settings

OWNER = "coditect.dev/owner"  # annotation: the user id, as it is
REQUEST = "coditect.dev/request"  # annotation: which create made it
VOLUME = "workspace-storage"
ROOT = "/workspace"
SECRETS = "/secrets"
_SPOT = "cloud.google.com/gke-spot"
_HASHED = "sha256."  # begins the labels of user ids that are no labels


def folder() -> Path:
    """Where the manifests are: in the installed package, or at the top of a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "manifests"
    return installed if installed.is_dir() else package.parent / "manifests"


class Grant(NamedTuple):
    """What a rule of a Role allows, as the API has it in `resourceAttributes`."""

    group: str
    resource: str
    verb: str


def grants(file: str) -> list[Grant]:
    """What the Role in one of the base's files grants."""
    import yaml

    documents = yaml.safe_load_all((folder() / "base" / file).read_text())
    [role] = (document for document in documents if document["kind"] == "Role")
    return [
        Grant(*found)
        for rule in role["rules"]
        for found in product(rule["apiGroups"], rule["resources"], rule["verbs"])
    ]


def claim_name(id: str) -> str:
    """The volume claim of a workspace's only pod, as its StatefulSet's controller names it."""
    return f"{VOLUME}-{id}-0"


def user_label(owner: str) -> str:
    """A user id as a label value: itself where that is legal, else a hash; no two are the same."""
    legal = re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", owner)
    if legal and not owner.startswith(_HASHED):
        return owner
    digest = hashlib.sha256(owner.encode()).digest()
    return _HASHED + base64.b32encode(digest).decode().rstrip("=").lower()


def build(id: str, owner: str, settings: Settings) -> tuple[Object, Object]:
    """A new workspace's volume claim and StatefulSet.

    Raises UsageError when no image was chosen.
    """
    import yaml

    text = (folder() / "base" / "workspace-statefulset.yaml").read_text()
    stateful_set: Object = yaml.safe_load(text)
    spec = stateful_set["spec"]
    pod, template = spec["template"], spec["volumeClaimTemplates"][0]
    stateful_set["metadata"] |= {"name": id, "namespace": settings.namespace}
    labels = {"app": "workspace", "workspace-id": id, "user-id": user_label(owner)}
    for part in (stateful_set, pod, template):
        part["metadata"] |= {"labels": dict(labels), "annotations": {OWNER: owner}}
    spec["selector"]["matchLabels"] = {"workspace-id": id}
    _fill_container(pod["spec"]["containers"][0], settings)
    _fill_claim(template["spec"], settings)
    if not settings.spot:
        _leave_spot(pod["spec"])
    return _claim(id, settings.namespace, template), stateful_set


def _fill_container(container: Object, settings: Settings) -> None:
    container["image"] = settings.image or container["image"]
    if "PROJECT_ID" in container["image"]:
        raise UsageError(
            "no image was chosen for the workspace",
            code="workspace.no_image",
            hint="pass --image IMAGE, or: coditect context set NAME image=IMAGE",
        )
    resources = container["resources"]
    for name, wanted in (("cpu", settings.cpu), ("memory", settings.memory)):
        if wanted is not None:
            resources["requests"][name] = wanted
            resources["limits"][name] = _twice(wanted)
    container["env"] += [{"name": name, "value": text} for name, text in _store(settings).items()]


def _store(settings: Settings) -> dict[str, str]:
    """Where the pod saves sessions: where this context looks for them, with the secret's files."""
    if settings.store == "sqlite":
        return {}  # on its volume
    variables = {"CODITECT_STORE": settings.store}
    if settings.fdb_tls_certificate_file is not None:
        variables |= {
            "CODITECT_FDB_TLS_CERTIFICATE_FILE": f"{SECRETS}/tls.crt",
            "CODITECT_FDB_TLS_KEY_FILE": f"{SECRETS}/tls.key",
            "CODITECT_FDB_TLS_CA_FILE": f"{SECRETS}/ca.crt",
        }
    return variables


def _fill_claim(spec: Object, settings: Settings) -> None:
    if settings.storage is not None:
        spec["resources"]["requests"]["storage"] = settings.storage
    if settings.storage_class is not None:
        spec["storageClassName"] = settings.storage_class


def _leave_spot(pod: Object) -> None:
    del pod["nodeSelector"][_SPOT]
    pod["tolerations"] = [each for each in pod["tolerations"] if each["key"] != _SPOT]
    for empty in [name for name in ("nodeSelector", "tolerations") if not pod[name]]:
        del pod[empty]


def _claim(id: str, namespace: str, template: Object) -> Object:
    # Made before the StatefulSet: whose volume it is is settled by whoever makes it first.
    claim: dict[str, Any] = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    claim |= deepcopy(template)
    claim["metadata"] |= {"name": claim_name(id), "namespace": namespace}
    return claim


def _twice(quantity: str) -> str:
    number, suffix = re.findall(r"^([\d.]+)(.*)", quantity)[0]
    return f"{Decimal(number) * 2:f}{suffix}"
