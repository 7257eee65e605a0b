"""`coditect migrate` status, resume, rollback, approve, reject, pause, lock: what runs are."""

from __future__ import annotations

import time
from typing import Annotated, Literal

import typer

from coditect_cli.errors import Conflict, NotFound, UsageError
from coditect_cli.migrations.driving import (
    actor,
    drive,
    frozen,
    open_journals,
    result_last,
    taken,
    words_to_find,
)
from coditect_cli.migrations.engine import Engine
from coditect_cli.migrations.journal import Journal, run_ids
from coditect_cli.migrations.lock import break_lock, read_lock
from coditect_cli.migrations.report import run_fields, run_text
from coditect_cli.migrations.run import Run
from coditect_cli.migrations.runs import (
    await_run,
    check_nothing_stands_on,
    chosen_run,
    newest_run,
    read_run,
)
from coditect_cli.migrations.settings import MigrateSettings
from coditect_cli.output import Result
from coditect_cli.runtime import Runtime

Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="sqlite|foundationdb",
        help="Where its journal and lock are; else as migrate.store says.",
    ),
]
OptionalRunId = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="The run; else the newest unfinished one.")
]


def _given(reason: str) -> str:
    if not reason.strip():
        raise UsageError("--reason is empty", code="migrate.reason")
    return reason


Reason = Annotated[
    str, typer.Option("--reason", callback=_given, help="Why; it goes into the journal.")
]
Confirmed = Annotated[
    str | None,
    typer.Option("--confirm", metavar="NAME", help="The name of what may be destroyed."),
]


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
    store: Store = None,
) -> Result:
    """Show the runs, or one of them with its steps; the journal's hash chain is checked.

    --wait-for and --journal without RUN take the newest unfinished run, else the newest. What looks
    like a secret is not shown; the hashes are of all that was written.

    Examples:
      coditect migrate status
      coditect migrate status phase1-20260131T120000-0a1b2c
      coditect migrate status phase1-20260131T120000-0a1b2c --journal -o ndjson
      coditect migrate status --wait-for done --timeout 2h

    Exit codes: 0 done, 2 not a run's id, 3 no such run, 8 the run ended otherwise, or its journal
    is broken, 12 it is paused, 124 it is not so yet
    """
    runtime: Runtime = ctx.obj
    with open_journals(runtime, store=store) as journals:
        if wait_for is not None:
            return _shown(await_run(journals, newest_run(journals, run), wait_for, timeout))
        if run is None and not journal:
            items = [run_fields(read_run(journals, id)) for id in run_ids(journals)]
            columns = {"RUN": "id", "PHASE": "phase", "STATE": "state", "STEP": "step"}
            columns |= {"STARTED": "startedAt", "UPDATED": "updatedAt"}
            wide = {"ACTOR": "actor", "REASON": "reason"}
            return Result("MigrationRunList", {"items": items}, columns, wide)
        chosen = newest_run(journals, run)
        if journal:
            events = [event.shown() for event in Journal(journals, chosen, "").new_events()]
            columns = {"AT": "at", "STEP": "step", "TYPE": "type", "DATA": "data"}
            wide = {"ACTOR": "actor", "HASH": "hash"}
            return Result("MigrationJournal", {"run": chosen, "items": events}, columns, wide)
        return _shown(read_run(journals, chosen))


def resume(
    ctx: typer.Context,
    run: OptionalRunId = None,
    confirm: Confirmed = None,
    changed: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change a setting; may be repeated."),
    ] = None,
    store: Store = None,
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
    with (
        result_last(runtime) as last,
        open_journals(runtime, store=store) as journals,
        taken(journals, run) as (journal, found),
    ):
        changes = MigrateSettings.changes(found.phase, changed or ())
        found.settings |= changes

        def go_on(engine: Engine) -> None:
            engine.resume(changes)

        return drive(runtime, journal, *frozen(runtime, found), confirm, go_on, last)


def rollback(
    ctx: typer.Context,
    run: OptionalRunId = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="STEP", help="Undo only what came after it.")
    ] = None,
    reason: Reason = "asked to",
    store: Store = None,
) -> Result:
    """Undo what a run did, last step first, and read back that it is undone.

    Examples:
      coditect migrate rollback
      coditect migrate rollback phase1-20260131T120000-0a1b2c --to deploy-staging

    Exit codes: 0 rolled back, 2 it has no such step, 3 there is no such run, 6 locked, nothing to
    undo, what it needs is gone, or a later run stands on it, 11 not everything is as it was, 130
    interrupted
    """
    runtime: Runtime = ctx.obj
    with (
        result_last(runtime) as last,
        open_journals(runtime, store=store) as journals,
        taken(journals, run) as (journal, found),
    ):
        if found.state == "rolled back":
            raise Conflict(f"{found.id} is rolled back already", code="migrate.over")
        check_nothing_stands_on(journals, found)

        def turn_back(engine: Engine) -> None:
            engine.roll_back("asked", reason, to)

        return drive(runtime, journal, *frozen(runtime, found), None, turn_back, last)


def approve(
    ctx: typer.Context, reason: Reason, run: OptionalRunId = None, store: Store = None
) -> Result:
    """Let a run pass the gate that holds it.

    Examples:
      coditect migrate approve --reason "quiet night, probe is green"

    Exit codes: 0 approved, 2 no reason, 3 no such run, 6 no gate holds it
    """
    return _decide(ctx.obj, store, run, "approved", reason)


def reject(
    ctx: typer.Context, reason: Reason, run: OptionalRunId = None, store: Store = None
) -> Result:
    """Make a run that is under way, or held by a gate, roll back.

    Examples:
      coditect migrate reject --reason "support sees lost sessions"

    Exit codes: 0 rejected, 2 no reason, 3 no such run, 6 it is over
    """
    return _decide(ctx.obj, store, run, "rejected", reason)


def pause(ctx: typer.Context, run: OptionalRunId = None, store: Store = None) -> Result:
    """Ask a run that is under way to stop at the next safe point.

    Examples:
      coditect migrate pause
      coditect migrate pause && coditect migrate status --wait-for paused --timeout 5m

    Exit codes: 0 asked, 3 no such run, 6 it is not under way, or rolling back
    """
    runtime: Runtime = ctx.obj
    with open_journals(runtime, store=store) as journals:
        found = read_run(journals, chosen_run(journals, run))
        if found.state not in ("running", "rolling back"):
            raise Conflict(f"{found.id} is {found.state}", code="migrate.not_running")
        if found.rollback_cause:
            raise Conflict(
                f"{found.id} is rolling back: {found.rollback_reason}",
                code="migrate.rolling_back",
                hint="a way back does not pause; Ctrl-C where it runs stops it between two steps",
            )
        Journal(journals, found.id, actor()).append("pause.asked")
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
    store: Store = None,
) -> Result:
    """Show who holds the migrations' lock, or take it away from them.

    Whoever lost the lock does nothing more once it finds out, which is before its next action.

    Examples:
      coditect migrate lock show
      coditect migrate lock break --confirm phase1-20260131T120000-0a1b2c

    Exit codes: 0 done, 2 nobody can be asked, 3 nobody holds it, 8 declined
    """
    runtime: Runtime = ctx.obj
    with open_journals(runtime, store=store) as journals:
        found = read_lock(journals)
        if found is None or not found.holder:
            raise NotFound("nobody holds the lock", code="migrate.no_lock")
        held = found.is_held(time.time_ns())
        if action == "break":
            question = f"{found.actor} on {found.host} may still be running {found.run}."
            runtime.confirm_name(question, found.run, confirm, "--confirm")
            break_lock(journals)
            if found.run in run_ids(journals):  # else it ended before it began one
                Journal(journals, found.run, actor()).append("lock.broken", token=found.token)
            text = f"the lock of {found.run} is broken"
            return Result("MigrationLock", {**found.as_dict(), "held": False}, text=text)
    return Result("MigrationLock", {**found.as_dict(), "held": held}, name="run")


def _decide(
    runtime: Runtime, store: str | None, run: str | None, decision: str, reason: str
) -> Result:
    with open_journals(runtime, store=store) as journals:
        found = read_run(journals, chosen_run(journals, run))
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
        Journal(journals, found.id, actor()).append(decision, where, reason=reason)
        found = read_run(journals, found.id)
    text = f"{f'{where} of ' if where else ''}{found.id} is {decision}"
    if found.state != "running":
        text += f"; coditect migrate resume {found.id}{words_to_find(runtime, store)} acts on it"
    return Result("MigrationRun", run_fields(found), text=text)


def _shown(run: Run) -> Result:
    return Result("MigrationRun", run_fields(run), text=run_text(run))
