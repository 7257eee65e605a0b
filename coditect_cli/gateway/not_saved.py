"""Sessions of which something new is not in the store, and how that is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coditect_cli.errors import CoditectError, Failed, Unreachable

MOST_NAMED = 5


@dataclass(frozen=True)
class NotSaved:
    """A session whose newest state is not written: why not, or it is being written."""

    workspace: str
    session: str
    error: CoditectError | None = None

    @property
    def reason(self) -> CoditectError:
        """Why it is not saved."""
        return self.error or Unreachable("the store has not answered", code="store.unreachable")

    def describe(self) -> dict[str, Any]:
        """It as messages have it."""
        reason = self.reason
        return {
            "workspace": self.workspace,
            "session": self.session,
            "code": reason.code,
            "message": reason.message,
            "hint": reason.hint,
        }


def named(found: Sequence[Mapping[str, Any]]) -> str:
    """How many sessions are not saved, which, and why the first is not, as messages have them."""
    names = [f"{one['workspace']}/{one['session']}" for one in found[:MOST_NAMED]]
    if len(found) > MOST_NAMED:
        names.append(f"{len(found) - MOST_NAMED} more")
    return f"sessions that could not be saved: {len(found)} ({', '.join(names)}): " + str(
        found[0]["message"]
    )


def not_saved(found: Sequence[NotSaved]) -> Failed:
    """The refusal to end sessions before what is new of them is saved."""
    described = [one.describe() for one in found]
    first = f"{described[0]['hint']}; " if described[0]["hint"] else ""
    return Failed(
        named(described),
        code="session.not_saved",
        hint=f"{first}--force goes on, and what is new of them may be lost",
    )


def tell_not_saved(say: Callable[[str], None], answer: Mapping[str, Any], *, force: bool) -> None:
    """Warn of the sessions that a gateway could not save. Raises Failed where that was not meant.

    `answer` is the gateway's, once what was asked is done.
    """
    found = answer.get("notSaved")
    if not found:
        return
    if not force:
        raise Failed(named(found), code="session.not_saved", hint=found[0].get("hint"))
    say(f"warning: {named(found)}")
