"""One market of the local venue: its rules, its book and its price."""

from __future__ import annotations

from collections import deque
from typing import Final

from qubx_lighter.sim.markets.book import Book
from qubx_lighter.sim.markets.market_history import MarketHistory
from qubx_lighter.sim.markets.rescaling import Rescaling
from qubx_lighter.sim.model.records import DELEVERAGE, SETTLEMENT, TRADE, Trade
from qubx_lighter.sim.model.specs import MarketSpec

_COLLATERAL_DECIMALS: Final = 6
_ORDER_NONCES: Final = 1 << 48
_FORCED: Final = 50


class Market:
    """A market's state.

    Args:
        spec: the rules.
        seed: the venue's.
        opened_at: the time of its opening, µs.
        lot_units: of a spot market, how many units of the base asset a lot is.

    Attributes:
        spec: the rules.
        lot_units: as given.
        book: what rests.
        last_trade_ticks: the price of the last trade; 0 before the first.
        history: its candles, older trades and funding.
        trades: the newest trades, oldest first.
        forced: the newest of those by which the venue closed positions, oldest first.
    """

    def __init__(self, spec: MarketSpec, seed: int = 0, opened_at: int = 0, lot_units: int = 0) -> None:
        self.spec = spec
        self.lot_units = lot_units
        self.book = Book()
        self.last_trade_ticks = 0
        self.history = MarketHistory(spec, seed, opened_at)
        self.trades = self.history.trades.recent
        self.forced: deque[Trade] = deque(maxlen=_FORCED)
        self._asks = 0
        self._bids = 0
        self._multiplier, self._divisor = _quote_factors(spec)

    def quote_micro(self, price_ticks: int, lots: int) -> int:
        """Give what ``lots`` cost at a price, rounded down where the market is finer than the collateral."""
        return price_ticks * lots * self._multiplier // self._divisor

    def part_of_quote_micro(self, price_ticks: int, lots: int, part: int, whole: int) -> int:
        """Give ``part`` / ``whole`` of what ``lots`` cost, rounded down once, towards minus infinity."""
        return price_ticks * lots * self._multiplier * part // (self._divisor * whole)

    def add_trade(self, trade: Trade) -> None:
        """Take note of a trade; where positions are closed without orders the price says nothing, and no candle has it."""
        if trade.kind != TRADE:
            self.forced.append(trade)
        if trade.kind in (DELEVERAGE, SETTLEMENT):
            self.history.trades.append(trade)
            return
        self.last_trade_ticks = trade.price_ticks
        self.history.add_trade(trade)

    def rescale(self, spec: MarketSpec, rescaling: Rescaling) -> None:
        """Take rules with another grid; nothing rests."""
        self.spec = spec
        self.last_trade_ticks = rescaling.ticks(self.last_trade_ticks)
        self.history.rescale(rescaling)
        for place, trade in enumerate(self.forced):
            self.forced[place] = rescaling.trade(trade)
        self._multiplier, self._divisor = _quote_factors(spec)

    def mark_price_ticks(self) -> int:
        """Give the price that positions are valued at; 0 when nothing ever gave one.

        The last trade (or the initial price), moved into the touch where it lies outside; without either the middle of
        the touch, rounded down, or its only side.
        """
        bid, ask = self.book.best_bid_ticks, self.book.best_ask_ticks
        price = self.last_trade_ticks or self.spec.initial_price_ticks
        if not price:
            return (bid + ask) // 2 if bid and ask else bid or ask or 0
        if bid is not None and price < bid:
            return bid
        return ask if ask is not None and price > ask else price

    def allocate_order_index(self, *, is_ask: bool) -> int:
        """Number a new order as the venue does (verified on 844 captured trades).

        The market is in the upper bits; below, asks count up from 0 and bids count down from 2**48 - 1.
        """
        if is_ask:
            nonce = self._asks
            self._asks += 1
        else:
            self._bids += 1
            nonce = _ORDER_NONCES - self._bids
        return (self.spec.market_id + 1) << 48 | nonce


def _quote_factors(spec: MarketSpec) -> tuple[int, int]:
    """Give what ticks times lots are multiplied with and divided by to make millionths of the collateral asset."""
    shift = _COLLATERAL_DECIMALS - spec.price_decimals - spec.size_decimals
    return 10 ** max(shift, 0), 10 ** max(-shift, 0)
