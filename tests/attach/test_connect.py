from __future__ import annotations

from collections.abc import Callable

import pytest

from coditect_cli import config
from coditect_cli.attach.connect import dialing
from coditect_cli.errors import Unreachable
from tests.support.gateway import Gateway
from tests.support.proxy import Proxy


@pytest.mark.parametrize("is_own", [True, False])
def test_only_this_machines_own_socket_says_by_its_absence_that_the_gateway_is_gone(
    gateway: Gateway, start_proxy: Callable[..., Proxy], is_own: bool
) -> None:
    """A forwarded socket comes back: a client of it was once told that its programs had ended."""
    proxy = start_proxy()
    environ = {**gateway.environ}
    if is_own:
        del environ["CODITECT_GATEWAY_URL"]
    context = config.load(gateway.paths, environ)
    with dialing(context, gateway.paths, "demo", insecure=False) as dial:
        dial().close()
        proxy.refuse()
        gateway.stop()
        with pytest.raises(Unreachable) as caught:
            dial()
    wanted = "gateway.not_running" if is_own else "gateway.unreachable"
    assert (caught.value.code, caught.value.retryable) == (wanted, True)
