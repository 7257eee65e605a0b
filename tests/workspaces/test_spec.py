from __future__ import annotations

import pytest

from coditect_cli.errors import UsageError
from coditect_cli.workspaces.spec import check_session_id, check_workspace_id


@pytest.mark.parametrize("text", ["a", "demo", "a-1", "a" * 52])
def test_legal_workspace_ids(text: str) -> None:
    assert check_workspace_id(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "A", "1a", "-a", "a-", "a_b", "a.b", "../x", "a/b", "a\n", "a b", "é", "😀"),
        *("a" * 53, "a" * 300, "_gateway", "\udce9", "\u0430"),  # the last is Cyrillic
    ],
)
def test_illegal_workspace_ids(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_workspace_id(text)
    assert caught.value.code == "workspace.invalid_id"
    assert caught.value.message.isascii()
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("text", ["a", "5E0c-1", "a-", "a" * 128])
def test_legal_session_ids(text: str) -> None:
    assert check_session_id(text) == text


@pytest.mark.parametrize("text", ["", "-", "-a", "a" * 129, "x/y", "a b", "a\n", "é", "a_b", "a\0"])
def test_illegal_session_ids(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_session_id(text)
    assert caught.value.code == "session.invalid_id"
