"""The venue's history as Arrow tables, through the page cache.

Ranges are cut into pages on fixed bounds: 500 opens for candles, a month for funding, a day for trades. A page whose end
is some minutes ago is closed: it is fetched whole, kept, and never asked for again. What is younger is fetched anew each
time. Without a cache only what was asked for is fetched.

Trades can only be walked back to, from the newest on. So a day's page notes the cursor that leads on from it: a later walk
to days before begins there, and days that were walked through are kept too.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from qubx_lighter.constants import RESOLUTIONS
from qubx_lighter.errors import VenueError, WireError
from qubx_lighter.history.page_cache import Page, PageCache, PageKey
from qubx_lighter.history.pages import (
    PAGE_OPENS,
    TRADE_TIME_SLACK_MS,
    LighterHistory,
    TradePage,
    executed_us,
    together,
)
from qubx_lighter.protocol import wire

CANDLES: Final = pa.schema(
    [
        ("timestamp", pa.timestamp("ms")),
        ("open", pa.float64()),
        ("high", pa.float64()),
        ("low", pa.float64()),
        ("close", pa.float64()),
        ("volume", pa.float64()),
        ("quote_volume", pa.float64()),
    ]
)
MARK_CANDLES: Final = pa.schema([CANDLES.field(index) for index in range(5)])
FUNDINGS: Final = pa.schema([("timestamp", pa.timestamp("ms")), ("rate", pa.float64())])
"""Rates are fractions an hour, positive where longs pay."""
TRADES: Final = pa.schema(
    [
        ("timestamp", pa.timestamp("ns")),
        ("price", pa.float64()),
        ("size", pa.float64()),
        ("side", pa.int8()),
        ("id", pa.int64()),
        ("type", pa.string()),
    ]
)
"""Side 1: the taker bought. Times grow: trades of one microsecond are a nanosecond apart."""

_SETTLED_MS: Final = 300_000  # what ended so long ago has all its rows, whatever the clocks say
_SETTLED_FUNDING_MS: Final = 2 * 3_600_000
_DAY_MS: Final = 86_400_000
_BAD_REQUEST: Final = 400

Deal = tuple[int, int, float, float, int, str]
"""Executed µs, id, price, size, side, type."""


class MarketName(NamedTuple):
    """A market by what the venue calls it."""

    market_id: int
    symbol: str


class HistoryTables:
    """Give ranges of history as tables, sorted by time.

    Args:
        history: fetches what is not cached.
        cache: of closed pages; None for none.
        now_ms: the venue's time.
    """

    def __init__(self, history: LighterHistory, cache: PageCache | None, now_ms: Callable[[], int]) -> None:
        self._history = history
        self._cache = cache
        self._now_ms = now_ms
        self._locks: defaultdict[PageKey, asyncio.Lock] = defaultdict(asyncio.Lock)

    # --- candles and funding -----------------------------------------------------------------------------------------

    async def candles(
        self, market: MarketName, resolution: str, start_ms: int, end_ms: int, *, mark: bool = False
    ) -> pa.Table:
        """Fetch the candles that open in [start, end); schema ``CANDLES``, or ``MARK_CANDLES`` of the mark price."""
        span = PAGE_OPENS * RESOLUTIONS[resolution]
        bounds = [(start, start + span) for start in range(start_ms // span * span, end_ms, span)]

        async def fetch(begin_ms: int, stop_ms: int) -> pa.Table:
            if mark:
                return _marks(await self._history.candles(market.market_id, resolution, begin_ms, stop_ms, mark=True))
            return _candles(await self._history.candles(market.market_id, resolution, begin_ms, stop_ms))

        kind = f"{'mark' if mark else 'candles'}-{resolution}"
        schema = MARK_CANDLES if mark else CANDLES
        wanted = (start_ms, end_ms)
        return await self._pages(market, kind, schema, fetch, bounds=bounds, wanted=wanted, settled_ms=_SETTLED_MS)

    async def fundings(self, market: MarketName, start_ms: int, end_ms: int) -> pa.Table:
        """Fetch the settlements in [start, end); schema ``FUNDINGS``."""

        async def fetch(begin_ms: int, stop_ms: int) -> pa.Table:
            return _fundings(await self._history.fundings(market.market_id, begin_ms, stop_ms))

        bounds, wanted = list(_months(start_ms, end_ms)), (start_ms, end_ms)
        return await self._pages(
            market, "fundings", FUNDINGS, fetch, bounds=bounds, wanted=wanted, settled_ms=_SETTLED_FUNDING_MS
        )

    async def first_candle_ms(self, market: MarketName) -> int | None:
        """Find when a market's history begins; None where it has none."""
        return await self._history.first_candle_ms(market.market_id, self._now_ms())

    async def _pages(
        self,
        market: MarketName,
        kind: str,
        schema: pa.Schema,
        fetch: Callable[[int, int], Awaitable[pa.Table]],
        *,
        bounds: Sequence[tuple[int, int]],
        wanted: tuple[int, int],
        settled_ms: int,
    ) -> pa.Table:
        """Put a range together from its pages; ``fetch`` gives a range that the cache does not have."""

        async def page(start_ms: int, end_ms: int) -> pa.Table:
            if self._cache is None or end_ms > self._now_ms() - settled_ms:
                return await fetch(max(start_ms, wanted[0]), min(end_ms, wanted[1]))
            key = PageKey(market.market_id, market.symbol, kind, start_ms)
            async with self._locks[key]:
                kept = self._cache.read(key, schema)
                if kept is None:
                    kept = Page(await fetch(start_ms, end_ms), {})
                    self._cache.write(key, kept.rows)
                return kept.rows

        tables = await together(page(*bound) for bound in bounds)
        return _within(pa.concat_tables([schema.empty_table(), *tables]), *wanted)

    # --- trades ------------------------------------------------------------------------------------------------------

    async def trades(self, market: MarketName, start_ms: int, end_ms: int) -> pa.Table:
        """Fetch the trades executed in [start, end); schema ``TRADES``."""
        days = range(start_ms // _DAY_MS * _DAY_MS, end_ms, _DAY_MS)
        async with self._locks[_day_key(market, -_DAY_MS)]:  # one walk of a market at a time
            found = {day: page.rows for day in days if (page := self._kept(market, day)) is not None}
            for run in _runs([day for day in days if day not in found]):
                found |= await self._walk(market, run, start_ms)
        return _within(pa.concat_tables([TRADES.empty_table(), *(found[day] for day in days)]), start_ms, end_ms)

    def _kept(self, market: MarketName, day: int) -> Page | None:
        return self._cache.read(_day_key(market, day), TRADES) if self._cache is not None else None

    async def _walk(
        self, market: MarketName, days: Sequence[int], start_ms: int, *, resume: bool = True
    ) -> dict[int, pa.Table]:
        """Walk back over neighbouring days, oldest first in ``days``: from where a kept day leads on, else from now."""
        closed_ms = self._now_ms() - _SETTLED_MS if self._cache is not None else 0
        reach_ms = days[0] if days[0] + _DAY_MS <= closed_ms else max(days[0], start_ms)
        after = self._kept(market, days[-1] + _DAY_MS) if resume else None
        way = _Way.of(after.notes) if after is not None else _Way()
        walk = _Walk(days, closed_ms, way.cursor)
        try:
            async for page in self._history.trade_pages(market.market_id, cursor=way.cursor):
                if way.cursor is not None and walk.fresh and all(row.trade_id < way.newest_id for row in page.rows):
                    return await self._walk(market, days, start_ms, resume=False)  # it leads elsewhere now
                for day, table, onward in walk.take(page):
                    if self._cache is not None:
                        self._cache.write(_day_key(market, day), table, onward.notes)
                if walk.reached_ms < reach_ms - TRADE_TIME_SLACK_MS:
                    break
        except VenueError as error:
            if way.cursor is None or not walk.fresh or error.status != _BAD_REQUEST:
                raise
            return await self._walk(market, days, start_ms, resume=False)
        return walk.tables()


# --- a walk over trades ----------------------------------------------------------------------------------------------


class _Way(NamedTuple):
    """A cursor, and the newest trade of the page that it led to, to recognise it by."""

    cursor: str | None = None
    newest_id: int = 0

    @classmethod
    def of(cls, notes: Mapping[str, str]) -> _Way:
        """Read it from a page's notes."""
        return cls(notes["cursor"], int(notes["newest"])) if "cursor" in notes else cls()

    @property
    def notes(self) -> dict[str, str]:
        """Write it into a page's notes."""
        return {"cursor": self.cursor, "newest": str(self.newest_id)} if self.cursor is not None else {}


class _Walk:
    """Sort pages of trades, newest first, into days.

    Args:
        days: that are wanted, neighbours, oldest first.
        closed_ms: days that end before are given out when they are complete, wanted or not.
        cursor: where the walk begins; None for the newest trade.
    """

    def __init__(self, days: Sequence[int], closed_ms: int, cursor: str | None) -> None:
        self._days = range(days[0], days[-1] + 1, _DAY_MS)
        self._closed_ms = closed_ms
        self._deals: defaultdict[int, dict[int, Deal]] = defaultdict(dict)
        self._tables: dict[int, pa.Table] = {}
        self._ways: dict[int, _Way] = {}  # day -> how to go on to the days before
        self._came_by = cursor
        self._newest: int | None = None  # the newest day that is to be completed
        self._is_whole = cursor is None  # else days after the wanted ones begin in the middle
        self.reached_ms = -1

    @property
    def fresh(self) -> bool:
        """Tell whether no page was taken yet."""
        return self._newest is None

    def take(self, page: TradePage) -> list[tuple[int, pa.Table, _Way]]:
        """Take the next page; give the closed days that are complete now."""
        deals = [(executed_us(row) // 1000 // _DAY_MS * _DAY_MS, row) for row in page.rows]
        if self._newest is None:
            self._newest = max([self._days[-1], *(day for day, _ in deals)])
        for day, row in deals:
            if day in self._days or self._is_closed(day):
                self._deals[day][row.trade_id] = _deal(row)
        self.reached_ms = min((row.timestamp for row in page.rows), default=0) if page.cursor is not None else 0
        way = _Way(self._came_by, max((row.trade_id for row in page.rows), default=0))
        self._came_by = page.cursor
        complete = []
        for day in range(self._newest, self._days[0] - 1, -_DAY_MS):
            if self.reached_ms >= day + TRADE_TIME_SLACK_MS:
                break
            self._ways.setdefault(day, way)
            if self.reached_ms < day - TRADE_TIME_SLACK_MS:
                table = _trades(self._deals.pop(day, {}).values())
                if day in self._days:
                    self._tables[day] = table
                if self._is_closed(day):
                    complete.append((day, table, self._ways[day]))
                self._newest = day - _DAY_MS
        return complete

    def tables(self) -> dict[int, pa.Table]:
        """Give the wanted days, the oldest as far as the walk went."""
        return {day: _trades(self._deals[day].values()) for day in self._days} | self._tables

    def _is_closed(self, day: int) -> bool:
        return day + _DAY_MS <= self._closed_ms and (self._is_whole or day <= self._days[-1])


def _runs(days: Sequence[int]) -> list[list[int]]:
    """Split days, oldest first, into runs of neighbours, the newest run first."""
    runs: list[list[int]] = []
    for day in days:
        if runs and runs[-1][-1] == day - _DAY_MS:
            runs[-1].append(day)
        else:
            runs.append([day])
    return runs[::-1]


def _day_key(market: MarketName, day: int) -> PageKey:
    return PageKey(market.market_id, market.symbol, "trades", day)


# --- rows to tables --------------------------------------------------------------------------------------------------


def _candles(rows: Sequence[wire.CandleRow]) -> pa.Table:
    columns = [[getattr(row, name) for row in rows] for name in "tohlcvV"]
    return pa.table(columns, schema=CANDLES)


def _marks(rows: Sequence[wire.MarkCandleRow]) -> pa.Table:
    columns = [[getattr(row, name) for row in rows] for name in "tohlc"]
    return pa.table(columns, schema=MARK_CANDLES)


def _fundings(rows: Sequence[wire.FundingRow]) -> pa.Table:
    return pa.table([[row.timestamp * 1000 for row in rows], [signed_rate(row) for row in rows]], schema=FUNDINGS)


def signed_rate(row: wire.FundingRow) -> float:
    """Give a settlement's rate as a fraction an hour, positive where longs pay.

    Raises:
        WireError: the row does not say who pays.
    """
    match row.direction:
        case "long":
            return row.rate / 100
        case "short":
            return -row.rate / 100
        case _ if row.rate == 0:
            return 0.0
        case _:
            raise WireError(f"a funding of {row.timestamp} has the unknown direction {row.direction!r}")


def _deal(row: wire.TradeRow) -> Deal:
    return executed_us(row), row.trade_id, row.price, row.size, 1 if row.is_maker_ask else -1, row.type


def _trades(deals: Iterable[Deal]) -> pa.Table:
    ordered = sorted(deals)
    times: list[int] = []
    for deal in ordered:
        times.append(max(deal[0] * 1000, times[-1] + 1 if times else 0))
    columns = [[deal[index] for deal in ordered] for index in (2, 3, 4, 1, 5)]
    return pa.table([times, *columns], schema=TRADES)


def _within(table: pa.Table, start_ms: int, end_ms: int) -> pa.Table:
    """Cut a table, sorted by time, to [start, end)."""
    times = table.column(0).to_numpy()
    first, stop = np.searchsorted(times, np.array([start_ms, end_ms], "datetime64[ms]").astype(times.dtype))
    return table.slice(int(first), int(stop - first)).combine_chunks()


def _months(start_ms: int, end_ms: int) -> Iterator[tuple[int, int]]:
    """Give the bounds of the calendar months, UTC, that a range touches."""
    at = datetime.fromtimestamp(start_ms / 1000, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while (begin_ms := round(at.timestamp() * 1000)) < end_ms:
        at = (at + timedelta(days=31)).replace(day=1)
        yield begin_ms, round(at.timestamp() * 1000)
