"""Kubernetes objects from a folder of manifests, and where the API server has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coditect_cli.errors import NotFound, UsageError

if TYPE_CHECKING:
    from coditect_cli.kube import Kube

Object = dict[str, Any]

MANAGED = {"app.kubernetes.io/managed-by": "coditect"}
NAMESPACE = "coditect"  # what manifests say, for whichever namespace was chosen
_FIRST = ("Namespace", "ServiceAccount", "Role", "ClusterRole")


def read_manifests(folder: Path, namespace: str) -> list[Object]:
    """The objects of a folder, in the order to apply them, moved into `namespace`.

    A kustomization.yaml names its files and folders in `resources`; without one all *.yaml are
    taken. Raises UsageError for what is neither, or asks for more of kustomize.
    """
    objects = list(_read(folder, set()))
    for item in objects:
        _move(item, namespace)
    order = {kind: number for number, kind in enumerate(_FIRST)}
    return sorted(objects, key=lambda item: order.get(item["kind"], len(_FIRST)))


def manifest_files(folder: Path) -> list[Path]:
    """The files that the objects of a folder are in. Raises as read_manifests()."""
    seen: set[Path] = set()
    list(_read(folder, seen))
    return sorted(place for place in seen if place.is_file())


def key_of(item: Object) -> str:
    """An object's name for people, and in the journal: kind, namespace, name."""
    metadata = item["metadata"]
    where = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{item['kind']} {where}{metadata['name']}"


def containers_of(item: Object) -> list[Object]:
    """The containers of what starts pods; none of anything else."""
    spec = item.get("spec")
    pod = (spec.get("template") or {}).get("spec") if isinstance(spec, dict) else None
    return list(pod.get("containers") or ()) if isinstance(pod, dict) else []


def path_of(kube: Kube, item: Object) -> str:
    """The path of an object, whose kind the API server is asked for. Raises UsageError."""
    version = item["apiVersion"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    try:
        kinds = kube.get(root)["resources"]
    except NotFound:
        kinds = []
    for kind in kinds:
        if kind["kind"] == item["kind"] and "/" not in kind["name"]:
            metadata = item["metadata"]
            inside = f"/namespaces/{metadata['namespace']}" if kind["namespaced"] else ""
            return f"{root}{inside}/{kind['name']}/{metadata['name']}"
    raise UsageError(
        f"this cluster knows no {item['kind']} of {version}",
        code="migrate.unknown_kind",
        hint="leave it out with --manifests FOLDER, or install what defines it",
    )


def exists(kube: Kube, path: str) -> bool:
    """Whether there is something at a path."""
    try:
        kube.get(path)
    except NotFound:
        return False
    return True


def _read(place: Path, seen: set[Path]) -> Iterator[Object]:
    import yaml

    place = place.resolve()
    if place in seen:
        raise UsageError(f"{place} is named twice", code="migrate.manifests")
    seen.add(place)
    if place.is_dir():
        for part in _parts(place):
            yield from _read(part, seen)
        return
    try:
        loader = getattr(
            yaml, "CSafeLoader", yaml.SafeLoader
        )  # ten times as fast, where it is built
        documents = list(yaml.load_all(place.read_text(), loader))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not YAML"
        raise UsageError(
            f"cannot read the manifest {place}: {reason}", code="migrate.manifests"
        ) from None
    for document in filter(None, documents):
        if not (
            isinstance(document, dict)
            and isinstance(document.get("apiVersion"), str)
            and isinstance(document.get("kind"), str)
            and isinstance((document.get("metadata") or {}).get("name"), str)
        ):
            raise UsageError(
                f"{place} holds something that is no Kubernetes object", code="migrate.manifests"
            )
        yield document


def _parts(folder: Path) -> list[Path]:
    import yaml

    file = folder / "kustomization.yaml"
    if not file.exists():
        return sorted(folder.glob("*.yaml"))
    try:
        document = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        document = None
    more = set(document or {}) - {"apiVersion", "kind", "resources"}
    if not isinstance(document, dict) or more:
        raise UsageError(
            f"{file} asks for more than `resources`: {', '.join(sorted(more)) or 'nothing known'}",
            code="migrate.manifests",
            hint=f"kubectl kustomize {folder} > DIR/all.yaml, and --manifests DIR",
        )
    return [folder / str(name) for name in document.get("resources") or ()]


def _move(item: Object, namespace: str) -> None:
    metadata = item["metadata"]
    if item["kind"] == "Namespace" and metadata["name"] == NAMESPACE:
        metadata["name"] = namespace
    places = [metadata, *(item.get("subjects") or ())]
    for place in places:
        if place.get("namespace") == NAMESPACE:
            place["namespace"] = namespace
