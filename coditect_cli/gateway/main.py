"""The bridge's process: started by the keeper, over a socket that it inherits.

python -m coditect_cli.gateway.main --role ROLE [--workspace-id ID] --keeper-fd N
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import uvloop

from coditect_cli import __version__, config, tokens
from coditect_cli.errors import CoditectError, UsageError
from coditect_cli.gateway.access import Access
from coditect_cli.gateway.bridge import Bridge
from coditect_cli.gateway.handover import REFUSED, VERSION
from coditect_cli.gateway.log import log_path, set_up_logging
from coditect_cli.gateway.place import place
from coditect_cli.gateway.ring import LAYOUT
from coditect_cli.gateway.server import Server
from coditect_cli.paths import Paths
from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.settings import Settings
from coditect_cli.signing import Key, Keys
from coditect_cli.stores.store import open_store
from coditect_cli.workspaces.local import LocalWorkspaces
from coditect_cli.workspaces.pod import PodWorkspace
from coditect_cli.workspaces.spec import Workspaces

log = logging.getLogger("coditect.bridge")

RELOAD_SECONDS = 300.0  # after which a key that was withdrawn no longer counts
SAVE_SECONDS = 8.0  # of the ten that the keeper gives a bridge to end


def main(argv: list[str]) -> int:
    """Serve until told to end; the exit status tells the keeper why."""
    parser = argparse.ArgumentParser(prog="coditect-bridge")
    parser.add_argument("--role", choices=("local", "workspace"), default="local")
    parser.add_argument("--workspace-id")
    parser.add_argument("--context")
    parser.add_argument("--stay", action="store_true", help="also when idle")
    parser.add_argument("--keeper-fd", type=int)
    parser.add_argument("--check-handover", type=int)
    parser.add_argument("--check-layout", type=int)
    options = parser.parse_args(argv)
    if options.check_handover is not None:
        return check(options.check_handover, options.check_layout)
    set_up_logging(os.environ.get("CODITECT_LOG", "info"), Paths.from_environ(os.environ))
    try:
        uvloop.run(serve(options))
    except CoditectError as error:
        log.error("can't_start code=%s why=%s", error.code, error)
        return REFUSED


def check(handover: int, layout: int) -> int:
    """Whether this release can take over from a keeper and memory of these versions."""
    if (handover, layout) == (VERSION, LAYOUT):
        return 0
    print(
        f"the keeper has handover {handover} and layout {layout:#x}, "
        f"release {__version__} has {VERSION} and {LAYOUT:#x}",
        file=sys.stderr,
    )
    return REFUSED


async def serve(options: argparse.Namespace) -> NoReturn:
    """Take over from the keeper, listen, and end at once when there is a reason to."""
    paths = Paths.from_environ(os.environ)
    context = config.load(paths, os.environ, context=options.context)
    keys = verifying_keys(context.settings, paths, options.role)
    workspaces = served_workspaces(context.settings, paths, options.workspace_id)
    bridge = Bridge(
        context.settings,
        os.environ,
        workspaces,
        lambda: SessionLayer(open_store(context.settings, paths)),
        place(paths, options.role),
    )
    ending: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def end(reason: str) -> None:
        if not ending.done():
            ending.set_result(reason)

    bridge.on_drain = end
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end, "restart")
    bridge.connect(socket.socket(fileno=options.keeper_fd))
    told = asyncio.create_task(bridge.ready.wait())
    await asyncio.wait((told, ending), return_when=asyncio.FIRST_COMPLETED)  # the keeper may go
    access = Access(context.settings, keys, workspaces, options.workspace_id)
    server = Server(bridge, access, options.role, log_path())
    await server.listen(bridge.listeners)
    gc.freeze()  # what is there now stays: no collection need look at it again
    log.info("serving pid=%d sessions=%d", os.getpid(), len(bridge.sessions))
    if not options.stay and context.settings.gateway_idle:
        idle = asyncio.create_task(server.stop_when_idle(context.settings.gateway_idle))
        idle.add_done_callback(lambda task: None if task.cancelled() else end("idle"))
    reloading = asyncio.create_task(reload_keys(keys))  # noqa: F841, RUF006 - as this frame
    if context.settings.session_idle:
        watching = bridge.end_idle_sessions(context.settings.session_idle)
        watch = asyncio.create_task(watching)  # noqa: F841, RUF006 - lives as long as this frame
    renewing = asyncio.create_task(bridge.saving.renew())  # noqa: F841, RUF006 - as above
    reason = await ending
    log.info("ending reason=%s", reason)
    if reason not in ("restart", "keeper"):
        bridge.tell_keeper({"type": "stop"})  # before the farewells: who comes now is refused
    saving = asyncio.create_task(bridge.saving.end(for_good=reason != "restart"))
    comes_back = reason == "restart" or options.role == "workspace"  # in another pod
    await server.drain("restart" if comes_back else "stop")
    await asyncio.wait([saving], timeout=SAVE_SECONDS)
    if reason == "keeper":
        bridge.end_for_good()
    # Nothing is to be tidied up: a successor, or nobody, goes on from what the keeper holds.
    os._exit(0)


def served_workspaces(settings: Settings, paths: Paths, only: str | None) -> Workspaces:
    """This machine's workspaces, or in a pod the one that it is. Raises UsageError."""
    if only is None:
        return LocalWorkspaces(paths)
    owner = os.environ.get("USER_ID")
    if not owner:
        raise UsageError(
            "the workspace's owner is not known",
            code="gateway.no_owner",
            hint="set USER_ID in the pod's environment",
        )
    return PodWorkspace(only, owner, Path(settings.workspace_root))


class LocalKeys(Keys):
    """This machine's own key, which its user may replace while the gateway runs.

    Raises NotAuthenticated when the key file is damaged or open to other users.
    """

    def __init__(self, paths: Paths) -> None:
        super().__init__()
        self._paths = paths
        self.load()

    def load(self) -> None:
        self._read = (Key("HS256", tokens.local_key(self._paths)),)

    def refresh(self) -> bool:
        before = self._read
        with suppress(CoditectError):
            self.load()
        return self._read != before


def verifying_keys(settings: Settings, paths: Paths, role: str) -> Keys:
    """The keys that admit: of the key set, or with the local role this machine's own.

    Raises UsageError for a pod without a key set; what the set can't be read for.
    """
    if settings.token_jwks is None and role == "local":
        return LocalKeys(paths)
    if settings.token_jwks is None:
        raise UsageError(
            f"--role {role} has no keys to verify tokens with",
            code="gateway.no_keys",
            hint="set CODITECT_TOKEN_JWKS to a file or an https URL",
        )
    keys = Keys(place=settings.token_jwks)
    keys.load()
    return keys


async def reload_keys(keys: Keys) -> NoReturn:
    """Read the key set again and again, for those that were added or withdrawn."""
    while True:
        await asyncio.sleep(RELOAD_SECONDS)
        await asyncio.to_thread(keys.refresh)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
