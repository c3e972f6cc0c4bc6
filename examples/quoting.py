"""A small two-sided quoting strategy: it keeps one post-only order a side and market near the touch.

It shows the whole life of an order on Lighter: post-only placement, amends in place when the market moves, cancel and
replace of what has rested too long, reduce-only behaviour near the position limit, and a clean book on stop.
It is an example of the plumbing, not of a way to earn money.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from qubx import logger
from qubx.core.basics import DataType, Deal, Instrument, MarketEvent, Order, OrderChange
from qubx.core.exceptions import BaseError, OrderAlreadyTerminal
from qubx.core.interfaces import IStrategy, IStrategyContext, IStrategyInitializer
from qubx.core.series import Quote
from qubx.restarts.state_resolvers import StateResolver


@dataclass
class Working:
    """One side's order as this strategy knows it."""

    client_id: str
    price: float
    since: float


class TwoSidedQuoter(IStrategy):
    """Quote both sides of every instrument of the universe.

    Parameters (in the YAML under ``parameters``):
        notional: size of one order in quote currency.
        offset_ticks: how far behind the touch the orders rest; 0 joins the best price.
        max_orders: the position limit, in orders' sizes; the side that would add to it stops quoting there.
        lifetime_s: an order older than this is cancelled and replaced.
        pace_s: the least time between two actions on one side of one market.
    """

    notional: float = 200.0
    offset_ticks: int = 0
    max_orders: int = 5
    lifetime_s: float = 5.0
    pace_s: float = 1.0
    base: str = DataType.QUOTE

    def on_init(self, initializer: IStrategyInitializer) -> None:
        """Choose what triggers the strategy."""
        initializer.set_base_subscription(self.base)
        initializer.set_state_resolver(StateResolver.HOLD)
        self.received: Counter[str] = Counter()
        self.changes: Counter[str] = Counter()
        self.sent = 0
        self.fills = 0
        self.fees = 0.0
        self.quoting = True
        self._working: dict[tuple[Instrument, str], Working] = {}
        self._next_action: dict[tuple[Instrument, str], float] = {}

    def on_start(self, ctx: IStrategyContext) -> None:
        """Subscribe what the base subscription does not bring."""
        for data_type in (DataType.ORDERBOOK[0, 20], DataType.QUOTE, DataType.TRADE):
            ctx.subscribe(data_type, ctx.instruments)
        ctx.commit()

    def on_market_data(self, ctx: IStrategyContext, data: MarketEvent) -> None:
        """Count everything, act on quotes."""
        self.received[DataType.from_str(data.type)[0].value] += 1
        if self.quoting and isinstance(data.data, Quote) and data.instrument is not None:
            for side in ("BUY", "SELL"):
                self._requote(ctx, data.instrument, side, data.data)

    def on_order(self, ctx: IStrategyContext, order: Order, change: OrderChange) -> None:
        """Forget orders that ended."""
        self.changes[change.value] += 1
        key = order.instrument, str(order.side)
        if order.status.is_terminal and (held := self._working.get(key)) and held.client_id == order.client_order_id:
            del self._working[key]

    def on_execution(self, ctx: IStrategyContext, instrument: Instrument, deal: Deal) -> None:
        """Count fills and fees."""
        self.fills += 1
        self.fees += deal.fee_amount or 0.0

    def on_stop(self, ctx: IStrategyContext) -> None:
        """Leave no order behind."""
        self.quoting = False
        for instrument in ctx.instruments:
            ctx.cancel_orders(instrument)

    def _requote(self, ctx: IStrategyContext, instrument: Instrument, side: str, quote: Quote) -> None:
        key, now = (instrument, side), time.monotonic()
        if now < self._next_action.get(key, 0.0):
            return
        self._next_action[key] = now + self.pace_s
        tick, held = instrument.tick_size, self._working.get(key)
        wanted = quote.bid - self.offset_ticks * tick if side == "BUY" else quote.ask + self.offset_ticks * tick
        if held is None:
            if not self._at_limit(ctx, instrument, side, quote):
                self._place(ctx, instrument, side, wanted, now)
            return
        order = ctx.get_orders(instrument).get(held.client_id)
        if order is None or order.status.is_pending or order.venue_order_id is None:
            return
        try:
            if now - held.since > self.lifetime_s or self._at_limit(ctx, instrument, side, quote):
                ctx.cancel_order(client_order_id=held.client_id)
            elif abs(wanted - held.price) > tick / 2:
                ctx.update_order(price=wanted, client_order_id=held.client_id)
                held.price = wanted
        except (BaseError, OrderAlreadyTerminal) as refusal:
            logger.debug("too late for {}: {}", held.client_id, str(refusal))  # it was filled meanwhile, or nearly

    def _place(self, ctx: IStrategyContext, instrument: Instrument, side: str, price: float, now: float) -> None:
        smallest = float(instrument.venue_attributes["min_base_amount"])  # what the venue takes of an opening order
        size = max(instrument.round_size_up(self.notional / price), smallest)
        options: dict[str, Any] = {"post_only": True}
        order = ctx.trade(instrument, size if side == "BUY" else -size, price=price, **options)
        if order is not None:
            self.sent += 1
            self._working[instrument, side] = Working(order.client_order_id, price, now)

    def _at_limit(self, ctx: IStrategyContext, instrument: Instrument, side: str, quote: Quote) -> bool:
        position = ctx.get_position(instrument).quantity * quote.mid_price()
        limit = self.max_orders * self.notional
        return position >= limit if side == "BUY" else position <= -limit
