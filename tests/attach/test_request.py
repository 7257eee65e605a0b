from __future__ import annotations

from pathlib import Path

import pytest

from coditect_cli import config
from coditect_cli.attach.request import request
from coditect_cli.errors import CoditectError, NotFound, Unreachable
from coditect_cli.paths import Paths
from tests.support.gateway import Gateway


def test_a_request_has_one_answer(gateway: Gateway) -> None:
    context = config.load(gateway.paths, gateway.environ)
    answer = request(context, gateway.paths, "demo", {"type": "sessions"})
    assert answer == {"type": "sessions", "items": []}
    status = request(context, gateway.paths, "_gateway", {"type": "status"})
    assert status["keeperPid"] == gateway.keeper.pid


def test_the_gateways_error_is_raised(gateway: Gateway) -> None:
    context = config.load(gateway.paths, gateway.environ)
    with pytest.raises(CoditectError) as refused:
        request(context, gateway.paths, "demo", {"type": "status"})
    assert refused.value.exit_code == 5
    with pytest.raises(NotFound):
        request(context, gateway.paths, "other", {"type": "sessions"})


def test_where_no_gateway_runs_none_is_started(tmp_path: Path) -> None:
    environ = {"CODITECT_HOME": str(tmp_path)}
    paths = Paths.from_environ(environ)
    with pytest.raises(Unreachable) as refused:
        request(config.load(paths, environ), paths, "demo", {"type": "sessions"})
    assert refused.value.code == "gateway.not_running"
    assert not paths.gateway_socket.exists()
