"""What an order must be, by its type and its market's rules, whatever the book and the account are."""

from __future__ import annotations

from typing import Final

from qubx_lighter.constants import (
    DEFAULT_ORDER_EXPIRY_MS,
    MAX_BASE_LOTS,
    MAX_CLIENT_ORDER_INDEX,
    MAX_ORDER_EXPIRY_MS,
    MAX_PRICE_TICKS,
    MIN_ORDER_EXPIRY_MS,
    Code,
    OrderType,
    TimeInForce,
)
from qubx_lighter.errors import VenueError
from qubx_lighter.protocol.order_table import TABLE, Terms
from qubx_lighter.sim.markets import market_rules
from qubx_lighter.sim.markets.market import Market
from qubx_lighter.sim.model.commands import PlaceOrder

INVALID_TRIGGER_PRICE: Final = 21729


def terms_of(order_type: int, time_in_force: int) -> Terms:
    """Find what an order of this type and time in force must and must not have.

    Raises:
        VenueError: 21501: there is no such order.
    """
    try:
        terms = TABLE.get((OrderType(order_type), TimeInForce(time_in_force)))
    except ValueError:
        terms = None
    if terms is None:
        raise VenueError(Code.INVALID_TX_INFO, "invalid order type or time in force")
    return terms


def check_order(order: PlaceOrder, market: Market) -> None:
    """Insist on what an order must be, whatever the state of the book and the account.

    Size 0 of a reduce-only order that waits for its trigger is the position at that time.

    Raises:
        VenueError: 21501, 21605, 21619, 21701, 21702, 21706, 21727, 21729 or 21740.
    """
    terms = terms_of(order.order_type, order.time_in_force)
    if not 0 <= order.client_order_index <= MAX_CLIENT_ORDER_INDEX:
        raise VenueError(Code.INVALID_CLIENT_ORDER_INDEX, "invalid client order index")
    plain = {OrderType.LIMIT, OrderType.MARKET} | ({OrderType.TWAP} if market.spec.is_spot else set())
    if order.reduce_only or order.order_type not in plain:
        market_rules.insist_on_perpetual(market.spec)
    whole = terms.has_trigger and order.reduce_only and not order.base_lots
    check_size_and_price(market, 1 if whole else order.base_lots, order.price_ticks, reduce_only=order.reduce_only)
    check_trigger(order.trigger_price_ticks, has_trigger=terms.has_trigger)


def check_trigger(trigger_ticks: int, *, has_trigger: bool) -> None:
    """Insist on a trigger price of an order that waits for one, and on none of any other.

    Raises:
        VenueError: 21729. How far from the mark it may be (21735) is not documented: here as far as it likes.
    """
    if not 0 <= trigger_ticks <= MAX_PRICE_TICKS or bool(trigger_ticks) != has_trigger:
        raise VenueError(INVALID_TRIGGER_PRICE, "invalid trigger price")


def check_size_and_price(market: Market, lots: int, price_ticks: int, *, reduce_only: bool) -> None:
    """Insist on an open market, the wire's ranges and the market's minimums.

    Both minimums hold, for a market order at its worst price. Whether the venue spares reduce-only orders is not known;
    here it does, so that what is left of a position can be closed.

    Raises:
        VenueError: 21605, 21701, 21702, 21706 or 21740.
    """
    market_rules.check_tradable(market.spec, price_ticks, reduce_only=reduce_only)
    if not 1 <= lots <= MAX_BASE_LOTS:
        raise VenueError(Code.INVALID_BASE_AMOUNT, "invalid base amount")
    if not 1 <= price_ticks <= MAX_PRICE_TICKS:
        raise VenueError(Code.INVALID_PRICE, "invalid price")
    spec = market.spec
    enough = lots >= spec.min_base_lots and market.quote_micro(price_ticks, lots) >= spec.min_quote_micro
    if not enough and not reduce_only:
        raise VenueError(Code.AMOUNT_TOO_LOW, "invalid order base or quote amount")


def check_expiry(order: PlaceOrder, now: int) -> None:
    """Insist on no expiry of what never waits, else on one 5 minutes to 30 days ahead of ``now`` (µs).

    Raises:
        VenueError: 21711; also for -1, which only the signer understands.
    """
    if not terms_of(order.order_type, order.time_in_force).has_expiry:
        valid = order.order_expiry_ms == 0
    else:
        ahead = order.order_expiry_ms - now // 1000
        valid = MIN_ORDER_EXPIRY_MS <= ahead <= MAX_ORDER_EXPIRY_MS
    if not valid:
        raise VenueError(Code.INVALID_EXPIRY, "invalid expiry")


def default_expiry_ms(order: PlaceOrder, now: int) -> int:
    """Give the expiry of a local participant's order: 28 days where it needs one and names none."""
    if order.order_expiry_ms or not terms_of(order.order_type, order.time_in_force).has_expiry:
        return order.order_expiry_ms
    return now // 1000 + DEFAULT_ORDER_EXPIRY_MS
