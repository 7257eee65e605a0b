"""`coditect migrate`: the phases; what is done with a run is in migrate_runs.py."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from coditect_cli.migrations.driving import run_phase
from coditect_cli.migrations.settings import MigrateSettings
from coditect_cli.output import Result
from coditect_cli.settings import duration_text, parse_duration

Confirmed = Annotated[
    str | None,
    typer.Option("--confirm", metavar="NAME", help="The name of what may be destroyed."),
]


def _with_settings(phase: str) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Give a command one flag for each setting of its phase; they arrive as `flags`."""

    def decorate(function: Callable[..., Result]) -> Callable[..., Result]:
        def command(ctx: typer.Context, **values: Any) -> Result:
            flags = {
                name: str(value).lower() if isinstance(value, bool) else value
                for name in names
                if (value := values.pop(name)) is not None
            }
            return function(ctx, **values, flags=flags)

        settings = [s for s in fields(MigrateSettings) if phase in s.metadata["phases"]]
        names = [setting.name for setting in settings]
        parameters = dict(inspect.signature(function, eval_str=True).parameters)
        del parameters["flags"]
        for setting in settings:
            flag = "--" + setting.name.replace("_", "-")
            kind: Any = bool | None if isinstance(setting.default, bool) else str | None
            metavar = "DURATION" if setting.metadata["parse"] is parse_duration else "VALUE"
            option = typer.Option(flag, metavar=metavar, help=_about(setting))
            parameters[setting.name] = inspect.Parameter(
                setting.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[kind, option],
            )
        command.__doc__ = function.__doc__
        command.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
        command.__annotations__ = {name: p.annotation for name, p in parameters.items()}
        return command

    return decorate


def _about(setting: Any) -> str:
    text = str(setting.metadata["meaning"])
    text = text[0].upper() + text[1:]
    default = setting.default
    if setting.metadata["parse"] is parse_duration:
        default = duration_text(default)
    elif isinstance(default, tuple):
        default = shlex.join(map(str, default))
    return text + ("." if default in (None, "") else f" (default: {default}).")


Plan = Annotated[bool, typer.Option("--plan", help="Print what would be done; do nothing.")]
PlanFile = Annotated[
    Path | None, typer.Option("--plan-file", metavar="FILE", help="Save the plan; do nothing.")
]
FromPlan = Annotated[
    Path | None,
    typer.Option("--from-plan", metavar="FILE", help="Run only if this saved plan still holds."),
]
NewRun = Annotated[
    bool, typer.Option("--new-run", help="Also when an earlier run is not finished.")
]


@_with_settings("phase1")
def phase1(
    ctx: typer.Context,
    *,
    plan: Plan = False,
    plan_file: PlanFile = None,
    from_plan: FromPlan = None,
    new_run: NewRun = False,
    confirm: Confirmed = None,
    flags: dict[str, str],
) -> Result:
    """Roll out the gateway with the PTY fix: staging, a share of production, all of it.

    Every option after --confirm is also a setting: migrate.NAME in the context, or
    CODITECT_MIGRATE_NAME.

    Examples:
      coditect migrate phase1 --plan
      coditect migrate phase1 --plan-file phase1.json --bake 2h
      coditect migrate phase1 --from-plan phase1.json
      coditect migrate phase1 -o ndjson

    Exit codes: 0 done, 2 a value breaks its rule, 4 gcloud or docker is missing or not
    logged in, 6 locked, the targets disagree or the plan moved, 8 a step failed (3, 5, 7, 9, 124
    by its cause: missing, forbidden, quota, unreachable, timed out), 10 a gate failed and all is
    rolled back, 11 rolled back but not verified, 12 paused or not enough data, 130 interrupted
    """
    return run_phase(ctx.obj, "phase1", plan, plan_file, from_plan, new_run, confirm, flags)


@_with_settings("phase2")
def phase2(
    ctx: typer.Context,
    *,
    plan: Plan = False,
    plan_file: PlanFile = None,
    from_plan: FromPlan = None,
    new_run: NewRun = False,
    confirm: Confirmed = None,
    flags: dict[str, str],
) -> Result:
    """Make the cluster, and in it everything that workspaces as StatefulSets need.

    Every option after --confirm is also a setting: migrate.NAME in the context, or
    CODITECT_MIGRATE_NAME. The way back removes only what this run made, and no volume.

    Examples:
      coditect migrate phase2 --plan
      coditect migrate phase2 --cluster-file ./fdb.cluster
      coditect migrate phase2 --kube-context staging --namespace coditect-staging

    Exit codes: 0 done, 2 a value breaks its rule, 4 gcloud is missing or not logged in,
    6 locked, the targets disagree or the plan moved, 8 a step failed (3, 5, 7, 9 by its cause:
    missing, forbidden, quota, unreachable), 12 paused, 124 something was not ready in time,
    130 interrupted
    """
    return run_phase(ctx.obj, "phase2", plan, plan_file, from_plan, new_run, confirm, flags)


@_with_settings("cutover")
def cutover(
    ctx: typer.Context,
    *,
    plan: Plan = False,
    plan_file: PlanFile = None,
    from_plan: FromPlan = None,
    new_run: NewRun = False,
    confirm: Confirmed = None,
    flags: dict[str, str],
) -> Result:
    """Move clients from the old cluster to Cloud Run by shares, and delete the old cluster.

    Every option after --confirm is also a setting: migrate.NAME in the context, or
    CODITECT_MIGRATE_NAME.

    Examples:
      coditect migrate cutover --plan
      coditect migrate cutover --dns-zone coditect --dns-name ws.example.com --dns-new 203.0.113.9
      coditect migrate cutover --traffic-via url-map --url-map ws --new-backend run
          --old-backend gke --shifts 25,50,100 --bake 2h
      coditect migrate cutover --confirm websocket-gateway-cluster

    Exit codes: 0 done, 2 a value breaks its rule, 4 gcloud is missing or not logged in,
    6 locked, the targets disagree or the plan moved, 8 a step failed (3, 5, 7, 9, 124 by its
    cause: missing, forbidden, quota, unreachable, timed out), 10 a gate failed and all is rolled
    back, 11 rolled back but not verified, 12 paused, not confirmed or not enough data,
    130 interrupted
    """
    return run_phase(ctx.obj, "cutover", plan, plan_file, from_plan, new_run, confirm, flags)
