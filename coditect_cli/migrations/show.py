"""How a run is told while it goes on: a line per event, or JSON, or a live list of its steps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from coditect_cli.migrations.journal import Event
from coditect_cli.migrations.run import Run
from coditect_cli.migrations.step import action_text
from coditect_cli.output import Format
from coditect_cli.streams import Streams

Tell = Callable[[Event, Run], None]
Quiet = Callable[[], AbstractContextManager[None]]  # a block in which nothing is drawn
Say = Callable[[str], None]  # a line for people, beside the events


@contextmanager
def showing(
    form: Format, streams: Streams, titles: dict[str, str], expected: dict[str, float]
) -> Iterator[tuple[Tell, Quiet, Say]]:
    """What the engine tells its events to. ndjson goes to stdout, all else to stderr."""
    if form == "ndjson":

        def tell_json(event: Event, run: Run) -> None:
            streams.stdout.write(json.dumps(event.shown()) + "\n")
            streams.stdout.flush()

        yield tell_json, nullcontext, streams.say
    elif form in ("table", "wide") and streams.may_animate():
        from coditect_cli.migrations.live import LiveSteps

        with LiveSteps(streams.stderr, titles, expected) as live:
            yield live.tell, live.quiet, live.say
    else:
        yield (lambda event, run: streams.say(line(event))), nullcontext, streams.say


def line(event: Event) -> str:
    """One event for people."""
    where = event.step or "run"
    return f"{event.at[11:19]}Z  {where}: {told(event.type, event.data)}"


def told(type: str, data: dict[str, Any]) -> str:
    """What an event says, in words."""
    match type.removeprefix("undo."):
        case "action.started":
            return f"{'back: ' if type.startswith('undo.') else ''}{action_text(data)}"
        case "action.done":
            return f"took {data['seconds']:.1f} s"
        case "action.failed":
            return f"failed ({data['error']['code']})"  # its step tells the message
        case "bake.started" | "bake.resumed":
            return f"bakes until {data['until']}"
        case "hold.started":
            return f"waits for more data until {data['until']}"
        case "gate.read":
            return f"gate: {data['decision']}: {data['reason']}"
    what = type.replace("step.", "").replace("run.", "").replace(".", " ")
    if type in ("step.done", "run.failed"):
        return what  # what it is now was told when it was observed, or when the step failed
    what = {"skipped": "already so", "acted": "observed", "undo kept": "kept"}.get(what, what)
    about = data.get("detail") or data.get("reason")
    return f"{what}: {about}" if about else what
