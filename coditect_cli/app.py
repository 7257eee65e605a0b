"""The command tree, read as a table of contents; a command's module is loaded when it runs."""

from __future__ import annotations

import gc
import importlib
import inspect
import os
import re
import signal
from collections.abc import Callable, Sequence
from copy import copy
from functools import cache, partial
from types import ModuleType
from typing import Annotated, Any, NamedTuple, cast, get_args

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.exceptions import TyperException

from coditect_cli.completion import use_own_scripts
from coditect_cli.errors import UsageError
from coditect_cli.options import context_names
from coditect_cli.output import Format
from coditect_cli.runtime import Runtime


class Command(NamedTuple):
    """One word of the tree: a function of a module in commands/, or a noun with several.

    A verb that is in a module of its own is MODULE.VERB.
    """

    summary: str
    module: str
    function: str = ""
    verbs: tuple[str, ...] = ()


TREE = {
    "up": Command("Create or start a workspace, and attach to it.", "attach", "up"),
    "attach": Command("Attach this terminal to a session of a workspace.", "attach", "attach"),
    "exec": Command("Run one command in a workspace.", "attach", "exec_"),
    "cp": Command("Copy files and folders in and out of a workspace.", "cp", "cp"),
    "workspace": Command(
        "Create, list, start, stop and delete workspaces.",
        "workspace",
        verbs=(
            *("workspace_create.create", "list", "show", "start"),
            *("workspace_end.stop", "workspace_end.delete", "wait"),
        ),
    ),
    "gateway": Command(
        "Run and look after the gateway.",
        "gateway",
        verbs=(
            *("serve", "status", "stop", "restart", "logs"),
            *("gateway_probe.probe", "gateway_probe.selftest"),
        ),
    ),
    "session": Command(
        "Look at, end, delete, move and record terminal sessions.",
        "session",
        verbs=(
            *("session_list.list", "show", "history", "output", "kill", "session_delete.delete"),
            *("session_transfer.export", "session_transfer.import"),
            *("recording.record", "recording.play"),
        ),
    ),
    "token": Command("Issue and inspect tokens.", "token", verbs=("issue", "jwks", "inspect")),
    "keys": Command(
        "Look at the keys of the session store; nothing here writes.",
        "keys",
        verbs=("ls", "get", "du", "check"),
    ),
    "migrate": Command(
        "Roll out in steps, with a plan, gates and a way back.",
        "migrate",
        verbs=(
            *("phase1", "phase2", "cutover"),
            *("migrate_runs.status", "migrate_runs.resume", "migrate_runs.rollback"),
            *("migrate_runs.approve", "migrate_runs.reject", "migrate_runs.pause"),
            "migrate_runs.lock",
        ),
    ),
    "context": Command(
        "Choose where workspaces live, and with which settings.",
        "context",
        verbs=("list", "show", "use", "set"),
    ),
    "doctor": Command("Check this machine, and say how to fix what is wrong.", "doctor", "doctor"),
    "version": Command("Print the version.", "version", "version"),
}

SUMMARY = "Developer workspaces, and terminals that outlive everything."
EPILOG = "-o, --context, --yes, -v and --debug work here too: coditect --help has them."
HELP = {"help_option_names": ["-h", "--help"]}


def run(argv: Sequence[str], runtime: Runtime) -> Any:
    """Run one command line: a Result, a remote exit status, or None.

    Raises the command's errors, and UsageError for a line that does not parse.
    """
    root = tree()
    argv = _version_as_command(argv)
    if "_CODITECT_COMPLETE" in os.environ:
        root.main(argv, prog_name="coditect")  # answers the shell, and ends the process
    try:
        with root.make_context("coditect", argv, obj=runtime) as context:
            return root.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    except TyperException as error:
        command = getattr(getattr(error, "ctx", None), "command_path", "coditect")
        message = error.format_message().strip()
        if message.startswith("Usage:"):  # a noun alone: its help is the message
            runtime.streams.say(message + "\n")
            message = "a command is missing"
        runtime.output = _output_asked(argv) or runtime.output
        raise UsageError(message, hint=f"{command} --help") from error


def _version_as_command(argv: Sequence[str]) -> list[str]:
    """The line, with a --version before any command as the command that it stands for."""
    words = list(argv)
    if "--version" not in words or any(word in TREE for word in words[: words.index("--version")]):
        return words
    words.remove("--version")
    return ["version", *words]


def _output_asked(argv: Sequence[str]) -> Format | None:
    """What -o says in a line that does not parse."""
    words = argv[: argv.index("--")] if "--" in argv else argv
    match = re.search(r"(?:^|\0)(?:-o|--output)[=\0]?(\w+)", "\0".join(words))
    return next((form for form in get_args(Format) if match and match[1] == form), None)


def tree() -> TyperGroup:
    """The root command, with its children not loaded yet."""
    children = [Lazy(name, partial(_load, name, node), node.summary) for name, node in TREE.items()]
    use_own_scripts()
    root = _group("coditect", SUMMARY, children)
    version = TyperOption(
        param_decls=["--version"], is_flag=True, expose_value=False, help="Print the version."
    )
    root.params = [*_global_options(), version, *root.params]
    return root


class Leaf(TyperCommand):
    """A command that runs: all options have been read by then."""

    def invoke(self, ctx: Any) -> Any:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        ctx.obj.start_log()
        gc.freeze()
        gc.enable()
        return super().invoke(ctx)


class Lazy(TyperCommand):
    """Stands for a command in its parent's help, and becomes it when it is called."""

    def __init__(
        self, name: str, load: Callable[[], TyperCommand | TyperGroup], summary: str | None = None
    ) -> None:
        super().__init__(name=name, help=summary)
        self.load = load

    def get_short_help_str(self, limit: int = 45) -> str:
        if self.help:
            return super().get_short_help_str(limit)
        return self.load().get_short_help_str(limit)

    def make_context(self, *args: Any, **extra: Any) -> Any:
        return self.load().make_context(*args, **extra)


def _load(name: str, node: Command) -> TyperCommand | TyperGroup:
    if node.function:
        return _command(name, getattr(_module(node.module), node.function))
    verbs = []
    for place in node.verbs:
        other, _, verb = place.rpartition(".")
        verbs.append(Lazy(verb, partial(_load_verb, other or node.module, verb)))
    return _group(name, node.summary, verbs)


def _load_verb(module_name: str, verb: str) -> TyperCommand:
    module = _module(module_name)
    return _command(verb, getattr(module, verb, None) or getattr(module, verb + "_"))


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"coditect_cli.commands.{name}")


def _group(name: str, summary: str, commands: Sequence[Lazy]) -> TyperGroup:
    app = typer.Typer(
        rich_markup_mode=None, no_args_is_help=True, add_completion=name == "coditect"
    )
    app.callback(help=summary, context_settings=HELP)(lambda: None)
    group = cast(TyperGroup, typer.main.get_command(app))
    group.name = name
    for command in commands:
        group.add_command(command)
    return group


def _command(name: str, function: Callable[..., Any]) -> TyperCommand:
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    register = app.command(
        name, cls=Leaf, help=_help(function), epilog=EPILOG, context_settings=HELP
    )
    register(function)
    command = cast(TyperCommand, typer.main.get_command(app))
    for option in map(copy, _global_options()):
        option.hidden = True
        command.params.append(option)
    return command


def _help(function: Callable[..., Any]) -> str:
    """A docstring, in which what follows "Examples:" and "Exit codes:" keeps its lines."""
    return re.sub(r"\n\n(Examples?|Exit codes):", r"\n\n\b\n\1:", inspect.getdoc(function) or "")


@cache
def _global_options() -> list[Any]:
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command()(_globals)
    options = typer.main.get_command(app).params
    for option in options:
        option.expose_value = False
    return list(options)


def _remember(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> None:
    if isinstance(ctx.obj, Runtime) and value:  # there is none when a shell asks for completions
        setattr(ctx.obj, str(param.name), value)


def _globals(
    output: Annotated[
        Format | None, typer.Option("--output", "-o", callback=_remember, help="How to print.")
    ] = None,
    context_name: Annotated[
        str | None,
        typer.Option(
            "--context",
            callback=_remember,
            help="The context to use.",
            metavar="NAME",
            autocompletion=context_names,
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", callback=_remember, help="Say yes to every question.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", callback=_remember, help="Log to stderr.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", callback=_remember, help="Log everything to stderr.")
    ] = False,
) -> None: ...
