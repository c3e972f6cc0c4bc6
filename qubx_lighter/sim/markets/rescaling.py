"""A market's integers on another grid: what ticks and lots become when the venue changes its decimals."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from qubx_lighter.sim.markets.candles import CLOSE, LOTS, OPEN, TRADE_COLUMNS, Rows
from qubx_lighter.sim.markets.past import Past
from qubx_lighter.sim.model.records import Trade


class Rescaling(NamedTuple):
    """How many decimals prices and sizes have more than before; what a coarser grid cannot hold is rounded down."""

    price_shift: int
    size_shift: int

    def ticks(self, value: int) -> int:
        """Give a price on the new grid."""
        return _shifted(value, self.price_shift)

    def lots(self, value: int) -> int:
        """Give a size on the new grid."""
        return _shifted(value, self.size_shift)

    def trade(self, trade: Trade) -> Trade:
        """Give a trade on the new grid."""
        return msgspec.structs.replace(
            trade,
            price_ticks=self.ticks(trade.price_ticks),
            lots=self.lots(trade.lots),
            taker_position_lots_before=self.lots(trade.taker_position_lots_before),
            maker_position_lots_before=self.lots(trade.maker_position_lots_before),
        )

    def rows(self, rows: Rows) -> Rows:
        """Give candles on the new grid, of trades or of the mark price."""
        result = rows.copy()
        result[:, OPEN : CLOSE + 1] = _shifted_array(rows[:, OPEN : CLOSE + 1], self.price_shift)
        if rows.shape[1] == TRADE_COLUMNS:
            result[:, LOTS] = _shifted_array(rows[:, LOTS], self.size_shift)
        return result


class RescaledPast:
    """A market's past on a grid that it was not made up on."""

    def __init__(self, past: Past | RescaledPast, rescaling: Rescaling) -> None:
        self.begin_ms: int = past.begin_ms
        self.end_ms: int = past.end_ms
        self._past = past
        self._rescaling = rescaling

    def rows(self, start_ms: int, stop_ms: int) -> Rows:
        """See ``Past``; so for all that follow."""
        return self._rescaling.rows(self._past.rows(start_ms, stop_ms))

    def hours(self, start_ms: int, stop_ms: int) -> Rows:
        """Give candles of an hour."""
        return self._rescaling.rows(self._past.hours(start_ms, stop_ms))

    def before(self, time_ms: int) -> Rows:
        """Give the last row before a time."""
        return self._rescaling.rows(self._past.before(time_ms))

    def mark_rows(self, start_ms: int, stop_ms: int) -> Rows:
        """Give candles of the mark price."""
        return self._rescaling.rows(self._past.mark_rows(start_ms, stop_ms))

    def mark_prices(self, start_hour: int, stop_hour: int) -> list[int]:
        """Give the mark prices at full hours."""
        return [self._rescaling.ticks(price) for price in self._past.mark_prices(start_hour, stop_hour)]

    def trades_before(self, trade_id: int, limit: int) -> list[Trade]:
        """Give the newest trades with a lower id, newest first."""
        return [self._rescaling.trade(trade) for trade in self._past.trades_before(trade_id, limit)]


def _shifted(value: int, shift: int) -> int:
    factor: int = 10 ** abs(shift)
    return value * factor if shift >= 0 else (value // factor if value >= 0 else -(-value // factor))


def _shifted_array(values: Rows, shift: int) -> Rows:
    factor = np.int64(10 ** abs(shift))
    return values * factor if shift >= 0 else values // factor
