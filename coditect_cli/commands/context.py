"""`coditect context`: list, show, use, set."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from coditect_cli import config
from coditect_cli.errors import UsageError
from coditect_cli.options import context_names
from coditect_cli.output import Result
from coditect_cli.runtime import Runtime

Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The context's name.", autocompletion=context_names),
]


def list_(ctx: typer.Context) -> Result:
    """List the contexts.

    Examples:
      coditect context list
      coditect context list -o json

    Exit codes: 0 done, 2 config.toml is not as it should be
    """
    runtime: Runtime = ctx.obj
    contexts, chosen = config.read_contexts(runtime.paths)
    current = runtime.context_name or os.environ.get("CODITECT_CONTEXT") or chosen
    items = []
    for name in contexts:
        context = config.load(runtime.paths, {}, context=name)
        items.append(
            {
                "name": name,
                "current": name == current,
                "provider": context.settings.provider,
                "gatewayUrl": context.shown_gateway_url(runtime.paths),
            }
        )
    columns = {"NAME": "name", "CURRENT": "current", "PROVIDER": "provider"}
    return Result(
        "ContextList", {"items": items}, columns, {"GATEWAY URL": "gatewayUrl"}, name="name"
    )


def show(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="The context; else the one in effect.",
            autocompletion=context_names,
        ),
    ] = None,
) -> Result:
    """Show every setting, its value, and where the value comes from.

    A value comes from a flag, else a CODITECT_* variable, else config.toml, else the default.

    Examples:
      coditect context show
      coditect context show -o json

    Exit codes: 0 done, 2 a value breaks its rule, 3 no such context
    """
    from coditect_cli.migrations.settings import load_settings

    runtime: Runtime = ctx.obj
    if name is not None:
        runtime.context_name = name
    context = runtime.context
    url = context.shown_gateway_url(runtime.paths)
    settings: dict[str, Any] = {}
    for setting, source in context.sources.items():
        value = getattr(context.settings, setting)
        settings[setting] = {
            "value": list(value) if isinstance(value, tuple) else value,
            "source": source,
        }
    migrate, sources = load_settings(runtime.paths, os.environ, {}, context.name)
    for setting, source in sources.items():
        value = getattr(migrate, setting)
        settings[f"migrate.{setting}"] = {
            "value": list(value) if isinstance(value, tuple) else value,
            "source": source,
        }
    fields = {"name": context.name, "gatewayUrl": url, "settings": settings}
    file = runtime.paths.config_file
    rows: list[dict[str, Any]] = [{"setting": "gateway URL in effect", "value": url}]
    if file.exists():
        rows.append({"setting": "config file", "value": str(file)})
    for setting, entry in settings.items():
        short = file.name if entry["source"] == str(file) else entry["source"]
        rows.append({"setting": setting, "value": entry["value"], "source": short})
    columns = {"SETTING": "setting", "SOURCE": "source", "VALUE": "value"}  # the longest last
    return Result("Context", fields, columns, rows=rows, name="name")


def use(ctx: typer.Context, name: Name) -> Result:
    """Make a context the one in effect.

    Examples:
      coditect context use local

    Exit codes: 0 done, 3 no such context
    """
    config.use_context(ctx.obj.paths, name)
    return Result("Context", {"name": name}, text=f"{name} is the context now", name="name")


def set_(
    ctx: typer.Context,
    name: Name,
    settings: Annotated[
        list[str], typer.Argument(metavar="SETTING=VALUE...", help="An empty VALUE unsets.")
    ],
) -> Result:
    """Set settings of a context in config.toml; a context that is not there is made.

    "coditect context show" lists the settings. Comments in the file are kept.

    Examples:
      coditect context set local output_kept=4MiB gateway_idle=1h
      coditect context set far gateway_url=wss://gateway.example.com/ws
      coditect context set prod migrate.project=acme-prod migrate.bake=2h
      coditect context set far token_command="gcloud auth print-identity-token"

    Exit codes: 0 done, 2 no such setting, or the value breaks its rule
    """
    changes: dict[str, str | None] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"{setting!r} is not SETTING=VALUE")
        changes[key] = value or None
    sections: dict[str, type] = {}
    if any(key.startswith("migrate.") for key in changes):
        from coditect_cli.migrations.settings import MigrateSettings

        sections["migrate"] = MigrateSettings
    config.set_settings(ctx.obj.paths, name, changes, sections)
    return Result("Context", {"name": name}, text=f"context {name} changed", name="name")
