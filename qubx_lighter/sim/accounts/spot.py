"""Spot trading of the local venue: assets change hands, in integers; no margin, no leverage, no position to reduce.

A seller gives base units and gets the quote, a buyer the other way round. The fee is taken from what is received, rounded
half up. Resting orders lock what they would give: an ask its base, a bid its quote at its own price. Neither can be taken
back by a match, since a maker trades at its own price: what a part of a bid costs is never more than what that part had
locked, as both are rounded down.
"""

from __future__ import annotations

from collections.abc import Mapping

from qubx_lighter.sim.accounts import ledger, purses
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.markets.market import Market
from qubx_lighter.sim.model.records import Order


def given_asset(market: Market, *, is_ask: bool) -> int:
    """Name the asset that an order gives."""
    return market.spec.base_asset_id if is_ask else market.spec.quote_asset_id


def needed_units(market: Market, price_ticks: int, lots: int, *, is_ask: bool) -> int:
    """Give what an order of ``lots`` gives when it trades at a price."""
    return lots * market.lot_units if is_ask else market.quote_micro(price_ticks, lots)


def may_rest(account: Account, markets: Mapping[int, Market], order: Order) -> bool:
    """Tell whether the balance suffices for an order to rest, in place of what it locks now."""
    before, market = account.orders.get(order.order_index), markets[order.market_id]
    free = purses.free_units(account, markets, given_asset(market, is_ask=order.is_ask))
    if before is not None:
        free += needed_units(market, before.price_ticks, before.remaining_lots, is_ask=before.is_ask)
    return needed_units(market, order.price_ticks, order.remaining_lots, is_ask=order.is_ask) <= free


def may_fill(account: Account, markets: Mapping[int, Market], order: Order, lots: int, price_ticks: int) -> bool:
    """Tell whether the balance suffices for a fill.

    What rests has locked it, but what is locked of a collateral may have become margin.
    """
    market = markets[order.market_id]
    needed, asset_id = (
        needed_units(market, price_ticks, lots, is_ask=order.is_ask),
        given_asset(market, is_ask=order.is_ask),
    )
    if order.order_index not in account.orders:
        return needed <= purses.free_units(account, markets, asset_id)
    return not purses.is_shared(account, asset_id) or needed <= purses.unlocked_micro(account, markets)


def count_open(account: Account, market: Market, order: Order, lots: int) -> None:
    """Lock what an order that begins to rest would give, or free what ``-lots`` less of it no longer need."""
    before, after = (0, order.remaining_lots) if lots > 0 else (order.remaining_lots, order.remaining_lots + lots)
    units = [needed_units(market, order.price_ticks, each, is_ask=order.is_ask) for each in (before, after)]
    account.holding(given_asset(market, is_ask=order.is_ask)).locked += units[1] - units[0]


def book_fill(account: Account, market: Market, lots: int, quote_micro: int, ppm: int) -> int:
    """Exchange signed ``lots`` for the quote; return the fee, in units of the asset received."""
    base = account.holding(market.spec.base_asset_id)
    quote_asset_id = market.spec.quote_asset_id
    units = abs(lots) * market.lot_units
    if lots > 0:
        fee = ledger.fee_micro(units, ppm)
        purses.take(account, quote_asset_id, quote_micro)
        base.balance += units - fee
        base.bought_units += units - fee
        base.cost_micro += quote_micro
    else:
        fee = ledger.fee_micro(quote_micro, ppm)
        base.take_out(units)
        purses.give(account, quote_asset_id, quote_micro - fee)
    return fee
