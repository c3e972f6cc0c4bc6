"""A market's history as the venue writes it: candles of both kinds, settlements of funding."""

from __future__ import annotations

from typing import Final

from qubx_lighter.sim.markets.candles import CLOSE, HIGH, LAST_ID, LOTS, LOW, OPEN, QUOTE, SAMPLES, TIME, Rows
from qubx_lighter.sim.markets.market_history import HOUR_MS, Funding
from qubx_lighter.sim.model.specs import MarketSpec
from qubx_lighter.sim.wire.texts import MICRO, Row, decimal_text

RATE_DECIMALS: Final = 4


def candle_rows(spec: MarketSpec, rows: Rows) -> list[Row]:
    """Write candles; numbers that are zero are left out."""
    price, size = 10**spec.price_decimals, 10**spec.size_decimals
    return [
        _without_zeros(
            {
                "t": row[TIME],
                "o": row[OPEN] / price,
                "h": row[HIGH] / price,
                "l": row[LOW] / price,
                "c": row[CLOSE] / price,
                "v": row[LOTS] / size,
                "V": row[QUOTE] / MICRO,
                "i": row[LAST_ID],
            }
        )
        for row in rows.tolist()
    ]


def mark_candle_rows(spec: MarketSpec, rows: Rows) -> list[Row]:
    """Write candles of the mark price; numbers that are zero are left out."""
    price = 10**spec.price_decimals
    return [
        _without_zeros(
            {
                "t": row[TIME],
                "o": row[OPEN] / price,
                "h": row[HIGH] / price,
                "l": row[LOW] / price,
                "c": row[CLOSE] / price,
                "sc": row[SAMPLES],
            }
        )
        for row in rows.tolist()
    ]


def _without_zeros(row: Row) -> Row:
    return {name: value for name, value in row.items() if value}


def funding_row(spec: MarketSpec, funding: Funding) -> Row:
    """Write a settlement: the rate in percent and the amount for one unit of base, both of the side that pays."""
    rate = abs(funding.rate)
    return {
        "timestamp": funding.hour * HOUR_MS // 1000,
        "value": decimal_text(rate * funding.price_ticks, RATE_DECIMALS + 2 + spec.price_decimals),
        "rate": decimal_text(rate, RATE_DECIMALS),
        "direction": "long" if funding.rate >= 0 else "short",
    }
