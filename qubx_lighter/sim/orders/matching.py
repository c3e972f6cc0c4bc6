"""Matching: an order goes through the other side of the book as far as it may, then rests or ends."""

from __future__ import annotations

from qubx_lighter.constants import TimeInForce
from qubx_lighter.sim.accounts import buying_power, ledger
from qubx_lighter.sim.markets.market import Market
from qubx_lighter.sim.model.records import Order
from qubx_lighter.sim.orders import endings, self_trade
from qubx_lighter.sim.orders.booking import Booking, Taker
from qubx_lighter.sim.orders.bound import AVERAGED, Bound
from qubx_lighter.sim.orders.open_orders import OpenOrders
from qubx_lighter.sim.orders.state import VenueState


class Matcher:
    """Match orders that are not in the book.

    Args:
        state: the venue's.
        open_orders: who rests.
        booking: books what matches.
    """

    def __init__(self, state: VenueState, open_orders: OpenOrders, booking: Booking) -> None:
        self._state = state
        self._open_orders = open_orders
        self._booking = booking

    def execute(self, order: Order, tx_hash: str = "") -> None:
        """Match an order that is not in the book, then let it rest or end it; ``tx_hash`` is what made it do so now.

        Who takes because of the mark price or the time carries a hash of the venue's own.
        """
        state, open_orders = self._state, self._open_orders
        account, market = state.accounts[order.account_index], state.markets[order.market_id]
        taker = Taker(account, market, order, tx_hash or state.make_hash())
        order.tx_hash = order.tx_hash or taker.tx_hash
        crosses = market.book.crosses(order.price_ticks, is_ask=order.is_ask)
        if order.time_in_force == TimeInForce.POST_ONLY and crosses and order.remaining_lots:
            open_orders.finish(order, endings.POST_ONLY)
            return
        stopped = self._match(taker)
        if stopped:
            open_orders.finish(order, stopped)
        elif not order.remaining_lots:
            open_orders.finish(order, endings.FILLED)
        elif (crosses or order.trigger_time_ms) and not buying_power.may_rest(account, state.markets, order):
            open_orders.finish(order, _shortage(market))
        else:
            open_orders.let_rest(order)
            state.change_order(order)

    def _match(self, taker: Taker) -> str:
        """Fill an order as far as it goes; return the status that ends it, or nothing if the rest may rest."""
        order, market, account, markets = taker.order, taker.market, taker.account, self._state.markets
        bound = Bound(order)
        while order.remaining_lots:
            if order.reduce_only and not ledger.reducible_lots(account, order):
                return endings.REDUCE_ONLY
            maker = market.book.first(is_ask=not order.is_ask)
            most = bound.lots_at(maker.price_ticks) if maker is not None else 0
            if maker is None or not most:
                return _unmatched_status(order, maker)
            owner, price, spec = self._state.accounts[maker.account_index], maker.price_ticks, market.spec
            if self_trade.is_self_trade(order, account, owner):
                if self_trade.keep_apart(self._state, self._open_orders, order, maker):
                    return endings.SELF_TRADE
                continue
            lots = min(order.remaining_lots, maker.remaining_lots, most)
            for side, its_account in ((order, account), (maker, owner)):
                if side.reduce_only:
                    lots = min(lots, ledger.reducible_lots(its_account, side))
            if not buying_power.may_fill(owner, markets, maker, lots, price, fee_ppm=spec.maker_fee_ppm):
                self._open_orders.finish(maker, _shortage(market))
                continue
            may_take = taker.is_forced or buying_power.may_fill(
                account, markets, order, lots, price, fee_ppm=spec.taker_fee_ppm
            )
            if not may_take:
                return _shortage(market)
            bound.book(price, lots)
            self._booking.trade(taker, maker, owner, lots)
        return ""


def _shortage(market: Market) -> str:
    """Give the status of an order that its account cannot pay for."""
    return endings.BALANCE if market.spec.is_spot else endings.MARGIN


def _unmatched_status(order: Order, best: Order | None) -> str:
    """Give the status of an order that meets nobody (any more); nothing if it may rest."""
    if order.order_type in AVERAGED:
        return endings.LIQUIDITY if best is None else endings.SLIPPAGE
    return endings.CANCELED if order.time_in_force == TimeInForce.IOC else ""
