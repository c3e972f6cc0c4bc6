"""What one market of the local venue remembers: candles, mark prices, trades and funding, since its listing.

A market may have a past from before the venue's first start. It is made up (see ``past``), ends with the minute before, and
is read as if it had happened.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from qubx_lighter.sim.markets import past
from qubx_lighter.sim.markets.candles import (
    CLOSE,
    HIGH,
    LAST_ID,
    LOTS,
    LOW,
    MARK_COLUMNS,
    MINUTE_MS,
    OPEN,
    TIME,
    TRADE_COLUMNS,
    Rows,
    Series,
    add_up,
    on_grid,
)
from qubx_lighter.sim.markets.index_price import IndexPrice
from qubx_lighter.sim.markets.past import Past
from qubx_lighter.sim.markets.rescaling import RescaledPast, Rescaling
from qubx_lighter.sim.markets.trade_log import TradeLog
from qubx_lighter.sim.model.records import Trade
from qubx_lighter.sim.model.specs import MarketSpec

HOUR_MS: Final = 3_600_000
_HOURS_A_DAY: Final = 24
LATEST_MS: Final = 5 * 10**12
"""The last moment that can be asked for; the SDK's limit."""


class Funding(NamedTuple):
    """One settlement: hours since the epoch, 1e-4 percent (positive: longs pay), ticks."""

    hour: int
    rate: int
    price_ticks: int


class Day(NamedTuple):
    """What was traded in about a day: ticks, lots, millionths of the collateral asset; zeros where nothing was."""

    first_ticks: int
    high_ticks: int
    low_ticks: int
    last_ticks: int
    lots: int
    quote_micro: int
    trades: int


class MarketHistory:
    """One market's history.

    Args:
        spec: the market.
        seed: the venue's.
        opened_at: when the venue opened it, µs.

    Attributes:
        trades: all that can be asked for of its own; a past's come after.
        index: its premium over the index price.
    """

    def __init__(self, spec: MarketSpec, seed: int = 0, opened_at: int = 0) -> None:
        self.trades = TradeLog()
        self._market_id = spec.market_id
        self._seed = seed
        self._opened_at_ms = opened_at // 1000
        self._past: Past | RescaledPast | None = None
        if spec.past_price_ticks:
            self._past = Past(seed, spec, self._opened_at_ms)
        self._begin_price_ticks = spec.initial_price_ticks
        self.index = IndexPrice(seed, spec.market_id, self.funding_rate)
        self._candles = Series(TRADE_COLUMNS)
        self._marks = Series(MARK_COLUMNS)

    # --- as time goes ------------------------------------------------------------------------------------------------

    def add_trade(self, trade: Trade) -> None:
        """Take note of a trade."""
        self.trades.append(trade)
        self._candles.add_trade(trade.time // 1000, trade.price_ticks, trade.lots, trade.quote_micro, trade.trade_id)

    def add_mark_price(self, now: int, price_ticks: int) -> None:
        """Take note of the mark price at ``now`` (µs)."""
        self._marks.add_sample(now // 1000, price_ticks)

    def rescale(self, rescaling: Rescaling) -> None:
        """Tell everything on another grid from now on."""
        self._begin_price_ticks = rescaling.ticks(self._begin_price_ticks)
        self._candles.rescale(rescaling.rows)
        self._marks.rescale(rescaling.rows)
        self.trades.rescale(rescaling.trade)
        if self._past is not None:
            self._past = RescaledPast(self._past, rescaling)

    # --- candles -----------------------------------------------------------------------------------------------------

    def candles(self, step_ms: int, end_ms: int, count: int) -> Rows:
        """Give the last candles that open at ``end_ms`` or before, one a bucket since the listing.

        Args:
            step_ms: the resolution.
            end_ms: not in the future.
            count: how many at most.
        """
        return self._read(self._candles, step_ms, end_ms, count)

    def mark_candles(self, step_ms: int, end_ms: int, count: int) -> Rows:
        """Give the same of the mark price."""
        return self._read(self._marks, step_ms, end_ms, count)

    def newest(self, *, is_mark: bool) -> tuple[int, ...]:
        """Give the venue's own newest one-minute row, which changes with whatever happens; empty before the first."""
        return tuple((self._marks if is_mark else self._candles).last)

    def last_ms(self, *, is_mark: bool) -> int | None:
        """Tell when the last one-minute candle opened in which anything happened, in the past too."""
        series = self._marks if is_mark else self._candles
        last = self._minute_before(series, LATEST_MS)
        return int(last[-1, TIME]) if len(last) else None

    def changed_since(self, step_ms: int, open_ms: int, *, is_mark: bool) -> Rows:
        """Give the candles from the one that opens at ``open_ms`` to the newest, those in which something happened."""
        series = self._marks if is_mark else self._candles
        if not series.last:
            return series.between(0, 0)
        return self._happened(series, step_ms, open_ms, series.last[TIME] + 1)

    def _read(self, series: Series, step_ms: int, end_ms: int, count: int) -> Rows:
        begin_ms = self._begin_ms(series)
        if begin_ms is None:
            return series.between(0, 0)
        last = end_ms // step_ms
        first = max(last - count + 1, begin_ms // step_ms)
        if first > last:
            return series.between(0, 0)
        start_ms, stop_ms = first * step_ms, (last + 1) * step_ms
        rows = self._happened(series, step_ms, start_ms, stop_ms)
        previous = rows[:0]
        if not len(rows) or rows[0, TIME] > start_ms:
            previous = self._minute_before(series, start_ms)
        return on_grid(rows, previous, start_ms, last - first + 1, step_ms)

    def _begin_ms(self, series: Series) -> int | None:
        """Tell since when there are candles; None where there are none yet."""
        if self._past is None or series.forgot:
            return series.first_ms
        return self._past.begin_ms

    def _happened(self, series: Series, step_ms: int, start_ms: int, stop_ms: int) -> Rows:
        """Give the candles of a range in which something happened."""
        own = series.between(start_ms, stop_ms)
        if self._past is None or series.forgot or start_ms >= self._past.end_ms:
            return add_up(own, step_ms)
        read = self._past.hours if step_ms >= HOUR_MS else self._past.rows
        if series is self._marks:
            read = self._past.mark_rows
        return add_up(np.vstack((read(start_ms, stop_ms), own)), step_ms)

    def _minute_before(self, series: Series, time_ms: int) -> Rows:
        own = series.before(time_ms)
        if len(own) or self._past is None or series.forgot:
            return own
        if series is self._marks:
            end_ms = min(time_ms, self._past.end_ms)
            return self._past.mark_rows(end_ms - MINUTE_MS, end_ms)
        return self._past.before(time_ms)

    def last_day(self, now_ms: int) -> Day:
        """Add up the last 24 hours, begun with a full one."""
        start_ms = (now_ms // HOUR_MS - _HOURS_A_DAY + 1) * HOUR_MS
        rows = self._happened(self._candles, HOUR_MS, start_ms, now_ms + 1)
        if not len(rows):
            return Day(0, 0, 0, 0, 0, 0, 0)
        sums = rows[:, LOTS:LAST_ID].sum(axis=0).tolist()
        first, last, high, low = rows[0, OPEN], rows[-1, CLOSE], rows[:, HIGH].max(), rows[:, LOW].min()
        return Day(int(first), int(high), int(low), int(last), *sums)

    def last_trade_ticks(self) -> int:
        """Give the price of the last trade, the past's if there is none since; 0 before the first."""
        last = self._minute_before(self._candles, LATEST_MS)
        return int(last[-1, CLOSE]) if len(last) else 0

    # --- trades and funding ------------------------------------------------------------------------------------------

    def trades_before(self, trade_id: int, limit: int) -> list[Trade]:
        """Give the newest trades with a lower id, newest first."""
        found = self.trades.before(trade_id, limit)
        if len(found) < limit and self._past is not None and not self.trades.forgot:
            found += self._past.trades_before(trade_id, limit - len(found))
        return found

    def funding_rate(self, hour: int) -> int:
        """Give the rate that is settled at an hour since the epoch, in 1e-4 percent; positive: longs pay."""
        return past.funding_rates(self._seed, self._market_id, hour, hour + 1)[0]

    def fundings(self, start_hour: int, stop_hour: int) -> list[Funding]:
        """Give the settlements at the hours in [``start_hour``, ``stop_hour``), which are none of the future."""
        begin_ms = self._past.begin_ms if self._past is not None else self._opened_at_ms
        start = max(start_hour, begin_ms // HOUR_MS + 1)
        stop = max(start, stop_hour)
        own = start if self._past is None else min(stop, max(start, self._past.end_ms // HOUR_MS + 1))
        prices = self._past.mark_prices(start, own) if self._past is not None else []
        prices += [self._own_mark_price(hour * HOUR_MS) for hour in range(own, stop)]
        rates = past.funding_rates(self._seed, self._market_id, start, stop)
        return [Funding(*row) for row in zip(range(start, stop), rates, prices, strict=True)]

    def _own_mark_price(self, time_ms: int) -> int:
        before = self._marks.before(time_ms)
        return int(before[-1, CLOSE]) if len(before) else self._begin_price_ticks
