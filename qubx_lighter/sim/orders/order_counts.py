"""How many orders an account may have at once.

The documentation lists the numbers, and six codes of order counts (21717 to 21722) without saying which is of which.
"""

from __future__ import annotations

from typing import Final

from qubx_lighter.constants import TimeInForce
from qubx_lighter.errors import VenueError
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.model.records import PENDING, Order

ACTIVE: Final = 1500
ACTIVE_OF_MARKET: Final = 1000
PENDING_ORDERS: Final = 500
PENDING_OF_MARKET: Final = 16

TOO_MANY_ACTIVE: Final = 21717
TOO_MANY_ACTIVE_OF_MARKET: Final = 21718
TOO_MANY_PENDING: Final = 21719
TOO_MANY_PENDING_OF_MARKET: Final = 21720


def check(account: Account, order: Order, more: int = 1) -> None:
    """Insist on room for ``more`` orders like ``order``, unless it will not stay; a participant of the feed stands for many.

    Raises:
        VenueError: 21717, 21718, 21719 or 21720.
    """
    if account.fee_free:
        return
    if order.status != PENDING and order.time_in_force == TimeInForce.IOC:
        return
    if order.status == PENDING:
        limits = (PENDING_ORDERS, TOO_MANY_PENDING), (PENDING_OF_MARKET, TOO_MANY_PENDING_OF_MARKET)
    else:
        limits = (ACTIVE, TOO_MANY_ACTIVE), (ACTIVE_OF_MARKET, TOO_MANY_ACTIVE_OF_MARKET)
    if len(account.orders) + more <= limits[1][0]:  # the lower one: nothing to count
        return
    alike = [
        other.market_id for other in account.orders.values() if (other.status == PENDING) == (order.status == PENDING)
    ]
    for (limit, code), count in zip(limits, (len(alike), alike.count(order.market_id)), strict=True):
        if count + more > limit:
            raise VenueError(code, f"too many {'pending' if order.status == PENDING else 'active'} orders")
