"""A session in the bridge's own process, without a keeper."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref

from coditect_cli.gateway import spawn
from coditect_cli.gateway.account import Account
from coditect_cli.gateway.metrics import Metrics
from coditect_cli.gateway.pipes import Pipes
from coditect_cli.gateway.session import Held


def test_one_that_is_over_is_not_kept_in_memory_until_its_client_would_be_too_late() -> None:
    async def over() -> weakref.ref[Pipes]:
        command = spawn.Command("0" * 32, ["true"], "", {}, "/", Account.find(None))
        prepared = spawn.with_pipes(command, False, 1 << 20)
        prepared.close_ends()
        held = Held(command.id, os.getpid(), {"kind": "exec"}, prepared.kept)
        session = Pipes(held, lambda _: None, Metrics(), lambda *_: None)
        session.await_client("", 3600)
        session.close()
        return weakref.ref(session)

    async def forgotten() -> bool:
        left = await over()
        gc.collect()
        return left() is None

    assert asyncio.run(forgotten())
