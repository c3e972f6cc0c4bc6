"""Order rows and failed transactions as Qubx's order events, and what became of a single order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from qubx import logger
from qubx.core.basics import Instrument, ITimeProvider, Order, RejectCause, dt_64
from qubx.core.events import (
    OrderCancelRejectedEvent,
    OrderEvent,
    OrderFilledEvent,
    OrderRejectedEvent,
    OrderUpdatedEvent,
    OrderUpdateRejectedEvent,
)
from qubx.core.interfaces import IHealthMonitor

from qubx_lighter.accounts.deals import RECOVERY_MARGIN_MS, AccountDeals
from qubx_lighter.accounts.queries import AccountQueries, Wanted
from qubx_lighter.client import LighterClient
from qubx_lighter.constants import MAX_CLIENT_ORDER_INDEX, TxType
from qubx_lighter.errors import WireError
from qubx_lighter.handlers.account import AccountConverter, order_price, reject_cause, row_time_ns, to_dt64, to_ns
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.protocol import units, wire
from qubx_lighter.protocol.codes import Recovery, refusal_of_failure
from qubx_lighter.protocol.orders import OrderTracker, TransitionKind, is_terminal
from qubx_lighter.protocol.requests import Request, RequestBook, failure
from qubx_lighter.recoveries import Recoveries

_RETAINED_NS: Final = 20 * 10**9  # Qubx keeps ended orders for 30 s (terminal_order_retention_ms)
_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Asked:
    """An order whose status is asked for, as it was at the call.

    ``index`` is the venue's index where it is known, else the client index.
    """

    instrument: Instrument
    client_id: str
    venue_id: str | None
    index: int
    quantity: float
    submitted_at: dt_64 | None


class AccountOrders:
    """Tell Qubx of our orders.

    Args:
        converter: the account's conversions.
        client: typed REST.
        queries: the account's single questions.
        instruments: the venue's markets.
        requests: what this process asked for, shared with the broker.
        tracker: remembers what was said of each order.
        deals: sends an order's deals before its end.
        knows_market: whether a market, of an id and a kind, has an instrument; where it has not, sees to it that it gets one.
        want_snapshot: asks for the whole account.
        emit: puts an event on Qubx's channel.
        time_provider: Qubx's clock.
        health: told when a submit or cancel was answered.
        recoveries: acts on what the sequencer refuses.
        look_up: has ``look_up_refused`` done on the loop.
        opened: called when an order that Qubx did not send has come.
        introduce: called with the index of such an order before something else is told of it.
    """

    def __init__(
        self,
        *,
        converter: AccountConverter,
        client: LighterClient,
        queries: AccountQueries,
        instruments: LighterInstrumentLoader,
        requests: RequestBook,
        tracker: OrderTracker,
        deals: AccountDeals,
        knows_market: Callable[[int, str], bool],
        want_snapshot: Callable[[], None],
        emit: Callable[[object], None],
        time_provider: ITimeProvider,
        health: IHealthMonitor,
        recoveries: Recoveries,
        look_up: Callable[[Request], None],
        opened: Callable[[], None],
        introduce: Callable[[int], None],
    ) -> None:
        self._converter = converter
        self._client = client
        self._queries = queries
        self._instruments = instruments
        self._requests = requests
        self._tracker = tracker
        self._deals = deals
        self._knows_market = knows_market
        self._want_snapshot = want_snapshot
        self._emit = emit
        self._time = time_provider
        self._health = health
        self._recoveries = recoveries
        self._look_up = look_up
        self._opened = opened
        self._introduce = introduce
        self._untold: set[int] = set()  # working orders that others sent, and that no snapshot has told Qubx of yet
        self._ends: dict[str, str] = {}  # client id -> the venue's last word; read by other threads
        self._ended_ns: dict[int, int] = {}  # order index -> when its end was told

    def end_of(self, client_id: str) -> str | None:
        """Give the venue's word for how an order ended, such as ``canceled-self-trade``; None while it has not."""
        return self._ends.get(client_id)

    # --- rows --------------------------------------------------------------------------------------------------------

    def learn_standing(self, rows: list[wire.OrderRow]) -> None:
        """Take note of the orders that stood before this process; the first snapshot tells Qubx of them, whole.

        From an event of an order that it does not know Qubx makes up an external one without size or price.
        """
        for row in rows:
            if self._knows_market(row.market_index, row.market_kind):
                ids = self._converter.ids_of(row)
                if self._requests.latest(TxType.CREATE_ORDER, ids.client_id) is None:
                    with suppress(WireError):  # the snapshot says it as loudly as can be: the order is not in it
                        self._tracker.observe(row)
                        self._untold.add(row.order_index)

    def listed(self, rows: list[wire.OrderRow]) -> None:
        """Say what the list for a snapshot adds to what the channels told; orders unknown so far are left to the snapshot.

        Qubx takes no price or size from a snapshot, so an amend whose row was lost would never be known.
        """
        self.learn_standing([row for row in rows if self._tracker.latest(row.order_index) is None])
        for row in rows:
            try:
                self._observe(row)
            except WireError as error:
                logger.error("lighter: order {}: {}", row.order_index, error)

    def observe_all(self, rows: list[wire.OrderRow]) -> None:
        """Say what is new in each row; one in a state that this version does not know leaves the others their say."""
        for row in rows:
            try:
                self._observe(row)
            except WireError as error:
                logger.error("lighter: order {}: {}; asking for the whole account", row.order_index, error)
                self._want_snapshot()

    def _observe(self, row: wire.OrderRow) -> None:
        """Say what is new in an order row; one of a market that is not known waits for the snapshot that learns it."""
        if not self._knows_market(row.market_index, row.market_kind) or self._is_part(row):
            return
        ids = self._converter.ids_of(row)
        for transition in self._tracker.observe(row):
            match transition.kind:
                case TransitionKind.OPENED:
                    asked = self._requests.take(TxType.CREATE_ORDER, ids.client_id)
                    if asked is None and not transition.status.terminal:
                        self._untold.add(row.order_index)
                        self._opened()
                    self._emit(self._converter.accepted(row))
                    if asked is not None and asked.price is not None:
                        self._emit(self._updated(row))
                    self._answered_submit(ids.client_id)
                case kind if kind is not TransitionKind.DONE and row.order_index in self._untold:
                    self._introduce(row.order_index)
                    if kind is TransitionKind.FILLED_MORE and row.order_index not in self._untold:
                        self._emit(self._converter.partially_filled(row))
                case TransitionKind.FILLED_MORE:
                    self._emit(self._converter.partially_filled(row))
                case TransitionKind.AMENDED:
                    self._emit(self._updated(row, self._requests.take(TxType.MODIFY_ORDER, ids.client_id)))
                case TransitionKind.ACTIVATED:
                    self._emit(self._updated(row))
                case TransitionKind.DONE:
                    self._emit_end(row, rested=transition.rested)

    def _is_part(self, row: wire.OrderRow) -> bool:
        """Tell whether a row is of a slice of a TWAP: its deals are the TWAP's then, and it is no order to Qubx.

        Unless its deals came first, or the venue does not say whose slice it is: then it is an order of somebody else's.
        """
        if row.type != "twap-sub" or self._tracker.latest(row.parent_order_index) is None:
            return False
        if self._deals.filled(row.order_index):
            return False
        self._deals.belongs(row.order_index, row.parent_order_index)
        self._tracker.observe(row)
        return True

    def _emit_end(self, row: wire.OrderRow, *, rested: bool) -> None:
        ids = self._converter.ids_of(row)
        self._untold.discard(row.order_index)
        event = self._converter.ended(row, rested=rested)
        self._requests.take(TxType.CREATE_ORDER, ids.client_id)
        self._requests.take(TxType.MODIFY_ORDER, ids.client_id)
        cancelled = self._requests.take(TxType.CANCEL_ORDER, ids.client_id)
        self._ends[ids.client_id] = row.status
        self._ended_ns[row.order_index] = to_ns(self._time.time())
        _forget_oldest(self._ends)
        _forget_oldest(self._ended_ns)
        if cancelled is None and row.status != "filled":
            logger.info("lighter: {} of {} ended: {}", ids.client_id, ids.instrument.symbol, row.status)
        self._emit(event)
        if not rested:
            self._answered_submit(ids.client_id)
        if cancelled is not None:
            self._health.record_order_cancel_response(self._converter.exchange, ids.client_id, self._time.time())

    def _answered_submit(self, client_id: str) -> None:
        self._health.record_order_submit_response(self._converter.exchange, client_id, self._time.time())

    def _updated(self, row: wire.OrderRow, request: Request | None = None) -> OrderUpdatedEvent:
        """Echo what was asked for; what nobody here asked for is told in the venue's figures."""
        ids = self._converter.ids_of(row)
        return OrderUpdatedEvent(
            instrument=ids.instrument,
            client_order_id=ids.client_id,
            venue_order_id=ids.venue_id,
            last_update_time=to_dt64(row_time_ns(row)),
            new_price=order_price(row) if request is None else request.price,
            new_quantity=row.initial_base_amount if request is None else request.quantity,
        )

    # --- what Qubx knows of them -------------------------------------------------------------------------------------

    def may_be_forgotten(self, order_index: int) -> bool:
        """Tell whether Qubx may have let an order go, which it does 30 s after its end."""
        ended_ns = self._ended_ns.get(order_index)
        return ended_ns is not None and to_ns(self._time.time()) - ended_ns > _RETAINED_NS

    def is_untold(self, order_index: int | None) -> bool:
        """Tell whether an order, or with None any, is working of which no snapshot has told Qubx yet."""
        return bool(self._untold) if order_index is None else order_index in self._untold

    def working(self) -> list[Order]:
        """Give every working order as its newest row has it, for a snapshot of the orders alone.

        Filled counts as far as deals were told: Qubx adds those that follow.
        """
        self._untold.clear()
        orders = []
        for row in self._tracker.active():
            filled = min(row.filled_base_amount, self._deals.filled(row.order_index))
            share = filled / row.filled_base_amount if row.filled_base_amount else 0.0
            quote = row.filled_quote_amount * share
            told = msgspec.structs.replace(row, filled_base_amount=filled, filled_quote_amount=quote)
            orders.append(self._converter.order(told))
        return orders

    def newest(self, orders: list[Order]) -> list[Order]:
        """Give orders that are about to be shown to Qubx as their newest rows have them, without those that have ended.

        Qubx takes side, size and price of an order that it did not send from the snapshot that shows it first, and from
        nothing later; what is told of it before would make it an order that buys.
        """
        shown = []
        for order in orders:
            index = int(order.venue_order_id or 0)
            row = self._tracker.latest(index)
            if row is None or not is_terminal(row.status):
                self._untold.discard(index)
                shown.append(order if row is None else self._converter.order(row))
        return shown

    def latest(self, order: Order) -> wire.OrderRow | None:
        """Give the newest row of an order, if the venue has shown any; callable from any thread."""
        venue_id = order.venue_order_id or ""
        return self._tracker.latest(int(venue_id)) if venue_id.isdecimal() else None

    # --- transactions ------------------------------------------------------------------------------------------------

    def observe_transaction(self, row: wire.TxRow) -> None:
        """Tell a request that the sequencer refused after the API had accepted it; nothing else would."""
        reason = failure(row)
        request = self._requests.of_transaction(row)
        if reason is None or request is None:
            return
        if self._requests.latest(request.kind, request.client_id) is not request:
            return  # its end was seen, or a newer one has taken its place
        self._requests.take(request.kind, request.client_id)
        refusal = refusal_of_failure(reason)
        self._recoveries.refused(refusal.code, reason)
        if refusal.recovery is Recovery.LOOK_UP:
            self._look_up(request)
            if request.kind is TxType.CREATE_ORDER:
                return  # an order of its index stands: perhaps this one
        event: OrderEvent
        ids: dict[str, Any] = {
            "instrument": self._instruments.instrument(request.market_id),
            "client_order_id": request.client_id,
            "venue_order_id": request.venue_id,
            "last_update_time": to_dt64(units.time_ns(row.transaction_time or row.executed_at)),
            "reason": reason,
            "code": str(refusal.code) if refusal.code else None,
            "cause": reject_cause(refusal.cause),
        }
        match request.kind:
            case TxType.CREATE_ORDER:
                event = OrderRejectedEvent(**ids)
                self._answered_submit(request.client_id)
            case TxType.CANCEL_ORDER:
                event = OrderCancelRejectedEvent(**ids)
            case TxType.MODIFY_ORDER:
                event = OrderUpdateRejectedEvent(**ids)
            case _:
                return
        self._emit(event)

    # --- orders that no list shows any more --------------------------------------------------------------------------

    def missing_from(self, rows: list[wire.OrderRow]) -> list[wire.OrderRow]:
        """List the orders that a complete list of working orders lacks."""
        return self._tracker.missing_from(rows)

    async def look_up(self, missing: list[wire.OrderRow]) -> None:
        """Find out what became of orders that are not working any more."""
        await self._find_and_tell(
            [
                Wanted(old.market_index, old.order_index, old.client_order_index, units.time_ns(old.created_at))
                for old in missing
            ]
        )

    async def look_up_traded(self) -> None:
        """Find the orders, of other clients too, that came, traded and ended unseen, while the connection was away."""
        await self._find_and_tell([Wanted(market, index, 0) for index, market in self._deals.of_unseen_orders()])

    async def look_up_unseen(self) -> None:
        """Find the orders that were sent and came to an end unseen, while the connection was away."""
        await self._find_and_tell(
            [
                Wanted(request.market_id, None, self._converter.ids.index_of(request.client_id), request.time_ns)
                for request in self._requests.unseen(TxType.CREATE_ORDER)
            ]
        )

    async def look_up_refused(self, request: Request) -> None:
        """Find the order of a request that the venue refused for the state it is in; what is not found stays in doubt."""
        venue_id = request.venue_id or ""
        index = int(venue_id) if venue_id.isdecimal() else self._converter.ids.index_of(request.client_id)
        await self._find_and_tell([self._wanted(request.market_id, index)])

    def _wanted(self, market_id: int, index: int, since_ns: int = 0) -> Wanted:
        order_index = index if index > MAX_CLIENT_ORDER_INDEX else None
        client_index = index if order_index is None else self._tracker.client_order_index(order_index)
        return Wanted(market_id, order_index, client_index, since_ns)

    async def _find_and_tell(self, wanted: list[Wanted]) -> None:
        if not wanted:
            return
        for row in (await self._queries.find(wanted)).rows:
            if row is not None:
                await self._deliver_trades_of(row)
                self._observe(row)

    async def _deliver_trades_of(self, row: wire.OrderRow) -> None:
        """Send an order's deals before its end, so that none comes after Qubx has let the order go."""
        if self._deals.filled(row.order_index) >= row.filled_base_amount:
            return
        since_ms = max(units.time_ns(row.created_at) // 1_000_000 - RECOVERY_MARGIN_MS, 0)
        for trade in await self._client.trades(
            self._converter.account_index, market_id=row.market_index, since_ms=since_ms, order_index=row.order_index
        ):
            self._deals.deliver(trade, recovered=True)

    async def status(self, asked: Asked) -> None:
        """Answer with the truth: the order's state, or that the venue has positively no trace of it."""
        market = self._instruments.market(asked.instrument)
        since_ns = 0 if asked.submitted_at is None else to_ns(asked.submitted_at)
        found = await self._queries.find([self._wanted(market.market_id, asked.index, since_ns)])
        (row,) = found.rows
        if row is None:
            await self._not_listed(asked, market.market_id, complete=found.complete)
            return
        rested = self._tracker.rested(row.order_index)
        news = {transition.kind for transition in self._tracker.observe(row)}
        row = self._tracker.latest(row.order_index) or row  # REST may be behind the channels
        if is_terminal(row.status):
            await self._deliver_trades_of(row)
            self._emit_end(row, rested=rested)
            return
        self._emit(self._converter.accepted(row))
        if news & {TransitionKind.AMENDED, TransitionKind.ACTIVATED}:  # and no channel has shown it
            self._emit(self._updated(row))
        if row.filled_base_amount:
            await self._deliver_trades_of(row)
            self._emit(self._converter.partially_filled(row))

    async def _not_listed(self, asked: Asked, market_id: int, *, complete: bool) -> None:
        """Say what can be said of an order that no list shows: nothing, unless it can be proved."""
        if not complete or await self._queries.may_still_arrive(asked.client_id, asked.submitted_at):
            return
        ids: dict[str, Any] = {
            "instrument": asked.instrument,
            "client_order_id": asked.client_id,
            "venue_order_id": asked.venue_id,
            "last_update_time": self._time.time(),
        }
        traded = await self._traded(asked, market_id)
        if traded:  # on its way from one list to the other: Qubx asks again
            if traded >= asked.quantity - asked.instrument.lot_size / 2:
                self._emit(OrderFilledEvent(**ids, fill=None))
            return
        ids |= {"reason": "the venue has no trace of this order", "code": "OrderNotFound"}
        self._emit(OrderRejectedEvent(**ids, cause=RejectCause.NOT_FOUND))

    async def _traded(self, asked: Asked, market_id: int) -> float:
        """Deliver the deals of an order that no list shows, and give how much they come to."""
        since_ms = 0 if asked.submitted_at is None else to_ns(asked.submitted_at) // 1_000_000 - RECOVERY_MARGIN_MS
        order_index = asked.index if asked.index > MAX_CLIENT_ORDER_INDEX else None
        amount = 0.0
        for trade in await self._client.trades(
            self._converter.account_index, market_id=market_id, since_ms=since_ms, order_index=order_index
        ):
            if asked.index in (trade.ask_id, trade.bid_id, trade.ask_client_id, trade.bid_client_id):
                self._deals.deliver(trade, recovered=True)
                amount += trade.size
        return amount


def _forget_oldest(entries: dict[Any, Any]) -> None:
    while len(entries) > _REMEMBERED:
        del entries[next(iter(entries))]
