"""Check what goes into a transaction: C integers wrap in silence, and a wrapped one signs something else."""

from __future__ import annotations

import operator
from typing import Final, SupportsIndex

from qubx_lighter.constants import (
    MAX_BASE_LOTS,
    MAX_CLIENT_ORDER_INDEX,
    MAX_NONCE,
    MAX_PRICE_TICKS,
    NIL_MARKET_INDEX,
    OrderType,
    SelfTradeBehavior,
    SelfTradeScope,
    TimeInForce,
)
from qubx_lighter.errors import SigningError
from qubx_lighter.protocol.order_table import OrderFields, SelfTrade, order_refusal, self_trade_refusal

MAX_TIME_MS: Final = 2**48 - 1
NO_INTEGRATOR: Final = (0, 0, 0)  # account and fees: none attached, ever
KEEP_NONCE_ORDER: Final = 0  # each nonce is exactly the last plus one
_LAST_ORDER_TYPE: Final = max(OrderType)
_LAST_TIME_IN_FORCE: Final = max(TimeInForce)
_LAST_BEHAVIOR: Final = max(SelfTradeBehavior)
_LAST_SCOPE: Final = max(SelfTradeScope)
_MAX_MARKET_ID: Final = 2**15 - 1  # what every release of the signer so far accepts
_MAX_INDEX: Final = 2**60 - 1  # of a cancel or amend: a client index below 2**48, a venue order index above


def ranged(name: str, value: SupportsIndex, low: int, high: int) -> int:
    """Return ``value`` as an int within ``low`` and ``high``: the native signer would wrap it in silence."""
    try:
        number = operator.index(value)
    except TypeError:
        raise SigningError(f"{name} must be an integer, got {type(value).__name__}") from None
    if not low <= number <= high:
        raise SigningError(f"{name} {number} is outside {low}..{high}")
    return number


def checked_order(order: OrderFields) -> tuple[int, ...]:
    """Return an order's fields as the signer takes them, in its order, each within its range.

    Raises:
        SigningError: one is out of range, or they do not go together.
    """
    fields = (
        checked_market(order.market_id),
        ranged("client_order_index", order.client_order_index, 0, MAX_CLIENT_ORDER_INDEX),
        ranged("base_lots", order.base_lots, 0, MAX_BASE_LOTS),
        ranged("price_ticks", order.price_ticks, 1, MAX_PRICE_TICKS),
        ranged("is_ask", order.is_ask, 0, 1),
        ranged("order_type", order.order_type, 0, _LAST_ORDER_TYPE),
        ranged("time_in_force", order.time_in_force, 0, _LAST_TIME_IN_FORCE),
        ranged("reduce_only", order.reduce_only, 0, 1),
        ranged("trigger_ticks", order.trigger_ticks, 0, MAX_PRICE_TICKS),
        ranged("order_expiry_ms", order.order_expiry_ms, 0, MAX_TIME_MS),
    )
    refusal = order_refusal(
        order.order_type,
        order.time_in_force,
        has_expiry=bool(order.order_expiry_ms),
        has_trigger=bool(order.trigger_ticks),
    )
    if refusal is not None:
        raise SigningError(f"this order cannot be signed: {refusal}")
    return fields


def checked_self_trade(self_trade: SelfTrade) -> tuple[int, int]:
    """Return behavior and scope, which go together."""
    behavior = ranged("self-trade behavior", self_trade.behavior, 0, _LAST_BEHAVIOR)
    scope = ranged("self-trade scope", self_trade.scope, 0, _LAST_SCOPE)
    if (refusal := self_trade_refusal(self_trade)) is not None:
        raise SigningError(f"this order cannot be signed: {refusal}")
    return behavior, scope


def checked_market(market_id: int) -> int:
    """Return the id of a market that can exist."""
    number = ranged("market_id", market_id, 0, _MAX_MARKET_ID)
    if number == NIL_MARKET_INDEX:
        raise SigningError(f"market_id {NIL_MARKET_INDEX} means no market")
    return number


def checked_index(index: int) -> int:
    """Return the client's or the venue's index of an order."""
    return ranged("index", index, 1, _MAX_INDEX)


def checked_nonce(nonce: int) -> int:
    """Return a nonce that is one; -1 would have the native signer fetch one over blocking HTTP."""
    return ranged("nonce", nonce, 0, MAX_NONCE - 1)
