"""What a migration would do: each step, how it is now, what is run, how it is undone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from coditect_cli.errors import CoditectError, Conflict, Failed, NotAuthenticated, UsageError
from coditect_cli.migrations.step import Action, Step, World
from coditect_cli.paths import check_replaceable, write_private

MOST_NAMES = 5  # of files, in an error
_WHOLE = {
    "actions": "what it runs changed",
    "inverse": "its way back changed",
    "gate": "how its gate decides changed",
}


def make_plan(
    phase: str,
    steps: Sequence[Step],
    world: World,
    lock_scope: str,
    flags: Mapping[str, str] | None = None,
    file: Path | None = None,
    problem: CoditectError | None = None,
) -> dict[str, Any]:
    """The plan as JSON has it, which may be in `file`. Looks at the world, changes nothing.

    What can't be looked at is said in `unobserved` of its step, and the step is still there:
    without a project nothing can; `problem` is why gcloud does not name one. `flags` are the
    settings that its command line gave, and --from-plan need not repeat.
    """
    if world.target.project is None:
        problem = problem or NotAuthenticated("there is no project to look at")
    else:
        problem = None
    world = replace(world, outputs=dict(world.outputs))
    return {
        "phase": phase,
        "target": world.target.as_dict(),
        "disagreement": world.target.disagreement(),
        "excludes": lock_scope,
        "settings": world.settings.as_dict(),
        "flags": dict(flags or {}),
        "steps": [_planned(step, world, file, problem) for step in steps],
    }


def _planned(
    step: Step, world: World, file: Path | None, problem: CoditectError | None
) -> dict[str, Any]:
    planned: dict[str, Any] = {
        "name": step.name,
        "title": step.title,
        "status": "to do",
        "now": None,
        "unobserved": None,
        "precondition": None,
        "expectedSeconds": step.expected,
        "bakeSeconds": step.bake,
        "confirm": step.confirm,
    }
    before: dict[str, Any] = {}
    try:
        if problem is not None:
            raise problem
        seen = step.observe(world)
        if seen is not None:
            before = {**seen.facts, **seen.whole}
            planned["now"] = seen.detail
        if seen is not None and seen.is_done:
            planned["status"] = "already so"
            world.outputs.update(before)
        else:
            planned["precondition"] = step.needs(world) or step.precondition(world)
    except CoditectError as error:
        planned["status"], planned["unobserved"] = "unknown", error.message
        if problem is None:
            with suppress(CoditectError):
                planned["precondition"] = step.needs(world)
    planned["sends"] = {
        name: digest
        for name, digest in step.sends(world).items()
        if file is None or Path(name).resolve() != file.resolve()
    }
    watch = step.watch(world)
    planned["gate"] = None if watch is None else watch.as_dict()
    planned["actions"] = _listed(step.actions(replace(world, before=before)))
    is_left_alone = planned["status"] == "already so" and not step.bake
    planned["inverse"] = [] if is_left_alone else _listed(step.inverse(world, before))
    planned["noInverse"] = (
        None
        if planned["inverse"]
        else ("it was so before" if is_left_alone else step.no_inverse or "nothing to undo")
    )
    return planned


def _listed(actions: Sequence[Action]) -> list[dict[str, Any]]:
    return [action.as_dict() for action in actions]


def check_plan_file(path: Path) -> None:
    """Raises Failed where save_plan() would, as far as that is known before."""
    check_replaceable(path)
    if not path.parent.is_dir():
        raise Failed(
            f"cannot save the plan as {path}: there is no folder {path.parent}",
            code="migrate.plan_file",
        )


def save_plan(path: Path, plan: dict[str, Any]) -> None:
    """Write a plan that --from-plan takes. Raises Failed."""
    write_private(path, (json.dumps(plan, indent=2) + "\n").encode())


def flags_of(path: Path) -> dict[str, str]:
    """The flags that a saved plan was made with. Raises UsageError."""
    flags = _saved(path).get("flags", {})  # an earlier release kept none
    if not isinstance(flags, dict) or not all(isinstance(value, str) for value in flags.values()):
        raise _unreadable(path, "it is not a plan")
    return flags


def _saved(path: Path) -> dict[str, Any]:
    try:
        saved: dict[str, Any] = json.loads(path.read_bytes())
        names = [step["name"] for step in saved["steps"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a plan"
        raise _unreadable(path, str(reason)) from error
    if not all(isinstance(name, str) for name in names):
        raise _unreadable(path, "it is not a plan")
    return saved


def _unreadable(path: Path, reason: str) -> UsageError:
    return UsageError(f"cannot read the plan {path}: {reason}", code="migrate.plan")


def check_plan(path: Path, plan: dict[str, Any]) -> None:
    """Raises Conflict (migrate.plan_moved) where `plan` is not the one that was saved."""
    saved = _saved(path)
    saved_steps = {step["name"]: step for step in saved["steps"]}
    now = json.loads(json.dumps(plan))
    moved = [
        f"{part} {key}: {_became(old.get(key), new.get(key))}"
        for part in ("target", "settings")
        for old, new in [(dict(saved.get(part) or {}), now[part])]
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    moved += [f"the {key}" for key in ("phase", "excludes") if saved.get(key) != now[key]]
    if list(saved_steps) != [step["name"] for step in now["steps"]]:
        moved.append("the list of steps")
    for step in now["steps"]:
        old = saved_steps.get(step["name"], {})
        for key in step if old else ():
            if key == "sends":
                moved += _files_moved(old.get(key) or {}, step[key])
            elif old.get(key) != step[key]:
                what = _WHOLE.get(key) or _became(old.get(key), step[key])
                moved.append(f"step {step['name']}: {what}")
    if moved:
        raise Conflict(
            f"the plan in {path} no longer holds: {'; '.join(moved)}",
            code="migrate.plan_moved",
            hint="look at a new --plan, and save it with --plan-file",
        )


def _became(old: object, new: object) -> str:
    was, is_now = ("unset" if value is None else json.dumps(value) for value in (old, new))
    return f"{was} is now {is_now}"


def _files_moved(old: dict[str, str], now: dict[str, str]) -> list[str]:
    """Which files are not what they were, the first few of them by name."""
    names = [name for name in sorted(old.keys() | now.keys()) if old.get(name) != now.get(name)]
    moved = [
        f"{name} {('changed' if name in old else 'is new') if name in now else 'is gone'}"
        for name in names[:MOST_NAMES]
    ]
    return moved + ([f"{len(names) - MOST_NAMES} more files"] if len(names) > MOST_NAMES else [])
