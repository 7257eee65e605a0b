"""Phase 2, step 3: FoundationDB's cluster file, as a secret."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from coditect_cli.errors import Conflict, NotFound, UsageError
from coditect_cli.migrations.phase2.cluster import can_look
from coditect_cli.migrations.phase2.objects import MANAGED, exists
from coditect_cli.migrations.step import Action, Facts, Observation, Step, World

KEY = "fdb.cluster"
MOST = 10_000  # bytes
_ADDRESS = r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}(?::tls)?(?:\(fromHostname\))?"
# https://apple.github.io/foundationdb/administration.html#cluster-file-format
_CLUSTER_FILE = re.compile(rf"\w+:\w+@{_ADDRESS}(?:,{_ADDRESS})*")


class StoreSecret(Step):
    """The content is in no journal and no plan: they tell the first digits of its SHA-256."""

    name = "secret"
    title = "Store FoundationDB's cluster file"
    expected = 2.0

    def needs(self, world: World) -> str | None:
        return _why_no_file(world) or (self._why_kept(world) if can_look(world) else None)

    def precondition(self, world: World) -> str | None:
        return _why_no_file(world) or self._why_kept(world)

    def _why_kept(self, world: World) -> str | None:
        content = read_cluster_file(Path(world.settings.cluster_file))
        stored = _stored(world)
        if stored is None or stored == content or world.settings.replace_secret:
            return None
        return (
            f"secret {world.settings.secret_name} holds another cluster file "
            f"({_digest(stored)}, not {_digest(content)}); --replace-secret replaces it"
        )

    def observe(self, world: World) -> Observation:
        name, stored = world.settings.secret_name, _stored(world)
        there = exists(world.kube(), _path(world))
        if stored is None:
            words = f"secret {name} has no {KEY}" if there else f"there is no secret {name}"
            return Observation(False, words, {"exists": there, "sha256": None})
        facts = {"exists": True, "sha256": _digest(stored)}
        try:
            is_same = stored == read_cluster_file(Path(world.settings.cluster_file))
        except UsageError:
            is_same = False
        words = "this" if is_same else "another"
        return Observation(is_same, f"secret {name} holds {words} cluster file", facts)

    def sends(self, world: World) -> Mapping[str, str]:
        file = Path(world.settings.cluster_file)
        try:
            return {str(file): _digest(read_cluster_file(file))}
        except UsageError as error:
            return {str(file): error.message}

    def actions(self, world: World) -> Sequence[Action]:
        name, file = world.settings.secret_name, Path(world.settings.cluster_file)
        replaced = world.before.get("sha256")

        def store() -> Facts:
            content = read_cluster_file(file)
            if replaced is not None:
                _keep_previous(world)
            _write(world, name, content)
            return {}

        try:
            what = _digest(read_cluster_file(file))
        except UsageError:
            what = "no cluster file yet"
        keep = f", the one there is kept as {name}-previous" if replaced else ""
        return [Action(store, call=f"store Secret {name}, key {KEY} of {file} ({what}){keep}")]

    def inverse(self, world: World, before: Facts) -> Sequence[Action]:
        name = world.settings.secret_name
        if before.get("sha256") is not None:

            def put_back() -> Facts:
                previous = _stored(world, f"{name}-previous")
                if previous is not None:
                    _write(world, name, previous)
                    _delete(world, f"{name}-previous")
                return {}

            return [Action(put_back, call=f"store Secret {name} from {name}-previous")]
        if before.get("exists"):
            drop = {"data": {KEY: None}}

            def remove_key() -> Facts:
                world.kube().patch(_path(world), drop)
                return {}

            return [Action(remove_key, call=f"remove {KEY} from Secret {name}")]

        def remove() -> Facts:
            _delete(world, name)
            return {}

        return [Action(remove, call=f"delete Secret {name}")]

    def restored(self, world: World, before: Facts) -> str | None:
        stored = _stored(world)
        found = None if stored is None else _digest(stored)
        return None if found == before["sha256"] else f"the secret holds {found}"


def _why_no_file(world: World) -> str | None:
    try:
        read_cluster_file(Path(world.settings.cluster_file))
    except UsageError as error:
        return error.message
    return None


def read_cluster_file(path: Path) -> bytes:
    """A cluster file's content. Raises UsageError where it is none."""
    try:
        with open(path, "rb") as file:
            content = file.read(MOST + 1)
        lines = [line.strip() for line in content.decode().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(
            f"cannot read the cluster file {path}: {reason}",
            code="migrate.cluster_file",
            hint="name it with --cluster-file",
        ) from None
    connections = [line for line in lines if line and not line.startswith("#")]
    if len(content) > MOST or len(connections) != 1 or not _CLUSTER_FILE.fullmatch(connections[0]):
        raise UsageError(
            f"{path} is not a cluster file: it has one line such as "
            "description:id@10.0.0.1:4500,10.0.0.2:4500",
            code="migrate.cluster_file",
        )
    return content


def _path(world: World, name: str | None = None) -> str:
    settings = world.settings
    return f"/api/v1/namespaces/{settings.namespace}/secrets/{name or settings.secret_name}"


def _stored(world: World, name: str | None = None) -> bytes | None:
    try:
        data = world.kube().get(_path(world, name)).get("data") or {}
    except NotFound:
        return None
    return base64.b64decode(data[KEY]) if KEY in data else None


def _write(world: World, name: str, content: bytes) -> None:
    data = {KEY: base64.b64encode(content).decode()}
    metadata = {"name": name, "labels": dict(MANAGED)}
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    try:
        world.kube().create(_path(world, name).rpartition("/")[0], {**body, "data": data})
    except Conflict:
        world.kube().patch(_path(world, name), {"data": data})


def _keep_previous(world: World) -> None:
    """Keep what will be replaced; what a first attempt kept stays."""
    name = f"{world.settings.secret_name}-previous"
    stored = _stored(world)
    kept = _stored(world, name)
    if stored is not None and _digest(stored) == world.before["sha256"] and kept != stored:
        _write(world, name, stored)


def _delete(world: World, name: str) -> None:
    with suppress(NotFound):
        world.kube().delete(_path(world, name))


def _digest(content: bytes) -> str:
    return "sha256 " + hashlib.sha256(content).hexdigest()[:12]
