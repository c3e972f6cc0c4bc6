"""Timeframes: which of the venue's candles make a bar of any length, and how they add up.

Bars lie on multiples of their length since the epoch, as Qubx floors times: weeks begin on Thursdays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qubx_lighter.constants import RESOLUTIONS
from qubx_lighter.protocol.wire import CandleRow

if TYPE_CHECKING:
    from collections.abc import Iterable


def resolution_for(timeframe_ms: int) -> str | None:
    """Give the coarsest resolution of the venue that divides a timeframe; None for what is no multiple of a minute."""
    dividing = [name for name, length_ms in RESOLUTIONS.items() if timeframe_ms > 0 and not timeframe_ms % length_ms]
    return dividing[-1] if dividing else None


def bar_open(time_ms: int, timeframe_ms: int) -> int:
    """Give the open of the bar that a time belongs to, ms."""
    return time_ms - time_ms % timeframe_ms


def merge(rows: Iterable[CandleRow], timeframe_ms: int) -> list[CandleRow]:
    """Add candles, oldest first, up to bars of ``timeframe_ms``; a bar is what its candles are, however few.

    A bar of the venue's opens with its first trade: candles without one count only where their bar has no other.
    """
    bars: list[CandleRow] = []
    for row in rows:
        opened = bar_open(row.t, timeframe_ms)
        fresh = CandleRow(opened, row.o, row.h, row.l, row.c, row.v, row.V, row.i)
        if not bars or bars[-1].t != opened:
            bars.append(fresh)
        elif not bars[-1].v:
            bars[-1] = fresh
        elif row.v:
            extend(bars[-1], row)
    return bars


def extend(bar: CandleRow, row: CandleRow) -> None:
    """Add the next candle to a bar, in place."""
    bar.h = max(bar.h, row.h)
    bar.l = min(bar.l, row.l)
    bar.c = row.c
    bar.v += row.v
    bar.V += row.V
    bar.i = row.i or bar.i
