from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.gateway import Gateway, running_gateway


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A real gateway that ends with the test."""
    with running_gateway(tmp_path / "home") as running:
        yield running


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Starts a gateway with these settings; it ends with the test."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running_gateway(tmp_path / "home", **settings))
