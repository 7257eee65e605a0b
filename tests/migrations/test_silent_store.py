"""A FoundationDB that falls silent under a run: it ends, told as it was, and is gone on with."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from coditect_cli.errors import Unreachable
from coditect_cli.migrations.journal import Journal
from coditect_cli.migrations.lock import hold
from coditect_cli.stores.foundationdb import FoundationDBStore
from tests.migrations.site import Site
from tests.migrations.toy import phase, world
from tests.support.fdbserver import FDBServer, running_fdbserver

pytestmark = [pytest.mark.foundationdb, pytest.mark.slow]
RUN = "toy-20260101T000000-abcdef"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FDBServer]:
    with running_fdbserver(tmp_path / "fdb") as running:
        yield running


@pytest.mark.parametrize("comes_back", ["resumed", "restarted"])
def test_a_run_whose_store_falls_silent_is_gone_on_with(
    server: FDBServer, tmp_path: Path, comes_back: str
) -> None:
    store = FoundationDBStore(str(server.cluster_file), answer_seconds=2)
    with pytest.raises(Unreachable), hold(store, RUN, "me") as held:
        journal = Journal(store, RUN, "me", held)
        journal.append("step.started", "one")
        server.pause()
        journal.append("step.done", "one")
    if comes_back == "resumed":
        server.resume()
    else:
        server.kill()
        server.start()
    store = FoundationDBStore(str(server.cluster_file))
    with hold(store, RUN, "colleague") as held:  # who gave up could not give it back
        assert held.lock.token == 2
        Journal(store, RUN, "colleague", held).append("step.done", "one")
    types = [event.type for event in Journal(store, RUN, "").new_events()]
    assert types in (
        ["step.started", "step.done"],
        ["step.started", "step.done", "step.done"],  # the one whose commit got no answer was kept
    )
    folder = tmp_path / "world"
    folder.mkdir()
    assert Site(store, folder, world()).go(phase(folder)).state == "done"


def test_a_server_that_dies_again_and_again_keeps_each_event_once(server: FDBServer) -> None:
    """Commits that get no answer are repeated; what was told to be kept is kept."""
    journal = Journal(FoundationDBStore(str(server.cluster_file)), RUN, "me")
    ended = threading.Event()

    def interrupt() -> None:
        for _ in range(4):
            server.kill()
            server.start()
            server.fdbcli("status minimal")
        ended.set()

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    written = 0
    while not ended.is_set():
        journal.append("step.started", f"s{written}")
        written += 1
    interrupter.join()
    assert [event.step for event in journal.new_events()] == [f"s{n}" for n in range(written)]
