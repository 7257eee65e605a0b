from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from coditect_cli.tokens import local_user
from tests.support.gateway import Gateway, running_gateway
from tests.support.proxy import Proxy, proxy
from tests.support.shell import plain_shell
from tests.support.terminal import Terminal


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A real gateway with the workspace demo of this user, whose shells read no start-up files."""
    with running_gateway(tmp_path / "home", shell=plain_shell(tmp_path)) as running:
        running.user = local_user()
        running.workspace("demo")
        yield running


@pytest.fixture
def start_proxy(gateway: Gateway, tmp_path: Path) -> Iterator[Callable[..., Proxy]]:
    """Starts a proxy in front of the gateway; commands with `gateway.environ` go through it."""
    with ExitStack() as stack:

        def start(**options: int) -> Proxy:
            path = tmp_path / "proxy.sock"
            running = stack.enter_context(proxy(path, gateway.paths.gateway_socket, **options))
            gateway.environ["CODITECT_GATEWAY_URL"] = running.url
            return running

        yield start


@pytest.fixture
def run_in_terminal(gateway: Gateway) -> Iterator[Callable[..., Terminal]]:
    """Starts `coditect ARGS` on a terminal of its own; it ends with the test."""
    with ExitStack() as stack:
        yield lambda *args: stack.enter_context(Terminal(args, gateway.environ))
