"""Runs of migrations as commands start and continue them: with a lock, signals and a display."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from coditect_cli import __version__
from coditect_cli.errors import Conflict, NotFound, UsageError, as_error
from coditect_cli.migrations.cloud_run import CloudRun
from coditect_cli.migrations.engine import Engine
from coditect_cli.migrations.journal import Journal, new_run_id
from coditect_cli.migrations.lock import hold
from coditect_cli.migrations.phases import steps_of
from coditect_cli.migrations.plan import check_plan, check_plan_file, flags_of, make_plan, save_plan
from coditect_cli.migrations.programs import asked_once, telling
from coditect_cli.migrations.report import head_text, plan_text, run_fields
from coditect_cli.migrations.run import Run
from coditect_cli.migrations.runs import check_finished, check_secrets, chosen_run
from coditect_cli.migrations.settings import MigrateSettings, load_settings
from coditect_cli.migrations.show import Say, showing
from coditect_cli.migrations.step import Step, World
from coditect_cli.migrations.target import Target, find_target, kube_context_of
from coditect_cli.output import Result, emit
from coditect_cli.stores.store import SessionStore, open_store
from coditect_cli.tokens import local_user

if TYPE_CHECKING:
    from coditect_cli.kube import Kube
    from coditect_cli.runtime import Runtime

PATIENCE = 20.0  # seconds that a plan waits for a cluster to answer, over all its looks


def run_phase(
    runtime: Runtime,
    phase: str,
    plan: bool,
    plan_file: Path | None,
    from_plan: Path | None,
    new_run: bool,
    confirm: str | None,
    flags: dict[str, str],
) -> Result:
    """Plan a phase, or begin a run of it and drive it.

    Raises UsageError where both are asked for, Conflict, and what steps raise.
    """
    only_looks = plan or plan_file is not None
    with result_last(runtime, phase, is_run=bool(from_plan) or not only_looks) as last:
        if from_plan is not None and only_looks:
            raise UsageError(
                "--from-plan runs a plan, and --plan and --plan-file run nothing: give only one",
                code="migrate.plan",
            )
        if plan_file is not None:
            check_plan_file(plan_file)
        if from_plan is not None:
            flags = {**flags_of(from_plan), **flags}
        settings, sources = load_settings(runtime.paths, os.environ, flags, runtime.context.name)
        check_secrets(settings)  # a plan shows them too
        _share_kubeconfig(runtime)
        target, problem = find_target(runtime.context.name, settings, sources)
        settings = replace(settings, project=target.project)
        world = _world(runtime, settings, target, PATIENCE if only_looks else None)
        steps = steps_of(phase, world)
        if only_looks or from_plan is not None:
            scope, file = _scope(runtime, settings), plan_file or from_plan
            with nullcontext() if from_plan is not None else asked_once():
                planned = make_plan(phase, steps, world, scope, flags, file, problem)
            if from_plan is None:
                if plan_file is not None:
                    save_plan(plan_file, planned)
                return Result("MigrationPlan", planned, text=plan_text(planned), name="phase")
            check_plan(from_plan, planned)
        if problem is not None:
            raise problem
        target.check()
        is_asked = from_plan is None and runtime.streams.may_prompt()
        return _begin(runtime, phase, steps, world, new_run, is_asked, confirm, last)


def _begin(
    runtime: Runtime,
    phase: str,
    steps: list[Step],
    world: World,
    new_run: bool,
    is_asked: bool,
    confirm: str | None,
    last: Last,
) -> Result:
    """Begin a run, after somebody was asked where it `is_asked`, and drive it."""
    with open_journals(runtime, world.settings) as store:
        if not new_run:
            check_finished(store, phase)
        say_where(runtime, phase, world.target, world.settings)
        if is_asked:
            runtime.confirm(f"Run {phase} there?", "--yes")
        if runtime.streams.may_animate():  # it takes some seconds, and has no events
            runtime.streams.say("  looking at what its steps need")
        id = new_run_id(phase, time.time_ns())
        with hold(store, id, actor()) as held:
            journal = Journal(store, id, actor(), held)

            def start(engine: Engine) -> None:
                engine.start(phase, lock=held.lock.token, version=__version__, folder=_folder())

            return drive(runtime, journal, steps, world, confirm, start, last)


@dataclass
class Last:
    """What the last line of -o ndjson tells of: the run, once there is one."""

    run: Run | None = None


@contextmanager
def result_last(runtime: Runtime, phase: str | None = None, is_run: bool = True) -> Iterator[Last]:
    """With -o ndjson, end what a run prints with its result, however it ends in vain."""
    last = Last()
    try:
        yield last
    except (Exception, KeyboardInterrupt) as problem:
        if is_run and runtime.output == "ndjson":
            nothing = {"id": None, "phase": phase, "state": None}
            told = nothing if last.run is None else run_fields(last.run)
            if isinstance(problem, KeyboardInterrupt) and told["state"] is not None:
                told["state"] = "interrupted"  # it was told to end at once: nobody wrote it down
            fields = {"type": "result", "error": as_error(problem).as_dict(), **told}
            emit(Result("MigrationRun", fields), "ndjson", runtime.streams)
        raise


def say_where(runtime: Runtime, phase: str, target: Target, settings: MigrateSettings) -> None:
    """What each run opens with, also when it goes on or back."""
    runtime.streams.say(f"{phase}\n{head_text(target.as_dict(), _scope(runtime, settings))}")


def drive(
    runtime: Runtime,
    journal: Journal,
    steps: list[Step],
    world: World,
    confirm: str | None,
    go: Callable[[Engine], None],
    last: Last,
) -> Result:
    """Run the engine, tell what happens, and make the result of what it came to."""
    stop = threading.Event()
    titles = {step.name: step.title for step in steps}
    expected = {step.name: step.expected + step.bake for step in steps}
    form = runtime.output
    with showing(form, runtime.streams, titles, expected) as (tell, quiet, say):

        def ask(question: str, name: str) -> None:
            with quiet():
                runtime.confirm_name(question, name, confirm, "--confirm")

        named = journal.run + words_to_find(runtime, world.settings.store)
        engine = Engine(journal, steps, world, tell=tell, confirm=ask, stop=stop, named=named)
        with _stopped_by_signals(stop, say), telling(say):
            try:
                go(engine)
            finally:
                last.run = engine.run if engine.run.phase else None
    fields = run_fields(engine.run)
    if form == "ndjson":
        fields = {"type": "result", **fields}
    return Result("MigrationRun", fields, text=f"{engine.run.id} is {engine.run.state}")


@contextmanager
def _stopped_by_signals(stop: threading.Event, say: Say) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP end the run at its next safe point; a second SIGINT at once."""

    def on_signal(number: int, frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()
        with suppress(OSError):  # its terminal may be what went
            say("stopping at the next safe point; Ctrl-C again stops at once")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else it was begun with nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def taken(store: SessionStore, run: str | None) -> Iterator[tuple[Journal, Run]]:
    """The lock for a run that was begun, its journal, and what it says."""
    id = chosen_run(store, run)
    Run.of(id, Journal(store, id, "").new_events())  # there is one, and its chain holds
    with hold(store, id, actor()) as held:
        journal = Journal(store, id, actor(), held)
        yield journal, Run.of(id, Journal(store, id, "").new_events())


def _folder() -> str | None:
    """The working directory; None where it is gone."""
    with suppress(OSError):
        return os.getcwd()
    return None


def _enter(folder: str | None) -> str | None:
    """Go to where a run began, since the files and commands that it was given are named from there.

    What there is to say of that; None where one is there.
    """
    if folder in (None, _folder()):
        return None
    try:
        os.chdir(folder)
    except OSError as error:  # it began on another machine, say
        return f"this one: {folder}, where it began, can't be entered: {error.strerror}"
    return f"{folder}, where it began"


def frozen(runtime: Runtime, run: Run) -> tuple[list[Step], World]:
    """A run's steps and world, with the settings that it began with, in the folder where it began.

    Raises Conflict.
    """
    if run.target["context"] != runtime.context.name:
        raise Conflict(
            f"{run.id} began in context {run.target['context']}, and this is "
            f"{runtime.context.name}",
            code="migrate.context",
            hint=f"--context {run.target['context']}",
        )
    try:
        settings = MigrateSettings.from_dict(run.settings)
    except TypeError:
        settings = None
    if settings is not None:
        check_secrets(settings)
        folder = _enter(run.folder)
        _share_kubeconfig(runtime)
        target, problem = find_target(runtime.context.name, settings, {})
        if problem is not None:
            raise problem
        target.check()
        world = _world(runtime, settings, target)
        steps = steps_of(run.phase, world)
        if [step.name for step in steps] == list(run.steps):
            say_where(runtime, run.phase, target, settings)
            if folder is not None:
                runtime.streams.say(f"  folder    {folder}")
            return steps, world
    raise Conflict(
        f"{run.id} was begun by another release, whose steps or settings are not these",
        code="migrate.release",
        hint="go on with the release that began it",
    )


def _share_kubeconfig(runtime: Runtime) -> None:
    """Where the context has a kubeconfig of its own, gcloud is to read and write that one too."""
    if (file := runtime.context.settings.kubeconfig) is not None:
        os.environ["KUBECONFIG"] = file


def _world(
    runtime: Runtime, settings: MigrateSettings, target: Target, patience: float | None = None
) -> World:
    """What steps may look at; nothing is opened yet. `patience` is in seconds, for all looks at a
    cluster that does not answer.
    """
    from coditect_cli.migrations.phase2.cluster import with_its_entry

    chosen = replace(
        runtime.context.settings,
        kube_context=kube_context_of(settings, target),
        namespace=settings.namespace,
    )

    def open_kube() -> Kube:
        from coditect_cli.kube import Kube, no_end

        deadline = time.monotonic() + (patience or 0.0)
        left = no_end if patience is None else lambda: deadline - time.monotonic()
        return Kube(chosen, left, tell=runtime.streams.say)

    return with_its_entry(World(settings, target, open_kube, runtime.cluster_user))


def open_journals(
    runtime: Runtime, settings: MigrateSettings | None = None, store: str | None = None
) -> closing[SessionStore]:
    """The store that the settings name, else `store`, else `migrate.store`."""
    if settings is None:
        flags = {} if store is None else {"store": store}
        settings, _ = load_settings(runtime.paths, os.environ, flags, runtime.context.name)
    chosen = replace(
        runtime.context.settings, store=settings.store or runtime.context.settings.store
    )
    return closing(open_store(chosen, runtime.paths))


def words_to_find(runtime: Runtime, store: str | None) -> str:
    """What a command needs to find a run again: nothing, where it finds context and store."""
    from coditect_cli import config

    words = ""
    if runtime.context.name != config.load(runtime.paths, os.environ).name:
        words = f" --context {runtime.context.name}"
    usual, _ = load_settings(runtime.paths, os.environ, {}, runtime.context.name)
    if store not in (None, usual.store or runtime.context.settings.store):
        words += f" --store {store}"
    return words


def service_url(runtime: Runtime, which: Literal["staging", "production"]) -> str:
    """Where clients reach a Cloud Run service that phase 1 deploys to. Raises NotFound."""
    settings, sources = load_settings(runtime.paths, os.environ, {}, runtime.context.name)
    target, problem = find_target(runtime.context.name, settings, sources)
    if problem is not None:
        raise problem
    target.check()
    name = settings.staging_service if which == "staging" else settings.service
    service = CloudRun(str(target.project), settings.region).describe(name)
    if service is None or service.url is None:
        raise NotFound(
            f"there is no service {name} in {settings.region}",
            code="migrate.no_service",
            hint="coditect migrate phase1 makes it; migrate.service, migrate.staging_service and "
            "migrate.region say which it is",
        )
    return service.url.replace("http", "ws", 1) + "/ws"


def _scope(runtime: Runtime, settings: MigrateSettings) -> str:
    """Whom the lock keeps out."""
    if (settings.store or runtime.context.settings.store) == "sqlite":
        return f"runs that use {runtime.paths.session_store}, so those of this user and machine"
    chosen = runtime.context.settings.fdb_cluster_file or os.environ.get("FDB_CLUSTER_FILE")
    file = chosen or "the default cluster file"
    return f"everybody who uses the FoundationDB of {file}"


def actor() -> str:
    """Who does it, for the journal."""
    import socket

    return f"{local_user()}@{socket.gethostname()}"
