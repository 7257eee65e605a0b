"""Every setting: its default, the rule that its values follow, and what it means."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)
# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_QUANTITY = re.compile(r"(\d+\.?\d*|\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d{1,3})?", re.ASCII)
_SIZES = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_DURATIONS = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
# Variables of such names hold secrets.
SECRET_NAMES = (
    "*TOKEN*",
    "*SECRET*",
    "*PASSWORD*",
    "*PASSWD*",
    "*PASSPHRASE*",
    "*PASS",
    "*_PWD",
    "*KEY*",
    "*CREDENTIAL*",
    "*COOKIE*",
    "*BEARER*",
    "*JWT*",
    "*_PAT",
    "*_AUTH",
    "*DSN",
)
LEAST_KEPT = 576 << 10  # bytes: what may be under way twice, and room for one more read
LEAST_MESSAGE = 256 << 10  # bytes; more than the client ever sends at once


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


def _kept_size(value: object) -> int:
    size = parse_size(value)
    if size < LEAST_KEPT:
        raise ValueError("a size from 576KiB, of which most may be under way, to 1GiB")
    return size


def parse_duration(value: object) -> float:
    """Seconds from 90, 30s, 5m, 1h or 2d; raises ValueError with the rule."""
    return _amount(value, _DURATIONS, "a duration such as 30s, 5m, 1h or 2d")


def duration_text(seconds: float) -> str:
    """What parse_duration reads as that, in the largest unit of which it is a whole number."""
    for unit, size in sorted(_DURATIONS.items(), key=lambda one: -one[1]):
        if unit and seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def _count(value: object) -> int:
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[1-9][0-9]{0,8}", text):
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
        r"[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
        r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?",
        text,
    ):
        raise ValueError("an image such as gcr.io/my-project/workspace:v1")
    return text


def _quantity(value: object) -> str:
    """A positive Quantity of Kubernetes, as it was written, without a sign."""
    text = str(value)
    match = _QUANTITY.fullmatch(text)
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

        try:
            value = shlex.split(value)
        except ValueError:
            raise ValueError("a command whose quotes end") from None
    if not isinstance(value, list) or not value or not all(isinstance(w, str) for w in value):
        raise ValueError("a command: a text, or a list of texts")
    return tuple(value)


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
    if re.match(r"ws\+unix:/(?!/)", text):
        return text  # a file's name may hold "?", "#" and "@"
    try:
        url = urlsplit(text)
        _ = url.port  # raises as well where it is none
    except ValueError:
        raise ValueError(rule) from None
    if url.query or url.fragment or "@" in url.netloc:
        raise ValueError("a URL without user, query and fragment; the token never goes there")
    if url.scheme not in ("ws", "wss") or not url.hostname:
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
    output_kept: int = _setting(1 << 20, _kept_size, "output kept per session")
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
    save_screen: bool = _setting(True, _boolean, "whether a session's screen is recorded")
    secret_names: tuple[str, ...] = _setting(
        SECRET_NAMES, _names, "variables that are never recorded: patterns such as *TOKEN*"
    )
    fdb_cluster_file: str | None = _setting(
        None, _file, "FoundationDB's cluster file; unset: its client library's default"
    )
    fdb_tls_certificate_file: str | None = _setting(None, _file, "the certificate shown to it")
    fdb_tls_key_file: str | None = _setting(None, _file, "the certificate's private key")
    fdb_tls_ca_file: str | None = _setting(None, _file, "the authorities its servers answer to")
