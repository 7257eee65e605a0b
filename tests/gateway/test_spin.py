"""How long somebody looks out for an echo without sleeping."""

from __future__ import annotations

import pytest

from coditect_cli.gateway import spin
from coditect_cli.gateway.spin import LONGEST, REST, Spin


class Clock:
    """Time that passes only while others run; `others` says for how long they do."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.others = 1e-6

    def perf_counter(self) -> float:
        return self.now

    def sched_yield(self) -> None:
        self.now += self.others


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(spin, "perf_counter", clock.perf_counter)
    monkeypatch.setattr(spin, "sched_yield", clock.sched_yield)
    return clock


def looks(spin: Spin) -> int:
    count = 0
    while spin.goes_on():
        count += 1
    return count


def test_nothing_due_is_not_waited_for_awake(clock: Clock) -> None:
    assert looks(Spin()) == 0
    assert clock.now == 1000.0


def test_what_is_due_is_looked_for_a_moment(clock: Clock) -> None:
    spin = Spin()
    assert spin.begin()
    assert not spin.begin()
    assert looks(spin) == pytest.approx(LONGEST / clock.others, abs=2)
    assert clock.now - 1000.0 == pytest.approx(LONGEST, abs=2 * clock.others)


def test_what_has_come_is_not_looked_for(clock: Clock) -> None:
    spin = Spin()
    spin.begin()
    assert spin.goes_on()
    spin.end()
    assert not spin.goes_on()


def test_whoever_wants_the_processor_gets_it(clock: Clock) -> None:
    spin = Spin()
    clock.others = 2 * LONGEST
    spin.begin()
    assert looks(spin) == 0
    clock.others = 1e-6
    spin.begin()
    assert looks(spin) == 0, "it rests"
    clock.now += REST
    spin.begin()
    assert looks(spin) > 1
