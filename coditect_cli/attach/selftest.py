"""The three promises of a terminal gateway, tried on a private one that is gone afterwards."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from coditect_cli import config
from coditect_cli.attach.conversation import Conversation
from coditect_cli.attach.credentials import Credentials
from coditect_cli.attach.link import Link
from coditect_cli.errors import CoditectError, Failed
from coditect_cli.gateway import launch
from coditect_cli.paths import Paths
from coditect_cli.tokens import local_user
from coditect_cli.workspaces.local import LocalWorkspaces

WRITES = SESSIONS = 10
WORKSPACE = "selftest"

Dial = Callable[[], Link]


@dataclass(frozen=True)
class Outcome:
    """How one test went; `error` is None when it passed."""

    name: str
    seconds: float
    error: CoditectError | None


def test_pty_write_without_error(dial: Dial) -> None:
    """One writer per write once gave "File exists (os error 17)": writes in a row must work."""
    with closing(Conversation.attach(dial())) as client:
        for number in range(WRITES):
            client.type(b"echo te''st_%d\n" % number)
            client.expect(b"test_%d\r\n" % number)


def test_terminal_session_persistence(dial: Dial) -> None:
    """What was set in a session is there for whoever attaches next."""
    with closing(Conversation.attach(dial())) as first:
        first.type(b"export FOO=bar\ncd /tmp\necho se''t\n")
        first.expect(b"set\r\n")
    with closing(Conversation.attach(dial(), first.session)) as second:
        second.type(b"echo va''lues:$FOO:$PWD:\n")
        second.expect(b"values:")
        found = second.expect(b":\r\n")
    if found != b"bar:/tmp:\r\n":
        raise Failed(f"FOO and the directory came back as {found!r}", code="selftest.state")


def test_concurrent_terminal_sessions(dial: Dial) -> None:
    """Sessions at once, and each sees only its own output."""
    with ExitStack() as stack:
        clients = []
        for _ in range(SESSIONS):
            clients.append(stack.enter_context(closing(Conversation.attach(dial()))))
        for number, client in enumerate(clients):
            client.type(b"echo sess''ion_%d_\n" % number)
        for number, client in enumerate(clients):
            client.expect(b"session_%d_\r\n" % number)
        for client in clients:
            client.type(b"echo do''ne\n")
        for number, client in enumerate(clients):
            seen = client.expect(b"done\r\n")
            strays = [n for n in range(SESSIONS) if b"session_%d_" % n in seen]
            if strays:
                raise Failed(f"session {number} saw {strays} too", code="selftest.mixed")


TESTS: tuple[Callable[[Dial], None], ...] = (
    test_pty_write_without_error,
    test_terminal_session_persistence,
    test_concurrent_terminal_sessions,
)


def run() -> list[Outcome]:
    """Run all of them on a gateway of our own. Raises Unreachable when it does not start."""
    outcomes = []
    with private_gateway() as dial:
        for test in TESTS:
            begun = time.monotonic()
            error = None
            try:
                test(dial)
            except CoditectError as failure:
                error = failure
            outcomes.append(Outcome(test.__name__, time.monotonic() - begun, error))
    return outcomes


@contextmanager
def private_gateway() -> Iterator[Dial]:
    """How to connect to a gateway with one workspace, in a folder that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="coditect-") as home:
        paths = Paths.from_environ({"CODITECT_HOME": home})
        kept = {name: value for name, value in os.environ.items() if name[:9] != "CODITECT_"}
        environ = {**kept, "CODITECT_HOME": home, "CODITECT_SHELL": "/bin/sh"}
        keeper = launch.start(paths, "local", environ)
        try:
            LocalWorkspaces(paths).create(WORKSPACE, local_user())
            context = config.load(paths, {})
            credentials = Credentials(context, paths, WORKSPACE, {})
            yield lambda: Link.open(context.gateway_url(paths), WORKSPACE, credentials.token())
        finally:
            keeper.terminate()
            keeper.wait()
