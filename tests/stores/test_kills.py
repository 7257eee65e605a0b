from __future__ import annotations

import random
import subprocess
import sys

import pytest

from coditect_cli.sessions.layer import SessionLayer
from tests.support.stores import open_place


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_kills_lose_no_session(place: str) -> None:
    chance = random.Random(0)  # noqa: S311 - a test must repeat
    number = 0
    for _ in range(100):
        command = [sys.executable, "-m", "tests.stores.writer", place, str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(chance.randint(1, 6)):
                number = int(writer.stdout.readline())
            for _ in range(chance.randint(0, 20_000)):
                pass  # somewhere in the next write
            writer.kill()
            number = max([number, *map(int, writer.stdout.read().split())])
        store = open_place(place)
        layer = SessionLayer(store)
        for id in ("a", "b", "c"):
            state, output = layer.load("demo", id)
            assert state is not None
            assert output is not None
            assert number <= state.last_active <= number + 1
            assert state.command_history == output.lines == [str(state.last_active)] * 500
        store.close()
