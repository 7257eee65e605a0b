"""The settings in effect: flag, then CODITECT_* variable, then context, then default."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from coditect_cli.errors import NotFound, UsageError
from coditect_cli.paths import Paths, locked, make_private, unusable, write_private
from coditect_cli.settings import Settings

_CONTEXT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
SECTIONS = ("migrate",)  # tables of a context that others than this module read

T = TypeVar("T")


class Context(NamedTuple):
    """A named set of settings, and for each of them where its value came from."""

    name: str
    settings: Settings
    sources: dict[str, str]

    @property
    def is_remote(self) -> bool:
        """Whether it is about a cluster, or its file names a gateway of another machine.

        A URL in CODITECT_GATEWAY_URL, of this machine or a socket is another way to our own.
        """
        url = self.settings.gateway_url
        if self.settings.provider != "local":
            return True
        if url is None or self.sources["gateway_url"] == "CODITECT_GATEWAY_URL":
            return False
        import ipaddress
        from urllib.parse import urlsplit

        host = urlsplit(url).hostname
        if host is None or host == "localhost":
            return False
        try:
            return not ipaddress.ip_address(host).is_loopback
        except ValueError:
            return True

    def gateway_url(self, paths: Paths) -> str:
        """The URL in effect: the setting, else the local gateway's socket.

        Raises UsageError (gateway.unset) where workspaces are in a cluster, and it is not set.
        """
        if url := self.shown_gateway_url(paths):
            return url
        raise UsageError(
            f"context {self.name} names no gateway, the way into its cluster's workspaces",
            code="gateway.unset",
            hint=f"coditect context set {self.name} gateway_url=wss://HOST/ws",
        )

    def shown_gateway_url(self, paths: Paths) -> str | None:
        """As `gateway_url`; None where there is none."""
        local = self.settings.provider == "local"
        return self.settings.gateway_url or (f"ws+unix:{paths.gateway_socket}" if local else None)


def load(
    paths: Paths,
    environ: Mapping[str, str],
    flags: Mapping[str, str] | None = None,
    context: str | None = None,
) -> Context:
    """The context in effect with its settings.

    Raises UsageError for a value that breaks its rule, NotFound for an unknown context.
    """
    contexts, current = read_contexts(paths)
    name = context or environ.get("CODITECT_CONTEXT") or current
    if name not in contexts:
        raise NotFound(
            f"no context {name!r} in {paths.config_file}",
            code="context.not_found",
            hint=_closest(name, list(contexts))
            or "coditect context list shows them; coditect context use NAME chooses one",
        )
    place = f"{paths.config_file}: [contexts.{name}]"
    settings, sources = _chosen(Settings, contexts[name], place, environ, flags or {})
    return Context(name, settings, sources)


def load_section(
    section: str,
    kind: type[T],
    paths: Paths,
    environ: Mapping[str, str],
    flags: Mapping[str, str],
    context: str,
) -> tuple[T, dict[str, str]]:
    """A section's settings, and for each of them where its value came from.

    `kind` is a dataclass like Settings. Raises UsageError for a value that breaks its rule, or a
    key that is not one of its fields.
    """
    table = read_contexts(paths)[0].get(context, {}).get(section, {})
    place = f"{paths.config_file}: [contexts.{context}.{section}]"
    known = [setting.name for setting in fields(kind)]  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise _unknown(f"{place} has an unknown key {key!r}", key, known)
    return _chosen(kind, table, place, environ, flags, section + "_")


def _chosen(
    kind: type[T],
    table: Mapping[str, Any],
    place: str,
    environ: Mapping[str, str],
    flags: Mapping[str, str],
    prefix: str = "",
) -> tuple[T, dict[str, str]]:
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for setting in fields(kind):  # type: ignore[arg-type]
        name = setting.name
        variable = f"CODITECT_{prefix}{name}".upper()
        flag = "--" + name.replace("_", "-")
        if name in flags:
            raw, source, where = flags[name], flag, flag
        elif variable in environ:
            raw, source, where = environ[variable], variable, variable
        elif name in table:
            raw, source, where = table[name], place.partition(": ")[0], f"{place} {name}"
        else:
            sources[name] = "default"
            continue
        values[name] = _parse(kind, name, raw, where)
        sources[name] = source
    return kind(**values), sources


def _parse(kind: type, name: str, raw: object, place: str) -> Any:
    parsers = {setting.name: setting.metadata["parse"] for setting in fields(kind)}
    try:
        return parsers[name](raw)
    except ValueError as rule:
        raise UsageError(f"{place} is not {rule}", code="config.invalid") from None


def read_contexts(paths: Paths) -> tuple[dict[str, dict[str, Any]], str]:
    """Each context's raw settings as config.toml has them, and the current one's name.

    `local` is always among them. Raises UsageError when the file is not as it should be.
    """
    file = paths.config_file
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return {"local": {}}, "local"
    except OSError as error:
        raise unusable(file, error) from error
    import tomllib

    try:
        document = tomllib.loads(content.decode())
    except ValueError as error:
        raise UsageError(f"{file} is not TOML: {error}", code="config.invalid") from None
    for key in document:
        if key not in ("current", "contexts"):
            raise _unknown(f"{file}: unknown key {key!r}", key, ["current", "contexts"])
    current, contexts = document.get("current", "local"), document.get("contexts", {})
    if not isinstance(current, str):
        raise UsageError(f"{file}: current is not a context's name", code="config.invalid")
    if not isinstance(contexts, dict) or not all(isinstance(c, dict) for c in contexts.values()):
        raise UsageError(f"{file}: contexts are not [contexts.NAME] tables", code="config.invalid")
    for name, values in contexts.items():
        _check_keys(values, f"{file}: [contexts.{name}]")
    return {"local": {}, **contexts}, current


def _check_keys(table: Mapping[str, Any], place: str) -> None:
    known = [setting.name for setting in fields(Settings)]
    for key, value in table.items():
        if key in SECTIONS:
            if not isinstance(value, dict):
                raise UsageError(f"{place} {key} is not a table", code="config.invalid")
        elif key not in known:
            raise _unknown(f"{place} has an unknown key {key!r}", key, [*known, *SECTIONS])


def use_context(paths: Paths, name: str) -> None:
    """Make `name` the current context. Raises NotFound when there is none of that name."""
    contexts, _ = read_contexts(paths)
    if name not in contexts:
        raise NotFound(
            f"no context {name!r}",
            code="context.not_found",
            hint=_closest(name, list(contexts)) or f"coditect context set {name} makes it",
        )

    def change(document: Any) -> None:
        document["current"] = name

    _edit(paths, change)


def set_settings(
    paths: Paths,
    name: str,
    changes: Mapping[str, str | None],
    sections: Mapping[str, type] | None = None,
) -> None:
    """Set (None: unset) settings of a context, made when missing; comments are kept.

    A setting of a section is `section.name`; `sections` has each one's dataclass. Raises
    UsageError for an unknown setting, a value that breaks its rule, or a bad name.
    """
    if not _CONTEXT_NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a context's name",
            code="context.invalid_name",
            hint="use letters, digits, dashes and underscores",
        )
    kinds: dict[str, type] = {"": Settings, **(sections or {})}
    known = [
        f"{section}.{setting.name}".lstrip(".")
        for section, kind in kinds.items()
        for setting in fields(kind)
    ]
    values: dict[tuple[str, str], object] = {}
    for key, raw in changes.items():
        if key not in known:
            raise _unknown(f"there is no setting {key!r}", key, known)
        section, _, setting_name = key.rpartition(".")
        parsed = None if raw is None else _parse(kinds[section], setting_name, raw, key)
        values[section, setting_name] = list(parsed) if isinstance(parsed, tuple) else raw

    def change(document: Any) -> None:
        import tomlkit

        if "contexts" not in document:
            document["contexts"] = tomlkit.table(is_super_table=True)
        context = document["contexts"].setdefault(name, tomlkit.table())
        for (section, key), value in values.items():
            table = context.setdefault(section, tomlkit.table()) if section else context
            if value is None:
                table.pop(key, None)
            else:
                table[key] = value

    _edit(paths, change)


def _edit(paths: Paths, change: Callable[[Any], None]) -> None:
    import tomlkit

    make_private(paths.config)
    with locked(paths.config):
        read_contexts(paths)
        file = Path(paths.config_file).resolve()  # a link into a folder of dotfiles stays one
        document = tomlkit.parse(file.read_text() if file.exists() else "")
        change(document)
        write_private(file, tomlkit.dumps(document).encode())


def _unknown(message: str, key: str, known: list[str]) -> UsageError:
    return UsageError(
        message,
        code="config.unknown_key",
        hint=_closest(key, known) or "known are: " + ", ".join(known),
    )


def _closest(word: str, known: list[str]) -> str | None:
    import difflib

    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else None
