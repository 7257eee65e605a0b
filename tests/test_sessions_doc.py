"""docs/sessions.md shows records as they really are."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

from coditect_cli.sessions.session import SessionOutput, SessionState

PAGE = (Path(__file__).parent.parent / "docs" / "sessions.md").read_text()


def test_the_examples_are_what_this_program_writes() -> None:
    state, output, lease = re.findall(r"```json\n(.*)\n```", PAGE)
    assert SessionState.decode(state.encode()).encode() == state.encode()
    assert SessionOutput.decode(output.encode()).encode() == output.encode()
    assert set(json.loads(lease)) == {"holder", "token", "expires_at"}


def test_every_field_is_on_the_page() -> None:
    for kind in (SessionState, SessionOutput):
        for field in fields(kind):
            assert field.name == "unknown" or f"| `{field.name}` |" in PAGE
