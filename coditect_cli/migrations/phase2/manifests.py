"""Phase 2, step 4: the objects that all workspaces share, by server-side apply.

https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

from coditect_cli.errors import Conflict, NotFound
from coditect_cli.migrations.phase2.objects import (
    Object,
    containers_of,
    key_of,
    path_of,
    read_manifests,
)
from coditect_cli.migrations.step import Action, Facts, Observation, Step, World
from coditect_cli.workspaces.manifest import folder

GATEWAY_IMAGE = "gcr.io/{project}/gateway:latest"  # the manifests say PROJECT_ID there


class ApplyManifests(Step):
    name = "manifests"
    title = "Apply the manifests"
    expected = 10.0

    def precondition(self, world: World) -> str | None:
        """Fields that somebody else manages, and has set to something else."""
        kube, conflicts = world.kube(), []
        for item in _items(world):
            try:
                kube.apply(path_of(kube, item), item, dryRun="All")
            except Conflict as conflict:
                conflicts.append(f"{key_of(item)}: {conflict.message}")
            except NotFound:
                continue  # its namespace comes with the manifests
        return "\n".join(conflicts) or None

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
                changed[key_of(item)] = _content(live)
        detail = f"{len(items)} objects: {len(missing)} missing, {len(changed)} to change"
        facts = {"missing": missing, "changed": changed}
        return Observation(not missing and not changed, detail, facts)

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
                continue
            if key in before["missing"]:
                return f"{key} is still there"
            if _content(live).get("spec") != before["changed"].get(key, live).get("spec"):
                return f"{key} is not as it was"
        return None


def _items(world: World) -> list[Object]:
    settings = world.settings
    place = Path(settings.manifests) if settings.manifests else folder() / "base"
    items = read_manifests(place, settings.namespace)
    image = settings.gateway_image or GATEWAY_IMAGE.format(project=world.target.project)
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
        body = deepcopy(content)
        body["metadata"]["resourceVersion"] = kube.get(path)["metadata"]["resourceVersion"]
        kube.replace(path, body)
        return {}

    return Action(perform, call=f"replace {key_of(item)} by what it was")


def _content(item: Object) -> Object:
    """An object without what changes by itself."""
    content = {key: value for key, value in item.items() if key != "status"}
    own = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp")
    content["metadata"] = {k: v for k, v in item["metadata"].items() if k not in own}
    return content
