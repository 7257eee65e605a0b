"""What `coditect doctor` reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """What one check found, and how to fix it when it is not a pass."""

    check: str
    status: Literal["pass", "warn", "fail"]
    message: str
    fix: str | None = None
