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
from typing import Any, Final

from qubx import logger
from qubx.core.basics import Instrument, ITimeProvider, Order, OrderRequest
from qubx.core.events import OrderCanceledEvent, OrderCancelRejectedEvent, OrderRejectedEvent, OrderUpdateRejectedEvent
from qubx.core.exceptions import InvalidOrderParameters, NotSupported
from qubx.core.interfaces import IHealthMonitor
from qubx.core.series import Quote

from qubx_lighter.constants import TxType
from qubx_lighter.errors import LighterError, UnknownMarketError, VenueError
from qubx_lighter.handlers.account import AccountConverter, reject_cause, to_ns
from qubx_lighter.instruments import LighterInstrumentLoader, Market
from qubx_lighter.native.key import SignedTx
from qubx_lighter.operation_errors import operation_failed
from qubx_lighter.order_plan import OrderPlanner, refuse_for_maker_only
from qubx_lighter.protocol.codes import Outcome, refusal_of
from qubx_lighter.protocol.requests import Request, RequestBook, Signature
from qubx_lighter.protocol.wire import OrderRow
from qubx_lighter.recoveries import Recoveries
from qubx_lighter.settings import LighterSettings
from qubx_lighter.signer import Signer
from qubx_lighter.transactions.sender import Reply, Sent, Transaction, TransactionSender
from qubx_lighter.transactions.watch import End, TransactionWatch

_NS: Final = 1_000_000_000
_VERBS: Final = {kind: kind.name.lower() for kind in TxType}


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
        sender: signs and sends, in order.
        watch: sends what is no order, and tells what became of it.
        requests: what is asked for, shared with the account processor.
        converter: the account's ids and conversions.
        emit: puts an event on Qubx's channel.
        time_provider: Qubx's clock.
        health: told when a submit or cancel was refused.
        quotes: best prices for market orders.
        recoveries: tells why orders are not to be sent, where that is so.
        look_up: called with a refused request whose order is perhaps at the venue, or over there; and, of a new order, with what
            to tell if it is another that has its index.
        latest: gives the venue's newest row of an order.
        standing: gives that of the working order that has a client order index.
        on_group: called when the venue took a group, of whose other orders Qubx learns from a snapshot.
        on_doubt: called when nobody knows whether the venue did what was asked of an order that it has.

    Attributes:
        maker_only: whether the API key may place nothing but post-only orders.
    """

    def __init__(
        self,
        *,
        settings: LighterSettings,
        instruments: LighterInstrumentLoader,
        sender: TransactionSender,
        watch: TransactionWatch,
        requests: RequestBook,
        converter: AccountConverter,
        emit: Callable[[object], None],
        time_provider: ITimeProvider,
        health: IHealthMonitor,
        quotes: QuoteSource,
        recoveries: Recoveries,
        look_up: Callable[[Request, OrderRejectedEvent | None], None],
        latest: Callable[[Order], OrderRow | None] = lambda _: None,
        standing: Callable[[int], OrderRow | None] = lambda _: None,
        on_group: Callable[[], None] = lambda: None,
        on_doubt: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._instruments = instruments
        self._sender = sender
        self._watch = watch
        self._requests = requests
        self._converter = converter
        self._emit = emit
        self._time = time_provider
        self._health = health
        self._quotes = quotes
        self._recoveries = recoveries
        self._look_up = look_up
        self._latest = latest
        self._standing = standing
        self._on_group = on_group
        self._on_doubt = on_doubt
        self._planner = OrderPlanner(
            settings=settings,
            index_of=self._new_index,
            best=self._fresh_quote,
            glance=quotes.quote,
        )
        self.maker_only = False

    # --- writes ------------------------------------------------------------------------------------------------------

    def new_client_id(self, suggested: str) -> str:
        """Give the id for a new order, near the suggested one and of nobody else."""
        return self._converter.ids.fresh(suggested)

    def _new_index(self, client_id: str) -> int:
        """Give the index of a new order.

        An id that is not Qubx's has the same index in every run, so an order of an earlier one may stand under it, which this
        process knows by another name: the venue would refuse the new one, and what is told of the old would be taken for its.

        Raises:
            ValueError: an order stands under it, or another id of this process has it.
        """
        ids = self._converter.ids
        standing = self._standing(ids.encode(client_id))
        if standing is not None:
            raise ValueError(
                f"order {standing.order_index} of this account stands under client id {client_id!r} already: "
                "cancel that one first, or use another id"
            )
        return ids.index_of(client_id)

    def submit(self, request: OrderRequest) -> None:
        """Queue a new order, and with it what its options attach; ``order_options`` lists them.

        Raises:
            InvalidOrderParameters: the request cannot be sent as it is; the text says what is wrong.
            NotSupported: an order type that the venue does not have.
        """
        market = self._market(request.instrument)
        now_ns = self._now_ns()
        plan = self._planner.plan(request, market, now_ns // 1_000_000)
        if self.maker_only:
            refuse_for_maker_only(plan)
        orders, grouping, self_trade = plan
        price = market.scale.price(orders[0].price_ticks)
        asked = Request(
            TxType.CREATE_ORDER,
            request.client_id or "",  # the planner insists on one
            market.market_id,
            price=price if request.order_type == "LIMIT" and price != request.price else None,
            asked_ns=now_ns,
        )
        if grouping is None:
            order = orders[0]
            self._send(
                asked,
                lambda signer, nonce: signer.create_order(order, self_trade=self_trade, nonce=nonce),
                self._order_refused,
                reduces=order.reduce_only,
            )
            return
        asked.tx_type = TxType.CREATE_GROUPED_ORDERS
        self._send(
            asked,
            lambda signer, nonce: signer.create_grouped_orders(
                grouping=grouping, orders=orders, self_trade=self_trade, nonce=nonce
            ),
            self._order_refused,
            self._on_group,
            reduces=all(order.reduce_only for order in orders),
        )

    def cancel(self, order: Order) -> None:
        """Queue a cancel, by the venue's id where it is known, else by ours."""
        market = self._market(order.instrument)
        market_id, index = market.market_id, self._converter.index_of(order)
        request = Request(
            TxType.CANCEL_ORDER, order.client_order_id, market_id, order.venue_order_id, asked_ns=self._now_ns()
        )
        self._send(
            request,
            lambda signer, nonce: signer.cancel_order(market_id=market_id, index=index, nonce=nonce),
            self._cancel_refused,
        )

    def amend(self, order: Order, price: float | None, quantity: float | None) -> None:
        """Queue an amend; ``quantity`` is the new total, which is what the venue takes, ``price`` of a stop its trigger.

        Raises:
            InvalidOrderParameters: a market order, the size of one that waits for its parent, or a total at or below what
                is filled, which the venue would take as a silent close.
        """
        market = self._market(order.instrument)
        amendment = self._planner.amendment(order, market, price, quantity, self._latest(order))
        market_id, index = market.market_id, self._converter.index_of(order)
        request = Request(
            TxType.MODIFY_ORDER,
            order.client_order_id,
            market_id,
            order.venue_order_id,
            price,
            quantity,
            asked_ns=self._now_ns(),
        )
        self._send(
            request,
            lambda signer, nonce: signer.modify_order(
                market_id=market_id, index=index, **amendment._asdict(), nonce=nonce
            ),
            self._amend_refused,
        )

    def cancel_all(self, instrument: Instrument | None = None) -> None:
        """Queue one transaction that cancels every working order of the account, or of one market.

        Also orders that this process did not place. What it ends is told order by order; that the venue refuses it, or takes it
        and then fails to carry it out, is an error event, and so is that nobody knows.

        Raises:
            NotSupported: of one spot market, which the venue has no such transaction for.
        """
        if instrument is not None and instrument.is_spot():
            raise NotSupported(
                f"{instrument.symbol}: Lighter cancels all orders of a perpetual, or of the whole account; "
                "cancel those of a spot market one by one"
            )
        market_id = None if instrument is None else self._market(instrument).market_id
        what = "cancel all" if instrument is None else f"cancel all of {instrument.symbol}"

        in_doubt = False

        def ended(end: End) -> None:
            if end.executed is False:
                failed("not all orders were cancelled", VenueError(end.code, end.reason))
            elif end.executed is None and not in_doubt:
                doubted(end.reason)

        def doubted(reason: str) -> None:
            nonlocal in_doubt
            in_doubt = True
            failed("whether all orders are cancelled is unknown", LighterError(reason))

        def failed(text: str, error: LighterError) -> None:
            logger.warning("lighter: {}: {}: {}", what, text, error)
            self._emit(operation_failed(self._time.time(), "cancel_all", text, error, instrument))

        self._watch.submit(
            what,
            TxType.CANCEL_ALL_ORDERS,
            lambda signer, nonce: signer.cancel_all(market_id=market_id, nonce=nonce),
            ended,
            doubted=doubted,
            market_id=market_id,
            sweeps=True,
        )

    def _send(
        self,
        request: Request,
        sign: Callable[[Signer, int], Awaitable[SignedTx]],
        refused: Callable[[Request, dict[str, Any]], None],
        accepted: Callable[[], None] = lambda: None,
        *,
        reduces: bool = False,
    ) -> None:
        self._requests.open(request)
        is_cancel = request.kind is TxType.CANCEL_ORDER
        halt = None if is_cancel else self._recoveries.holds_back(reduces=reduces)
        if halt is not None:
            refused(request, self._refusal(request, Reply(Outcome.REFUSED, halt.code, f"not sent: {halt.message}")))
            return

        def sent(sending: Sent) -> None:
            signature = Signature(sending.api_key_index, sending.nonce)
            self._requests.sent(request, sending.tx_hash, signature, self._now_ns())

        def replied(reply: Reply) -> None:
            self._requests.answered(request, reply.outcome, reply.tx_hash, self._now_ns())
            if reply.outcome is Outcome.ACCEPTED:
                accepted()
            if reply.withdrawn:
                self._withdrawn(request)
                return
            if reply.outcome is Outcome.UNKNOWN and request.kind is not TxType.CREATE_ORDER:
                self._on_doubt()
            if reply.outcome is not Outcome.REFUSED:
                return
            logger.debug("lighter: {} refused: {} {}", request, reply.code, reply.message)
            in_doubt = refusal_of(reply.code).look_up
            refusal = self._refusal(request, reply)
            if in_doubt and request.kind is TxType.CREATE_ORDER:  # an order may stand all the same
                self._look_up(request, OrderRejectedEvent(**refusal))
                return
            refused(request, refusal)
            if in_doubt:
                self._look_up(request, None)

        self._sender.submit(
            Transaction(
                f"{_VERBS[request.kind]} {request.client_id}",
                request.tx_type or request.kind,
                sign,
                replied,
                sent,
                request.client_id,
                request.market_id,
            )
        )

    def _withdrawn(self, request: Request) -> None:
        """Tell what a cancel ended before it was sent: an order that never was, an amend of one that is to go."""
        self._requests.take(request.kind, request.client_id)
        exchange, now = self._converter.exchange, self._time.time()
        ids: dict[str, Any] = {
            "instrument": self._instruments.instrument(request.market_id),
            "client_order_id": request.client_id,
            "venue_order_id": request.venue_id,
            "last_update_time": now,
        }
        if request.kind is TxType.CREATE_ORDER:
            self._health.record_order_submit_response(exchange, request.client_id, now)
            self._emit(OrderCanceledEvent(**ids))
        elif request.kind is TxType.CANCEL_ORDER:
            self._health.record_order_cancel_response(exchange, request.client_id, now)
        else:
            self._emit(OrderUpdateRejectedEvent(**ids, reason="its order was cancelled before it was sent"))

    # --- refusals ----------------------------------------------------------------------------------------------------

    def _refusal(self, request: Request, reply: Reply) -> dict[str, Any]:
        return {
            "instrument": self._instruments.instrument(request.market_id),
            "client_order_id": request.client_id,
            "venue_order_id": request.venue_id,
            "last_update_time": self._time.time(),
            "reason": reply.message,
            "code": str(reply.code) if reply.code else None,
            "cause": reject_cause(reply.cause),
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

    def _now_ns(self) -> int:
        return to_ns(self._time.time())

    def _fresh_quote(self, instrument: Instrument) -> Quote:
        """Give the quote that bounds a market order; without a live feed an old one is no bound at all."""
        quote = self._quotes.quote(instrument)
        if quote is None or not 0 < quote.bid <= quote.ask < math.inf:
            raise InvalidOrderParameters(
                f"no quote of both sides for {instrument.symbol}: a market order on Lighter needs a worst price; "
                "subscribe to quote or orderbook first, or send a limit order"
            )
        age_s = (self._now_ns() - quote.time) / _NS
        if not self._quotes.connected() and age_s > self._settings.quote_max_age_s:
            raise InvalidOrderParameters(
                f"the market data feed is down and the quote of {instrument.symbol} is {age_s:.0f} s old: "
                "a market order would have no sound worst price; send a limit order or wait"
            )
        return quote
