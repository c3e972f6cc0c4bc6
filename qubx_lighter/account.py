"""The read side: the private channels and the REST account become Qubx's account events.

Theory of operation. Orders and deals come on two channels in no promised order, so each speaks for itself: order rows
drive statuses (``fill=None``; ``account_orders``), trades drive the ledger (one ``DealEvent`` each; ``account_deals``),
balances come absolute. The tracker remembers what was said about each order, so that a row seen twice, late, or in a
snapshot says nothing twice.

A connection that comes back has missed things: working orders are listed anew, ended ones are not, and recent trades are
replayed. So after every reconnect, in this order: trades since the last one seen are fetched and each unseen deal is sent;
orders that are no longer working are looked up and their end is sent; a full snapshot follows.

Failures: what one snapshot cannot fetch whole is not sent at all (an empty list would mean "flat"); a market id that the
venue's list does not know refreshes that list, and if it stays unknown there is no snapshot either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Final

from qubx import logger
from qubx.core.basics import Instrument, ITimeProvider, Order, OrderOrigin, dt_64
from qubx.core.events import AccountSnapshotEvent, OrderRejectedEvent
from qubx.core.interfaces import IHealthMonitor

from qubx_lighter.accounts.deals import AccountDeals, trade_rows
from qubx_lighter.accounts.funding import FundingLedger
from qubx_lighter.accounts.introductions import Introductions
from qubx_lighter.accounts.lookups import Asked, OrderLookups
from qubx_lighter.accounts.money import AccountMoney
from qubx_lighter.accounts.orders import AccountOrders
from qubx_lighter.accounts.queries import AccountQueries
from qubx_lighter.client import LighterClient
from qubx_lighter.errors import LighterError
from qubx_lighter.handlers.account import AccountConverter, to_ns
from qubx_lighter.handlers.money import Wallet
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.markets import KINDS
from qubx_lighter.protocol import units, wire
from qubx_lighter.protocol.orders import OrderTracker
from qubx_lighter.protocol.requests import Request, RequestBook
from qubx_lighter.protocol.venue_clock import VenueClock
from qubx_lighter.recoveries import Recoveries
from qubx_lighter.websocket import LighterWebSocketManager

_RECOVERY_PAUSE_S: Final = 30.0
_RENEWAL_S: Final = 0.5  # the channels are renewed one after another
_READY_S: Final = 0.1
_DOUBT_S: Final = 6.0  # Qubx stands by a cancel or an amend for 5 s, whatever a snapshot shows
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
        wallet: puts balances together.
        emit: puts an event on Qubx's channel.
        time_provider: Qubx's clock, for ``as_of``.
        clock: the venue's, which is set by what the channels say.
        health: told when a submit or cancel was answered.
        recoveries: acts on what the sequencer refuses.
        on_transaction: called with each executed or failed transaction (who sent what is no order listens).
        on_positions: called with each row of a position pushed (the leverage cache listens).
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
        wallet: Wallet,
        emit: Callable[[object], None],
        time_provider: ITimeProvider,
        clock: VenueClock,
        health: IHealthMonitor,
        on_transaction: Callable[[wire.TxRow], None],
        recoveries: Recoveries,
        on_positions: Callable[[Iterable[wire.PositionRow]], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._converter = converter
        self._client = client
        self._queries = queries
        self._socket = socket
        self._instruments = instruments
        self._requests = requests
        self._wallet = wallet
        self._emit = emit
        self._time = time_provider
        self._clock = clock
        self._on_transaction = on_transaction
        self._loop = loop
        self._account = converter.account_index
        self._tracker = tracker = OrderTracker()
        self._deals = AccountDeals(
            converter=converter,
            client=client,
            instruments=instruments,
            tracker=tracker,
            clock=clock,
            knows_market=self._knows_market,
            introduce=lambda index: self._introductions.introduce(index),  # noqa: PLW0108 - made below
            may_be_forgotten=lambda index, client_id: self._orders.may_be_forgotten(index, client_id),  # noqa: PLW0108 - made below
            emit=emit,
            loop=loop,
        )
        self._orders = AccountOrders(
            converter=converter,
            instruments=instruments,
            requests=requests,
            tracker=tracker,
            deals=self._deals,
            knows_market=self._knows_market,
            want_snapshot=lambda: self.request_snapshot(include_orders=True),
            emit=emit,
            time_provider=time_provider,
            health=health,
            recoveries=recoveries,
            look_up=self.look_up,
            opened=lambda: self._introductions.opened(),  # noqa: PLW0108 - made below
            introduce=lambda index: self._introductions.introduce(index),  # noqa: PLW0108 - made below
        )
        self._lookups = OrderLookups(
            converter=converter,
            client=client,
            queries=queries,
            instruments=instruments,
            requests=requests,
            tracker=tracker,
            orders=self._orders,
            deals=self._deals,
            emit=emit,
            time_provider=time_provider,
            clock=clock,
        )
        self._money = AccountMoney(
            account_index=self._account,
            wallet=wallet,
            on_positions=on_positions,
            emit=emit,
            time_provider=time_provider,
            clock=clock,
        )
        self._introductions = Introductions(
            exchange=converter.exchange,
            untold=self._orders.is_untold,
            working=self._orders.working,
            want_snapshot=lambda: self.request_snapshot(include_orders=True),
            emit=emit,
            loop=loop,
        )
        self._funding = FundingLedger(
            account_index=self._account,
            client=client,
            instruments=instruments,
            emit=emit,
            time_provider=time_provider,
        )
        self._snapshot_lock: asyncio.Lock | None = None  # made on the loop
        self._doubt: asyncio.TimerHandle | None = None
        self._doubts = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = 0
        self._subscribed: dict[str, int] = {}  # channel -> the connection on which it was last acknowledged
        self._recovery: asyncio.Task[None] | None = None
        self._started = False
        self._funding_task: asyncio.Task[None] | None = None
        counters = ("snapshots", "failed_snapshots", "recoveries", "renewals", "foreign_rows")
        self._stats = dict.fromkeys(counters, 0)
        # Trades and stats are said to need no token (2026) and were captured with one (2025): a token does no harm.
        self._channels: Final[dict[str, Callable[[str, bytes], None]]] = {
            f"user_stats/{self._account}": self._money.on_user_stats,  # first: its frames tell the venue's time
            f"account_all_orders/{self._account}": self._on_orders,
            f"account_all_trades/{self._account}": self._on_trades,
            f"account_tx/{self._account}": self._on_transactions,
        }
        # What only makes balances more up to date than the snapshots do, or explains: no reason to hold orders back.
        self._extras: Final[dict[str, Callable[[str, bytes], None]]] = {
            f"account_all_assets/{self._account}": self._money.on_assets,
            f"account_all_positions/{self._account}": self._money.on_positions,
            f"notification/{self._account}": self._money.on_notifications,
        }

    # --- lifecycle ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect, subscribe the account channels and ask for the first snapshot; thread-safe."""
        self._deals.start(to_ns(self._time.time()))
        self._funding.start()
        self._started = True
        for channel, handler in (self._channels | self._extras).items():
            self._socket.subscribe(channel, partial(self._heard, channel, handler), auth=True)
        self._socket.on_state(self._on_state)
        self._socket.start()
        self.request_snapshot(include_orders=True)

    async def close(self) -> None:
        """End what is under way."""
        self._introductions.close()
        self._deals.close()
        if self._doubt is not None:
            self._doubt.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def ready(self) -> bool:
        """Tell whether every channel that orders need is acknowledged on a live socket."""
        return self._socket.connected and all(self._socket.subscribed(channel) for channel in self._channels)

    def stats(self) -> dict[str, int]:
        """Count what happened since the start."""
        active = {"active_orders": len(self._tracker.active())}
        return self._stats | self._deals.stats | self._money.stats | self._funding.stats | active

    def working_orders(self, market_id: int) -> int:
        """Count the working orders of a market; callable from any thread."""
        return sum(row.market_index == market_id for row in self._tracker.active())

    # --- requests of the framework -----------------------------------------------------------------------------------

    def request_snapshot(self, *, include_orders: bool) -> None:
        """Fetch positions, balances and, if wanted, orders, and emit one snapshot, or none; thread-safe."""
        self._spawn(self._snapshot(include_orders=include_orders))

    def settle_doubt(self) -> None:
        """Show Qubx how orders stand, once it believes it: a cancel or an amend may have been done or not. On the loop.

        Qubx asks after an order that it has sent, but not after one that it has asked to be cancelled or amended: that would
        be pending for up to five minutes.
        """
        self._doubts += 1
        if self._doubt is None:
            self._doubt = self._loop.call_later(_DOUBT_S, self._end_doubt, self._doubts)

    def _end_doubt(self, doubts: int) -> None:
        more = self._doubts > doubts  # which came too late for this snapshot
        self._doubt = self._loop.call_later(_DOUBT_S, self._end_doubt, self._doubts) if more else None
        self._run_task(self._snapshot(include_orders=True))

    def request_order_status(self, order: Order) -> None:
        """Look one order up and emit what became of it; thread-safe, reads ``order`` now."""
        asked = Asked(
            instrument=order.instrument,
            client_id=order.client_order_id,
            venue_id=order.venue_order_id,
            index=self._converter.index_of(order),
            quantity=order.quantity,
            # Of an order that Qubx made up for a deal of somebody else's this is when it did so.
            submitted_at=None if order.origin is OrderOrigin.EXTERNAL else order.submitted_at,
        )
        self._spawn(self._lookups.status(asked))

    def latest(self, order: Order) -> wire.OrderRow | None:
        """Give the newest row of an order, if the venue has shown any; callable from any thread."""
        return self._orders.latest(order)

    def standing(self, client_order_index: int) -> wire.OrderRow | None:
        """Give the newest row of the working order that has a client order index; callable from any thread."""
        return self._tracker.standing(client_order_index)

    def look_up(self, request: Request, rejected: OrderRejectedEvent | None) -> None:
        """Find out what became of the order of a refused request; tell ``rejected`` if it is another's. Thread-safe."""
        self._spawn(self._lookups.refused(request, rejected))

    def end_of(self, client_order_id: str) -> str | None:
        """Give the venue's word for how an order ended; thread-safe."""
        return self._orders.end_of(client_order_id)

    def request_hist_deals(self, instrument: Instrument, since: dt_64) -> None:
        """Fetch our trades of one market since ``since`` and emit each as a historical deal; thread-safe."""
        self._spawn(self._deals.history(instrument, since))

    # --- frames ------------------------------------------------------------------------------------------------------

    def _heard(self, channel: str, handler: Callable[[str, bytes], None], kind: str, raw: bytes) -> None:
        """Hand a frame on; catch up with what came between the end of a subscription and the next, such as for a new token."""
        if kind == "subscribed":
            if self._subscribed.get(channel) == self._connections:
                self._stats["renewals"] += 1
                self._start_recovery(_RENEWAL_S)
            self._subscribed[channel] = self._connections
        handler(kind, raw)

    def _on_orders(self, kind: str, raw: bytes) -> None:
        orders = wire.decode(wire.AccountOrdersFrame, raw).orders or {}
        rows = [row for rows in orders.values() for row in rows or []]
        if kind != "subscribed":  # which lists orders as they stand
            self._set_clock(rows)
        if kind == "subscribed" and not self._stats["snapshots"]:
            self._orders.learn_standing(rows)
        self._orders.observe_all(rows)
        if kind == "subscribed" and (missing := self._tracker.missing_from(rows)):
            self._spawn(self._lookups.ended(missing))

    def _on_trades(self, kind: str, raw: bytes) -> None:
        rows = trade_rows(wire.decode(wire.AccountTradesFrame, raw))
        if kind != "subscribed":  # which replays history: what was seen, or was before us, says nothing
            self._set_clock(rows)
        self._deals.received(rows)

    def _on_transactions(self, kind: str, raw: bytes) -> None:
        del kind
        for row in wire.decode(wire.AccountTxFrame, raw).txs or []:
            self._on_transaction(row)
            self._orders.observe_transaction(row)

    def _set_clock(self, rows: Iterable[wire.OrderRow | wire.TradeRow]) -> None:
        now_ns = to_ns(self._time.time())
        self._clock.heard(max((units.time_ns(row.transaction_time) for row in rows), default=0), now_ns)

    def _knows_market(self, market_id: int, market_kind: str) -> bool:
        """Tell whether a market has an instrument; one listed since the start is fetched with a snapshot.

        Binary options and the like are skipped, and counted.
        """
        if self._instruments.knows(market_id):
            return True
        if market_kind not in KINDS:
            self._instruments.learn_foreign(market_id)
        if market_id in self._instruments.foreign_ids:
            self._stats["foreign_rows"] += 1
        else:
            logger.warning("lighter: market {} is new: reloading the markets and the account", market_id)
            self._spawn(self._snapshot(include_orders=True))
        return False

    # --- recovery ----------------------------------------------------------------------------------------------------

    def _on_state(self, connected: bool) -> None:  # noqa: FBT001 - the socket's listener signature
        if self._recovery is not None:
            self._recovery.cancel()  # the next connection begins anew
        if not connected:
            self._deals.lost()
            return
        self._deals.connected()
        self._connections += 1
        if self._connections > 1 or self._stats["snapshots"]:  # which may be older than the first connection
            self._stats["recoveries"] += 1
            self._start_recovery(0.0)

    def _start_recovery(self, delay_s: float) -> None:
        if self._recovery is not None:
            self._recovery.cancel()
        self._recovery = self._run_task(self._recover(delay_s))

    async def _recover(self, delay_s: float) -> None:
        """Catch up with what a broken connection or subscription missed, however long REST takes to answer again."""
        await asyncio.sleep(delay_s)
        failures = 0
        while True:
            try:
                await self._catch_up()
            except LighterError as error:
                pause_s = min(2**failures, _RECOVERY_PAUSE_S)
                logger.warning("lighter: catching up failed, again in {} s: {}", pause_s, error)
                failures += 1
                await asyncio.sleep(pause_s)
                continue
            if self.ready():
                self._deals.caught_up()
                return
            # What comes before the last channel is open is caught up with, too.
            while not self.ready():  # noqa: ASYNC110 - no event is as sure as looking
                await asyncio.sleep(_READY_S)

    async def _catch_up(self) -> None:
        rows = await self._catch_up_deals()
        await self._lookups.ended(self._tracker.missing_from(rows))
        await self._lookups.sent_unseen()
        await self._lookups.traded_unseen()
        await self._snapshot(include_orders=True)

    async def _catch_up_deals(self) -> list[wire.OrderRow]:
        """Tell the deals that were missed, after the working orders that they may be of, which are the answer."""
        rows = await self._client.active_orders(self._account)
        self._orders.observe_all(rows)
        await self._deals.catch_up()
        return rows

    def _follows(self) -> bool:
        """Tell whether each deal arrives by itself: no connection was lost yet, or what that missed is caught up with."""
        recovered = self._recovery is None or self._recovery.done()
        return not self._connections or (recovered and self.ready())

    # --- snapshots ---------------------------------------------------------------------------------------------------

    async def _snapshot(self, *, include_orders: bool) -> None:
        """Fetch a snapshot, and tell the deals in it first.

        Qubx takes a position from a snapshot as it is, and a deal that comes later than it only as a profit at the average
        price that the position has by then, which is not the one that it had. So deals that the positions hold and no frame
        has brought yet are fetched.
        """
        if self._snapshot_lock is None:
            self._snapshot_lock = asyncio.Lock()
        async with self._snapshot_lock:
            connection, followed = self._connections, self._follows()
            try:
                snapshot, until_ns = await self._queries.snapshot(
                    include_orders=include_orders, on_orders=self._orders.listed
                )
                await asyncio.sleep(_SETTLE_S)
                sizes = {position.instrument: position.quantity for position in snapshot.positions or []}
                followed = followed and self._follows() and connection == self._connections
                if not (followed and self._deals.sizes.explain(sizes, until_ns)):
                    await self._catch_up_deals()
            except LighterError as error:
                self._stats["failed_snapshots"] += 1
                logger.warning("lighter: no account snapshot this time: {}", error)
                return
            if snapshot.open_orders is not None:
                snapshot = replace(snapshot, open_orders=self._orders.newest(snapshot.open_orders))
            self._stats["snapshots"] += 1
            self._deals.sizes.restart(sizes, until_ns)
            self._introductions.whole_told(snapshot.as_of)
            self._emit(AccountSnapshotEvent(instrument=None, snapshot=snapshot))
            self._deals.begin()
        if self._started and self._funding_task is None:
            self._funding_task = self._run_task(self._funding.run())

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
