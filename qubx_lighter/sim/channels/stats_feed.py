"""What ``market_stats`` and ``spot_market_stats`` send: the figures of markets, every second, of those that changed.

Of perpetuals these are mark and index price, open interest and funding, of spot markets prices and the last day's trades.
Binary options, and types that nobody knows, are in neither. Index price, premium and the estimate of the running hour's rate come
from ``index_price``, the last settled rate from the venue's history. Of a spot market the index price is the mark price.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from qubx_lighter.sim.exchange.view import View
from qubx_lighter.sim.model.specs import MarketSpec
from qubx_lighter.sim.wire import frames, market_rows, texts
from qubx_lighter.sim.wire.texts import Row

PERPETUALS: Final = "market_stats"
SPOT: Final = "spot_market_stats"
KINDS: Final = frozenset((PERPETUALS, SPOT))
ALL: Final = -1
"""Stands for all markets where a channel has a market's number."""

_HOUR_US: Final = 3_600_000_000
_SETTLED_AFTER_MS: Final = 2  # the full hour, as in captured frames
_RATE_DECIMALS: Final = 4
_NO_LIMIT: Final = "72057594037927936.000000"


class StatsFeed:
    """The figures of all markets that a channel is about.

    Args:
        kind: the channel.
        view: of the venue.
        now: the wall clock, µs.
        send: sends a frame to a channel's subscribers, if there are any.
    """

    def __init__(
        self, kind: str, view: View, now: Callable[[], int], send: Callable[[str, Callable[[], str]], bool]
    ) -> None:
        self._kind = kind
        self._view = view
        self._now = now
        self._send = send
        self._sent: dict[int, Row] = {}

    def has(self, market_id: int) -> bool:
        """Tell whether the channel is about a market."""
        spec = self._view.markets[market_id]
        return spec.is_listed and (spec.is_spot if self._kind == SPOT else spec.is_perpetual)

    def snapshot(self, number: int) -> str:
        """Write the first frame of a subscription: of one market, or of all."""
        now = self._now()
        if number == ALL:
            stats = {str(spec.market_id): self._row(spec, now) for spec in self._markets()}
            return frames.market_stats("subscribed", f"{self._kind}:all", stats, now)
        row = self._row(self._view.markets[number], now)
        return frames.market_stats("subscribed", f"{self._kind}:{number}", row, now)

    def flush(self) -> None:
        """Send the figures that have changed since the last time."""
        now = self._now()
        changed: dict[int, Row] = {}
        for spec in self._markets():
            row = self._row(spec, now)
            if self._sent.get(spec.market_id) != row:
                self._sent[spec.market_id] = changed[spec.market_id] = row
        if changed:
            key, everything = f"{self._kind}:all", {str(market_id): row for market_id, row in changed.items()}
            self._send(key, lambda: frames.market_stats("update", key, everything, now))
        for market_id, row in changed.items():
            name = f"{self._kind}:{market_id}"
            self._send(name, lambda name=name, row=row: frames.market_stats("update", name, row, now))  # type: ignore[misc]

    def _markets(self) -> list[MarketSpec]:
        return [spec for spec in self._view.markets.values() if self.has(spec.market_id)]

    def _row(self, spec: MarketSpec, now: int) -> Row:
        return self._spot_row(spec, now) if self._kind == SPOT else self._perpetual_row(spec, now)

    def _perpetual_row(self, spec: MarketSpec, now: int) -> Row:
        history, hour = self._view.history(spec.market_id), now // _HOUR_US
        mark = self._view.mark_price_ticks(spec.market_id)
        interest = self._view.quote_micro(spec.market_id, mark, self._view.open_interest_lots(spec.market_id))
        premium = history.index.at(now)
        return {
            "symbol": spec.symbol,
            "market_id": spec.market_id,
            "index_price": texts.price_text(spec, premium.index_ticks(mark)),
            "mark_price": texts.price_text(spec, mark),
            **self._touch(spec),
            "open_interest": texts.micro_text(interest),
            "open_interest_limit": _NO_LIMIT,
            "funding_clamp_small": "0.0500",
            "funding_clamp_big": "4.0000",
            "base_interest_rate": "0.0100",
            "last_trade_price": texts.price_text(spec, history.last_trade_ticks()),
            "current_funding_rate": texts.decimal_text(premium.estimate_ppm, _RATE_DECIMALS),
            "funding_rate": texts.decimal_text(history.funding_rate(hour), _RATE_DECIMALS),
            "funding_timestamp": hour * _HOUR_US // 1000 + _SETTLED_AFTER_MS,
            "premium": texts.decimal_text(premium.ppm, _RATE_DECIMALS),
        }

    def _spot_row(self, spec: MarketSpec, now: int) -> Row:
        history = self._view.history(spec.market_id)
        return {
            "symbol": spec.symbol,
            "market_id": spec.market_id,
            "index_price": texts.price_text(spec, self._view.mark_price_ticks(spec.market_id)),
            "mid_price": self._touch(spec)["mid_price"],
            "last_trade_price": texts.price_text(spec, history.last_trade_ticks()),
        } | market_rows.daily_figures(spec, history.last_day(now // 1000))

    def _touch(self, spec: MarketSpec) -> Row:
        """Write the best prices and their middle; empty texts where a side is."""
        book = self._view.book(spec.market_id)
        bid, ask = book.best_bid_ticks, book.best_ask_ticks
        return {
            "mid_price": texts.decimal_text((bid + ask) * 5, spec.price_decimals + 1) if bid and ask else "",
            "best_bid_price": texts.price_text(spec, bid) if bid else "",
            "best_ask_price": texts.price_text(spec, ask) if ask else "",
        }
