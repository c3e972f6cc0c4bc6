"""The write side: Qubx's order requests become signed transactions, and their refusals become Qubx's events.

Everything is read off the live ``Order`` at the call, on Qubx's processor thread, and frozen before it goes to the loop.
A request that cannot be right raises at the call; a venue refusal becomes a reject event with the venue's code; an unknown
outcome becomes nothing at all, so that Qubx's reconciler asks for the truth. An accepted write (code 200) is only queued at
the venue: what became of it arrives on the account channels.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from qubx import logger
from qubx.core.basics import Instrument, ITimeProvider, Order, OrderRequest, RejectCause, resolve_reduce_only
from qubx.core.events import OrderCancelRejectedEvent, OrderRejectedEvent, OrderUpdateRejectedEvent
from qubx.core.exceptions import InvalidOrderParameters, NotSupported
from qubx.core.interfaces import IHealthMonitor
from qubx.core.series import Quote

from qubx_lighter.constants import OrderType, TimeInForce, TxType
from qubx_lighter.errors import UnitsError, UnknownMarketError
from qubx_lighter.handlers.account import AccountConverter, reject_cause, to_ns
from qubx_lighter.instruments import LighterInstrumentLoader, Market
from qubx_lighter.protocol.codes import Outcome, cause_of_code, refusal_of
from qubx_lighter.protocol.requests import Request, RequestBook
from qubx_lighter.sender import Reply, Transaction, TransactionSender
from qubx_lighter.settings import LighterSettings
from qubx_lighter.signer import SignedTx, Signer

_NS: Final = 1_000_000_000
_DAY_MS: Final = 24 * 3600 * 1000

_TIME_IN_FORCE: Final[dict[str, TimeInForce]] = {
    "": TimeInForce.GTT,
    "gtc": TimeInForce.GTT,
    "gtt": TimeInForce.GTT,
    "ioc": TimeInForce.IOC,
    "gtx": TimeInForce.POST_ONLY,
    "post_only": TimeInForce.POST_ONLY,
}


@dataclass(frozen=True, slots=True)
class QuoteSource:
    """Where market orders take their price bound from."""

    quote: Callable[[Instrument], Quote | None]
    connected: Callable[[], bool]


class LighterBroker:
    """Turn order requests into transactions.

    Args:
        settings: slippage of market orders, expiry of resting ones, how old a quote may be.
        instruments: the venue's markets.
        signer: signs, off the loop.
        sender: sends, in order.
        requests: what is asked for, shared with the account processor.
        converter: the account's ids and conversions.
        emit: puts an event on Qubx's channel.
        time_provider: Qubx's clock.
        health: told when a submit or cancel was refused.
        quotes: best prices for market orders.
    """

    def __init__(
        self,
        *,
        settings: LighterSettings,
        instruments: LighterInstrumentLoader,
        signer: Signer,
        sender: TransactionSender,
        requests: RequestBook,
        converter: AccountConverter,
        emit: Callable[[object], None],
        time_provider: ITimeProvider,
        health: IHealthMonitor,
        quotes: QuoteSource,
    ) -> None:
        self._settings = settings
        self._instruments = instruments
        self._signer = signer
        self._sender = sender
        self._requests = requests
        self._converter = converter
        self._emit = emit
        self._time = time_provider
        self._health = health
        self._quotes = quotes

    # --- writes ------------------------------------------------------------------------------------------------------

    def submit(self, request: OrderRequest) -> None:
        """Queue a new order.

        Raises:
            InvalidOrderParameters: the request cannot be sent as it is; the text says what is wrong.
            NotSupported: an order type that this connector does not send.
        """
        if request.client_id is None:
            raise InvalidOrderParameters("an order needs a client id")
        market = self._market(request.instrument)
        is_ask = request.side == "SELL"
        order_type, time_in_force = _type_and_time_in_force(request)
        reduce_only = bool(resolve_reduce_only(request.options))
        base_lots = _lots(market, request.quantity)
        if base_lots < market.min_base_lots and not reduce_only:
            raise InvalidOrderParameters(
                f"{market.symbol}: size {request.quantity:g} is below the venue's minimum "
                f"{market.scale.format_size(market.min_base_lots)} of orders that are not reduce-only"
            )
        sign = partial(
            self._signer.create_order,
            market_id=market.market_id,
            client_order_index=self._client_order_index(request.client_id),
            base_lots=base_lots,
            price_ticks=self._price_ticks(market, request, is_ask=is_ask),
            is_ask=is_ask,
            order_type=order_type,
            time_in_force=time_in_force,
            reduce_only=reduce_only,
            order_expiry_ms=0 if time_in_force is TimeInForce.IOC else self._expiry_ms(),
        )
        self._send(Request(TxType.CREATE_ORDER, request.client_id, market.market_id), sign, self._order_refused)

    def cancel(self, order: Order) -> None:
        """Queue a cancel, by the venue's id where it is known, else by ours."""
        market = self._market(order.instrument)
        sign = partial(self._signer.cancel_order, market_id=market.market_id, index=self._converter.index_of(order))
        request = Request(TxType.CANCEL_ORDER, order.client_order_id, market.market_id, order.venue_order_id)
        self._send(request, sign, self._cancel_refused)

    def amend(self, order: Order, price: float | None, quantity: float | None) -> None:
        """Queue an amend; ``quantity`` is the new total, which is what the venue takes.

        Raises:
            InvalidOrderParameters: a market order, or a total at or below what is filled, which the venue would take
                as a silent close.
        """
        market = self._market(order.instrument)
        if order.price is None:
            raise InvalidOrderParameters(f"{order.client_order_id} is a market order: it cannot be amended")
        total = order.quantity if quantity is None else quantity
        if total <= order.filled_quantity:
            raise InvalidOrderParameters(
                f"new total {total} of {order.client_order_id} is not above the filled {order.filled_quantity}: "
                "Lighter would close the order; cancel it instead"
            )
        sign = partial(
            self._signer.modify_order,
            market_id=market.market_id,
            index=self._converter.index_of(order),
            base_lots=_lots(market, total),
            price_ticks=_ticks(market, order.price if price is None else price, up=order.side == "SELL"),
        )
        request = Request(
            TxType.MODIFY_ORDER, order.client_order_id, market.market_id, order.venue_order_id, price, quantity
        )
        self._send(request, sign, self._amend_refused)

    def _send(
        self,
        request: Request,
        sign: Callable[..., Awaitable[SignedTx]],
        refused: Callable[[Request, dict[str, Any]], None],
    ) -> None:
        self._requests.open(request)

        def sent(signed: SignedTx, nonce: int) -> None:
            self._requests.sent(request, signed.tx_hash, nonce, self._now_ns())

        def replied(reply: Reply) -> None:
            self._requests.answered(request, reply.outcome, reply.tx_hash, self._now_ns())
            # After some refusals of an order it may stand all the same: Qubx asks for its status.
            doubtful = request.kind is TxType.CREATE_ORDER and refusal_of(reply.code).look_up
            if reply.outcome is Outcome.REFUSED and not doubtful:
                logger.debug("lighter: {} refused: {} {}", request, reply.code, reply.message)
                refused(request, self._refusal(request, reply))

        label = f"{request.kind.name.lower()} {request.client_id}"
        self._sender.submit(Transaction(label, lambda nonce: sign(nonce=nonce), replied, sent))

    # --- refusals ----------------------------------------------------------------------------------------------------

    def _refusal(self, request: Request, reply: Reply) -> dict[str, Any]:
        return {
            "instrument": self._instruments.instrument(request.market_id),
            "client_order_id": request.client_id,
            "venue_order_id": request.venue_id,
            "last_update_time": self._time.time(),
            "reason": reply.message,
            "code": str(reply.code) if reply.code else None,
            "cause": reject_cause(cause_of_code(reply.code)) if reply.code else RejectCause.UNKNOWN,
        }

    def _order_refused(self, request: Request, refusal: dict[str, Any]) -> None:
        self._requests.take(request.kind, request.client_id)
        self._health.record_order_submit_response(self._converter.exchange, request.client_id, self._time.time())
        self._emit(OrderRejectedEvent(**refusal))

    def _cancel_refused(self, request: Request, refusal: dict[str, Any]) -> None:
        self._requests.take(request.kind, request.client_id)
        self._health.record_order_cancel_response(self._converter.exchange, request.client_id, self._time.time())
        self._emit(OrderCancelRejectedEvent(**refusal))

    def _amend_refused(self, request: Request, refusal: dict[str, Any]) -> None:
        self._requests.take(request.kind, request.client_id)
        self._emit(OrderUpdateRejectedEvent(**refusal))

    # --- numbers -----------------------------------------------------------------------------------------------------

    def _market(self, instrument: Instrument) -> Market:
        try:
            return self._instruments.market(instrument)
        except UnknownMarketError as error:
            raise InvalidOrderParameters(str(error)) from error

    def _client_order_index(self, client_id: str) -> int:
        try:
            return self._converter.ids.index_of(client_id)
        except ValueError as error:
            raise InvalidOrderParameters(str(error)) from error

    def _expiry_ms(self) -> int:
        return self._now_ns() // 1_000_000 + int(self._settings.order_expiry_days * _DAY_MS)

    def _now_ns(self) -> int:
        return to_ns(self._time.time())

    def _price_ticks(self, market: Market, request: OrderRequest, *, is_ask: bool) -> int:
        if request.price is not None:
            return _ticks(market, request.price, up=is_ask)
        quote = self._fresh_quote(request.instrument)
        slippage = self._settings.market_slippage
        bound = quote.bid * (1 - slippage) if is_ask else quote.ask * (1 + slippage)
        return _ticks(market, bound, up=is_ask)

    def _fresh_quote(self, instrument: Instrument) -> Quote:
        """Give the quote that bounds a market order; without a live feed an old one is no bound at all."""
        quote = self._quotes.quote(instrument)
        if quote is None or not (math.isfinite(quote.bid) and math.isfinite(quote.ask)):
            raise InvalidOrderParameters(
                f"no quote for {instrument.symbol}: a market order on Lighter needs a worst price; "
                "subscribe to quote or orderbook first, or send a limit order"
            )
        age_s = (self._now_ns() - quote.time) / _NS
        if not self._quotes.connected() and age_s > self._settings.quote_max_age_s:
            raise InvalidOrderParameters(
                f"the market data feed is down and the quote of {instrument.symbol} is {age_s:.0f} s old: "
                "a market order would have no sound worst price; send a limit order or wait"
            )
        return quote


def _lots(market: Market, quantity: float) -> int:
    try:
        return market.scale.to_lots(quantity)
    except UnitsError as error:
        raise InvalidOrderParameters(f"{market.symbol}: {error}") from error


def _ticks(market: Market, price: float, *, up: bool) -> int:
    try:
        return market.scale.to_ticks_rounded(price, up=up)
    except UnitsError as error:
        raise InvalidOrderParameters(f"{market.symbol}: {error}") from error


def _type_and_time_in_force(request: OrderRequest) -> tuple[OrderType, TimeInForce]:
    """Map Qubx's free text to the wire; what is not known is refused before anything is sent."""
    if request.order_type == "MARKET":
        return OrderType.MARKET, TimeInForce.IOC
    if request.order_type != "LIMIT":
        raise NotSupported(f"order type {request.order_type} is not supported: MARKET and LIMIT are")
    if request.options.get("post_only"):
        return OrderType.LIMIT, TimeInForce.POST_ONLY
    text = (request.time_in_force or "").lower()
    if text not in _TIME_IN_FORCE:
        known = ", ".join(name for name in _TIME_IN_FORCE if name)
        raise InvalidOrderParameters(f"time in force {request.time_in_force!r} is not supported: use one of {known}")
    return OrderType.LIMIT, _TIME_IN_FORCE[text]
