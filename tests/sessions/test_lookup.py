from __future__ import annotations

import pytest

from coditect_cli.errors import NotFound, UsageError
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.sessions.lookup import find_session
from coditect_cli.stores.store import SessionStore
from tests.sessions.test_session import state


@pytest.fixture
def store(store: SessionStore) -> SessionStore:
    for id in ("abc", "abcd", "b1", "b2"):
        SessionLayer(store).save(state(id=id))
    SessionLayer(store).save(state(id="x1", workspace_id="other"))
    store.transact(lambda transaction: transaction.set(b"demo/terminal_output/orphan", b"{}"))
    return store


@pytest.mark.parametrize(
    ("text", "id"),
    [
        ("abc", "abc"),
        ("abcd", "abcd"),
        ("b1", "b1"),
        ("orp", "orphan"),
        ("li", "live"),
        ("l", "live"),
    ],
)
def test_an_id_or_a_start_that_only_it_has(store: SessionStore, text: str, id: str) -> None:
    assert find_session(store, ["live", "b1"], "demo", text) == id


def test_an_id_of_other_bytes_is_found_as_it_is_shown(store: SessionStore) -> None:
    key = b"demo/terminal_sessions/\xff\xfe"
    store.transact(lambda transaction: transaction.set(key, b"{}"))
    for text in (r"\xff\xfe", r"\xff", r"\xFF\xFE"):
        assert find_session(store, [], "demo", text) == r"\xff\xfe"


def test_a_start_of_several_names_them(store: SessionStore) -> None:
    with pytest.raises(UsageError) as error:
        find_session(store, ["b3"], "demo", "b")
    assert error.value.code == "session.ambiguous"
    assert error.value.hint == "type more of it: b1, b2, b3"
    with pytest.raises(UsageError) as error:
        find_session(store, [f"b{n}" for n in range(20)], "demo", "b")
    assert (error.value.hint or "").endswith(", …")


def test_a_session_of_another_workspace_is_not_found(store: SessionStore) -> None:
    with pytest.raises(NotFound):
        find_session(store, [], "demo", "x1")
    with pytest.raises(NotFound):
        find_session(None, [], "demo", "abc")


@pytest.mark.parametrize("text", ["", "a/b", "a\nb", "\x1b[31m"])
def test_what_could_be_no_id_is_refused(store: SessionStore, text: str) -> None:
    with pytest.raises(UsageError) as error:
        find_session(store, [], "demo", text)
    assert error.value.code == "session.invalid_id"
