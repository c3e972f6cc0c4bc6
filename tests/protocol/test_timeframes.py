"""Candles of the venue add up to bars of any length."""

from __future__ import annotations

import random

import pytest

from qubx_lighter.constants import RESOLUTIONS
from qubx_lighter.protocol.timeframes import bar_open, merge, resolution_for
from qubx_lighter.protocol.wire import CandleRow

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("timeframe_ms", "resolution"),
    [
        (MINUTE, "1m"),
        (2 * MINUTE, "1m"),
        (10 * MINUTE, "5m"),
        (45 * MINUTE, "15m"),
        (HOUR, "1h"),
        (8 * HOUR, "4h"),
        (DAY, "1d"),
        (7 * DAY, "1d"),
        (30_000, None),
        (90_000, None),
        (0, None),
        (-MINUTE, None),
    ],
)
def test_the_coarsest_resolution_that_divides_a_timeframe_serves_it(timeframe_ms: int, resolution: str | None) -> None:
    assert resolution == resolution_for(timeframe_ms)


def test_bars_lie_on_multiples_of_their_length() -> None:
    assert 1_760_040_000_000 == bar_open(1_760_040_059_999, HOUR)
    assert [1_760_040_000_000] * 2 == [bar_open(1_760_040_000_000 + extra, HOUR) for extra in (0, HOUR - 1)]


def test_random_candles_add_up_to_what_their_trades_make_at_once() -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    trades = sorted(
        (chance.randrange(2 * DAY), chance.randrange(1, 1000), chance.randrange(1, 50)) for _ in range(3000)
    )
    minutes = candles(trades, MINUTE)
    for timeframe_ms in (5 * MINUTE, 10 * MINUTE, HOUR, 7 * HOUR, DAY):
        resolution_ms = RESOLUTIONS[resolution_for(timeframe_ms) or "1m"]
        assert candles(trades, timeframe_ms) == merge(merge(minutes, resolution_ms), timeframe_ms), seed


def test_a_bar_opens_with_its_first_trade() -> None:
    flat = CandleRow(0, 5.0, 5.0, 5.0, 5.0)
    traded = CandleRow(MINUTE, 7.0, 8.0, 6.0, 7.5, 2.0, 14.0, 3)
    later = CandleRow(2 * MINUTE, 7.5, 7.5, 7.5, 7.5)
    assert [CandleRow(0, 7.0, 8.0, 6.0, 7.5, 2.0, 14.0, 3)] == merge([flat, traded, later], 5 * MINUTE)
    assert [CandleRow(0, 5.0, 5.0, 5.0, 5.0)] == merge([flat, CandleRow(MINUTE, 5.0, 5.0, 5.0, 5.0)], 5 * MINUTE)


def candles(trades: list[tuple[int, int, int]], length_ms: int) -> list[CandleRow]:
    """Make candles of trades (time, price, size), the slow way."""
    rows = []
    for opened in sorted({time - time % length_ms for time, _, _ in trades}):
        inside = [(i, price, size) for i, (time, price, size) in enumerate(trades) if 0 <= time - opened < length_ms]
        prices = [price for _, price, _ in inside]
        rows.append(
            CandleRow(
                opened,
                prices[0],
                max(prices),
                min(prices),
                prices[-1],
                sum(size for _, _, size in inside),
                sum(price * size for _, price, size in inside),
                inside[-1][0],
            )
        )
    return rows
