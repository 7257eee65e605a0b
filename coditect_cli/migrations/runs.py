"""The runs of a store: which one is meant, how it is, and whether another may begin."""

from __future__ import annotations

import time

from coditect_cli.errors import Conflict, Failed, NotFound, Paused, TimedOut, UsageError
from coditect_cli.migrations.journal import Journal, check_run_id, run_ids
from coditect_cli.migrations.lock import read_lock
from coditect_cli.migrations.redaction import redacted
from coditect_cli.migrations.run import Run
from coditect_cli.migrations.settings import MigrateSettings
from coditect_cli.settings import parse_duration
from coditect_cli.stores.store import SessionStore

POLL = 0.5  # seconds between two looks of --wait-for


def chosen_run(store: SessionStore, run: str | None) -> str:
    """The run that is named, else the newest one that is not over. Raises NotFound."""
    if run is not None:
        return check_run_id(run)
    ids = run_ids(store)
    for id in reversed(ids):
        if not read_run(store, id).is_over:
            return id
    if ids:
        raise NotFound(
            f"no run is unfinished; the newest is {ids[-1]}",
            code="migrate.no_run",
            hint="name a run",
        )
    raise NotFound("there are no runs yet", code="migrate.no_run")


def newest_run(store: SessionStore, run: str | None) -> str:
    """The run that chosen_run() takes, else the newest: it may be over by now. Raises NotFound."""
    try:
        return chosen_run(store, run)
    except NotFound:
        if not (ids := run_ids(store)):
            raise
        return ids[-1]


def check_nothing_stands_on(store: SessionStore, run: Run) -> None:
    """Raises Conflict where a later run changed what this one's way back would put back."""
    alike = {"phase1", "cutover"} if run.phase in ("phase1", "cutover") else {run.phase}
    ids = run_ids(store)
    for id in reversed(ids[ids.index(run.id) + 1 :]):
        later = read_run(store, id)
        if later.phase in alike and later.state != "rolled back":
            raise Conflict(
                f"{id} came after {run.id}, and is {later.state}: it stands on what that did",
                code="migrate.later_run",
                hint=f"coditect migrate rollback {id} first",
            )


def read_run(store: SessionStore, id: str) -> Run:
    """A run as it is; one whose process is gone is interrupted."""
    run = Run.of(id, Journal(store, id, "").new_events())
    found = read_lock(store)
    alive = found is not None and found.run == id and found.is_held(time.time_ns())
    if run.state in ("running", "rolling back") and not alive:
        run.state, run.reason = "interrupted", "its process is gone"
    return run


def await_run(store: SessionStore, id: str, what: str, timeout: str | None) -> Run:
    """The run once it is `what`: done, paused, or past the step of that name.

    Raises UsageError, Paused or Failed where it will not be, TimedOut.
    """
    try:
        patience = parse_duration(timeout) if timeout is not None else None
    except ValueError as rule:
        raise UsageError(f"--timeout is not {rule}") from None
    deadline = None if patience is None else time.monotonic() + patience
    while True:
        run = read_run(store, id)
        if what not in ("done", "paused", *run.steps):
            steps = ", ".join(run.steps)
            raise UsageError(f"--wait-for {what}: it is done, paused or one of {steps}")
        stopped = run.state in ("paused", "held")
        if (
            (what == "paused" and stopped)
            or (what == "done" and run.state == "done")
            or (what in run.steps and run.steps[what].status in ("done", "already so"))
        ):
            return run
        if run.state not in ("running", "rolling back"):
            kind = Paused if stopped else Failed
            raise kind(
                f"{id} is {run.state}: {run.reason or 'and stays so'}", code="migrate.not_so"
            )
        if deadline is not None and time.monotonic() >= deadline:
            raise TimedOut(f"{id} is {run.state} after {timeout}, not {what}")
        time.sleep(POLL)


def check_finished(store: SessionStore, phase: str) -> None:
    """Raises Conflict (migrate.unfinished) while a run of this phase has yet to be resumed."""
    for id in reversed(run_ids(store)):
        run = read_run(store, id) if id.startswith(phase + "-") else None
        if run is not None and not run.is_over and run.state != "running":
            raise Conflict(
                f"{id} is {run.state}, not finished",
                code="migrate.unfinished",
                hint=f"coditect migrate resume {id} goes on, coditect migrate rollback {id} goes "
                "back; --new-run starts another one beside it",
            )


def check_secrets(settings: MigrateSettings) -> None:
    """Settings are kept in the journal, which keeps no secrets. Raises UsageError."""
    for name, value in settings.as_dict().items():
        if redacted(value) != value:
            raise UsageError(
                f"migrate.{name} holds what looks like a secret",
                code="migrate.secret",
                hint="let the command that it runs read it from a file or a variable",
            )
