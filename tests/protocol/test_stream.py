from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from coditect_cli.errors import Failed
from coditect_cli.protocol.stream import Inbox, Outbox

WINDOW = 50


class Link(RuleBasedStateMachine):
    """An outbox, a link that loses what is on its way, and a receiver that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox()
        self.appended = b""
        self.on_the_way = b""
        self.taken = b""

    @rule(data=st.binary(max_size=80))
    def append(self, data: bytes) -> None:
        self.appended += data
        self.outbox.append(data)

    @rule(limit=st.integers(1, 100))
    def send(self, limit: int) -> None:
        sent = self.outbox.take(WINDOW, limit)
        assert len(sent) <= limit
        self.on_the_way += sent

    @precondition(lambda self: self.on_the_way)
    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(1, len(self.on_the_way)))
        self.taken += self.on_the_way[:count]
        self.on_the_way = self.on_the_way[count:]

    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        self.outbox.ack(data.draw(st.integers(0, len(self.taken))))

    @rule()
    def cut(self) -> None:
        self.on_the_way = b""
        self.outbox.rewind(len(self.taken))

    @rule()
    def drain(self) -> None:
        while sent := self.outbox.take(WINDOW, 1000):
            self.taken += self.on_the_way + sent
            self.on_the_way = b""
            self.outbox.ack(len(self.taken))
        if not self.on_the_way:
            assert self.taken == self.appended

    @invariant()
    def nothing_is_lost_doubled_or_out_of_order(self) -> None:
        assert self.appended.startswith(self.taken + self.on_the_way)
        assert self.outbox.end == len(self.appended)
        assert self.outbox.sent == len(self.taken + self.on_the_way)
        assert self.outbox.sent - self.outbox.acked <= WINDOW


TestOutbox = Link.TestCase


def test_an_ack_past_what_was_sent_is_refused() -> None:
    outbox = Outbox()
    outbox.append(b"abc")
    with pytest.raises(Failed, match="3 bytes of 0 sent"):
        outbox.ack(3)


@pytest.mark.parametrize("offset", [1, 5])
def test_a_rewind_that_would_lose_or_double_bytes_is_refused(offset: int) -> None:
    outbox = Outbox()
    outbox.append(b"abcdefgh")
    outbox.take(100, 4)
    outbox.ack(2)
    with pytest.raises(Failed) as refused:
        outbox.rewind(offset)
    assert refused.value.code == "protocol.violation"


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 40))), st.integers(1, 50))
def test_acks_rise_and_never_cover_what_is_not_written(
    steps: list[tuple[int, int]], quarter: int
) -> None:
    inbox, received, written, last = Inbox(), 0, 0, 0
    for arriving, writing in steps:
        inbox.receive(arriving)
        received += arriving
        count = min(writing, received - written)
        inbox.wrote(count)
        written += count
        offset = inbox.ack(quarter)
        if offset is not None:
            assert offset == written >= last + quarter
            last = offset
        assert written - last < quarter
    assert inbox.received == received


def test_after_a_jump_bytes_still_unwritten_from_before_are_not_acked() -> None:
    inbox = Inbox()
    inbox.receive(10)
    inbox.start(1000)
    inbox.receive(5)
    assert inbox.ack(1) is None
    inbox.wrote(10)
    inbox.wrote(5)
    assert inbox.ack(1) == 1005
