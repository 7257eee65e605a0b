"""What `coditect session` prints, as tests ask for it."""

from __future__ import annotations

import json
from typing import Any

from tests.conftest import RunCli


def document(run_cli: RunCli, *args: str) -> dict[str, Any]:
    code, out, err = run_cli("session", *args, "-o", "json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def refused(run_cli: RunCli, *args: str) -> tuple[int, str]:
    """Exit code and error code; stdout is empty."""
    code, out, err = run_cli("session", *args, "-o", "json")
    assert out == ""
    return code, json.loads(err.splitlines()[-1])["error"]["code"]


def listed(run_cli: RunCli, *args: str) -> list[str]:
    items = document(run_cli, "list", *args)["items"]
    return [f"{item['workspace']}/{item['session']}" for item in items]
