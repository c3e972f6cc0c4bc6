"""What became of orders that no channel told of: they are looked for over REST, and told with the deals that they had."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from qubx.core.basics import Instrument, ITimeProvider, RejectCause, dt_64
from qubx.core.events import OrderFilledEvent, OrderRejectedEvent

from qubx_lighter.accounts.deals import RECOVERY_MARGIN_MS, AccountDeals
from qubx_lighter.accounts.orders import AccountOrders
from qubx_lighter.accounts.queries import CLOCK_SKEW_NS, AccountQueries, Wanted, is_before, is_former
from qubx_lighter.client import LighterClient
from qubx_lighter.constants import MAX_CLIENT_ORDER_INDEX, TxType
from qubx_lighter.handlers.account import AccountConverter, row_time_ns, to_ns, trade_time_ns
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.protocol import units, wire
from qubx_lighter.protocol.orders import OrderTracker, TransitionKind, is_terminal
from qubx_lighter.protocol.requests import Request, RequestBook
from qubx_lighter.protocol.venue_clock import VenueClock


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


class OrderLookups:
    """Find orders and tell Qubx of them; on the loop.

    Args:
        converter: the account's conversions.
        client: typed REST.
        queries: the account's single questions.
        instruments: the venue's markets.
        requests: what this process asked for, shared with the broker.
        tracker: remembers what was said of each order.
        orders: tells what is new in a row.
        deals: sends an order's deals before its end.
        emit: puts an event on Qubx's channel.
        time_provider: Qubx's clock.
        clock: the venue's.
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
        orders: AccountOrders,
        deals: AccountDeals,
        emit: Callable[[object], None],
        time_provider: ITimeProvider,
        clock: VenueClock,
    ) -> None:
        self._converter = converter
        self._client = client
        self._queries = queries
        self._instruments = instruments
        self._requests = requests
        self._tracker = tracker
        self._orders = orders
        self._deals = deals
        self._emit = emit
        self._time = time_provider
        self._clock = clock
        self._ending: Final = asyncio.Lock()

    async def ended(self, missing: list[wire.OrderRow]) -> None:
        """Find out what became of orders that are not working any more, unless somebody else has by then."""
        async with self._ending:
            await self._find_and_tell(
                [
                    Wanted(old.market_index, old.order_index, old.client_order_index, units.time_ns(old.created_at))
                    for old in missing
                    if not is_terminal((self._tracker.latest(old.order_index) or old).status)
                ]
            )

    async def traded_unseen(self) -> None:
        """Find the orders, of other clients too, that came, traded and ended unseen, while the connection was away."""
        await self._find_and_tell([Wanted(market, index, 0) for index, market in self._deals.of_unseen_orders()])

    async def sent_unseen(self) -> None:
        """Find the orders that were sent and came to an end unseen, while the connection was away."""
        await self._find_and_tell(
            [
                self._wanted(
                    request.market_id, self._converter.ids.index_of(request.client_id), self._since_ns(request.asked_ns)
                )
                for request in self._requests.unseen(TxType.CREATE_ORDER)
            ]
        )

    async def refused(self, request: Request, rejected: OrderRejectedEvent | None) -> None:
        """Find the order of a request that the venue refused for the state it is in; what is not found stays in doubt.

        ``rejected`` is told where an order that was there before has the index of a new one.
        """
        venue_id = request.venue_id or ""
        index = int(venue_id) if venue_id.isdecimal() else self._converter.ids.index_of(request.client_id)
        (row,) = (await self._queries.find([self._wanted(request.market_id, index)])).rows
        if row is None:
            return
        if rejected is None or not is_former(row, self._since_ns(request.asked_ns), refused=True):
            await self._tell([row])
            return
        self._orders.tell_rejected(request, rejected)

    async def status(self, asked: Asked) -> None:
        """Answer with the truth: the order's state, or that the venue has positively no trace of it."""
        market = self._instruments.market(asked.instrument)
        since_ns = self._since_ns(0 if asked.submitted_at is None else to_ns(asked.submitted_at))
        found = await self._queries.find([self._wanted(market.market_id, asked.index, since_ns)])
        (row,) = found.rows
        if row is None:
            await self._not_listed(asked, market.market_id, complete=found.complete)
            return
        rested = self._tracker.rested(row.order_index)
        news = {transition.kind for transition in self._tracker.observe(row)}
        row = self._tracker.latest(row.order_index) or row  # REST may be behind the channels
        if is_terminal(row.status):
            await self._deliver_trades_of([row])
            self._orders.tell_end(row, rested=rested)
            return
        self._emit(self._converter.accepted(row))
        if news & {TransitionKind.AMENDED, TransitionKind.ACTIVATED}:  # and no channel has shown it
            self._orders.tell_update(row)
        if row.filled_base_amount:
            await self._deliver_trades_of([row])
            self._emit(self._converter.partially_filled(row))

    def _since_ns(self, local_ns: int) -> int:
        """Give the venue's time at, or a little before, a time of our clock; 0, which nobody knows, stays 0."""
        return local_ns and (self._clock.at(local_ns) if self._clock.is_known else max(local_ns - CLOCK_SKEW_NS, 1))

    def _wanted(self, market_id: int, index: int, since_ns: int = 0) -> Wanted:
        order_index = index if index > MAX_CLIENT_ORDER_INDEX else None
        client_index = index if order_index is None else self._tracker.client_order_index(order_index)
        return Wanted(market_id, order_index, client_index, since_ns)

    async def _find_and_tell(self, wanted: list[Wanted]) -> None:
        if not wanted:
            return
        await self._tell([row for row in (await self._queries.find(wanted)).rows if row is not None])

    async def _tell(self, rows: list[wire.OrderRow]) -> None:
        await self._deliver_trades_of(rows)
        for row in rows:
            self._orders.observe(row)

    async def _deliver_trades_of(self, rows: list[wire.OrderRow]) -> None:
        """Send the deals of orders before their ends, so that none comes after Qubx has let the order go.

        All deals of late first, of whichever order, since they are told in the venue's order; that is enough but for old ones.
        """
        short = [row for row in rows if self._is_short_of_deals(row)]
        if any(row_time_ns(row) // 1_000_000 >= self._deals.known_since_ms() for row in short):
            await self._deals.catch_up()
        for row in short:
            if not self._is_short_of_deals(row):
                continue
            since_ms = max(units.time_ns(row.created_at) // 1_000_000 - RECOVERY_MARGIN_MS, 0)
            for trade in await self._client.trades(
                self._converter.account_index,
                market_id=row.market_index,
                since_ms=since_ms,
                order_index=row.order_index,
            ):
                self._deals.deliver(trade, recovered=True)

    def _is_short_of_deals(self, row: wire.OrderRow) -> bool:
        return self._deals.filled(row.order_index) < row.filled_base_amount

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
        """Deliver the deals of an order that no list shows, all of late before them, and give how much they come to."""
        await self._deals.catch_up()
        since_ms = 0 if asked.submitted_at is None else to_ns(asked.submitted_at) // 1_000_000 - RECOVERY_MARGIN_MS
        order_index = asked.index if asked.index > MAX_CLIENT_ORDER_INDEX else None
        since_ns = self._since_ns(0 if asked.submitted_at is None else to_ns(asked.submitted_at))
        amount = 0.0
        for trade in await self._client.trades(
            self._converter.account_index, market_id=market_id, since_ms=since_ms, order_index=order_index
        ):
            exact = order_index is None and bool(trade.transaction_time)  # block times may precede the order
            if exact and is_before(trade_time_ns(trade), since_ns, exact=True):
                continue  # of an order that had the client id before
            if asked.index in (trade.ask_id, trade.bid_id, trade.ask_client_id, trade.bid_client_id):
                self._deals.deliver(trade, recovered=True)
                amount += trade.size
        return amount
