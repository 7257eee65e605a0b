from __future__ import annotations

import pytest
from urllib3.exceptions import ProtocolError

from coditect_cli.kube_errors import Answer, Garbled, refusal, unanswered

DENIED = (
    'statefulsets.apps is forbidden: User "ada" cannot create resource "statefulsets" '
    'in API group "apps" in the namespace "coditect"'
)


@pytest.mark.parametrize(
    ("status", "message", "code", "exit_code", "retryable"),
    [
        (400, "bad selector", "kube.invalid", 2, False),
        (401, "Unauthorized", "kube.unauthorized", 4, False),
        (403, DENIED, "kube.forbidden", 5, False),
        (403, 'pods "a" is forbidden: exceeded quota: q', "kube.quota", 7, False),
        (403, "violates PodSecurity", "kube.forbidden", 5, False),
        (404, "not found", "kube.not_found", 3, False),
        (409, "already exists", "kube.conflict", 6, False),
        (429, "too many", "kube.busy", 7, True),
        (500, "etcd", "kube.server_error", 9, True),
        (504, "late", "kube.server_error", 9, True),
        (302, "moved", "kube.unexpected", 8, False),
    ],
)
def test_each_status_is_its_own_error(
    status: int, message: str, code: str, exit_code: int, retryable: bool
) -> None:
    error = refusal(Answer("GET", "/x", status, {"message": message}), "https://server")
    assert (error.code, error.exit_code, error.retryable) == (code, exit_code, retryable)


def test_a_denied_verb_is_told_with_the_rule_that_grants_it() -> None:
    error = refusal(Answer("POST", "/x", 403, {"message": DENIED}), "https://server")
    assert error.message.startswith("ada may not create statefulsets")
    assert (error.hint or "").endswith(
        '- apiGroups: ["apps"]\n  resources: ["statefulsets"]\n  verbs: ["create"]'
    )


def test_two_writers_are_a_conflict_that_may_be_repeated() -> None:
    assert refusal(Answer("PATCH", "/x", 409, {"reason": "Conflict"}), "").retryable
    assert not refusal(Answer("POST", "/x", 409, {"reason": "AlreadyExists"}), "").retryable


def test_an_answer_without_a_body_is_told_by_its_status() -> None:
    assert "status 500" in refusal(Answer("GET", "/x", 500), "").message


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "kube.unreachable", True),
        (TimeoutError("timed out"), "kube.timeout", True),
        (Garbled("it is no JSON object"), "kube.unreachable", True),
        (OSError("[SSL: CERTIFICATE_VERIFY_FAILED] unable to get issuer"), "kube.tls", False),
    ],
)
def test_no_answer_is_told_with_its_reason(error: Exception, code: str, retryable: bool) -> None:
    found = unanswered("https://server", error)
    assert (found.code, found.exit_code, found.retryable) == (code, 9, retryable)
    assert "https://server" in found.message


def test_what_is_behind_an_error_is_told_in_its_words() -> None:
    error = ProtocolError("Connection aborted.", ConnectionResetError(104, "Connection reset"))
    assert unanswered("https://server", error).message.endswith(": [Errno 104] Connection reset")
