"""Which orders the venue knows, in the signer's terms, and how Qubx's words select one of them.

One table, as the native signer of SDK 1.1.8 checks it; every cell is tried out on it in the tests:

==================  ==========================  =========  =========
type                time in force               expiry     trigger
==================  ==========================  =========  =========
limit               gtt, post-only              yes        no
limit               ioc                         no         no
market              ioc                         no         no
stop-loss           ioc                         yes        yes
take-profit         ioc                         yes        yes
stop-loss-limit     gtt, post-only, ioc         yes        yes
take-profit-limit   gtt, post-only, ioc         yes        yes
twap                gtt                         yes        no
==================  ==========================  =========  =========

Every order has a price: the limit of the limit types, the worst price of the others. The expiry of a trigger order is how
long it waits; its time in force says what it is once triggered. A TWAP's expiry is its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

from qubx_lighter.constants import Grouping, OrderType, SelfTradeBehavior, SelfTradeScope, TimeInForce


@dataclass(frozen=True, slots=True)
class Terms:
    """A cell of the table: what an order is, and what else it must and may not carry."""

    order_type: OrderType
    time_in_force: TimeInForce
    has_expiry: bool
    has_trigger: bool


def _cells(order_type: OrderType, *times_in_force: TimeInForce, expiry: bool, trigger: bool = False) -> list[Terms]:
    return [Terms(order_type, time_in_force, expiry, trigger) for time_in_force in times_in_force]


_IOC, _GTT, _POST_ONLY = TimeInForce.IOC, TimeInForce.GTT, TimeInForce.POST_ONLY

TABLE: Final[dict[tuple[OrderType, TimeInForce], Terms]] = {
    (terms.order_type, terms.time_in_force): terms
    for terms in (
        *_cells(OrderType.LIMIT, _GTT, _POST_ONLY, expiry=True),
        *_cells(OrderType.LIMIT, _IOC, expiry=False),
        *_cells(OrderType.MARKET, _IOC, expiry=False),
        *_cells(OrderType.STOP_LOSS, _IOC, expiry=True, trigger=True),
        *_cells(OrderType.TAKE_PROFIT, _IOC, expiry=True, trigger=True),
        *_cells(OrderType.STOP_LOSS_LIMIT, _GTT, _POST_ONLY, _IOC, expiry=True, trigger=True),
        *_cells(OrderType.TAKE_PROFIT_LIMIT, _GTT, _POST_ONLY, _IOC, expiry=True, trigger=True),
        *_cells(OrderType.TWAP, _GTT, expiry=True),
    )
}

STOP_LOSSES: Final = frozenset({OrderType.STOP_LOSS, OrderType.STOP_LOSS_LIMIT})
TAKE_PROFITS: Final = frozenset({OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT_LIMIT})
_ENTRIES: Final = frozenset({OrderType.LIMIT, OrderType.MARKET})


class OrderFields(NamedTuple):
    """One order as it is signed.

    Attributes:
        base_lots: 0 in a child of a group: the size that its parent comes to.
        price_ticks: the limit, or the worst price.
        trigger_ticks: 0 for none.
        order_expiry_ms: 0 for none, else Unix milliseconds.
    """

    market_id: int
    client_order_index: int
    base_lots: int
    price_ticks: int
    is_ask: bool
    order_type: OrderType
    time_in_force: TimeInForce
    reduce_only: bool
    trigger_ticks: int = 0
    order_expiry_ms: int = 0


class SelfTrade(NamedTuple):
    """Which order ends when the account would trade with itself, and who the account is."""

    behavior: SelfTradeBehavior = SelfTradeBehavior.EXPIRE_MAKER
    scope: SelfTradeScope = SelfTradeScope.ACCOUNT


# --- what the signer would refuse ------------------------------------------------------------------------------------


def order_refusal(order_type: int, time_in_force: int, *, has_expiry: bool, has_trigger: bool) -> str | None:
    """Say why the signer would refuse an order of this type; None where it would sign it."""
    if order_type not in OrderType:
        return f"there is no order type {order_type}"
    if time_in_force not in TimeInForce:
        return f"there is no time in force {time_in_force}"
    kind, tif = OrderType(order_type), TimeInForce(time_in_force)
    terms = TABLE.get((kind, tif))
    if terms is None:
        return f"the time in force of a {kind.name} order cannot be {tif.name}"
    wrong = [
        f"{'needs' if needed else 'takes no'} {what}"
        for what, needed, given in (
            ("trigger price", terms.has_trigger, has_trigger),
            ("expiry", terms.has_expiry, has_expiry),
        )
        if needed != given
    ]
    return f"a {kind.name} order that is {tif.name} {' and '.join(wrong)}" if wrong else None


def group_refusal(grouping: int, orders: Sequence[OrderFields]) -> str | None:
    """Say why the signer would refuse a group; None where it would sign it."""
    if grouping not in Grouping:
        return f"there is no grouping {grouping}"
    kind = Grouping(grouping)
    size = 3 if kind is Grouping.ONE_TRIGGERS_A_ONE_CANCELS_THE_OTHER else 2
    if len(orders) != size:
        return f"a group of {kind.name} has {size} orders, not {len(orders)}"
    parent, children = (None, orders) if kind is Grouping.ONE_CANCELS_THE_OTHER else (orders[0], orders[1:])
    named = [order.client_order_index for order in orders if order.client_order_index]
    checks = (
        (len({order.market_id for order in orders}) == 1, "the orders of a group are of one market"),
        (len(set(named)) == len(named), "the orders of a group have client order indexes of their own"),
        (parent is None or parent.order_type in _ENTRIES, "the first of the group is a limit or a market order"),
        (_are_exits(children), "the others are a stop-loss or a take-profit, one of each at most"),
        (all(child.reduce_only for child in children), "the orders that close are reduce-only"),
        (_on_other_side(parent, children), "the orders that close are on the other side"),
        (parent is None or not any(child.base_lots for child in children), "a child takes its parent's size"),
        (len({child.base_lots for child in children}) == 1, "the orders that close are of one size"),
        (_of_one_expiry(parent, children), "the orders of a group have one expiry"),
    )
    for holds, rule in checks:
        if not holds:
            return rule
    refusals = (
        order_refusal(
            order.order_type,
            order.time_in_force,
            has_expiry=bool(order.order_expiry_ms),
            has_trigger=bool(order.trigger_ticks),
        )
        for order in orders
    )
    return next((refusal for refusal in refusals if refusal is not None), None)


def self_trade_refusal(self_trade: SelfTrade) -> str | None:
    """Say why the signer would refuse a self-trade behaviour; None where it would sign it."""
    if self_trade.behavior is SelfTradeBehavior.REDUCE and self_trade.scope is SelfTradeScope.MASTER_ACCOUNT:
        return "self-trades with another account of one's own cannot be reduced"
    return None


def _are_exits(children: Sequence[OrderFields]) -> bool:
    stops = sum(child.order_type in STOP_LOSSES for child in children)
    profits = sum(child.order_type in TAKE_PROFITS for child in children)
    return stops + profits == len(children) and stops <= 1 and profits <= 1


def _on_other_side(parent: OrderFields | None, children: Sequence[OrderFields]) -> bool:
    sides = {child.is_ask for child in children}
    return len(sides) == 1 and (parent is None or parent.is_ask not in sides)


def _of_one_expiry(parent: OrderFields | None, children: Sequence[OrderFields]) -> bool:
    rests = parent is not None and bool(parent.order_expiry_ms)
    return len({order.order_expiry_ms for order in ((parent, *children) if rests and parent else children)}) == 1


# --- Qubx's words ----------------------------------------------------------------------------------------------------

QUBX_TYPES: Final = ("MARKET", "LIMIT", "STOP_MARKET", "STOP_LIMIT")
TRIGGER_TYPES: Final = ("stop_loss", "take_profit")

_TIMES_IN_FORCE: Final[dict[str, TimeInForce | None]] = {  # None: as the type has it
    "": None,
    "gtc": None,
    "gtt": None,
    "ioc": _IOC,
    "gtx": _POST_ONLY,
    "post_only": _POST_ONLY,
}
_TYPES: Final[dict[tuple[str, str], OrderType]] = {
    **{("MARKET", trigger_type): OrderType.MARKET for trigger_type in TRIGGER_TYPES},
    **{("LIMIT", trigger_type): OrderType.LIMIT for trigger_type in TRIGGER_TYPES},
    ("STOP_MARKET", "stop_loss"): OrderType.STOP_LOSS,
    ("STOP_MARKET", "take_profit"): OrderType.TAKE_PROFIT,
    ("STOP_LIMIT", "stop_loss"): OrderType.STOP_LOSS_LIMIT,
    ("STOP_LIMIT", "take_profit"): OrderType.TAKE_PROFIT_LIMIT,
}
_DEFAULTS: Final[dict[OrderType, TimeInForce]] = {
    OrderType.LIMIT: _GTT,
    OrderType.MARKET: _IOC,
    OrderType.STOP_LOSS: _IOC,
    OrderType.TAKE_PROFIT: _IOC,
    OrderType.STOP_LOSS_LIMIT: _GTT,
    OrderType.TAKE_PROFIT_LIMIT: _GTT,
    OrderType.TWAP: _GTT,
}


@cache
def select(
    qubx_type: str, time_in_force: str, *, post_only: bool = False, trigger_type: str = "stop_loss", twap: bool = False
) -> Terms:
    """Find the cell that Qubx's words mean.

    Args:
        qubx_type: one of ``QUBX_TYPES``.
        time_in_force: gtc, gtt, ioc, gtx or post_only, in any case. Good-till is what each type does by itself: an order
            that never rests is immediate-or-cancel all the same.
        post_only: as ``gtx``.
        trigger_type: one of ``TRIGGER_TYPES``; for the STOP types.
        twap: the order is to be worked over time.

    Raises:
        ValueError: there is no such order; the text says what is wrong.
    """
    word = (time_in_force or "").lower()
    if word not in _TIMES_IN_FORCE:
        known = ", ".join(name for name in _TIMES_IN_FORCE if name)
        raise ValueError(f"time in force {time_in_force!r} is not supported: use one of {known}")
    if trigger_type not in TRIGGER_TYPES:
        raise ValueError(f"trigger_type {trigger_type!r} is not known: use one of {', '.join(TRIGGER_TYPES)}")
    if qubx_type not in QUBX_TYPES:
        raise ValueError(f"order type {qubx_type} is not supported: {', '.join(QUBX_TYPES)} are")
    if twap and qubx_type not in ("MARKET", "LIMIT"):
        raise ValueError(f"a TWAP cannot be {qubx_type}")
    order_type = OrderType.TWAP if twap else _TYPES[qubx_type, trigger_type]
    asked = _TIMES_IN_FORCE[word]
    if post_only:
        if asked is _IOC:
            raise ValueError("an order that never rests (ioc) cannot be post-only")
        asked = _POST_ONLY
    wanted = _DEFAULTS[order_type] if asked is None else asked
    terms = TABLE.get((order_type, wanted))
    if terms is None:
        raise ValueError(f"the time in force of a {order_type.name} order cannot be {wanted.name}")
    return terms
