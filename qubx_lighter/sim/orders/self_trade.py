"""Orders of one owner that meet in the book: one of them, or both, end or become smaller, and nobody trades."""

from __future__ import annotations

from qubx_lighter.constants import SelfTradeBehavior, SelfTradeScope
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.model.records import Order
from qubx_lighter.sim.orders import endings
from qubx_lighter.sim.orders.open_orders import OpenOrders
from qubx_lighter.sim.orders.state import VenueState


def is_self_trade(order: Order, account: Account, owner: Account) -> bool:
    """Tell whether an account's order would trade with its own where it meets one of ``owner``."""
    if owner is account:
        return True
    by_master = order.self_trade_equality == SelfTradeScope.MASTER_ACCOUNT  # here: accounts of one L1 address
    return by_master and owner.l1_address == account.l1_address


def keep_apart(state: VenueState, open_orders: OpenOrders, order: Order, maker: Order) -> bool:
    """End or reduce one or both of two orders of one owner; tell whether the taker is over."""
    match order.self_trade_behavior:
        case SelfTradeBehavior.EXPIRE_MAKER:
            open_orders.finish(maker, endings.SELF_TRADE)
            return False
        case SelfTradeBehavior.EXPIRE_TAKER:
            return True
        case SelfTradeBehavior.EXPIRE_BOTH:
            open_orders.finish(maker, endings.SELF_TRADE)
            return True
    lots = min(order.remaining_lots, maker.remaining_lots)  # both become smaller
    open_orders.reduce(maker, lots)
    state.change_level(maker)
    order.remaining_lots -= lots
    maker.remaining_lots -= lots
    if maker.remaining_lots:
        state.change_order(maker)
    else:
        open_orders.finish(maker, endings.SELF_TRADE)
    return not order.remaining_lots
