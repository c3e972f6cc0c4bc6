"""Groups of orders: what a transaction of type 28 asks for, and how its orders refer to each other."""

from __future__ import annotations

from collections.abc import Sequence

from qubx_lighter.constants import Code, Grouping, OrderType, TimeInForce
from qubx_lighter.errors import VenueError
from qubx_lighter.protocol import order_table
from qubx_lighter.sim.model.commands import PlaceOrder
from qubx_lighter.sim.model.records import Order
from qubx_lighter.sim.model.transactions import CreateGroupedOrdersTx


def orders_of(tx: CreateGroupedOrdersTx) -> list[PlaceOrder]:
    """Give a group's orders, the parent first.

    Raises:
        VenueError: 21501: the signer would not have signed this.
    """
    placed = [order.order_of(tx.account_index) for order in tx.orders]
    try:
        refusal = order_table.group_refusal(tx.grouping_type, [_fields(order) for order in placed])
    except ValueError as error:
        refusal = str(error)
    if refusal is not None:
        raise VenueError(Code.INVALID_TX_INFO, f"invalid tx info: {refusal}")
    return placed


def _fields(order: PlaceOrder) -> order_table.OrderFields:
    return order_table.OrderFields(
        market_id=order.market_id,
        client_order_index=order.client_order_index,
        base_lots=order.base_lots,
        price_ticks=order.price_ticks,
        is_ask=order.is_ask,
        order_type=OrderType(order.order_type),
        time_in_force=TimeInForce(order.time_in_force),
        reduce_only=order.reduce_only,
        trigger_ticks=order.trigger_price_ticks,
        order_expiry_ms=order.order_expiry_ms,
    )


def link(grouping: int, orders: Sequence[Order]) -> None:
    """Let a group's orders, which have their indexes, refer to each other."""
    children = orders
    if grouping != Grouping.ONE_CANCELS_THE_OTHER:
        parent, *children = orders
        parent.to_trigger = tuple(child.order_index for child in children)
        for child in children:
            child.parent_order_index = parent.order_index
    if grouping != Grouping.ONE_TRIGGERS_THE_OTHER:
        one, other = children
        one.to_cancel, other.to_cancel = other.order_index, one.order_index
