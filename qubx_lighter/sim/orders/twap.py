"""How the venue works a TWAP: market slices every 30 seconds until its end, none worse than its worst price.

The interval is that of df-lighter-core 0.0.1 (``trade/orders/intent.rs``); the venue documents no sizes. Here what remains
is spread evenly over the slices that are left, and a slice that would meet nobody within the bound is left out.
"""

from __future__ import annotations

from typing import Final

from qubx_lighter.constants import TimeInForce
from qubx_lighter.sim.model.records import OPEN, TWAP_SUB, Order
from qubx_lighter.sim.model.specs import MarketSpec

INTERVAL_US: Final = 30_000_000


def slice_lots(order: Order, spec: MarketSpec, now: int) -> int:
    """Give the size of the slice at ``now`` (µs): even parts of what remains, none below the market's minimum."""
    left = max(order.order_expiry_ms * 1000 - now, 1)
    slices = -(-left // INTERVAL_US)
    return min(max(-(-order.remaining_lots // slices), spec.min_base_lots), order.remaining_lots)


def slice_of(order: Order, lots: int, order_index: int, now: int) -> Order:
    """Write the row of a slice; it has no client order index."""
    return Order(
        order_index=order_index,
        client_order_index=0,
        account_index=order.account_index,
        market_id=order.market_id,
        is_ask=order.is_ask,
        initial_lots=lots,
        remaining_lots=lots,
        price_ticks=order.price_ticks,
        order_type=TWAP_SUB,
        time_in_force=int(TimeInForce.IOC),
        reduce_only=order.reduce_only,
        order_expiry_ms=0,
        status=OPEN,
        created_at=now,
        updated_at=now,
        parent_order_index=order.order_index,
        self_trade_behavior=order.self_trade_behavior,
        self_trade_equality=order.self_trade_equality,
    )


def book_slice(order: Order, part: Order) -> None:
    """Count what a slice filled as filled of its TWAP."""
    order.filled_lots += part.filled_lots
    order.filled_quote_micro += part.filled_quote_micro
    order.remaining_lots -= part.filled_lots
