"""Cutover, step 3: a dashboard that shows how Cloud Run does, made once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coditect_cli.errors import Failed
from coditect_cli.migrations import programs
from coditect_cli.migrations.sent import digests
from coditect_cli.migrations.step import Action, Facts, Observation, Step, World, program, removal


class MakeDashboard(Step):
    """A dashboard with the same title is taken for it, whoever made it."""

    name = "dashboard"
    title = "Make the dashboard"
    expected = 10.0

    def needs(self, world: World) -> str | None:
        try:
            title_of(file_of(world))
        except Failed as error:
            return error.message
        return None

    def precondition(self, world: World) -> str | None:
        return self.needs(world)

    def observe(self, world: World) -> Observation:
        title = title_of(file_of(world))
        found = programs.run_json(_argv(world, "list", "--format=json"))
        names = [one.get("name") for one in found if one.get("displayName") == title]
        if not names:
            return Observation(False, f"there is no dashboard {title!r}", {"dashboard": None})
        return Observation(True, f"dashboard {title!r} is there", {"dashboard": names[0]})

    def sends(self, world: World) -> Mapping[str, str]:
        return digests([file_of(world)])

    def actions(self, world: World) -> Sequence[Action]:
        flags = (f"--config-from-file={file_of(world)}", "--format=json")
        return [program(_argv(world, "create", *flags), timeout=world.settings.change_timeout)]

    def inverse(self, world: World, before: Facts) -> Sequence[Action]:
        if before.get("dashboard"):
            return ()
        argv = _argv(world, "delete", str(world.outputs.get("dashboard") or "{dashboard}"))
        return [removal(argv, timeout=world.settings.change_timeout)]


def file_of(world: World) -> Path:
    """The dashboard's file: the setting, else the one of the package, or of the checkout."""
    if world.settings.dashboard is not None:
        return Path(world.settings.dashboard)
    package = Path(__file__).parents[2]
    installed = package / "manifests"
    folder = installed if installed.is_dir() else package.parent / "manifests"
    return folder / "cloud-run-dashboard.yaml"


def title_of(file: Path) -> str:
    """The dashboard's title. Raises Failed when the file is not one of a dashboard."""
    import yaml

    try:
        document: Any = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Failed(f"cannot read {file}: {error}", code="cutover.no_dashboard") from None
    title = document.get("displayName") if isinstance(document, dict) else None
    if not isinstance(title, str):
        raise Failed(f"{file} has no displayName", code="cutover.no_dashboard")
    return title


def _argv(world: World, verb: str, *words: str) -> tuple[str, ...]:
    project = f"--project={world.project}"
    return ("gcloud", "monitoring", "dashboards", verb, *words, project)
