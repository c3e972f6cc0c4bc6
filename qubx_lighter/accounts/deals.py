"""Our trades as Qubx's deals, each exactly once, whichever way it came: pushed, replayed, or fetched over REST.

They are told in the venue's order, also those of a lost connection, since Qubx's average prices and so its realized profits
depend on it: what the new connection brings waits for what the old one missed, but not for long. Before the first snapshot
all wait, since Qubx would make up orders for them that the snapshot shows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

import msgspec
from qubx import logger
from qubx.core.basics import Instrument, dt_64
from qubx.core.errors import create_error_event
from qubx.core.events import DealEvent, OrderAcceptedEvent, OrderFilledEvent

from qubx_lighter.accounts.sizes import PositionSizes
from qubx_lighter.client import LighterClient
from qubx_lighter.handlers.account import AccountConverter, OwnDeal, trade_time_ns
from qubx_lighter.handlers.forced import forced_trade
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.orders import FillDeduplicator, OrderTracker
from qubx_lighter.protocol.venue_clock import VenueClock

_REMEMBERED: Final = 1_000
_COUNTED: Final = 10_000
_SIZE_DECIMALS: Final = 9  # more than any market has: sums of sizes stay the nearest floats
_HOLD_S: Final = 2.0  # a strategy had better know of a deal out of order than not at all
RECOVERY_MARGIN_MS: Final = 30_000
"""Block times, which REST sorts and filters by, lag execution by up to 20 s."""


class AccountDeals:
    """Tell Qubx of our trades.

    Args:
        converter: the account's conversions.
        client: typed REST.
        instruments: the venue's markets.
        tracker: knows the client ids that rows of 2025 leave out.
        clock: the venue's.
        knows_market: whether a market, of an id and a kind, has an instrument; where it has not, sees to it that it gets one.
        introduce: called with the index of the order that a deal is of, before the deal.
        may_be_forgotten: whether Qubx may have let an order, of an index and a client id, go: of such a one it books a deal
            only as history.
        emit: puts an event on Qubx's channel.
        loop: the loop, which everything here runs on.
    """

    def __init__(
        self,
        *,
        converter: AccountConverter,
        client: LighterClient,
        instruments: LighterInstrumentLoader,
        tracker: OrderTracker,
        clock: VenueClock,
        knows_market: Callable[[int, str], bool],
        introduce: Callable[[int], None],
        may_be_forgotten: Callable[[int, str], bool],
        emit: Callable[[object], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._loop = loop
        self._converter = converter
        self._client = client
        self._instruments = instruments
        self._tracker = tracker
        self._clock = clock
        self._knows_market = knows_market
        self._introduce = introduce
        self._may_be_forgotten = may_be_forgotten
        self._emit = emit
        self._fills = FillDeduplicator()
        self._of_unseen: dict[int, int] = {}  # order index -> market id, of orders that no row has told of
        self._filled: dict[int, float] = {}  # by order index
        self._wholes: dict[int, int] = {}  # order index of a part -> of the order that it is a part of
        self._start_ns = 0
        self._reported: deque[str] = deque(maxlen=_REMEMBERED)
        self._last_ms = 0
        self._hole_ms: int | None = None  # where what a lost connection missed begins, until that was fetched
        self._begun = False  # whether the first snapshot was told
        self._connected = False
        self._connections = 0
        self._held: list[wire.TradeRow] | None = []  # what is to wait for what was missed; None where nothing has to
        self._release: asyncio.TimerHandle | None = None
        self._fetch: asyncio.Task[None] | None = None
        self._next_fetch: asyncio.Task[None] | None = None
        self.sizes: Final = PositionSizes()
        self.stats = {"deals": 0, "recovered_deals": 0}

    def start(self, now_ns: int) -> None:
        """Leave what was traded before ``now_ns`` of our clock to the first snapshot."""
        self._start_ns = now_ns

    def begin(self) -> None:
        """Note that the first snapshot was told, and tell what came before it."""
        if self._begun:
            return
        self._begun = True
        if self._connected and self._connections == 1:
            self.caught_up()
        self._tell_held(hold=not self._connected)

    def lost(self) -> None:
        """Remember from when on deals may be missing, and hold back those that come before they are fetched."""
        self._connected = False
        if self._hole_ms is None:
            self._hole_ms = self._known_ms()
        if self._held is None:
            self._held = []

    def connected(self) -> None:
        """Note that there is a connection, which brings every deal from now on, or soon."""
        self._connected = True
        self._connections += 1

    def caught_up(self) -> None:
        """Note that nothing is missing: what was is fetched, and the channels are open again."""
        self._hole_ms = None

    async def catch_up(self) -> None:
        """Fetch our trades since the last one that is known to have no hole before it, and tell those that are new.

        Who asks while that is under way shares the next time with all that do.

        Raises:
            LighterError: they could not be fetched.
        """
        if self._next_fetch is None:
            self._next_fetch = self._loop.create_task(self._fetch_behind(self._fetch))
            self._next_fetch.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._next_fetch)

    async def _fetch_behind(self, former: asyncio.Task[None] | None) -> None:
        if former is not None:
            await asyncio.wait([former])
        self._fetch, self._next_fetch = self._next_fetch, None
        connection = self._connections if self._connected else None
        rows = await self._client.trades(self._converter.account_index, market_id=None, since_ms=self.known_since_ms())
        self._tell_held(rows, hold=not self._connected or connection != self._connections)

    def known_since_ms(self) -> int:
        """Tell from when on ``catch_up`` fetches trades."""
        return (self._known_ms() if self._hole_ms is None else self._hole_ms) - RECOVERY_MARGIN_MS

    def received(self, rows: Iterable[wire.TradeRow]) -> None:
        """Take trades as they come, oldest first."""
        if self._held is None:
            for row in rows:
                self.deliver(row)
            return
        self._held += rows
        if self._held and self._begun and self._release is None:
            self._release = self._loop.call_later(_HOLD_S, self._waited)

    def close(self) -> None:
        """Fetch no more, and hold nothing back."""
        for task in (self._fetch, self._next_fetch):
            if task is not None:
                task.cancel()
        self._tell_held(hold=False)

    def _waited(self) -> None:
        self._tell_held(hold=not self._connected)

    def _tell_held(self, fetched: Iterable[wire.TradeRow] = (), *, hold: bool) -> None:
        """Tell what was missed and what came since, in the venue's order; ``hold`` what comes from now on, too, or not."""
        held = self._held or []
        came = set(map(_key, held))
        missed = [row for row in fetched if _key(row) not in came]
        rows = sorted((*held, *missed), key=lambda row: row.trade_id)
        if not self._begun:
            self._held = rows
            return
        self._held = [] if hold else None
        if self._release is not None:
            self._release.cancel()
            self._release = None
        for row in rows:
            self.deliver(row, recovered=_key(row) not in came)

    def deliver(self, row: wire.TradeRow, *, recovered: bool = False) -> None:
        """Emit our side of a trade once, whichever way it came."""
        if not self._knows_market(row.market_id, row.market_kind):
            return
        for own in self._own(row):
            if self._fills.seen(row.market_id, row.trade_id, own.is_ask):
                continue
            self._last_ms = max(self._last_ms, row.timestamp)
            own = self._of_whole(own)  # noqa: PLW2901 - the same deal, under another name
            if own.has_order:
                self._introduce(int(own.venue_id))
            self._count(own)
            if trade_time_ns(row) < self._clock.at(self._start_ns):
                continue  # the first snapshot has it
            if own.has_order and self._tracker.latest(int(own.venue_id)) is None:
                self._of_unseen[int(own.venue_id)] = row.market_id
                if len(self._of_unseen) > _REMEMBERED:
                    del self._of_unseen[next(iter(self._of_unseen))]
            self.sizes.traded(own.instrument, trade_time_ns(row), own.deal.amount)
            self.stats["deals"] += 1
            self.stats["recovered_deals"] += recovered
            if own.has_order and self._may_be_forgotten(int(own.venue_id), own.client_id):
                self._emit(_accepted_before(own))
                self._emit(_historical(own))
            else:
                self._emit(_deal_event(own))
            if not own.has_order:
                self._emit(_filled(own))  # Qubx makes an order of such a deal, and would look for it at the venue
            if own.forced:
                self._report(own)

    def _known_ms(self) -> int:
        """Give the time of the newest trade, or of the start, by the venue's clock."""
        return max(self._last_ms, self._clock.at(self._start_ns) // 1_000_000)

    def belongs(self, part_index: int, whole_index: int) -> None:
        """Count the deals of one order, a slice that the venue works a TWAP in, as those of another from now on."""
        self._wholes[part_index] = whole_index
        if len(self._wholes) > _REMEMBERED:
            del self._wholes[next(iter(self._wholes))]

    def _of_whole(self, own: OwnDeal) -> OwnDeal:
        whole = self._tracker.latest(self._wholes.get(int(own.venue_id), 0)) if own.has_order else None
        if whole is None:
            return own
        ids = self._converter.ids_of(whole)
        deal = replace(own.deal, order_id=ids.venue_id)
        return own._replace(client_id=ids.client_id, venue_id=ids.venue_id, deal=deal)

    def filled(self, order_index: int) -> float:
        """Give how much of an order the deals seen so far come to."""
        return self._filled.get(order_index, 0.0)

    def to_be_told(self, order_index: int) -> float:
        """Give how much of an order the deals come to that wait for the first snapshot."""
        if self._begun:
            return 0.0
        waiting = [row for row in self._held or [] if trade_time_ns(row) >= self._clock.at(self._start_ns)]
        amounts = [
            abs(own.deal.amount) for row in waiting for own in self._own(row) if own.venue_id == str(order_index)
        ]
        return round(sum(amounts), _SIZE_DECIMALS)

    def _count(self, own: OwnDeal) -> None:
        if own.has_order:
            index = int(own.venue_id)
            self._filled[index] = round(self._filled.get(index, 0.0) + abs(own.deal.amount), _SIZE_DECIMALS)
            if len(self._filled) > _COUNTED:
                del self._filled[next(iter(self._filled))]

    def _report(self, own: OwnDeal) -> None:
        """Say aloud what the venue did to a position, once an order."""
        event = forced_trade(own)
        logger.warning("lighter: {}", event.message)
        if own.venue_id not in self._reported:
            self._reported.append(own.venue_id)
            self._emit(create_error_event(event))

    def of_unseen_orders(self) -> list[tuple[int, int]]:
        """List order index and market of the orders that had deals, and that still no row has told of; each once.

        Such an order came and ended while nobody listened. Qubx has made one up for its deal, which must not stay open.
        """
        unseen = [(index, market) for index, market in self._of_unseen.items() if self._tracker.latest(index) is None]
        self._of_unseen.clear()
        return unseen

    async def history(self, instrument: Instrument, since: dt_64) -> None:
        """Fetch our trades of one market since ``since`` and emit each as a historical deal."""
        market = self._instruments.market(instrument)
        since_ms = int(since.astype("datetime64[ms]").astype("int64"))
        account = self._converter.account_index
        if self._held is not None:
            await self.catch_up()  # what is held back and what was missed come first, of all markets
        for row in await self._client.trades(account, market_id=market.market_id, since_ms=since_ms):
            for own in map(self._of_whole, self._own(row)):
                if not self._fills.seen(row.market_id, row.trade_id, own.is_ask):
                    self._count(own)
                # A historical deal goes by the venue's id, which an order may not have yet whose ack was lost.
                self._emit(_accepted_before(own))
                self._emit(_historical(own))

    def _own(self, row: wire.TradeRow) -> list[OwnDeal]:
        """Convert our side; a row without client ids, as in 2025, takes them from the orders that were seen."""
        ids = {
            f"{side}_client_id": getattr(row, f"{side}_client_id")
            or self._tracker.client_order_index(getattr(row, f"{side}_id"))
            for side in ("ask", "bid")
        }
        return self._converter.deals(msgspec.structs.replace(row, **ids))


def trade_rows(frame: wire.AccountTradesFrame) -> list[wire.TradeRow]:
    """List a frame's trades oldest first; the order inside frames is not promised."""
    trades = frame.trades or []
    rows = trades if isinstance(trades, list) else [row for rows in trades.values() for row in rows or []]
    return sorted(rows, key=lambda row: row.trade_id)


def _key(row: wire.TradeRow) -> tuple[int, int]:
    return row.market_id, row.trade_id


def _deal_event(own: OwnDeal) -> DealEvent:
    return DealEvent(
        instrument=own.instrument,
        client_order_id=own.client_id,
        venue_order_id=own.venue_id,
        last_update_time=own.deal.time,
        deal=own.deal,
    )


def _filled(own: OwnDeal) -> OrderFilledEvent:
    return OrderFilledEvent(
        instrument=own.instrument,
        client_order_id=own.client_id,
        venue_order_id=own.venue_id,
        last_update_time=own.deal.time,
        fill=None,
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
