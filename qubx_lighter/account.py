"""The read side: the private channels and the REST account become Qubx's account events.

Theory of operation. Orders and deals come on two channels in no promised order, so each speaks for itself: order rows
drive statuses (``fill=None``), trades drive the ledger (one ``DealEvent`` each), balances come absolute. The tracker
remembers what was said about each order, so that a row seen twice, late, or in a snapshot says nothing twice.

A connection that comes back has missed things: working orders are listed anew, ended ones are not, and recent trades are
replayed. So after every reconnect, in this order: trades since the last one seen are fetched and each unseen deal is sent;
orders that are no longer working are looked up and their end is sent; a full snapshot follows.

Failures: what one snapshot cannot fetch whole is not sent at all (an empty list would mean "flat"); a market id that the
venue's list does not know refreshes that list, and if it stays unknown there is no snapshot either.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec
from qubx import logger
from qubx.core.basics import Instrument, ITimeProvider, Order, RejectCause, dt_64
from qubx.core.events import (
    AccountSnapshotEvent,
    BalanceUpdateEvent,
    DealEvent,
    OrderAcceptedEvent,
    OrderCancelRejectedEvent,
    OrderEvent,
    OrderRejectedEvent,
    OrderUpdatedEvent,
    OrderUpdateRejectedEvent,
)
from qubx.core.interfaces import IHealthMonitor

from qubx_lighter.account_queries import AccountQueries
from qubx_lighter.client import LighterClient
from qubx_lighter.constants import MAX_CLIENT_ORDER_INDEX, TxType
from qubx_lighter.errors import LighterError, WireError
from qubx_lighter.handlers.account import (
    AccountConverter,
    OwnDeal,
    order_price,
    row_time_ns,
    to_dt64,
    to_ns,
    trade_time_ns,
)
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.protocol import units, wire
from qubx_lighter.protocol.orders import FillDeduplicator, OrderTracker, TransitionKind, is_terminal
from qubx_lighter.protocol.requests import RequestBook, failure
from qubx_lighter.websocket import LighterWebSocketManager

_RECOVERY_MARGIN_MS: Final = 30_000  # block times, which REST sorts and filters by, lag execution by up to 20 s
_RECOVERY_PAUSE_S: Final = 30.0
_SETTLE_S: Final = 0.25  # frames that a REST reply overtook arrive before the snapshot is handed on


class LighterAccountProcessor:
    """Keep Qubx's account equal to the venue's.

    Args:
        converter: the account's conversions.
        client: typed REST, for trades and lists.
        queries: the account's single questions.
        socket: the account socket.
        instruments: the venue's markets.
        requests: what this process asked for, shared with the broker.
        emit: puts an event on Qubx's channel.
        time_provider: Qubx's clock, for ``as_of``.
        health: told when a submit or cancel was answered.
        on_transaction: called with each executed or failed transaction (leverage settings listen).
        loop: Qubx's shared loop, which everything here runs on.
    """

    def __init__(
        self,
        *,
        converter: AccountConverter,
        client: LighterClient,
        queries: AccountQueries,
        socket: LighterWebSocketManager,
        instruments: LighterInstrumentLoader,
        requests: RequestBook,
        emit: Callable[[object], None],
        time_provider: ITimeProvider,
        health: IHealthMonitor,
        on_transaction: Callable[[wire.TxRow], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._converter = converter
        self._client = client
        self._queries = queries
        self._socket = socket
        self._instruments = instruments
        self._requests = requests
        self._emit = emit
        self._time = time_provider
        self._health = health
        self._on_transaction = on_transaction
        self._loop = loop
        self._account = converter.account_index
        self._tracker = OrderTracker()
        self._fills = FillDeduplicator()
        self._snapshot_lock: asyncio.Lock | None = None  # made on the loop
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_deal_ms = 0
        self._start_ns = 0
        self._connections = 0
        self._recovery: asyncio.Task[None] | None = None
        self._stats = {"deals": 0, "recovered_deals": 0, "snapshots": 0, "failed_snapshots": 0, "recoveries": 0}
        # Trades and stats are said to need no token (2026) and were captured with one (2025): a token does no harm.
        self._channels: Final[dict[str, Callable[[str, bytes], None]]] = {
            f"account_all_orders/{self._account}": self._on_orders,
            f"account_all_trades/{self._account}": self._on_trades,
            f"user_stats/{self._account}": self._on_user_stats,
            f"account_tx/{self._account}": self._on_transactions,
        }

    # --- lifecycle ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect, subscribe the account channels and ask for the first snapshot; thread-safe."""
        self._start_ns = to_ns(self._time.time())
        self._last_deal_ms = self._start_ns // 1_000_000
        for channel, handler in self._channels.items():
            self._socket.subscribe(channel, handler, auth=True)
        self._socket.on_state(self._on_state)
        self._socket.start()
        self.request_snapshot(include_orders=True)

    async def close(self) -> None:
        """End what is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def ready(self) -> bool:
        """Tell whether every account channel is acknowledged on a live socket."""
        return self._socket.connected and all(self._socket.subscribed(channel) for channel in self._channels)

    def stats(self) -> dict[str, int]:
        """Count what happened since the start."""
        return {**self._stats, "active_orders": len(self._tracker.active())}

    # --- requests of the framework -----------------------------------------------------------------------------------

    def request_snapshot(self, *, include_orders: bool) -> None:
        """Fetch positions, balances and, if wanted, orders, and emit one snapshot, or none; thread-safe."""
        self._spawn(self._snapshot(include_orders=include_orders))

    def request_order_status(self, order: Order) -> None:
        """Look one order up and emit what became of it; thread-safe, reads ``order`` now."""
        index = self._converter.index_of(order)
        self._spawn(
            self._order_status(order.instrument, order.client_order_id, index, order.venue_order_id, order.submitted_at)
        )

    def request_hist_deals(self, instrument: Instrument, since: dt_64) -> None:
        """Fetch our trades of one market since ``since`` and emit each as a historical deal; thread-safe."""
        self._spawn(self._hist_deals(instrument, since))

    # --- frames ------------------------------------------------------------------------------------------------------

    def _on_orders(self, kind: str, raw: bytes) -> None:
        orders = wire.decode(wire.AccountOrdersFrame, raw).orders or {}
        rows = [row for rows in orders.values() for row in rows or []]
        self._observe_all(rows)
        if kind == "subscribed" and (missing := self._tracker.missing_from(rows)):
            self._spawn(self._look_up(missing))

    def _on_trades(self, kind: str, raw: bytes) -> None:
        del kind  # the frame that answers a subscribe replays history: what was seen, or was before us, says nothing
        for row in _trade_rows(wire.decode(wire.AccountTradesFrame, raw)):
            self._deliver(row)

    def _on_user_stats(self, kind: str, raw: bytes) -> None:
        del kind
        frame = wire.decode(wire.UserStatsFrame, raw)
        # The venue's milliseconds are cut off, deals carry microseconds: the end of the millisecond covers its deals.
        time = to_dt64((frame.timestamp + 1) * 1_000_000 - 1) if frame.timestamp else self._time.time()
        balance = self._converter.balance(frame.stats.collateral, frame.stats.available_balance, time)
        self._emit(BalanceUpdateEvent(instrument=None, balance=balance, as_of=time))

    def _on_transactions(self, kind: str, raw: bytes) -> None:
        del kind
        for row in wire.decode(wire.AccountTxFrame, raw).txs or []:
            self._on_transaction(row)
            self._observe_transaction(row)

    # --- orders ------------------------------------------------------------------------------------------------------

    def _observe_all(self, rows: list[wire.OrderRow]) -> None:
        """Say what is new in each row; one in a state that this version does not know leaves the others their say."""
        for row in rows:
            try:
                self._observe(row)
            except WireError as error:
                logger.error("lighter: order {}: {}; asking for the whole account", row.order_index, error)
                self._spawn(self._snapshot(include_orders=True))

    def _observe(self, row: wire.OrderRow) -> None:
        """Say what is new in an order row; one of a market that is not known waits for the snapshot that learns it."""
        if not self._known_market(row.market_index):
            return
        ids = self._converter.ids_of(row)
        for transition in self._tracker.observe(row):
            match transition.kind:
                case TransitionKind.OPENED:
                    self._requests.take(TxType.CREATE_ORDER, ids.client_id)
                    self._emit(self._converter.accepted(row))
                    self._answered_submit(ids.client_id)
                case TransitionKind.FILLED_MORE:
                    self._emit(self._converter.partially_filled(row))
                case TransitionKind.AMENDED:
                    self._emit(self._updated(row))
                case TransitionKind.DONE:
                    self._emit_end(row, rested=transition.rested)

    def _emit_end(self, row: wire.OrderRow, *, rested: bool) -> None:
        ids = self._converter.ids_of(row)
        event = self._converter.ended(row, rested=rested)
        self._requests.take(TxType.CREATE_ORDER, ids.client_id)
        self._requests.take(TxType.MODIFY_ORDER, ids.client_id)
        cancelled = self._requests.take(TxType.CANCEL_ORDER, ids.client_id)
        self._emit(event)
        if not rested:
            self._answered_submit(ids.client_id)
        if cancelled is not None:
            self._health.record_order_cancel_response(self._converter.exchange, ids.client_id, self._time.time())

    def _answered_submit(self, client_id: str) -> None:
        self._health.record_order_submit_response(self._converter.exchange, client_id, self._time.time())

    def _updated(self, row: wire.OrderRow) -> OrderUpdatedEvent:
        """Echo what was asked for; an amend by someone else is told in the venue's figures."""
        ids = self._converter.ids_of(row)
        request = self._requests.take(TxType.MODIFY_ORDER, ids.client_id)
        return OrderUpdatedEvent(
            instrument=ids.instrument,
            client_order_id=ids.client_id,
            venue_order_id=ids.venue_id,
            last_update_time=to_dt64(row_time_ns(row)),
            new_price=order_price(row) if request is None else request.price,
            new_quantity=row.initial_base_amount if request is None else request.quantity,
        )

    def _observe_transaction(self, row: wire.TxRow) -> None:
        """Tell a request that the sequencer refused after the API had accepted it; nothing else would."""
        reason = failure(row)
        request = self._requests.of_transaction(row)
        if reason is None or request is None:
            return
        if self._requests.latest(request.kind, request.client_id) is not request:
            return  # its end was seen, or a newer one has taken its place
        self._requests.take(request.kind, request.client_id)
        event: OrderEvent
        ids: dict[str, Any] = {
            "instrument": self._instruments.instrument(request.market_id),
            "client_order_id": request.client_id,
            "venue_order_id": request.venue_id,
            "last_update_time": to_dt64(units.time_ns(row.transaction_time or row.executed_at)),
            "reason": reason,
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

    def _known_market(self, market_id: int) -> bool:
        """Tell whether a market has an instrument; one listed since the start is fetched with a snapshot."""
        if self._instruments.knows(market_id):
            return True
        if market_id not in self._instruments.foreign_ids:
            logger.warning("lighter: market {} is new: reloading the markets and the account", market_id)
            self._spawn(self._snapshot(include_orders=True))
        return False

    # --- deals -------------------------------------------------------------------------------------------------------

    def _deliver(self, row: wire.TradeRow, *, recovered: bool = False) -> None:
        """Emit our side of a trade once, whichever way it came."""
        if not self._known_market(row.market_id):
            return
        for own in self._own_deals(row):
            if self._fills.seen(row.market_id, row.trade_id, own.is_ask):
                continue
            self._last_deal_ms = max(self._last_deal_ms, row.timestamp)
            if trade_time_ns(row) < self._start_ns:
                continue  # the first snapshot has it
            self._stats["deals"] += 1
            self._stats["recovered_deals"] += recovered
            self._emit(_deal_event(own) if own.has_order else _historical(own))

    def _own_deals(self, row: wire.TradeRow) -> list[OwnDeal]:
        """Convert our side; a row without client ids, as in 2025, takes them from the orders that were seen."""
        ids = {
            f"{side}_client_id": getattr(row, f"{side}_client_id")
            or self._tracker.client_order_index(getattr(row, f"{side}_id"))
            for side in ("ask", "bid")
        }
        return self._converter.deals(msgspec.structs.replace(row, **ids))

    async def _hist_deals(self, instrument: Instrument, since: dt_64) -> None:
        market = self._instruments.market(instrument)
        since_ms = int(since.astype("datetime64[ms]").astype("int64"))
        for row in await self._client.trades(self._account, market_id=market.market_id, since_ms=since_ms):
            for own in self._own_deals(row):
                self._fills.seen(row.market_id, row.trade_id, own.is_ask)
                # A historical deal goes by the venue's id, which an order may not have yet whose ack was lost.
                self._emit(_accepted_before(own))
                self._emit(_historical(own))

    # --- recovery ----------------------------------------------------------------------------------------------------

    def _on_state(self, connected: bool) -> None:  # noqa: FBT001 - the socket's listener signature
        if self._recovery is not None:
            self._recovery.cancel()  # the next connection begins anew
        if not connected:
            return
        self._connections += 1
        if self._connections > 1:
            self._stats["recoveries"] += 1
            self._recovery = self._run_task(self._recover())

    async def _recover(self) -> None:
        """Catch up with what a broken connection missed, however long REST takes to answer again."""
        for attempt in itertools.count():
            try:
                await self._catch_up()
            except LighterError as error:
                pause_s = min(2**attempt, _RECOVERY_PAUSE_S)
                logger.warning("lighter: catching up failed, again in {} s: {}", pause_s, error)
                await asyncio.sleep(pause_s)
            else:
                return

    async def _catch_up(self) -> None:
        since_ms = self._last_deal_ms - _RECOVERY_MARGIN_MS
        for trade in await self._client.trades(self._account, market_id=None, since_ms=since_ms):
            self._deliver(trade, recovered=True)
        rows = await self._client.active_orders(self._account)
        self._observe_all(rows)
        await self._look_up(self._tracker.missing_from(rows))
        await self._look_up_unseen()
        await self._snapshot(include_orders=True)

    async def _look_up(self, missing: list[wire.OrderRow]) -> None:
        for old in missing:
            row = await self._queries.find(old.market_index, old.order_index, old.client_order_index)
            if row is not None:
                await self._deliver_trades_of(row)
                self._observe(row)

    async def _look_up_unseen(self) -> None:
        """Find the orders that were sent and came to an end unseen, while the connection was away."""
        for request in self._requests.unseen(TxType.CREATE_ORDER):
            index = self._converter.ids.index_of(request.client_id)
            row = await self._queries.find(request.market_id, None, index)
            if row is not None:
                await self._deliver_trades_of(row)
                self._observe(row)

    async def _deliver_trades_of(self, row: wire.OrderRow) -> None:
        """Send an order's deals before its end, so that none comes after Qubx has let the order go."""
        if not row.filled_base_amount:
            return
        since_ms = max(units.time_ns(row.created_at) // 1_000_000 - _RECOVERY_MARGIN_MS, 0)
        for trade in await self._client.trades(
            self._account, market_id=row.market_index, since_ms=since_ms, order_index=row.order_index
        ):
            self._deliver(trade, recovered=True)

    # --- order status ------------------------------------------------------------------------------------------------

    async def _order_status(
        self, instrument: Instrument, client_id: str, index: int, venue_id: str | None, submitted_at: dt_64 | None
    ) -> None:
        """Answer with the truth: the order's state, or that the venue has positively no trace of it."""
        market = self._instruments.market(instrument)
        order_index = index if index > MAX_CLIENT_ORDER_INDEX else None
        client_index = index if order_index is None else self._tracker.client_order_index(order_index)
        row = await self._queries.find(market.market_id, order_index, client_index)
        if row is None:
            if await self._queries.may_still_arrive(client_id, submitted_at):
                return
            self._emit(
                OrderRejectedEvent(
                    instrument=instrument,
                    client_order_id=client_id,
                    venue_order_id=venue_id,
                    last_update_time=self._time.time(),
                    reason="the venue has no trace of this order",
                    code="OrderNotFound",
                    cause=RejectCause.NOT_FOUND,
                )
            )
            return
        rested = self._tracker.rested(row.order_index)
        self._tracker.observe(row)
        row = self._tracker.latest(row.order_index) or row  # REST may be behind the channels
        if is_terminal(row.status):
            await self._deliver_trades_of(row)
            self._emit_end(row, rested=rested)
            return
        self._emit(self._converter.accepted(row))
        if row.filled_base_amount:
            await self._deliver_trades_of(row)
            self._emit(self._converter.partially_filled(row))

    # --- snapshots ---------------------------------------------------------------------------------------------------

    async def _snapshot(self, *, include_orders: bool) -> None:
        if self._snapshot_lock is None:
            self._snapshot_lock = asyncio.Lock()
        async with self._snapshot_lock:
            try:
                snapshot = await self._queries.snapshot(include_orders=include_orders)
            except LighterError as error:
                self._stats["failed_snapshots"] += 1
                logger.warning("lighter: no account snapshot this time: {}", error)
                return
            await asyncio.sleep(_SETTLE_S)
            self._stats["snapshots"] += 1
            self._emit(AccountSnapshotEvent(instrument=None, snapshot=snapshot))

    # --- tasks -------------------------------------------------------------------------------------------------------

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run on the loop, from any thread; a transport failure is a warning, since Qubx asks again."""
        self._loop.call_soon_threadsafe(self._run_task, coroutine)

    def _run_task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, LighterError):
            logger.warning("lighter: an account request failed and will be asked again: {}", error)
        else:
            logger.opt(exception=error).error("lighter: an account task failed")


def _trade_rows(frame: wire.AccountTradesFrame) -> list[wire.TradeRow]:
    """List a frame's trades oldest first; the order inside frames is not promised."""
    trades = frame.trades or []
    rows = trades if isinstance(trades, list) else [row for rows in trades.values() for row in rows or []]
    return sorted(rows, key=lambda row: row.trade_id)


def _deal_event(own: OwnDeal) -> DealEvent:
    return DealEvent(
        instrument=own.instrument,
        client_order_id=own.client_id,
        venue_order_id=own.venue_id,
        last_update_time=own.deal.time,
        deal=own.deal,
    )


def _historical(own: OwnDeal) -> DealEvent:
    return DealEvent(
        instrument=own.instrument,
        client_order_id=None,
        venue_order_id=own.venue_id,
        last_update_time=own.deal.time,
        deal=own.deal,
        historical=True,
    )


def _accepted_before(own: OwnDeal) -> OrderAcceptedEvent:
    return OrderAcceptedEvent(
        instrument=own.instrument,
        client_order_id=own.client_id,
        venue_order_id=own.venue_id,
        last_update_time=own.deal.time,
        accepted_at=own.deal.time,
    )
