"""Saves three sessions again and again, and says each time what is durable: to be killed."""

from __future__ import annotations

import sys

from coditect_cli.sessions.layer import SessionLayer
from coditect_cli.sessions.session import SessionOutput, SessionState
from tests.support.stores import open_place

layer = SessionLayer(open_place(sys.argv[1]))
number = int(sys.argv[2])
while True:
    number += 1
    for id in ("a", "b", "c"):
        state = SessionState(id, "demo", 0, number, "bash", "/", {}, [str(number)] * 500)
        layer.save(state, SessionOutput(id, [str(number)] * 500, (0, 0), (80, 24)))
    print(number, flush=True)
