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

from coditect_cli.errors import CoditectError, NotAuthenticated, UsageError
from coditect_cli.settings import Settings

CONNECTIONS = 16  # kept open at once: a wait watches half a dozen lists
_DEFERRED = {
    "kubernetes.client.api_client": "ApiClient",  # to renew an OpenID login, as the next
    "requests_oauthlib": "OAuth2Session",
    "kubernetes.stream": "stream",
}


class Connection(NamedTuple):
    """A cluster's Configuration, as the package has it, and urllib3's pool for its connections."""

    configuration: Any
    pool: Any

    @property
    def server(self) -> str:
        return str(self.configuration.host)

    def authorization(self) -> str | None:
        """The header for the next request; a plugin's token is got anew when it has expired."""
        return cast("str | None", self.configuration.get_api_key_with_prefix("BearerToken"))


def connect(settings: Settings) -> Connection:
    """A way to the context's cluster, with its credentials.

    Raises UsageError where the package is missing or the kubeconfig can't be used,
    NotAuthenticated where its credential plugin fails.
    """
    client, config = _package()
    configuration = client.Configuration()
    configuration.connection_pool_maxsize = CONNECTIONS
    said = _Complaints()
    logging.getLogger().addHandler(said)  # where the package tells what a plugin said
    try:
        if _in_cluster(settings):
            config.load_incluster_config(client_configuration=configuration)
        else:
            file = settings.kubeconfig or os.environ.get("KUBECONFIG") or None
            config.load_kube_config(
                file, settings.kube_context, configuration, persist_config=False
            )
    except Exception as error:  # YAML's, the package's, and what it meets in a file that is odd
        raise _unusable(settings, error) from error
    finally:
        logging.getLogger().removeHandler(said)
    if said.lines and not (configuration.api_key or configuration.cert_file):
        raise NotAuthenticated(
            f"the kubeconfig's credential plugin failed: {said.lines[0]}",
            code="kube.credentials",
            hint="run it by hand to see why; for GKE: gcloud auth login, and the package "
            "gke-gcloud-auth-plugin",
        )
    return Connection(configuration, client.rest.RESTClientObject(configuration).pool_manager)


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
