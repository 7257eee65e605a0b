from __future__ import annotations

from decimal import Decimal

import pytest

from coditect_cli.workspaces.volume import amount


@pytest.mark.parametrize(
    ("quantity", "number"),
    [
        ("10Gi", 10 * 1024**3),
        ("10240Mi", 10 * 1024**3),
        ("1.5k", 1500),
        ("500m", Decimal("0.5")),
        ("12e3", 12_000),
        ("1E", 10**18),
        ("1Ei", 1024**6),
        ("3", 3),
        (".5", Decimal("0.5")),
        ("5.", 5),
        ("1e-1", Decimal("0.1")),
        ("250n", Decimal("0.00000025")),
    ],
)
def test_a_quantity_is_a_number(quantity: str, number: int | Decimal) -> None:
    assert amount(quantity) == number
