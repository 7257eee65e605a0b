from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from coditect_cli.errors import Conflict, Failed
from coditect_cli.migrations.lock import KEY, break_lock, hold, read_lock
from coditect_cli.stores.store import SessionStore
from tests.support.gateway import until

RUN = "toy-20260101T000000-abcdef"
OTHER = "toy-20260101T000000-123456"
HOLDER = """
import sys
from coditect_cli.migrations.lock import hold
from tests.support.stores import open_place
with hold(open_place(sys.argv[1]), sys.argv[2], "other"):
    print("held", flush=True)
    sys.stdin.read()
"""

CONTENDER = """
import sys
from coditect_cli.errors import Conflict
from coditect_cli.migrations.lock import hold
from tests.support.stores import open_place
store = open_place(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    with hold(store, sys.argv[2], "one of many"):
        print("held", flush=True)
        sys.stdin.read()
except Conflict as error:
    print(error.code, flush=True)
"""


@pytest.fixture
def other(place: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its stdin is closed."""
    argv = [sys.executable, "-c", HOLDER, place, OTHER]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_of_two_runs_one_is_refused_and_told_who_holds_it(
    store: SessionStore, other: subprocess.Popen[str]
) -> None:
    with pytest.raises(Conflict) as caught, hold(store, RUN, "me"):
        pass
    assert (caught.value.code, caught.value.exit_code) == ("migrate.locked", 6)
    assert OTHER in caught.value.message
    assert f"process {other.pid}" in caught.value.message


def test_of_processes_that_begin_together_one_holds_the_lock(place: str) -> None:
    argv = [sys.executable, "-c", CONTENDER, place, RUN]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with ExitStack() as stack:
        many = [stack.enter_context(subprocess.Popen(argv, **pipes)) for _ in range(4)]
        assert [one.stdout.readline() for one in many] == ["ready\n"] * 4
        for one in many:
            one.stdin.write("go\n")
            one.stdin.flush()
        said = sorted(one.stdout.readline() for one in many)
        for one in many:
            one.stdin.close()
    assert said == ["held\n", *["migrate.locked\n"] * 3]


def test_the_lock_is_free_when_its_holder_gives_it_back(
    store: SessionStore, other: subprocess.Popen[str]
) -> None:
    other.communicate("")
    with hold(store, RUN, "me") as held:
        assert (held.lock.run, held.lock.token) == (RUN, 2)
    found = read_lock(store)
    assert found is not None
    assert not found.is_held(0)


def test_a_holder_that_was_killed_on_this_machine_is_not_waited_for(
    store: SessionStore, other: subprocess.Popen[str]
) -> None:
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    for _ in range(2):  # a zombie, then gone
        found = read_lock(store)
        assert found is not None
        assert not found.is_held(0)
        other.wait()
    with hold(store, RUN, "me") as held:
        assert held.lock.token == 2


def test_a_holder_that_died_elsewhere_is_waited_for_until_its_lease_ends(
    store: SessionStore,
) -> None:
    with hold(store, OTHER, "other", clock=lambda: 1_000) as held:
        elsewhere = replace(held.lock, machine="elsewhere", pid=1)
        with pytest.raises(Conflict), hold(store, RUN, "me", clock=lambda: 2_000):
            pass
        late = elsewhere.expires_at + 1
        with hold(store, RUN, "me", clock=lambda: late) as mine:
            assert mine.lock.token == 2
        with pytest.raises(Conflict) as caught:
            held.renew()
        assert caught.value.code == "migrate.lock_lost"


def test_the_heartbeat_moves_the_end_of_the_lease(store: SessionStore) -> None:
    with hold(store, RUN, "me", lease=0.2) as held:

        def moved() -> bool:
            found = read_lock(store)
            return found is not None and found.expires_at > held.lock.expires_at

        until(moved, "a heartbeat")


def test_the_heartbeat_notices_a_stolen_lock(store: SessionStore) -> None:
    with hold(store, RUN, "me", lease=0.2) as held:
        break_lock(store)

        def noticed() -> bool:
            try:
                held.check()
            except Conflict as lost:
                return lost.code == "migrate.lock_lost"
            return False

        until(noticed, "noticing it")
        with hold(store, OTHER, "other") as theirs:
            assert theirs.lock.token == 2
    found = read_lock(store)
    assert found is not None
    assert found.run == OTHER


def test_a_token_is_never_used_twice(store: SessionStore) -> None:
    tokens = []
    for _ in range(3):
        with hold(store, RUN, "me") as held:
            tokens.append(held.lock.token)
            break_lock(store)
    assert tokens == [1, 2, 3]


def test_a_damaged_lock_is_an_error_with_its_key(store: SessionStore) -> None:
    store.transact(lambda transaction: transaction.set(KEY, b"{}"))
    with pytest.raises(Failed) as caught:
        read_lock(store)
    assert KEY.decode() in str(caught.value.hint)
