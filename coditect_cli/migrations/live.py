"""The list of steps on a terminal, drawn anew as it changes; the only door to rich."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from coditect_cli.migrations.journal import Event
from coditect_cli.migrations.run import Run, StepRun
from coditect_cli.migrations.show import told
from coditect_cli.sessions.session import NANOSECONDS, parse_time
from coditect_cli.streams import printable

_STYLES = {
    "running": "bold", "done": "green", "already so": "green", "failed": "red",
    "not undone": "red", "undone": "yellow",
}  # fmt: skip


class LiveSteps:
    """Each step with its state, how long it took against what is expected, and a bake's bar."""

    def __init__(self, stream: TextIO, titles: dict[str, str], expected: dict[str, float]) -> None:
        self._titles = titles
        self._expected = expected
        self._run: Run | None = None
        self._last = ""
        self._stream = stream
        self._console = Console(file=stream, highlight=False, markup=False)
        self._live = self._new()

    def _new(self) -> Live:
        self._fit()
        return Live(
            console=self._console, get_renderable=self._draw, redirect_stdout=False,
            redirect_stderr=False, refresh_per_second=4,
        )  # fmt: skip

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def tell(self, event: Event, run: Run) -> None:
        """Draw what the run is now."""
        self._run = run
        self._last = printable(told(event.type, event.data)).replace("\n", " ")

    def say(self, text: str) -> None:
        """Draw this below the steps, until the next event."""
        self._last = text

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Take the list away for a block, so that somebody can be asked; then it is below that."""
        self._live.transient = True
        self._live.stop()
        try:
            yield
        finally:
            self._live = self._new()  # the old one would first go up over what was printed
            self._live.start()

    def _fit(self) -> None:
        """Take the terminal's own size: COLUMNS and LINES may be those of another."""
        with suppress(OSError):  # it is gone
            size = os.get_terminal_size(self._stream.fileno())
            if all(size):  # a terminal may have none
                self._console.size = size

    def _draw(self) -> Group:
        self._fit()
        table = Table.grid(padding=(0, 2))
        for is_narrowed in (False, True, False):  # the title, where a terminal is narrow
            table.add_column(no_wrap=not is_narrowed, overflow="ellipsis")
        steps = list(self._run.steps.values()) if self._run is not None else []
        for step in steps:
            style = _STYLES.get(step.status, "dim")
            table.add_row(
                Text(step.status, style=style),
                Text(self._titles.get(step.name, step.name), no_wrap=True),
                Text(self._time(step), style="dim"),
            )
        last = Text(self._last, style="dim", no_wrap=True, overflow="ellipsis")
        bars = Table.grid()
        for bar in filter(None, map(self._bar, steps)):
            bars.add_row(bar)
        return Group(table, *([bars] if bars.row_count else []), last)

    def _time(self, step: StepRun) -> str:
        expected = f"of about {_clock(self._expected.get(step.name, 0))}"
        if step.started_at is None:
            return expected if step.status == "waiting" else ""
        ended = time.time() if step.ended_at is None else _seconds(step.ended_at)
        return f"{_clock(ended - _seconds(step.started_at))} {expected}"

    def _bar(self, step: StepRun) -> ProgressBar | None:
        if step.status != "running" or step.bake_deadline is None or step.bake_started is None:
            return None
        total = max(step.bake_deadline - step.bake_started, 0.001)
        return ProgressBar(
            total=total, completed=min(time.time() - step.bake_started, total), width=60
        )


def _seconds(at: str) -> float:
    return parse_time(at) / NANOSECONDS


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
