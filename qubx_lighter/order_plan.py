"""From what a strategy asks for to what is signed: an order request and its options in the venue's integers.

What options there are is in ``order_options``. A buyer's prices are rounded down, a seller's up, triggers included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from qubx.core.basics import (
    OPTION_REPRICE_IF_CROSSING,
    Instrument,
    MarketType,
    Order,
    OrderRequest,
    resolve_reduce_only,
)
from qubx.core.exceptions import InvalidOrderParameters, NotSupported
from qubx.core.series import Quote

from qubx_lighter.constants import (
    MAX_ORDER_EXPIRY_MS,
    MIN_ORDER_EXPIRY_MS,
    Grouping,
    OrderType,
    TimeInForce,
)
from qubx_lighter.errors import UnitsError
from qubx_lighter.markets import Market
from qubx_lighter.order_options import Leg, legs_of, positive, self_trade_of, terms_of, trigger_of
from qubx_lighter.protocol.order_table import (
    QUBX_TYPES,
    STOP_LOSSES,
    OrderFields,
    SelfTrade,
    Terms,
    group_refusal,
    select,
)
from qubx_lighter.protocol.wire import OrderRow
from qubx_lighter.settings import LighterSettings

_DAY_MS: Final = 24 * 3600 * 1000
_SHORTEST_MS: Final = MIN_ORDER_EXPIRY_MS + 5_000  # the venue counts its five minutes from the arrival
_STOPS: Final = ("STOP_MARKET", "STOP_LIMIT")
_WAITING: Final = "pending"
_LEG_SUFFIXES: Final = {"take_profit": ".tp", "stop_loss": ".sl"}


class OrderPlan(NamedTuple):
    """What is to be signed: one order, or a group with the order that was asked for first."""

    orders: tuple[OrderFields, ...]
    grouping: Grouping | None
    self_trade: SelfTrade


class Amendment(NamedTuple):
    """What a working order is to become."""

    base_lots: int
    price_ticks: int
    trigger_ticks: int
    self_trade: SelfTrade


@dataclass(frozen=True, slots=True)
class OrderPlanner:
    """Plan the orders of one account.

    Args:
        settings: slippage and lifetime where an order names none.
        index_of: client id -> client_order_index; raises ``ValueError`` where that is not possible.
        best: the best prices by which an order without a price is bounded; raises where there are none.
        glance: the best prices where they are known.
    """

    settings: LighterSettings
    index_of: Callable[[str], int]
    best: Callable[[Instrument], Quote]
    glance: Callable[[Instrument], Quote | None]

    def plan(self, request: OrderRequest, market: Market, now_ms: int) -> OrderPlan:
        """Plan a new order; lifetimes begin at ``now_ms``, Unix milliseconds.

        Raises:
            InvalidOrderParameters: it cannot be sent as it is; the text says what is wrong.
            NotSupported: the venue has no such order type.
        """
        if request.client_id is None:
            raise InvalidOrderParameters("an order needs a client id")
        options = request.options
        if request.order_type not in QUBX_TYPES:
            raise NotSupported(f"order type {request.order_type} is not supported: {', '.join(QUBX_TYPES)} are")
        terms = terms_of(request)
        legs = legs_of(options)
        spot = market.market_type is MarketType.SPOT
        if spot and terms.has_trigger:
            raise _wrong(market, "stop and take-profit orders are of perpetual markets alone: spot has no mark price")
        reduce_only = bool(resolve_reduce_only(options)) and not spot  # which Qubx sets by itself, and spot has not
        if request.side not in ("BUY", "SELL"):
            raise InvalidOrderParameters(f"side {request.side!r} is neither BUY nor SELL")
        is_ask = request.side == "SELL"
        order = OrderFields(
            market_id=market.market_id,
            client_order_index=self._index(request.client_id),
            base_lots=_lots(market, request.quantity),
            price_ticks=self._price_ticks(market, request, terms, is_ask=is_ask),
            is_ask=is_ask,
            order_type=terms.order_type,
            time_in_force=terms.time_in_force,
            reduce_only=reduce_only,
            trigger_ticks=_ticks(market, trigger_of(request), up=is_ask) if terms.has_trigger else 0,
            order_expiry_ms=self._expiry_ms(options, terms, now_ms, for_legs=bool(legs)),
        )
        self._check_size(market, request, order)
        if not legs:
            return OrderPlan((order,), None, self_trade_of(options))
        if spot:
            raise _wrong(
                market, "the orders that close a position in a group are reduce-only, which spot orders cannot be"
            )
        return self._group(request, market, order, legs, now_ms)

    def amendment(
        self, order: Order, market: Market, price: float | None, quantity: float | None, row: OrderRow | None = None
    ) -> Amendment:
        """Plan an amend; ``quantity`` is the new total, ``price`` of a stop order that waits its new trigger.

        Args:
            order: Qubx's order.
            market: its market.
            price: None leaves it.
            quantity: None leaves it.
            row: the venue's newest word on the order. Qubx keeps no options of orders that it has from a snapshot, and the
                limit and the slippage of a stop order are to be found nowhere else.

        Raises:
            InvalidOrderParameters: a market order, the size of one that waits for its parent, or a total at or below what
                is filled, which the venue would take as a silent close.
        """
        if order.price is None:
            raise InvalidOrderParameters(f"{order.client_order_id} is a market order: it cannot be amended")
        lots = self._amended_lots(order, market, quantity, row)
        wanted = order.price if price is None else price
        is_ask = (
            order.side == "SELL" if row is None else row.is_ask
        )  # Qubx makes up the side of an order it has from a deal
        self_trade = self_trade_of(order.options)
        if order.type not in _STOPS or (row is not None and row.status != _WAITING):  # its trigger is behind it
            return Amendment(lots, _ticks(market, wanted, up=is_ask), 0, self_trade)
        after = self._after_amended_trigger(order, wanted, row, is_ask=is_ask)
        return Amendment(lots, _ticks(market, after, up=is_ask), _ticks(market, wanted, up=is_ask), self_trade)

    def _amended_lots(self, order: Order, market: Market, quantity: float | None, row: OrderRow | None) -> int:
        # The venue's row tells first of a parent's fill.
        whole = order.quantity or (0.0 if row is None else row.initial_base_amount)
        if not whole:
            if quantity is not None:
                raise InvalidOrderParameters(
                    f"{order.client_order_id} waits for its parent's fill: it has no size to amend yet"
                )
            return 0
        total = whole if quantity is None else quantity
        filled = max(order.filled_quantity, 0.0 if row is None else row.filled_base_amount)
        filled_lots = round(filled * 10**market.scale.size_decimals)  # Qubx adds up floats: 0.7999999999999999 is 0.8
        lots = 0 if total <= 0 else _lots(market, total)
        if lots <= filled_lots:
            raise InvalidOrderParameters(
                f"new total {total} of {order.client_order_id} is not above the filled {market.scale.size(filled_lots)}: "
                "Lighter would close the order; cancel it instead"
            )
        return lots

    def _after_amended_trigger(self, order: Order, trigger: float, row: OrderRow | None, *, is_ask: bool) -> float:
        """Give the limit of a stop order with a new trigger: the one it has, or the bound at the same distance."""
        at_market = order.type == "STOP_MARKET"
        if at_market and row is not None and row.trigger_price and "slippage" not in order.options:
            return trigger * row.price / row.trigger_price
        limit = None
        if not at_market:
            limit = positive(order.options, "limit_price")
            if limit is None and row is not None and "stop_type" not in order.options:
                limit = row.price
        return self._after_trigger(trigger, limit, at_market=at_market, is_ask=is_ask, options=order.options)

    # --- prices ------------------------------------------------------------------------------------------------------

    def _price_ticks(self, market: Market, request: OrderRequest, terms: Terms, *, is_ask: bool) -> int:
        if terms.has_trigger:
            at_market = request.order_type == "STOP_MARKET"
            limit = None if at_market else positive(request.options, "limit_price")
            after = self._after_trigger(
                trigger_of(request), limit, at_market=at_market, is_ask=is_ask, options=request.options
            )
            return _ticks(market, after, up=is_ask)
        if request.price is None and request.order_type == "LIMIT":
            raise _wrong(market, "a LIMIT order needs a price")
        if request.price is None:
            quote = self.best(request.instrument)
            bound = self._beyond(quote.bid if is_ask else quote.ask, is_ask=is_ask, options=request.options)
            return _ticks(market, bound, up=is_ask)
        ticks = _ticks(market, request.price, up=is_ask)
        if terms.time_in_force is TimeInForce.POST_ONLY and request.options.get(OPTION_REPRICE_IF_CROSSING):
            return self._behind_the_touch(market, request.instrument, ticks, is_ask=is_ask)
        return ticks

    def _behind_the_touch(self, market: Market, instrument: Instrument, ticks: int, *, is_ask: bool) -> int:
        """Move a post-only price that would cross to one tick from the other side."""
        quote = self.glance(instrument)
        if quote is None:
            return ticks
        if is_ask:
            return max(ticks, _ticks(market, quote.bid, up=True) + 1)
        return max(1, min(ticks, _ticks(market, quote.ask, up=False) - 1))

    def _after_trigger(
        self, trigger: float, limit: float | None, *, at_market: bool, is_ask: bool, options: Mapping[str, Any]
    ) -> float:
        if at_market:
            return self._beyond(trigger, is_ask=is_ask, options=options)
        return trigger if limit is None else limit

    def _beyond(self, price: float, *, is_ask: bool, options: Mapping[str, Any]) -> float:
        """Give the worst price that is still taken where ``price`` is the best."""
        slippage = positive(options, "slippage")
        if slippage is None:
            slippage = self.settings.market_slippage
        elif slippage >= 1:
            raise InvalidOrderParameters(f"slippage is a fraction of the price below 1, not {slippage:g}")
        return price * (1 - slippage) if is_ask else price * (1 + slippage)

    # --- the rest of an order ----------------------------------------------------------------------------------------

    def _index(self, client_id: str) -> int:
        try:
            return self.index_of(client_id)
        except ValueError as error:
            raise InvalidOrderParameters(str(error)) from error

    def _expiry_ms(self, options: Mapping[str, Any], terms: Terms, now_ms: int, *, for_legs: bool) -> int:
        lifetime_s, twap_s = positive(options, "expires_in_s"), positive(options, "twap_s")
        if twap_s is not None and lifetime_s is not None:
            raise InvalidOrderParameters("a TWAP ends with twap_s: give no expires_in_s")
        if not terms.has_expiry:
            if lifetime_s is not None and not for_legs:
                raise InvalidOrderParameters(f"a {terms.order_type.name} order that never rests takes no expires_in_s")
            return 0
        return self._end_ms(lifetime_s if twap_s is None else twap_s, now_ms)

    def _end_ms(self, lifetime_s: float | None, now_ms: int) -> int:
        if lifetime_s is None:
            return now_ms + int(self.settings.order_expiry_days * _DAY_MS)
        lifetime_ms = round(lifetime_s * 1000)
        if not _SHORTEST_MS <= lifetime_ms <= MAX_ORDER_EXPIRY_MS:
            raise InvalidOrderParameters(
                f"the venue's orders live 5 minutes to 30 days from their arrival: give 305 s to 30 days, not {lifetime_s:g} s"
            )
        return now_ms + lifetime_ms

    def _check_size(self, market: Market, request: OrderRequest, order: OrderFields) -> None:
        """Refuse what is too small or too large for the venue; what only reduces a position may be as small as it is."""
        if order.reduce_only:
            return
        if order.base_lots < market.min_base_lots:
            raise _wrong(
                market,
                f"size {request.quantity:g} is below the venue's minimum "
                f"{market.scale.format_size(market.min_base_lots)} of orders that are not reduce-only",
            )
        # A worst price is not what is paid: with it the venue may still find enough, and it has the last word.
        ticks = max(order.price_ticks, order.trigger_ticks)
        value = market.scale.price(ticks) * market.scale.size(order.base_lots)
        if order.order_type is OrderType.LIMIT and value < market.min_quote * (1 - 1e-12):
            raise _wrong(
                market,
                f"{value:g} {market.quote} is below the venue's minimum {market.min_quote:g} "
                "of orders that are not reduce-only",
            )
        if order.order_type is OrderType.LIMIT and value > market.max_quote * (1 + 1e-12):
            raise _wrong(
                market, f"{value:g} {market.quote} is above the venue's limit {market.max_quote:g} of one order"
            )

    # --- groups ------------------------------------------------------------------------------------------------------

    def _group(
        self, request: OrderRequest, market: Market, order: OrderFields, legs: list[Leg], now_ms: int
    ) -> OrderPlan:
        stop = bool(order.trigger_ticks)
        if stop:
            grouping = Grouping.ONE_CANCELS_THE_OTHER
        elif len(legs) == 1:
            grouping = Grouping.ONE_TRIGGERS_THE_OTHER
        else:
            grouping = Grouping.ONE_TRIGGERS_A_ONE_CANCELS_THE_OTHER
        is_ask = order.is_ask if stop else not order.is_ask
        expiry_ms = order.order_expiry_ms or self._end_ms(positive(request.options, "expires_in_s"), now_ms)
        children = []
        for leg in legs:
            words = "STOP_MARKET" if leg.limit is None else "STOP_LIMIT"
            terms = select(words, "", trigger_type=leg.name)
            after = self._after_trigger(
                leg.trigger, leg.limit, at_market=leg.limit is None, is_ask=is_ask, options=request.options
            )
            child = OrderFields(
                market_id=order.market_id,
                client_order_index=self._index(f"{request.client_id}{_LEG_SUFFIXES[leg.name]}"),
                base_lots=order.base_lots if stop else 0,
                price_ticks=_ticks(market, after, up=is_ask),
                is_ask=is_ask,
                order_type=terms.order_type,
                time_in_force=terms.time_in_force,
                reduce_only=True,
                trigger_ticks=_ticks(market, leg.trigger, up=is_ask),
                order_expiry_ms=expiry_ms,
            )
            children.append(child)
        orders = (order, *children)
        refusal = group_refusal(grouping, orders)
        if refusal is None and not _is_around(orders, is_ask=is_ask):
            closing = "selling" if is_ask else "buying"
            refusal = f"a stop-loss that is to close by {closing} is {'below' if is_ask else 'above'} the entry and the take-profit"
        if refusal is not None:
            raise _wrong(market, refusal)
        return OrderPlan(orders, grouping, self_trade_of(request.options))


def refuse_for_maker_only(plan: OrderPlan) -> None:
    """Refuse what a maker-only key may not do: it places post-only orders, and amends and cancels.

    Raises:
        InvalidOrderParameters: the plan is anything but one post-only limit order.
    """
    first = plan.orders[0]
    if plan.grouping is None and (first.order_type, first.time_in_force) == (OrderType.LIMIT, TimeInForce.POST_ONLY):
        return
    raise InvalidOrderParameters(
        "this API key is maker-only: it places post-only limit orders (time in force gtx, or post_only=True), "
        "and amends and cancels; use another key of the account for everything else"
    )


def _is_around(orders: tuple[OrderFields, ...], *, is_ask: bool) -> bool:
    """Tell whether the stop-loss is on the losing side of everything else that has a price in the group."""
    stops = [order.trigger_ticks for order in orders if order.order_type in STOP_LOSSES]
    others = [
        order.trigger_ticks or order.price_ticks
        for order in orders
        if order.order_type not in STOP_LOSSES and (order.trigger_ticks or order.order_type is OrderType.LIMIT)
    ]
    return all(stop < other if is_ask else stop > other for stop in stops for other in others)


def _lots(market: Market, quantity: float) -> int:
    try:
        return market.scale.to_lots(quantity)
    except UnitsError as error:
        raise _wrong(market, str(error)) from error


def _ticks(market: Market, price: float, *, up: bool) -> int:
    try:
        return market.scale.to_ticks_rounded(price, up=up)
    except UnitsError as error:
        raise _wrong(market, str(error)) from error


def _wrong(market: Market, text: str) -> InvalidOrderParameters:
    return InvalidOrderParameters(f"{market.symbol}: {text}")
