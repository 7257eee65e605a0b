"""Google's cloud, as far as migrations reach it: a server that the real gcloud talks to.

What is here follows what gcloud sends and refuses to go on without, found by running gcloud 528
against it; `README.md` beside this file says what that was, and what the real services do besides.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cloud.compute import UrlMaps
from tests.support.cloud.container import Clusters
from tests.support.cloud.dashboards import Dashboards
from tests.support.cloud.dns import RecordSets
from tests.support.cloud.logs import Logs
from tests.support.cloud.run import Services
from tests.support.cloud.server import Fault, Refused, Server

PROJECT = "acme-dev"


class Cloud:
    """The services of one project, each with its state in the open, and the faults of all."""

    def __init__(self) -> None:
        self.run = Services()
        self.clusters = Clusters()
        self.logs = Logs(PROJECT)
        self.dns = RecordSets()
        self.dashboards = Dashboards()
        self.url_maps = UrlMaps()
        parts = (self.run, self.clusters, self.logs, self.dns, self.dashboards, self.url_maps)
        self.server = Server([route for part in parts for route in part.routes()])

    def fail(
        self,
        method: str,
        path: str,
        status: int,
        message: str,
        *,
        name: str | None = None,
        times: int | None = None,
    ) -> None:
        """Refuse requests whose path has this pattern, `times` times (None: until `recover`)."""
        refusal = Refused(status, message, name)
        self.server.faults.append(Fault(method, re.compile(path), refusal, times))

    def recover(self) -> None:
        self.server.faults.clear()

    def writes(self) -> list[str]:
        """Every request that changed something, or tried to: `METHOD path`."""
        looks = ("GET", "/v2/entries:list")
        return [
            f"{one.method} {one.path}"
            for one in self.server.requests
            if one.method not in looks and one.path not in looks
        ]

    def environ(self, folder: Path) -> dict[str, str]:
        """Variables with which gcloud finds this cloud and nothing else; `folder` is its own."""
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text("a-token")
        here = f"http://127.0.0.1:{self.server.port}/"
        variables = {
            "CLOUDSDK_CONFIG": str(folder / "gcloud"),
            "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(token),
            "CLOUDSDK_CORE_PROJECT": PROJECT,
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_CORE_SHOULD_PROMPT_TO_ENABLE_API": "false",
            # gcloud puts the region before Cloud Run's host: run.test is found by the proxy.
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_RUN": "http://run.test/",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": here + "compute/v1/",
            "CLOUDSDK_PROXY_TYPE": "http",
            "CLOUDSDK_PROXY_ADDRESS": "127.0.0.1",
            "CLOUDSDK_PROXY_PORT": str(self.server.port),
        }
        for api in ("CONTAINER", "LOGGING", "MONITORING", "DNS", "SERVICEUSAGE"):
            variables[f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{api}"] = here
        return variables


def skip_without_gcloud() -> None:
    """Skip the test that drives gcloud where there is none; CI takes a skip for a failure."""
    if shutil.which("gcloud") is None:
        pytest.skip(
            "gcloud is not installed: apt-get install google-cloud-cli, with the repository that "
            "https://cloud.google.com/sdk/docs/install#deb names"
        )


@contextmanager
def cloud(folder: Path) -> Iterator[Cloud]:
    """A running cloud; while it runs, gcloud started from here talks to it alone."""
    running = Cloud()
    before = {name: value for name, value in os.environ.items() if name.startswith("CLOUDSDK_")}
    for name in before:
        del os.environ[name]
    variables = running.environ(folder)
    os.environ.update(variables)
    try:
        yield running
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update(before)
        running.server.close()
