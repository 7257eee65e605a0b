"""The one door to the `kubernetes` package, for what it knows of getting into a cluster.

It brings kubeconfig files, credential plugins, in-cluster credentials and TLS.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast
from urllib.parse import quote, unquote

from coditect_cli.errors import CoditectError, NotAuthenticated, UsageError
from coditect_cli.settings import Settings

CONNECTIONS = 16  # kept open at once: a wait watches half a dozen lists
_DEFERRED = {
    "kubernetes.client.api_client": "ApiClient",  # to renew an OpenID login, as the next
    "requests_oauthlib": "OAuth2Session",
    "kubernetes.stream": "stream",
}


class Connection(NamedTuple):
    """A cluster's Configuration, as the package has it, and urllib3's pool for its connections.

    `acts_as` are the headers that name another user, whom the kubeconfig's acts as.
    """

    configuration: Any
    pool: Any
    acts_as: list[tuple[str, str]]

    @property
    def server(self) -> str:
        return str(self.configuration.host)

    def headers(self) -> list[tuple[str, str]]:
        """Who is asking, for the next request; a plugin's token is got anew once it expired."""
        authorization = self.configuration.get_api_key_with_prefix("BearerToken")
        return [*self.acts_as, *([("Authorization", authorization)] if authorization else [])]


def connect(settings: Settings) -> Connection:
    """A way to the context's cluster, with its credentials.

    Raises UsageError where a package is missing or the kubeconfig can't be used,
    NotAuthenticated where its credential plugin fails.
    """
    acts_as: list[tuple[str, str]] = []
    client, config = _package()
    configuration = client.Configuration()
    configuration.connection_pool_maxsize = CONNECTIONS
    said = _Complaints()
    logging.getLogger().addHandler(said)  # where the package tells what a plugin said
    try:
        if _in_cluster(settings):
            config.load_incluster_config(client_configuration=configuration)
        else:
            acts_as = _load_kubeconfig(config.kube_config, settings, configuration)
        tls = _tls(configuration)
    except Exception as error:  # YAML's, the package's, and what it meets in a file that is odd
        raise _unusable(settings, error) from error
    finally:
        logging.getLogger().removeHandler(said)
        config.kube_config._cleanup_temp_files()  # else they outlive a kill
    if said.lines and not (configuration.api_key or configuration.cert_file):
        raise NotAuthenticated(
            f"the kubeconfig's credential plugin failed: {said.lines[0]}",
            code="kube.credentials",
            hint="run it by hand to see why; for GKE: gcloud auth login, and the package "
            "gke-gcloud-auth-plugin",
        )
    return Connection(configuration, _pool(client, configuration, tls), acts_as)


def _tls(configuration: Any) -> Any:
    """An SSLContext with the certificates that a Configuration names; read once for all."""
    import ssl

    from urllib3.util.ssl_ import create_urllib3_context

    verify = ssl.CERT_REQUIRED if configuration.verify_ssl else ssl.CERT_NONE
    context = create_urllib3_context(cert_reqs=verify)
    if configuration.ssl_ca_cert:
        context.load_verify_locations(configuration.ssl_ca_cert)
    else:
        context.load_default_certs()
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    return context


def _pool(client: Any, configuration: Any, tls: Any) -> Any:
    """urllib3's pool for the cluster, or for the proxy before it. Raises UsageError."""
    from urllib3.util import make_headers, parse_url

    proxy = parse_url(configuration.proxy or "")
    if proxy.auth and proxy.scheme in ("http", "https"):
        configuration.proxy_headers = make_headers(proxy_basic_auth=unquote(proxy.auth))
    try:
        pool = client.rest.RESTClientObject(configuration).pool_manager
    except ImportError:
        raise UsageError(
            "the cluster's SOCKS proxy needs the Python package PySocks, which is not installed",
            code="kube.proxy",
            hint="pip install PySocks",
        ) from None
    files = dict.fromkeys(("ca_certs", "cert_file", "key_file"))
    pool.connection_pool_kw |= files | {"ssl_context": tls}
    return pool


def _load_kubeconfig(package: Any, settings: Settings, configuration: Any) -> list[tuple[str, str]]:
    """Fill in what the kubeconfig's context says; the headers of whom its user acts as."""
    place = settings.kubeconfig or os.environ.get("KUBECONFIG")
    merged = package.KubeConfigMerger(place or package.KUBE_CONFIG_DEFAULT_LOCATION).config
    if merged is None:
        raise ValueError("there is no such file")
    if (wanted := settings.kube_context) is not None:
        names = [one["name"] for one in merged["contexts"]]
        if wanted not in names:
            raise ValueError(f"it has no context {wanted}, but {', '.join(names) or 'none'}")
    loader = package.KubeConfigLoader(merged, settings.kube_context, config_base_path=None)
    loader.load_and_set(configuration)
    name = loader.current_context["context"].get("user")
    users = [one.value.get("user") or {} for one in merged["users"] if one["name"] == name]
    return _acts_as(users[0]) if users else []


def _acts_as(user: dict[str, Any]) -> list[tuple[str, str]]:
    """https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/."""
    several = {
        "User": [user["as"]] if "as" in user else [],
        "Uid": [user["as-uid"]] if "as-uid" in user else [],
        "Group": user.get("as-groups") or [],
    }
    for key, values in (user.get("as-user-extra") or {}).items():
        several[f"Extra-{quote(key, safe='')}"] = values
    return [(f"Impersonate-{name}", value) for name, values in several.items() for value in values]


def _package() -> tuple[Any, Any]:
    """The package's modules client and config. Raises UsageError where it is missing.

    What it imports for few and we for nobody stays out until it is called: pydantic, requests and
    so on are half of what all of the import takes.
    """
    stand_ins = {name: ModuleType(name) for name in _DEFERRED if name not in sys.modules}
    for name, module in stand_ins.items():
        vars(module)[_DEFERRED[name]] = partial(_called, name, _DEFERRED[name])
    sys.modules.update(stand_ins)
    gc.disable()  # as for our own modules: main.entry()
    try:
        import kubernetes.client.rest
        import urllib3
    except ImportError:
        raise UsageError(
            "this context needs the Python package kubernetes, which is not installed",
            code="kube.not_installed",
            hint="pip install 'coditect[kubernetes]'",
        ) from None
    finally:
        for name in stand_ins:
            del sys.modules[name]
        gc.freeze()
        gc.enable()
    urllib3.disable_warnings()  # of what the kubeconfig asks for, such as insecure-skip-tls-verify
    return cast(Any, kubernetes).client, cast(Any, kubernetes).config


def _called(module: str, name: str, *args: object, **options: object) -> Any:
    """What a function or class gives that is imported now."""
    return getattr(import_module(module), name)(*args, **options)


class _Complaints(logging.Handler):
    """Keeps what is logged meanwhile, and lets it go nowhere."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage()[:300])


def _in_cluster(settings: Settings) -> bool:
    if settings.kubeconfig or settings.kube_context or os.environ.get("KUBECONFIG"):
        return False
    default = Path("~/.kube/config").expanduser()
    return "KUBERNETES_SERVICE_HOST" in os.environ and not default.exists()


def _unusable(settings: Settings, error: Exception) -> CoditectError:
    place = settings.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    return UsageError(
        f"no cluster can be found in {place}: {str(error).strip() or type(error).__name__}",
        code="kube.config",
        hint="for GKE: gcloud container clusters get-credentials NAME; or set the context's "
        "kubeconfig and kube_context",
    )
