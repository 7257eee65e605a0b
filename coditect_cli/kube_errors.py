"""What an API server's refusals mean to a person, and to a script."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from coditect_cli.errors import (
    CoditectError,
    Conflict,
    Failed,
    Forbidden,
    LimitReached,
    NotAuthenticated,
    NotFound,
    Unreachable,
    UsageError,
)

# https://github.com/kubernetes/apiserver/blob/v0.34.0/pkg/endpoints/handlers/responsewriters/errors.go
_DENIED = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" '
    r'in API group "(?P<group>[^"]*)"'
)

# https://github.com/kubernetes/kubernetes/blob/v1.34.0/plugin/pkg/admission/limitranger/admission.go
LIMIT = re.compile(r"(maximum|minimum) \S+ usage per ")

# By a webhook, which answers 400 unless it says another status:
# https://github.com/kubernetes/apiserver/blob/v0.34.0/pkg/admission/plugin/webhook/errors/statuserror.go
WEBHOOK = re.compile(r"admission webhook \S+ denied the request")


class Garbled(Exception):
    """Raised when an answer is not what an API server says."""


@dataclass(frozen=True)
class Answer:
    """A response; `body` is what it carried, a Status object when it is no success."""

    method: str
    path: str
    status: int
    body: dict[str, Any] = field(default_factory=dict)
    retry_after: float | None = None  # seconds

    @property
    def message(self) -> str:
        return str(self.body.get("message") or f"status {self.status}")

    @property
    def reason(self) -> str:
        return str(self.body.get("reason", ""))


def refusal(answer: Answer, server: str) -> CoditectError:
    """The error for an answer that is no success; `retryable` says that trying again may help."""
    status = answer.status
    if status == 401:
        return NotAuthenticated(
            f"the cluster at {server} does not accept these credentials",
            code="kube.unauthorized",
            hint="they may have expired: log in again (for GKE: gcloud auth login), or choose "
            "others with the context's kubeconfig and kube_context",
        )
    if status == 403 or (status == 400 and WEBHOOK.search(answer.message)):
        return _forbidden(answer)
    if status == 404:
        return _not_found(answer)
    if status == 409:
        if managed := _managed(answer):
            return managed
        again = answer.reason == "Conflict"  # somebody wrote meanwhile
        return Conflict(
            f"the cluster says: {answer.message}", code="kube.conflict", retryable=again
        )
    if status == 422:
        return _invalid(answer)
    if status == 429:
        return LimitReached(
            f"the cluster is too busy: {answer.message}",
            code="kube.busy",
            hint="try again later",
            retryable=True,
        )
    if status == 400:
        return UsageError(f"the cluster did not understand: {answer.message}", code="kube.invalid")
    if status >= 500:
        return Unreachable(
            f"the cluster's API server failed ({status}): {answer.message}",
            code="kube.server_error",
            hint="try again; kubectl get --raw '/readyz?verbose' says what is wrong with it",
            retryable=True,
        )
    return Failed(f"the cluster answered {status}: {answer.message}", code="kube.unexpected")


def unanswered(server: str, error: Exception) -> Unreachable:
    """The error for a request that got no answer."""
    name = type(error).__name__
    words = f"{name} {error}".lower()
    if "certificate" in words or "ssl" in words:
        return Unreachable(
            f"no secure connection to the cluster at {server}: {_last(error)}",
            code="kube.tls",
            hint="its certificate does not fit the kubeconfig: get the cluster's credentials anew",
        )
    if isinstance(error, Garbled):
        return Unreachable(
            f"the answer from {server} is not an API server's, or cut short: {error}",
            code="kube.unreachable",
            hint="a proxy may have given it; check the kubeconfig's server: kubectl cluster-info",
            retryable=True,
        )
    late = "timeout" in words or "timed out" in words
    behind: Exception | None = getattr(error, "original_error", None)  # urllib3's ProxyError has it
    why = f"its proxy: {_last(behind)}" if behind else _last(error)
    return Unreachable(
        f"the cluster at {server} {'did not answer in time' if late else 'does not answer'}: {why}",
        code="kube.timeout" if late else "kube.unreachable",
        hint="check the network, a VPN or the cluster itself: kubectl cluster-info",
        retryable=True,
    )


def _last(error: Exception) -> str:
    """What is behind urllib3's error, or the part of its message behind its own object's name."""
    if error.args and isinstance(error.args[-1], Exception):
        return _last(error.args[-1])
    return re.sub(r"^.*?(?:>|\)): ", "", str(error)).strip()[:300] or type(error).__name__


def _managed(answer: Answer) -> Conflict | None:
    """Fields of a server-side apply that somebody else manages, each with its manager."""
    causes = (answer.body.get("details") or {}).get("causes") or []
    lines = [
        f"{cause.get('field', '?')}: {cause.get('message', '')}"
        for cause in causes
        if cause.get("reason") == "FieldManagerConflict"
    ]
    if not lines:
        return None
    return Conflict(
        "others manage these fields:" + "".join(f"\n  {line}" for line in lines),
        code="kube.managed",
        hint="set them to the same value, or leave them out of the manifest",
    )


def _forbidden(answer: Answer) -> CoditectError:
    namespace = re.search(r"/namespaces/([^/]+)", answer.path)
    where = f" -n {namespace[1]}" if namespace else ""
    if "exceeded quota" in answer.message:
        return LimitReached(
            f"the namespace's quota is used up: {answer.message}",
            code="kube.quota",
            hint="delete what is not needed, or have the quota raised: kubectl describe "
            f"quota{where}",
        )
    if LIMIT.search(answer.message):
        return LimitReached(
            f"the namespace's limits do not allow it: {answer.message}",
            code="kube.limit",
            hint="choose another size, or have the limits changed: kubectl describe "
            f"limitrange{where}",
        )
    denied = _DENIED.search(answer.message)
    if denied is None:
        return Forbidden(f"the cluster forbids it: {answer.message}", code="kube.forbidden")
    rule = (
        f'- apiGroups: ["{denied["group"]}"]\n  resources: ["{denied["resource"]}"]\n'
        f'  verbs: ["{denied["verb"]}"]'
    )
    return Forbidden(
        f"{denied['user']} may not {denied['verb']} {denied['resource']}: {answer.message}",
        code="kube.forbidden",
        hint=f"a Role bound to {denied['user']} must have this rule, as the Role "
        f"workspace-operator of our manifests does:\n{rule}",
    )


def _not_found(answer: Answer) -> CoditectError:
    details = answer.body.get("details") or {}
    if details.get("kind") == "namespaces":
        name = details.get("name", "")
        return NotFound(
            f"the cluster has no namespace {name}",
            code="kube.namespace_not_found",
            hint=f"kubectl create namespace {name}; docs/kubernetes.md sets all of it up",
        )
    return NotFound(f"the cluster says: {answer.message}", code="kube.not_found")


def _invalid(answer: Answer) -> CoditectError:
    causes = (answer.body.get("details") or {}).get("causes") or []
    pairs = [(cause.get("field"), cause.get("message", "")) for cause in causes]
    lines = [f"{field}: {message}" if field else message for field, message in pairs]
    said = "".join(f"\n  {line}" for line in lines) or f" {answer.message}"
    return UsageError(f"the cluster refuses these values:{said}", code="kube.invalid")
