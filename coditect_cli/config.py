"""The settings in effect: flag, then CODITECT_* variable, then context, then default."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from coditect_cli.errors import NotFound, UsageError
from coditect_cli.paths import Paths, locked, make_private, unusable, write_private

_CONTEXT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_SIZES = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_DURATIONS = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
SECTIONS = ("migrate",)  # tables of a context that others than this module read
# Variables of such names hold secrets.
SECRET_NAMES = (
    "*TOKEN*",
    "*SECRET*",
    "*PASSWORD*",
    "*PASSWD*",
    "*PASSPHRASE*",
    "*_PWD",
    "*KEY*",
    "*CREDENTIAL*",
    "*COOKIE*",
)
LEAST_MESSAGE = 256 << 10  # bytes; more than the client ever sends at once

T = TypeVar("T")


def _amount(value: object, units: Mapping[str, float], rule: str) -> float:
    match = None if isinstance(value, bool) else _NUMBER.fullmatch(str(value).strip())
    if match is None or match[2] not in units:
        raise ValueError(rule)
    return float(match[1]) * units[match[2]]


def parse_size(value: object) -> int:
    """Bytes from 4096 or 1MiB; raises ValueError with the rule."""
    size = int(_amount(value, _SIZES, "a size such as 4096, 64KiB or 1MiB"))
    if not 1 <= size <= 1 << 30:
        raise ValueError("a size from 1 byte to 1GiB")
    return size


def _message_size(value: object) -> int:
    size = parse_size(value)
    if size < LEAST_MESSAGE:
        raise ValueError("a size from 256KiB, which our own client needs, to 1GiB")
    return size


def parse_duration(value: object) -> float:
    """Seconds from 90, 30s, 5m, 1h or 2d; raises ValueError with the rule."""
    return _amount(value, _DURATIONS, "a duration such as 30s, 5m, 1h or 2d")


def _count(value: object) -> int:
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[1-9]\d{0,8}", text):
        raise ValueError("a whole number from 1")
    return int(text)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError("a line of text")
    return value


def _provider(value: object) -> str:
    if value not in ("local", "kubernetes"):
        raise ValueError('"local" or "kubernetes"')
    return str(value)


def _dns_label(value: object) -> str:
    text = _text(value)
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", text):
        raise ValueError("a DNS label: 1 to 63 lower-case letters, digits and dashes")
    return text


def _dns_name(value: object) -> str:
    text = _text(value)
    label = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
    if len(text) > 253 or not re.fullmatch(rf"{label}(\.{label})*", text):
        raise ValueError("a DNS name: lower-case letters, digits, dashes and dots")
    return text


def _image(value: object) -> str:
    """An image's name; see https://github.com/distribution/reference."""
    text = _text(value)
    if len(text) > 1000 or not re.fullmatch(
        r"[A-Za-z0-9][A-Za-z0-9.-]*(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
        r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?",
        text,
    ):
        raise ValueError("an image such as gcr.io/my-project/workspace:v1")
    return text


def _quantity(value: object) -> str:
    """A positive Quantity of Kubernetes, as it was written."""
    text = str(value)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e\d+)?", text)
    if isinstance(value, bool) or match is None or float(match[1]) == 0:
        raise ValueError("a positive Kubernetes quantity such as 500m, 2, 4Gi")
    return text


def _boolean(value: object) -> bool:
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in known:
        raise ValueError("true or false")
    return known[value.lower()]


def _store(value: object) -> str:
    if value not in ("sqlite", "foundationdb"):
        raise ValueError('"sqlite" or "foundationdb"')
    return str(value)


def _words(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        import shlex

        value = shlex.split(value)  # its ValueError says what is wrong with the quotes
    if not isinstance(value, list) or not value or not all(isinstance(w, str) for w in value):
        raise ValueError("a command: a text, or a list of texts")
    return tuple(value)


def _flag(value: object) -> bool:
    flags = {True: True, False: False, "true": True, "false": False}
    if value not in flags:
        raise ValueError("true or false")
    return flags[value]


def _names(value: object) -> tuple[str, ...]:
    items = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(one, str) and one for one in items):
        raise ValueError("a list of names and patterns such as *TOKEN*")
    return tuple(items)


def _origins(value: object) -> tuple[str, ...]:
    items = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(items, list) or not all(
        isinstance(item, str) and re.fullmatch(r"https?://[^/\s?#@]+", item) for item in items
    ):
        raise ValueError("origins such as https://ide.example.com, with no path")
    return tuple(items)


def _url(value: object) -> str:
    from urllib.parse import urlsplit

    rule = "a URL: wss://HOST[:PORT][/PATH], ws://HOST:PORT or ws+unix:/PATH/TO/SOCKET"
    text = _text(value)
    url = urlsplit(text)
    if url.query or url.fragment or "@" in url.netloc:
        raise ValueError("a URL without user, query and fragment; the token never goes there")
    if url.scheme == "ws+unix":
        if url.netloc or not url.path.startswith("/"):
            raise ValueError(rule)
    elif url.scheme not in ("ws", "wss") or not url.hostname:
        raise ValueError(rule)
    return text


def _program(value: object) -> str:
    text = _text(value)
    if not text.startswith("/"):
        raise ValueError("the absolute path of a program")
    return text


def _file(value: object) -> str:
    text = _text(value)
    if not text.startswith("/"):
        raise ValueError("the absolute path of a file")
    return text


def _key_set(value: object) -> str:
    text = _text(value)
    if not text.startswith(("/", "https://")) or "@" in text:
        raise ValueError("the absolute path of a file, or an https URL without a user")
    return text


def _setting(default: Any, parse: Callable[[object], Any], meaning: str) -> Any:
    return field(default=default, metadata={"parse": parse, "meaning": meaning})


@dataclass(frozen=True)
class Settings:
    """Every setting; sizes in bytes, durations in seconds."""

    provider: str = _setting("local", _provider, "where workspaces live")
    kubeconfig: str | None = _setting(
        None, _file, "the kubeconfig file; unset: KUBECONFIG, ~/.kube/config, or the pod's own"
    )
    kube_context: str | None = _setting(None, _text, "its context; unset: the current one")
    namespace: str = _setting("coditect", _dns_label, "the namespace of workspaces")
    owner: str | None = _setting(
        None, _text, "whom new workspaces belong to; unset: the token's user"
    )
    image: str | None = _setting(None, _image, "the image of new workspaces")
    cpu: str | None = _setting(
        None, _quantity, "CPUs that a new workspace asks for; it may use twice as many"
    )
    memory: str | None = _setting(
        None, _quantity, "memory that a new workspace asks for; it may use twice as much"
    )
    storage: str | None = _setting(None, _quantity, "the size of a new workspace's volume")
    storage_class: str | None = _setting(None, _dns_name, "the class of its volume")
    spot: bool = _setting(True, _boolean, "run new workspaces on Spot nodes")
    gateway_url: str | None = _setting(None, _url, "the gateway to use instead of one's own")
    token_command: tuple[str, ...] | None = _setting(
        None, _words, "a command whose output is the token"
    )
    token_jwks: str | None = _setting(
        None, _key_set, "the key set that tokens are verified with: a file or an https URL"
    )
    token_key_file: str | None = _setting(
        None, _file, "the private key that tokens are signed with (PEM); unset: the local key"
    )
    token_secret_file: str | None = _setting(
        None, _file, "an HS256 secret that an edge gateway accepts tokens of, too"
    )
    token_issuer: str | None = _setting(None, _text, "the `iss` that a token must have")
    token_audience: str | None = _setting(None, _text, "the `aud` that a token must have")
    allowed_origins: tuple[str, ...] = _setting(
        (), _origins, "origins whose pages may use the gateway"
    )
    max_message: int = _setting(1 << 20, _message_size, "the largest WebSocket message")
    max_sessions: int = _setting(256, _count, "sessions per workspace")
    max_connections: int = _setting(1024, _count, "connections per user")
    attach_rate: int = _setting(100, _count, "new attachments per second and user")
    output_kept: int = _setting(1 << 20, parse_size, "output kept per session")
    resume_grace: float = _setting(
        10.0, parse_duration, "how long a program waits for a lost client"
    )
    exec_linger: float = _setting(
        120.0, parse_duration, "how long an exec's result waits for its client"
    )
    session_idle: float = _setting(
        0.0, parse_duration, "when a session without client and output ends; 0: never"
    )
    gateway_idle: float = _setting(
        600.0, parse_duration, "when a gateway without sessions and clients ends; 0: never"
    )
    workspace_root: str = _setting("/workspace", _file, "in a pod: the workspace's volume")
    run_as: str | None = _setting(
        None, _text, "the user that programs run as, where the gateway is uid 0; unset: its own"
    )
    shell: str | None = _setting(None, _program, "the shell of sessions; unset: the user's own")
    store: str = _setting("sqlite", _store, "where sessions are recorded: sqlite or foundationdb")
    save_screen: bool = _setting(True, _flag, "whether a session's screen is recorded")
    secret_names: tuple[str, ...] = _setting(
        SECRET_NAMES, _names, "variables that are never recorded: patterns such as *TOKEN*"
    )
    fdb_cluster_file: str | None = _setting(
        None, _file, "FoundationDB's cluster file; unset: its client library's default"
    )
    fdb_tls_certificate_file: str | None = _setting(None, _file, "the certificate shown to it")
    fdb_tls_key_file: str | None = _setting(None, _file, "the certificate's private key")
    fdb_tls_ca_file: str | None = _setting(None, _file, "the authorities its servers answer to")


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
        """The URL in effect: the setting, else the local gateway's socket."""
        return self.settings.gateway_url or f"ws+unix:{paths.gateway_socket}"


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
            hint=_closest(name, list(contexts)) or "coditect context list shows them",
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
