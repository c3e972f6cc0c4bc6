"""What ``market_stats`` sends: mark and index price, open interest, funding; every second, of the markets that changed.

There is no index but the mark price, so the premium is zero; the hourly rates are those of the venue's history, which are
drawn, not derived from the premium.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from qubx_lighter.sim import frames, rows
from qubx_lighter.sim.engine import Engine
from qubx_lighter.sim.model import MarketSpec
from qubx_lighter.sim.rows import Row

KIND: Final = "market_stats"
ALL: Final = -1
"""Stands for all markets where a channel has a market's number."""

_HOUR_US: Final = 3_600_000_000
_SETTLED_AFTER_MS: Final = 2  # the full hour, as in captured frames
_RATE_DECIMALS: Final = 4


class StatsFeed:
    """The figures of all markets.

    Args:
        engine: the venue.
        now: the wall clock, µs.
        send: sends a frame to a channel's subscribers, if there are any.
    """

    def __init__(self, engine: Engine, now: Callable[[], int], send: Callable[[str, Callable[[], str]], bool]) -> None:
        self._engine = engine
        self._now = now
        self._send = send
        self._sent: dict[int, Row] = {}

    def snapshot(self, number: int) -> str:
        """Write the first frame of a subscription: of one market, or of all."""
        now = self._now()
        if number == ALL:
            stats = {str(spec.market_id): self._row(spec, now) for spec in self._engine.markets.values()}
            return frames.market_stats("subscribed", f"{KIND}:all", stats, now)
        return frames.market_stats("subscribed", f"{KIND}:{number}", self._row(self._engine.markets[number], now), now)

    def flush(self) -> None:
        """Send the figures that have changed since the last time."""
        now = self._now()
        changed: dict[int, Row] = {}
        for market_id, spec in self._engine.markets.items():
            row = self._row(spec, now)
            if self._sent.get(market_id) != row:
                self._sent[market_id] = changed[market_id] = row
        if changed:
            everything = {str(market_id): row for market_id, row in changed.items()}
            self._send(f"{KIND}:all", lambda: frames.market_stats("update", f"{KIND}:all", everything, now))
        for market_id, row in changed.items():
            key = f"{KIND}:{market_id}"
            self._send(key, lambda key=key, row=row: frames.market_stats("update", key, row, now))  # type: ignore[misc]

    def _row(self, spec: MarketSpec, now: int) -> Row:
        history, hour = self._engine.history(spec.market_id), now // _HOUR_US
        mark = self._engine.mark_price_ticks(spec.market_id)
        interest = self._engine.quote_micro(spec.market_id, mark, self._engine.open_interest_lots(spec.market_id))
        price = rows.price_text(spec, mark)
        return {
            "symbol": spec.symbol,
            "market_id": spec.market_id,
            "index_price": price,
            "mark_price": price,
            "open_interest": rows.micro_text(interest),
            "last_trade_price": rows.price_text(spec, history.last_trade_ticks()),
            "current_funding_rate": rows.decimal_text(history.funding_rate(hour + 1), _RATE_DECIMALS),
            "funding_rate": rows.decimal_text(history.funding_rate(hour), _RATE_DECIMALS),
            "funding_timestamp": hour * _HOUR_US // 1000 + _SETTLED_AFTER_MS,
            "premium": "0.0000",
        }
