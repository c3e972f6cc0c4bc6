"""Ticks, lots, times and fees."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qubx_lighter.constants import MAX_BASE_LOTS, MAX_PRICE_TICKS
from qubx_lighter.errors import UnitsError
from qubx_lighter.protocol.units import Scale, ppm_fee, time_ns

ETH = Scale(price_decimals=2, size_decimals=4)

decimals = st.integers(0, 8)
ticks = st.integers(1, MAX_PRICE_TICKS)
lots = st.integers(1, MAX_BASE_LOTS)


def test_tick_and_lot_are_the_nearest_floats() -> None:
    assert 0.01 == ETH.tick_size
    assert 0.0001 == ETH.lot_size
    assert 1.0 == Scale(0, 0).tick_size


@given(decimals, ticks)
def test_every_price_survives_the_way_there_and_back(places: int, value: int) -> None:
    scale = Scale(places, 0)
    text = scale.format_price(value)
    assert Decimal(value).scaleb(-places) == Decimal(text)
    assert float(text) == scale.price(value)
    assert value == scale.to_ticks(scale.price(value))


@given(decimals, lots)
def test_every_size_survives_the_way_there_and_back(places: int, value: int) -> None:
    scale = Scale(0, places)
    text = scale.format_size(value)
    assert Decimal(value).scaleb(-places) == Decimal(text)
    assert float(text) == scale.size(value)
    assert value == scale.to_lots(scale.size(value))


@given(decimals, st.integers(2, MAX_PRICE_TICKS - 1), st.booleans(), st.integers(-2, 2))
def test_rounding_never_moves_a_price_on_the_grid_whatever_its_float_noise(
    places: int, value: int, up: bool, steps: int
) -> None:
    scale = Scale(places, 0)
    price = scale.price(value)
    for _ in range(abs(steps)):
        price = math.nextafter(price, math.inf if steps > 0 else 0.0)
    assert value == scale.to_ticks_rounded(price, up=up)
    assert value == scale.to_ticks(price)


@pytest.mark.parametrize(
    ("price", "up", "expected"),
    [(4331.461, True, 433147), (4331.469, False, 433146), (4331.46, True, 433146), (0.1 + 0.2, True, 30)],
)
def test_a_price_off_the_grid_rounds_to_its_side(price: float, up: bool, expected: int) -> None:
    assert expected == ETH.to_ticks_rounded(price, up=up)


def test_a_price_off_the_grid_is_refused() -> None:
    with pytest.raises(UnitsError, match=r"price 4331\.465 is not a multiple of 0\.01"):
        ETH.to_ticks(4331.465)


def test_a_size_off_the_grid_is_refused() -> None:
    with pytest.raises(UnitsError, match=r"size 0\.00015 is not a multiple of 0\.0001"):
        ETH.to_lots(0.00015)


@pytest.mark.parametrize("price", [0.0, -0.01, (MAX_PRICE_TICKS + 1) / 100])
def test_a_price_that_the_wire_cannot_carry_is_refused(price: float) -> None:
    with pytest.raises(UnitsError, match=r"is outside 0\.01 to 42949672\.95"):
        ETH.to_ticks(price)


def test_a_price_that_rounds_to_nothing_is_refused() -> None:
    with pytest.raises(UnitsError, match=r"price 0\.004 is outside"):
        ETH.to_ticks_rounded(0.004, up=False)


@pytest.mark.parametrize("size", [0.0, -1.0, (MAX_BASE_LOTS + 1) / 10_000])
def test_a_size_that_the_wire_cannot_carry_is_refused(size: float) -> None:
    with pytest.raises(UnitsError, match=r"is outside 0\.0001 to 28147497671\.0655"):
        ETH.to_lots(size)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(UnitsError, match="is not a number"):
        ETH.to_ticks(value)
    with pytest.raises(UnitsError, match="is not a number"):
        ETH.to_ticks_rounded(value, up=True)


def test_text_has_fixed_decimals() -> None:
    assert "4331.40" == ETH.format_price(433140)
    assert "0.0001" == ETH.format_size(1)
    assert "-0.0500" == ETH.format_size(-500)
    assert "433140" == Scale(0, 0).format_price(433140)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (1_760_287_839, 1_760_287_839_000_000_000),
        (1_760_287_839_079, 1_760_287_839_079_000_000),
        (1_760_287_839_079_123, 1_760_287_839_079_123_000),
        (1_760_287_839_079_123_456, 1_760_287_839_079_123_456),
    ],
)
def test_a_time_is_told_by_its_magnitude(value: int, expected: int) -> None:
    assert expected == time_ns(value)


def test_a_fee_is_parts_per_million_of_the_notional() -> None:
    assert 0.000802684 == pytest.approx(ppm_fee(40.1342, 20), abs=1e-15)
    assert 0.0 == ppm_fee(40.1342, 0)
