"""Amounts: exact or refused, whatever they are written as."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest

from qubx_lighter.errors import UnitsError
from qubx_lighter.protocol.amounts import as_decimal, exact_units, written


@pytest.mark.parametrize(
    ("amount", "decimals", "expected"),
    [
        (0.1, 6, 100_000),
        (0.3, 1, 3),
        (1.005, 3, 1005),
        ("1e3", 2, 100_000),
        (Decimal("0.000001"), 6, 1),
        (5, 0, 5),
        ("123456789012.123456", 6, 123_456_789_012_123_456),
        (1e-6, 6, 1),
    ],
)
def test_an_amount_on_the_grid_is_converted_exactly(amount: Any, decimals: int, expected: int) -> None:
    assert expected == exact_units(amount, decimals)


@pytest.mark.parametrize("amount", [0, -1, "0.0000001", 1e-7, "x", "", None, True, float("nan"), float("inf"), "1,5"])
def test_what_is_off_the_grid_or_no_positive_number_is_refused_by_name(amount: Any) -> None:
    with pytest.raises(UnitsError, match="deposit"):
        exact_units(amount, 6, "deposit")


def test_writing_undoes_reading() -> None:
    seed = random.SystemRandom().getrandbits(32)
    chance = random.Random(seed)
    for _ in range(2000):
        decimals = chance.randrange(19)
        units = chance.randrange(1, 10 ** chance.randrange(1, 19))
        text = written(units, decimals)
        assert units == exact_units(text, decimals), (seed, units, decimals)
        assert "E" not in text.upper(), (seed, text)


def test_a_float_counts_as_what_it_prints_as() -> None:
    assert Decimal("0.1") == as_decimal(0.1)
