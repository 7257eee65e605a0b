"""A session as the store has it, and what a shell that takes it back begins with."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from coditect_cli.errors import Failed
from coditect_cli.gateway.session import timestamp
from coditect_cli.sessions.leases import Lease
from coditect_cli.sessions.lines import ansi, plain
from coditect_cli.sessions.session import NANOSECONDS, SessionOutput, SessionState

RESTORED = "restored: processes"
NOTICES = (f"[{RESTORED}", "[restored: its")  # as it begins, and began once
_DIM = re.compile(r"\x1b\[(?:0;)?2m([^\x1b]*)\x1b\[0?m")  # a row of a notice, as a screen has it


@dataclass(frozen=True)
class Saved:
    """A session as the store has it, and the right to write it from now on."""

    state: SessionState
    output: SessionOutput | None
    lease: Lease


def check_its_id(state: SessionState, id: str) -> None:
    """Raises Failed where the record at this id's key says another one, which it would become."""
    if state.id != id:
        raise Failed(
            f"the record of session {id} is one of another: its id is not that of its key",
            code="session.unreadable",
            hint="coditect keys check finds such records",
        )


def directory_of(saved: Saved, root: str) -> str:
    """Where a restored shell starts: where it was, or the nearest folder above that is left."""
    place = saved.state.working_directory
    while not (os.path.isdir(place) and os.access(place, os.X_OK)):
        above = os.path.dirname(place)
        if above in (place, "/"):
            return root
        place = above
    return place


def saved_screen(saved: Saved, directory: str, shell: str) -> bytes:
    """The saved lines, and below them one that says that the processes did not survive.

    What earlier restores said there is left out.
    A record may hold anything: what a terminal obeys, but for colours, is escaped.
    """
    when = timestamp(saved.state.last_active / NANOSECONDS).replace("T", " ").replace("Z", " UTC")
    notice = f"{RESTORED} did not survive; state of {when}"
    if directory != saved.state.working_directory:
        notice += f"; {saved.state.working_directory} is gone"
    if shell != saved.state.shell_type:
        notice += f"; its shell {saved.state.shell_type} is not installed, this is {shell}"
    lines = [] if saved.output is None else _up_to_cursor(saved.output)
    screen = "".join(f"{ansi(line)}\x1b[m\r\n" for line in lines)
    return screen.encode("utf-8", "replace") + noted(notice)


def noted(notice: str) -> bytes:
    """A line of the gateway's own in a terminal; what a terminal obeys in it is escaped."""
    return f"\x1b[2m[{plain(notice)}]\x1b[m\r\n".encode("utf-8", "replace")


def _up_to_cursor(output: SessionOutput) -> list[str]:
    """Its lines without earlier notices, and without the blank ones at the end."""
    lines: list[str] = []
    in_notice = False  # on a narrow screen it takes several rows
    for line in output.lines:
        dim = _DIM.fullmatch(line)
        in_notice = dim is not None and (in_notice or dim[1].startswith(NOTICES))
        if not in_notice:
            lines.append(line)
        elif dim is not None and dim[1].endswith("]"):
            in_notice = False
    while lines and not lines[-1]:
        lines.pop()
    return lines
