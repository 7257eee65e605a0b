"""Phase 2, step 4: the objects that all workspaces share, by server-side apply.

https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path

from coditect_cli.errors import Conflict, NotFound
from coditect_cli.migrations.phase2.cluster import can_look
from coditect_cli.migrations.phase2.objects import (
    Object,
    containers_of,
    key_of,
    manifest_files,
    path_of,
    read_manifests,
)
from coditect_cli.migrations.sent import digests
from coditect_cli.migrations.step import Action, Facts, Observation, Step, World
from coditect_cli.workspaces.manifest import folder

MOST_NAMES = 5  # of objects, in what a look says
UNKEPT = "no journal may keep what the way back would need, so replace it by hand first"
GATEWAY_IMAGE = "gcr.io/{project}/gateway:latest"  # the manifests say PROJECT_ID there


class ApplyManifests(Step):
    name = "manifests"
    title = "Apply the manifests"
    expected = 10.0

    def needs(self, world: World) -> str | None:
        _items(world)  # it says what is wrong with a file
        return _conflicts(world) if can_look(world) else None

    def precondition(self, world: World) -> str | None:
        return _conflicts(world)

    def observe(self, world: World) -> Observation:
        """What is missing, and what would change: its content as it is, for the way back."""
        kube, missing = world.kube(), []
        changed: dict[str, Object] = {}
        items = _items(world)
        for item in items:
            path = path_of(kube, item)
            try:
                live = kube.get(path)
                applied = kube.apply(path, item, dryRun="All")
            except NotFound:
                missing.append(key_of(item))
                continue
            except Conflict:
                changed[key_of(item)] = {}  # never applied: the precondition says why
                continue
            if _content(live) != _content(applied):
                changed[key_of(item)] = {} if item["kind"] == "Secret" else _content(live)
        detail = f"{len(items)} objects: {len(missing)} missing, {len(changed)} to change"
        if changed:
            named = list(changed)[:MOST_NAMES]
            detail += f" ({', '.join(named)}{', …' if len(changed) > len(named) else ''})"
        is_done = not missing and not changed
        return Observation(is_done, detail, {"missing": missing}, whole={"changed": changed})

    def sends(self, world: World) -> Mapping[str, str]:
        return digests(manifest_files(_place(world)))

    def actions(self, world: World) -> Sequence[Action]:
        return [_apply(world, item) for item in _items(world)]

    def inverse(self, world: World, before: Facts) -> Sequence[Action]:
        missing = before.get("missing")
        changed = before.get("changed") or {}
        back = []
        for item in reversed(_items(world)):
            key = key_of(item)
            if item["kind"] == "Namespace":
                continue  # the namespace is its own step's
            if missing is None or key in missing:
                back.append(_remove(world, item))
            elif key in changed:
                back.append(_put_back(world, item, changed[key]))
        return back

    def restored(self, world: World, before: Facts) -> str | None:
        kube = world.kube()
        for item in _items(world):
            key = key_of(item)
            if item["kind"] == "Namespace":
                continue
            try:
                live = kube.get(path_of(kube, item))
            except NotFound:
                if key in before["changed"]:
                    return f"{key} is gone"
                continue
            if key in before["missing"]:
                return f"{key} is still there"
            if _content(live) != before["changed"].get(key, _content(live)):
                return f"{key} is not as it was"
        return None


def _conflicts(world: World) -> str | None:
    """Fields that somebody else manages, and has set to something else; secrets that differ."""
    kube, conflicts = world.kube(), []
    for item in _items(world):
        path = path_of(kube, item)
        try:
            applied = kube.apply(path, item, dryRun="All")
            if item["kind"] == "Secret" and _content(kube.get(path)) != _content(applied):
                conflicts.append(f"{key_of(item)} is another one: {UNKEPT}")
        except Conflict as conflict:
            conflicts.append(f"{key_of(item)}: {conflict.message}")
        except NotFound:
            continue  # its namespace comes with the manifests
    return "\n".join(conflicts) or None


def _place(world: World) -> Path:
    chosen = world.settings.manifests
    return Path(chosen) if chosen else folder() / "base"


def _items(world: World) -> list[Object]:
    settings = world.settings
    items = read_manifests(_place(world), settings.namespace)
    image = settings.gateway_image or GATEWAY_IMAGE.format(project=world.project)
    for item in items:
        for container in containers_of(item):
            if container.get("image") == GATEWAY_IMAGE.format(project="PROJECT_ID"):
                container["image"] = image
    return items


def _apply(world: World, item: Object) -> Action:
    def perform() -> Facts:
        kube = world.kube()
        kube.apply(path_of(kube, item), item)
        return {}

    return Action(perform, call=f"apply {key_of(item)}")


def _remove(world: World, item: Object) -> Action:
    def perform() -> Facts:
        kube = world.kube()
        try:
            kube.delete(path_of(kube, item))
        except NotFound:
            return {"found": False}
        return {"found": True}

    return Action(perform, call=f"delete {key_of(item)}")


def _put_back(world: World, item: Object, content: Object) -> Action:
    def perform() -> Facts:
        kube = world.kube()
        path = path_of(kube, item)
        live = kube.get(path)["metadata"]
        body = deepcopy(content)
        body["metadata"]["resourceVersion"] = live["resourceVersion"]
        notes = {k: v for k, v in (live.get("annotations") or {}).items() if _is_noise(k)}
        body["metadata"]["annotations"] = notes | body["metadata"].get("annotations", {})
        kube.replace(path, body)
        return {}

    return Action(perform, call=f"replace {key_of(item)} by what it was")


def _content(item: Object) -> Object:
    """An object without what changes by itself."""
    content = {key: value for key, value in item.items() if key != "status"}
    own = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp")
    metadata = {k: v for k, v in item["metadata"].items() if k not in own}
    notes = metadata.pop("annotations", None) or {}
    if kept := {k: v for k, v in notes.items() if not _is_noise(k)}:
        metadata["annotations"] = kept
    content["metadata"] = metadata
    return content


def _is_noise(annotation: str) -> bool:
    """Whether a controller or kubectl writes this annotation, each time anew."""
    return annotation.startswith("autopilot.gke.io/") or annotation in (
        "kubectl.kubernetes.io/last-applied-configuration",
        "deployment.kubernetes.io/revision",
        "cloud.google.com/neg-status",
    )
