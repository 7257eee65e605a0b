from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from coditect_cli.errors import Conflict, Failed, NotFound, UsageError
from coditect_cli.migrations.journal import HEADS, RUNS, Journal, new_run_id, run_ids
from coditect_cli.migrations.lock import break_lock, hold
from coditect_cli.migrations.redaction import HIDDEN
from coditect_cli.stores.store import END, SessionStore, Transaction, scan

RUN = "toy-20260101T000000-abcdef"


def key(number: int) -> bytes:
    return RUNS + f"{RUN}/{number:08}".encode()


def written(store: SessionStore, count: int = 4) -> Journal:
    journal = Journal(store, RUN, "me")
    for number in range(count):
        journal.append("step.started", f"s{number}", before={"n": number})
    return journal


def test_events_come_back_as_they_were_written_and_only_once(store: SessionStore) -> None:
    journal = written(store)
    events = journal.new_events()
    assert [(e.number, e.actor, e.step, e.data) for e in events] == [
        (n + 1, "me", f"s{n}", {"before": {"n": n}}) for n in range(4)
    ]
    assert events[0].previous == RUN
    assert [e.previous for e in events[1:]] == [e.hash for e in events[:-1]]
    assert journal.new_events() == []
    Journal(store, RUN, "boss").append("pause.asked")
    assert [(e.number, e.actor) for e in journal.new_events()] == [(5, "boss")]


def edited(transaction: Transaction) -> None:
    value = json.loads(transaction.get(key(2)) or b"")
    value["data"] = {"before": {"n": 7}}
    transaction.set(key(2), json.dumps(value).encode())


def swapped(transaction: Transaction) -> None:
    second, third = transaction.get(key(2)), transaction.get(key(3))
    transaction.set(key(2), third or b"")
    transaction.set(key(3), second or b"")


def grown(transaction: Transaction) -> None:
    transaction.set(key(5), transaction.get(key(4)) or b"")


@pytest.mark.parametrize(
    "tamper",
    [
        edited,
        swapped,
        grown,
        lambda transaction: transaction.clear(key(1)),
        lambda transaction: transaction.clear(key(2)),
        lambda transaction: transaction.clear(key(4)),
        lambda transaction: transaction.set(key(3), b"not JSON"),
        lambda transaction: transaction.set(HEADS + RUN.encode(), b"{}"),
    ],
)
def test_a_journal_that_was_tampered_with_is_refused(
    store: SessionStore, tamper: Callable[[Transaction], None]
) -> None:
    written(store)
    store.transact(tamper)
    with pytest.raises(Failed) as caught:
        Journal(store, RUN, "me").new_events()
    assert caught.value.code == "migrate.journal_broken"


LONG = {"changed": "é" * 150_000}  # more bytes than a value holds


def test_an_event_of_any_length_comes_back_whole(store: SessionStore) -> None:
    """What a way back needs of a large object once stopped a run at the store's limit."""
    journal = Journal(store, RUN, "me")
    for number, whole in enumerate((LONG, None, LONG, {"changed": "x" * 2_500_000}, None)):
        journal.append("step.started", f"s{number}", whole=whole, before={})
    events = Journal(store, RUN, "").new_events()
    assert [event.data.get("whole") == LONG for event in events] == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert len(events[3].data["whole"]["changed"]) == 2_500_000
    assert [event.step for event in events] == ["s0", "s1", "s2", "s3", "s4"]


@pytest.mark.parametrize("part", ["", ".0001", ".0002"])
def test_an_event_that_lacks_a_part_is_refused(store: SessionStore, part: str) -> None:
    Journal(store, RUN, "me").append("step.started", "s", whole=LONG, before={})
    Journal(store, RUN, "me").append("step.done", "s")
    store.transact(lambda transaction: transaction.clear(key(1) + part.encode()))
    with pytest.raises(Failed) as caught:
        Journal(store, RUN, "").new_events()
    assert caught.value.code == "migrate.journal_broken"


def test_nothing_is_appended_to_a_broken_end(store: SessionStore) -> None:
    journal = written(store)
    store.transact(lambda transaction: transaction.set(key(4), b"{}"))
    with pytest.raises(Failed):
        journal.append("step.done", "s3")


def test_a_recomputed_hash_does_not_hide_a_change(store: SessionStore) -> None:
    written(store)

    def forge(transaction: Transaction) -> None:
        fields = json.loads(transaction.get(key(2)) or b"")
        del fields["hash"]
        from coditect_cli.migrations.journal import Event

        forged = Event(**{**fields, "data": {}})
        transaction.set(key(2), json.dumps(forged.as_dict()).encode())

    store.transact(forge)
    with pytest.raises(Failed):
        Journal(store, RUN, "me").new_events()


def test_a_commit_that_is_repeated_writes_one_event(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store may run a transaction again when it does not know whether it was committed."""
    once = store.transact
    monkeypatch.setattr(store, "transact", lambda fn: (once(fn), once(fn))[1])
    Journal(store, RUN, "me").append("run.started")
    assert len(Journal(store, RUN, "me").new_events()) == 1


def test_who_lost_the_lock_appends_nothing(store: SessionStore) -> None:
    with hold(store, RUN, "me") as held:
        journal = Journal(store, RUN, "me", held)
        journal.append("run.started")
        break_lock(store)
        with pytest.raises(Conflict) as caught:
            journal.append("run.done")
    assert caught.value.code == "migrate.lock_lost"
    assert [event.type for event in journal.new_events()] == ["run.started"]


def test_secrets_do_not_reach_the_store(store: SessionStore) -> None:
    secrets = [
        "ya29.a0AfH6SMBxyz", "eyJhbGciOi.eyJzdWIi.c2ln", "hunter2hunter2", "s3cr3t-pa55",
    ]  # fmt: skip
    Journal(store, RUN, "me").append(
        "action.failed",
        argv=["gcloud", f"--access-token={secrets[0]}"],
        error={"message": f"Authorization: Bearer {secrets[1]}\nhttps://me:{secrets[2]}@host/x"},
        password=secrets[3],
    )
    (event,) = Journal(store, RUN, "me").new_events()
    assert HIDDEN in json.dumps(event.data, ensure_ascii=False)
    assert event.data["argv"][0] == "gcloud"
    content = b"".join(value for page in scan(store, b"", END) for _, value in page.rows)
    assert [secret for secret in secrets if secret.encode() in content] == []


def test_a_long_output_keeps_its_end(store: SessionStore) -> None:
    Journal(store, RUN, "me").append("action.failed", error="x" * 200_000 + "the reason")
    (event,) = Journal(store, RUN, "me").new_events()
    assert event.data["error"].endswith("the reason")


def test_runs_are_listed_by_time(store: SessionStore) -> None:
    ids = [new_run_id(phase, day * 86_400 * 10**9) for day, phase in enumerate(("b", "c", "a"))]
    for id in reversed(ids):
        Journal(store, id, "me").append("run.started")
    assert run_ids(store) == ids


def test_a_run_that_is_none_is_refused(store: SessionStore) -> None:
    with pytest.raises(NotFound):
        Journal(store, RUN, "me").new_events()
    for id in ("../x", "", "toy/1", "TOY-20260101T000000-abcdef"):
        with pytest.raises(UsageError):
            Journal(store, id, "me")
