"""Order rows and failed transactions as Qubx's order events."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import msgspec
from qubx import logger
from qubx.core.basics import ITimeProvider, Order
from qubx.core.events import (
    OrderCancelRejectedEvent,
    OrderEvent,
    OrderRejectedEvent,
    OrderUpdatedEvent,
    OrderUpdateRejectedEvent,
)
from qubx.core.interfaces import IHealthMonitor

from qubx_lighter.accounts.deals import AccountDeals
from qubx_lighter.constants import TxType
from qubx_lighter.errors import WireError
from qubx_lighter.handlers.account import AccountConverter, order_price, reject_cause, row_time_ns, to_dt64, to_ns
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.protocol import units, wire
from qubx_lighter.protocol.codes import Recovery, refusal_of_failure
from qubx_lighter.protocol.orders import OrderTracker, TransitionKind, is_terminal
from qubx_lighter.protocol.requests import Request, RequestBook, failure
from qubx_lighter.recoveries import Recoveries

_RETAINED_NS: Final = 20 * 10**9  # Qubx keeps ended orders for 30 s (terminal_order_retention_ms)
_UNSEEN_NS: Final = 40 * 10**9  # and such as no row has told of for those and five questions of 5 s
_REMEMBERED: Final = 10_000


class AccountOrders:
    """Tell Qubx of our orders.

    Args:
        converter: the account's conversions.
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
        look_up: has the order of a request looked for.
        opened: called when an order that Qubx did not send has come.
        introduce: called with the index of such an order before something else is told of it.
    """

    def __init__(
        self,
        *,
        converter: AccountConverter,
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
        look_up: Callable[[Request, OrderRejectedEvent | None], None],
        opened: Callable[[], None],
        introduce: Callable[[int], None],
    ) -> None:
        self._converter = converter
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
                self.observe(row)
            except WireError as error:
                logger.error("lighter: order {}: {}", row.order_index, error)

    def observe_all(self, rows: list[wire.OrderRow]) -> None:
        """Say what is new in each row; one in a state that this version does not know leaves the others their say."""
        for row in rows:
            try:
                self.observe(row)
            except WireError as error:
                logger.error("lighter: order {}: {}; asking for the whole account", row.order_index, error)
                self._want_snapshot()

    def observe(self, row: wire.OrderRow) -> None:
        """Say what is new in an order row; one of a market that is not known waits for the snapshot that learns it.

        Raises:
            WireError: the order is in a state that this version does not know.
        """
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
                        self.tell_update(row)
                    self._answered_submit(ids.client_id)
                case kind if kind is not TransitionKind.DONE and row.order_index in self._untold:
                    self._introduce(row.order_index)
                    if kind is TransitionKind.FILLED_MORE and row.order_index not in self._untold:
                        self._emit(self._converter.partially_filled(row))
                case TransitionKind.FILLED_MORE:
                    self._emit(self._converter.partially_filled(row))
                case TransitionKind.AMENDED:
                    self.tell_update(row, self._requests.take(TxType.MODIFY_ORDER, ids.client_id))
                case TransitionKind.ACTIVATED:
                    self.tell_update(row)
                case TransitionKind.DONE:
                    self.tell_end(row, rested=transition.rested)

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

    def tell_end(self, row: wire.OrderRow, *, rested: bool) -> None:
        """Tell how an order ended; ``rested``: whether it was seen in the book before."""
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

    def tell_update(self, row: wire.OrderRow, request: Request | None = None) -> None:
        """Echo what was asked for; what nobody here asked for is told in the venue's figures."""
        ids = self._converter.ids_of(row)
        self._emit(
            OrderUpdatedEvent(
                instrument=ids.instrument,
                client_order_id=ids.client_id,
                venue_order_id=ids.venue_id,
                last_update_time=to_dt64(row_time_ns(row)),
                new_price=order_price(row) if request is None else request.price,
                new_quantity=row.initial_base_amount if request is None else request.quantity,
            )
        )

    # --- what Qubx knows of them -------------------------------------------------------------------------------------

    def may_be_forgotten(self, order_index: int, client_id: str) -> bool:
        """Tell whether Qubx may have let an order go, which it does 30 s after its end, or after it gave it up as lost."""
        now_ns = to_ns(self._time.time())
        ended_ns = self._ended_ns.get(order_index)
        if ended_ns is not None:
            return now_ns - ended_ns > _RETAINED_NS
        unseen = self._requests.latest(TxType.CREATE_ORDER, client_id)
        return unseen is not None and now_ns - unseen.asked_ns > _UNSEEN_NS

    def is_untold(self, order_index: int | None) -> bool:
        """Tell whether an order, or with None any, is working of which no snapshot has told Qubx yet."""
        return bool(self._untold) if order_index is None else order_index in self._untold

    def working(self) -> list[Order]:
        """Give every working order as its newest row has it, for a snapshot of the orders alone.

        Filled counts as far as deals were told: Qubx adds those that follow.
        """
        self._untold.clear()
        return [
            self._with_filled(row, min(row.filled_base_amount, self._deals.filled(row.order_index)))
            for row in self._tracker.active()
        ]

    def _with_filled(self, row: wire.OrderRow, filled: float) -> Order:
        share = filled / row.filled_base_amount if row.filled_base_amount else 0.0
        quote = row.filled_quote_amount * share
        return self._converter.order(msgspec.structs.replace(row, filled_base_amount=filled, filled_quote_amount=quote))

    def newest(self, orders: list[Order]) -> list[Order]:
        """Give orders that are about to be shown to Qubx as their newest rows have them, without those that have ended.

        Qubx takes side, size and price of an order that it did not send from the snapshot that shows it first, and from
        nothing later; what is told of it before would make it an order that buys. What is filled counts without the deals that
        are told after this: Qubx adds those.
        """
        shown = []
        for order in orders:
            index = int(order.venue_order_id or 0)
            row = self._tracker.latest(index)
            if row is None or not is_terminal(row.status):
                self._untold.discard(index)
                filled = 0.0 if row is None else max(0.0, row.filled_base_amount - self._deals.to_be_told(index))
                shown.append(order if row is None else self._with_filled(row, filled))
        return shown

    def latest(self, order: Order) -> wire.OrderRow | None:
        """Give the newest row of an order, if the venue has shown any; callable from any thread."""
        venue_id = order.venue_order_id or ""
        return self._tracker.latest(int(venue_id)) if venue_id.isdecimal() else None

    def tell_rejected(self, request: Request, rejected: OrderRejectedEvent) -> None:
        """Say that the venue refused a new order."""
        if self._requests.latest(request.kind, request.client_id) is request:
            self._requests.take(request.kind, request.client_id)
        self._answered_submit(request.client_id)
        self._emit(rejected)

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
        in_doubt = refusal.recovery is Recovery.LOOK_UP
        if in_doubt and request.kind is TxType.CREATE_ORDER:
            self._look_up(request, OrderRejectedEvent(**ids))  # an order of its index stands: perhaps this one
            return
        if in_doubt:
            self._look_up(request, None)
        match request.kind:
            case TxType.CREATE_ORDER:
                self.tell_rejected(request, OrderRejectedEvent(**ids))
                return
            case TxType.CANCEL_ORDER:
                event = OrderCancelRejectedEvent(**ids)
            case TxType.MODIFY_ORDER:
                event = OrderUpdateRejectedEvent(**ids)
            case _:
                return
        self._emit(event)


def _forget_oldest(entries: dict[Any, Any]) -> None:
    while len(entries) > _REMEMBERED:
        del entries[next(iter(entries))]
