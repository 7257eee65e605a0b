"""Phase 1, step 2: build the image, push it, and learn the digest that the registry gave it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from coditect_cli.errors import CoditectError, Failed
from coditect_cli.migrations import programs
from coditect_cli.migrations.sent import build_files, digests
from coditect_cli.migrations.step import Action, Facts, Step, World, program


class PushImage(Step):
    name = "push-image"
    title = "Build the image and push it"
    expected = 240.0
    no_inverse = "an image that nothing deploys serves nobody"

    def needs(self, world: World) -> str | None:
        if reason := self.precondition(world):
            return reason
        programs.run((*world.settings.docker, "version"))  # it is there, and so is its daemon
        return None

    def precondition(self, world: World) -> str | None:
        file = _dockerfile(world)
        if not file.is_file():
            return (
                f"there is no {file}; name the folder with --source, its Dockerfile with "
                "--dockerfile"
            )
        return None

    def sends(self, world: World) -> Mapping[str, str]:
        if not _dockerfile(world).is_file():
            return {}  # nothing is built, and the folder may be anything
        return digests(build_files(Path(world.settings.source), _dockerfile(world)))

    def actions(self, world: World) -> Sequence[Action]:
        settings = world.settings
        name = f"{image_name(world)}:{settings.tag}"
        file = ("-f", settings.dockerfile) if settings.dockerfile else ()
        flags = (*file, *settings.build_flags)
        build = (*settings.docker, "build", "-t", name, *flags, settings.source)
        push = (*settings.docker, "push", *_digest_flag(settings.docker), name)

        def pushed() -> Facts:
            done = programs.run(push, timeout=settings.build_timeout)
            digest = re.search(r"(?m)(?:\bdigest: |^)(sha256:[0-9a-f]{64})\b", done.stdout)
            if digest is None:
                raise Failed(
                    f"{name} was pushed, but its digest was not said", code="migrate.no_digest"
                )
            return {"digest": digest[1]}

        return [program(build, timeout=settings.build_timeout), Action(pushed, argv=push)]


def _dockerfile(world: World) -> Path:
    settings = world.settings
    return Path(settings.dockerfile or Path(settings.source) / "Dockerfile")


def _digest_flag(docker: tuple[str, ...]) -> tuple[str, ...]:
    """What makes `push` say the registry's digest: docker does by itself, podman when asked.

    That of podman's own copy is another one: layers are compressed on their way.
    """
    try:
        flags = programs.run((*docker, "push", "--help")).stdout
    except CoditectError:
        return ()  # whoever builds with it says what is wrong with it
    return ("--digestfile=/dev/stdout",) if "--digestfile" in flags else ()


def image_name(world: World) -> str:
    """The image without tag and digest."""
    return world.settings.image or f"gcr.io/{world.project}/websocket-gateway"


def image_by_digest(world: World) -> str:
    """What is deployed: the very image that was pushed, whatever its tag says later."""
    return f"{image_name(world)}@{world.output('digest')}"
