"""`coditect migrate`: the phases, status, resume, rollback, approve, reject, pause, lock."""

from __future__ import annotations

import inspect
import shlex
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from coditect_cli.errors import Conflict, NotFound
from coditect_cli.migrations.driving import actor, drive, frozen, open_journals, run_phase, taken
from coditect_cli.migrations.engine import Engine
from coditect_cli.migrations.journal import Journal, run_ids
from coditect_cli.migrations.lock import break_lock, read_lock
from coditect_cli.migrations.report import run_fields, run_text
from coditect_cli.migrations.run import Run
from coditect_cli.migrations.runs import await_run, awaited_run, chosen_run, read_run
from coditect_cli.migrations.settings import MigrateSettings
from coditect_cli.output import Result
from coditect_cli.runtime import Runtime

OptionalRunId = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="The run; else the newest unfinished one.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it goes into the journal.")]
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
            option = typer.Option(flag, metavar="VALUE", help=_about(setting))
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
    if isinstance(default, tuple):
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
      coditect migrate phase1 --from-plan phase1.json --bake 2h
      coditect migrate phase1 -o ndjson

    Exit codes: 0 done, 2 a value breaks its rule, 4 gcloud or docker is missing or not
    logged in, 6 locked, the targets disagree or the plan moved, 8 a step failed, 10 a gate failed
    and all is rolled back, 11 rolled back but not verified, 12 paused or not enough data,
    130 interrupted
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
    6 locked, the targets disagree or the plan moved, 8 a step failed, 12 paused, 124 something was
    not ready in time, 130 interrupted
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
    6 locked, the targets disagree or the plan moved, 8 a step failed, 10 a gate failed and all is
    rolled back, 11 rolled back but not verified, 12 paused, not confirmed or not enough data,
    130 interrupted
    """
    return run_phase(ctx.obj, "cutover", plan, plan_file, from_plan, new_run, confirm, flags)


def status(
    ctx: typer.Context,
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="The run; else all of them.")
    ] = None,
    journal: Annotated[
        bool, typer.Option("--journal", help="Show each event of the run's journal.")
    ] = False,
    wait_for: Annotated[
        str | None,
        typer.Option("--wait-for", metavar="done|paused|STEP", help="Wait until it is so."),
    ] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DURATION", help="How long to wait.")
    ] = None,
) -> Result:
    """Show the runs, or one of them with its steps; the journal's hash chain is checked.

    --wait-for without RUN waits for the newest unfinished run, else tells of the newest.

    Examples:
      coditect migrate status
      coditect migrate status phase1-20260131T120000-0a1b2c
      coditect migrate status phase1-20260131T120000-0a1b2c --journal -o ndjson
      coditect migrate status --wait-for done --timeout 2h

    Exit codes: 0 done, 2 not a run's id, 3 no such run, 8 the run ended otherwise, or its journal
    is broken, 12 it is paused, 124 it is not so yet
    """
    runtime: Runtime = ctx.obj
    with open_journals(runtime) as store:
        if wait_for is not None:
            return _shown(await_run(store, awaited_run(store, run), wait_for, timeout))
        if run is None and not journal:
            items = [run_fields(read_run(store, id)) for id in run_ids(store)]
            columns = {"RUN": "id", "PHASE": "phase", "STATE": "state", "STEP": "step"}
            columns |= {"STARTED": "startedAt", "UPDATED": "updatedAt"}
            wide = {"ACTOR": "actor", "REASON": "reason"}
            return Result("MigrationRunList", {"items": items}, columns, wide)
        chosen = chosen_run(store, run)
        if journal:
            events = [e.as_dict() for e in Journal(store, chosen, "").new_events()]
            columns = {"AT": "at", "STEP": "step", "TYPE": "type", "DATA": "data"}
            wide = {"ACTOR": "actor", "HASH": "hash"}
            return Result("MigrationJournal", {"run": chosen, "items": events}, columns, wide)
        return _shown(read_run(store, chosen))


def resume(
    ctx: typer.Context,
    run: OptionalRunId = None,
    confirm: Confirmed = None,
    changed: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change a setting; may be repeated."),
    ] = None,
) -> Result:
    """Go on with a run that was stopped, with the settings that it began with.

    A step that was under way is observed first; a wait goes on for what is left of it; a
    roll-back goes on rolling back. --set changes what decides and looks, never what was done and
    where.

    Examples:
      coditect migrate resume
      coditect migrate resume --set old_metrics=http://10.0.0.7:8080/metrics
      coditect migrate resume cutover-20260131T120000-0a1b2c --confirm websocket-gateway-cluster

    Exit codes: as of the phase; 2 also: --set names what can't be changed, 3 there is no
    unfinished run, 6 also: it is finished
    """
    runtime: Runtime = ctx.obj
    with open_journals(runtime) as store, taken(runtime, store, run) as (journal, found):
        changes = MigrateSettings.changes(found.phase, changed or ())
        found.settings |= changes

        def go_on(engine: Engine) -> None:
            engine.resume(changes)

        return drive(runtime, journal, *frozen(runtime, found), confirm, go_on)


def rollback(
    ctx: typer.Context,
    run: OptionalRunId = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="STEP", help="Undo only what came after it.")
    ] = None,
    reason: Reason = "asked to",
) -> Result:
    """Undo what a run did, last step first, and read back that it is undone.

    Examples:
      coditect migrate rollback
      coditect migrate rollback phase1-20260131T120000-0a1b2c --to deploy-staging

    Exit codes: 0 rolled back, 3 there is no such run, 6 locked, nothing to undo, or what it needs
    is gone, 11 not everything is as it was, 130 interrupted
    """
    runtime: Runtime = ctx.obj
    with open_journals(runtime) as store, taken(runtime, store, run) as (journal, found):
        if found.state == "rolled back":
            raise Conflict(f"{found.id} is rolled back already", code="migrate.over")

        def turn_back(engine: Engine) -> None:
            engine.roll_back("asked", reason, to)

        return drive(runtime, journal, *frozen(runtime, found), None, turn_back)


def approve(ctx: typer.Context, reason: Reason, run: OptionalRunId = None) -> Result:
    """Let a run pass the gate that holds it.

    Examples:
      coditect migrate approve --reason "quiet night, probe is green"

    Exit codes: 0 approved, 3 no such run, 6 no gate holds it
    """
    return _decide(ctx.obj, run, "approved", reason)


def reject(ctx: typer.Context, reason: Reason, run: OptionalRunId = None) -> Result:
    """Make a run that is under way, or held by a gate, roll back.

    Examples:
      coditect migrate reject --reason "support sees lost sessions"

    Exit codes: 0 rejected, 3 no such run, 6 it is over
    """
    return _decide(ctx.obj, run, "rejected", reason)


def pause(ctx: typer.Context, run: OptionalRunId = None) -> Result:
    """Ask a run that is under way to stop at the next safe point.

    Examples:
      coditect migrate pause
      coditect migrate pause && coditect migrate status --wait-for paused --timeout 5m

    Exit codes: 0 asked, 3 no such run, 6 it is not under way, or rolling back
    """
    runtime: Runtime = ctx.obj
    with open_journals(runtime) as store:
        found = read_run(store, chosen_run(store, run))
        if found.state not in ("running", "rolling back"):
            raise Conflict(f"{found.id} is {found.state}", code="migrate.not_running")
        if found.rollback_cause:
            raise Conflict(
                f"{found.id} is rolling back: {found.rollback_reason}",
                code="migrate.rolling_back",
                hint="a way back does not pause; Ctrl-C where it runs stops it between two steps",
            )
        Journal(store, found.id, actor()).append("pause.asked")
    text = f"{found.id} stops at its next safe point"
    return Result("MigrationRun", run_fields(found), text=text)


def lock(
    ctx: typer.Context,
    action: Annotated[
        Literal["show", "break"], typer.Argument(metavar="show|break", help="What to do with it.")
    ],
    confirm: Annotated[
        str | None,
        typer.Option("--confirm", metavar="RUN", help="The run whose lock may be broken."),
    ] = None,
) -> Result:
    """Show who holds the migrations' lock, or take it away from them.

    Whoever lost the lock does nothing more once it finds out, which is before its next action.

    Examples:
      coditect migrate lock show
      coditect migrate lock break --confirm phase1-20260131T120000-0a1b2c

    Exit codes: 0 done, 2 nobody can be asked, 3 nobody holds it, 8 declined
    """
    runtime: Runtime = ctx.obj
    with open_journals(runtime) as store:
        found = read_lock(store)
        if found is None or not found.holder:
            raise NotFound("nobody holds the lock", code="migrate.no_lock")
        held = found.is_held(time.time_ns())
        if action == "break":
            question = f"{found.actor} on {found.host} may still be running {found.run}."
            runtime.confirm_name(question, found.run, confirm, "--confirm")
            break_lock(store)
            if found.run in run_ids(store):  # else it ended before it began one
                Journal(store, found.run, actor()).append("lock.broken", token=found.token)
            text = f"the lock of {found.run} is broken"
            return Result("MigrationLock", {**found.as_dict(), "held": False}, text=text)
    return Result("MigrationLock", {**found.as_dict(), "held": held}, name="run")


def _decide(runtime: Runtime, run: str | None, decision: str, reason: str) -> Result:
    with open_journals(runtime) as store:
        found = read_run(store, chosen_run(store, run))
        step = found.current
        if found.is_over or found.rollback_cause:
            raise Conflict(f"{found.id} is {found.state}", code="migrate.over")
        if decision == "approved" and (step is None or step.gate != "hold"):
            raise Conflict(
                f"no gate holds {found.id}",
                code="migrate.no_gate",
                hint=f"coditect migrate status {found.id} shows where it is",
            )
        where = step.name if step is not None else None
        Journal(store, found.id, actor()).append(decision, where, reason=reason)
        found = read_run(store, found.id)
    text = f"{f'{where} of ' if where else ''}{found.id} is {decision}"
    if found.state != "running":
        text += f"; coditect migrate resume {found.id} acts on it"
    return Result("MigrationRun", run_fields(found), text=text)


def _shown(run: Run) -> Result:
    return Result("MigrationRun", run_fields(run), text=run_text(run))
