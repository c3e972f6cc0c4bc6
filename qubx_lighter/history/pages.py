"""The venue's history, page by page, without a hole and without a duplicate.

Candles come by windows of at most 500 opens. The venue may ignore where a window begins: it gives the newest
``count_back`` candles before the end, older ones than asked for where a market rested, fewer where nothing was traded, and
the one in progress. So each request names the exact number of opens in its window, what lies outside is dropped, and a
page that begins inside its window is followed by one for what is before it, until nothing comes. That costs one request
more where a market's history begins, and finds out about any limit below 500 as well.

Settlements of funding come the same way, asked for with an hour more on each side since bounds are excluded.

Trades have no windows: pages lead from the newest back, sorted by block time, which is up to 20 s off that of execution.

A refusal for the rate limit stops all requests of an object for a while, and is raised if that does not help.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final, Literal, NamedTuple, Protocol, overload

from loguru import logger

from qubx_lighter.client import LighterClient
from qubx_lighter.constants import RESOLUTIONS, Code
from qubx_lighter.errors import VenueError, WireError
from qubx_lighter.protocol import wire

PAGE_OPENS: Final = 500
"""The venue's maximum of candles in a page."""
TRADE_TIME_SLACK_MS: Final = 30_000
"""More than a trade's block time can be off that of its execution."""

_LEAST_OPENS: Final = 2  # a window of a single candle is refused
_HOUR_MS: Final = 3_600_000
_PAGE_HOURS: Final = 698  # and one on each side; the venue gives about 750
_RATE_LIMITED: Final = (405, 429)  # HTTP, where the body has no code of the venue
_PAUSES_S: Final = (5.0, 15.0, 30.0, 60.0)  # the venue's window is a minute


class TradePage(NamedTuple):
    """Some trades, newest first, and the way to those before; no cursor means that these were the oldest."""

    rows: list[wire.TradeRow]
    cursor: str | None


class _Timed(Protocol):
    """A candle of any kind."""

    t: int


class LighterHistory:
    """Read whole ranges over REST; on the caller's loop, from any number of its tasks.

    Args:
        client: asks for single pages.
        concurrency: requests in flight at most.
        sleep: pauses for seconds after a refusal.
    """

    def __init__(
        self,
        client: LighterClient,
        *,
        concurrency: int = 3,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._slots = asyncio.Semaphore(concurrency)
        self._sleep = sleep
        self._allowed = asyncio.Event()
        self._allowed.set()

    # --- candles -----------------------------------------------------------------------------------------------------

    @overload
    async def candles(
        self, market_id: int, resolution: str, start_ms: int, end_ms: int, *, mark: Literal[False] = False
    ) -> list[wire.CandleRow]: ...

    @overload
    async def candles(
        self, market_id: int, resolution: str, start_ms: int, end_ms: int, *, mark: Literal[True]
    ) -> list[wire.MarkCandleRow]: ...

    async def candles(
        self, market_id: int, resolution: str, start_ms: int, end_ms: int, *, mark: bool = False
    ) -> list[wire.CandleRow] | list[wire.MarkCandleRow]:
        """Fetch the candles that open in [start, end), oldest first; the one in progress is among them.

        Args:
            market_id: of which market.
            resolution: one of ``constants.RESOLUTIONS``.
            start_ms: the first time.
            end_ms: the first time beyond.
            mark: of the mark price in place of trades.

        Raises:
            ValueError: the venue has no such resolution.
            VenueError: the venue refuses.
            TransportError: the venue cannot be reached.
            WireError: a candle does not lie on the grid of its resolution.
        """
        if mark:
            fetch = self._client.mark_price_candles
            return await self._windows(fetch, "markPriceCandles", market_id, resolution, window=(start_ms, end_ms))
        return await self._windows(self._client.candles, "candles", market_id, resolution, window=(start_ms, end_ms))

    async def newest_candles(
        self, market_id: int, resolution: str, *, count: int, end_ms: int, since_ms: int
    ) -> AsyncIterator[list[wire.CandleRow]]:
        """Page back over the candles that open before a time, the newest page first, each oldest first.

        The first request is for ``count`` opens, at most a page of them: where a market rested, the venue fills it up
        with candles from before. Every further one is for all that is left, of which the venue gives the newest.

        Args:
            market_id: of which market.
            resolution: one of ``constants.RESOLUTIONS``.
            count: how many candles there would be if the market never rested.
            end_ms: the first time beyond.
            since_ms: before it there are none.

        Raises:
            WireError: a candle does not lie on the grid of its resolution; otherwise as ``candles``.
        """
        length = RESOLUTIONS[resolution]
        end, since = _up(end_ms, length), since_ms // length * length
        start = end - count * length
        while True:
            start = min(max(start, since), end - _LEAST_OPENS * length)
            opens = min(PAGE_OPENS, (end - start) // length)
            rows = await self._ask(self._client.candles, market_id, resolution, start, end - 1, opens)
            _check_grid(rows, "candles", market_id, resolution)
            found = {row.t: row for row in rows if row.t < end}
            if found:
                yield [found[open_ms] for open_ms in sorted(found)]
            end = min(found, default=start)
            if end <= since:
                return
            start = since

    async def first_candle_ms(self, market_id: int, now_ms: int) -> int | None:
        """Find the open of a market's first daily candle; None where it has none."""
        day_ms = RESOLUTIONS["1d"]
        end_ms, first_ms = now_ms, None
        while found := await self.candles(market_id, "1d", end_ms - PAGE_OPENS * day_ms, end_ms):
            first_ms = end_ms = found[0].t
        return first_ms

    async def _windows[R: _Timed](
        self,
        fetch: Callable[[int, str, int, int, int], Awaitable[list[R]]],
        endpoint: str,
        market_id: int,
        resolution: str,
        *,
        window: tuple[int, int],
    ) -> list[R]:
        length = RESOLUTIONS.get(resolution)
        if length is None:
            raise ValueError(f"the venue has no {resolution} candles: {', '.join(RESOLUTIONS)}")
        first, stop = (_up(time_ms, length) for time_ms in window)
        span = PAGE_OPENS * length

        async def page(begin: int, end: int) -> list[R]:
            found: dict[int, R] = {}
            while begin < end:
                count = max(_LEAST_OPENS, (end - begin) // length)
                rows = await self._ask(fetch, market_id, resolution, end - count * length, end - 1, count)
                _check_grid(rows, endpoint, market_id, resolution)
                inside = [row for row in rows if begin <= row.t < end]
                found |= {row.t: row for row in inside}
                if not inside or min(row.t for row in rows) <= begin:
                    break
                end = min(row.t for row in inside)
            return [found[open_ms] for open_ms in sorted(found)]

        pages = await together(page(begin, min(begin + span, stop)) for begin in range(first, stop, span))
        return [row for rows in pages for row in rows]

    # --- funding -----------------------------------------------------------------------------------------------------

    async def fundings(self, market_id: int, start_ms: int, end_ms: int) -> list[wire.FundingRow]:
        """Fetch the hourly settlements in [start, end), oldest first.

        Raises:
            WireError: a settlement is not on the hour; otherwise as ``candles``.
        """
        first, stop = _up(start_ms, _HOUR_MS), _up(end_ms, _HOUR_MS)
        span = _PAGE_HOURS * _HOUR_MS

        async def page(begin: int, end: int) -> list[wire.FundingRow]:
            found: dict[int, wire.FundingRow] = {}
            while begin < end:
                count = (end - begin) // _HOUR_MS + 2
                rows = await self._ask(self._client.fundings, market_id, "1h", begin - _HOUR_MS, end, count)
                times = [row.timestamp * 1000 for row in rows]
                if any(time % _HOUR_MS for time in times):
                    raise WireError(f"fundings of market {market_id}: a settlement that is not on the hour")
                inside = {time: row for time, row in zip(times, rows, strict=True) if begin <= time < end}
                found |= inside
                if not inside or min(times) <= begin:
                    break
                end = min(inside)
            return [found[time] for time in sorted(found)]

        pages = await together(page(begin, min(begin + span, stop)) for begin in range(first, stop, span))
        return [row for rows in pages for row in rows]

    # --- trades ------------------------------------------------------------------------------------------------------

    async def trades(
        self, market_id: int, *, start_ms: int | None = None, end_ms: int | None = None, after_id: int | None = None
    ) -> list[wire.TradeRow]:
        """Fetch trades, oldest first, each once.

        Args:
            market_id: of which market.
            start_ms: executed then or later.
            end_ms: executed before; all pages from the newest trade on are read in any case.
            after_id: newer than this one.

        Raises:
            WireError: the pages run in a circle, or hold another market's trades; otherwise as ``candles``.
        """
        found: dict[int, wire.TradeRow] = {}
        seen_ms: int | None = None  # block time of the newest row that is known already
        async for page in self.trade_pages(market_id):
            known = [row.timestamp for row in page.rows if after_id is not None and row.trade_id <= after_id]
            seen_ms = max(known) if seen_ms is None and known else seen_ms
            for row in page.rows:
                executed_ms = executed_us(row) / 1000
                if (
                    (after_id is None or row.trade_id > after_id)
                    and (start_ms is None or executed_ms >= start_ms)
                    and (end_ms is None or executed_ms < end_ms)
                ):
                    found[row.trade_id] = row
            oldest_ms = min((row.timestamp for row in page.rows), default=0)
            if seen_ms is not None and oldest_ms < seen_ms:  # rows of one block come in no promised order
                break
            if start_ms is not None and oldest_ms < start_ms - TRADE_TIME_SLACK_MS:
                break
        return sorted(found.values(), key=lambda row: (executed_us(row), row.trade_id))

    async def trade_pages(self, market_id: int, *, cursor: str | None = None) -> AsyncIterator[TradePage]:
        """Page back from the newest trade, or from where a cursor leads; pages may overlap.

        Raises:
            WireError: the pages run in a circle, or hold another market's trades; otherwise as ``candles``.
        """
        seen = {cursor}
        while True:
            body = await self._ask(self._client.market_trades, market_id, cursor=cursor)
            rows = sorted(body.trades or [], key=lambda row: row.trade_id, reverse=True)
            if any(row.market_id != market_id for row in rows):
                raise WireError(f"trades of market {market_id}: a trade of another market")
            cursor = body.next_cursor or None
            if not rows or cursor is None:
                yield TradePage(rows, None)
                return
            if cursor in seen:
                raise WireError(f"trades of market {market_id}: the venue repeats a page cursor")
            seen.add(cursor)
            yield TradePage(rows, cursor)

    async def recent_trades(self, market_id: int) -> list[wire.TradeRow]:
        """Fetch the newest 100 trades, oldest first."""
        rows = await self._ask(self._client.recent_trades, market_id)
        return sorted(rows, key=lambda row: row.trade_id)

    # --- one request -------------------------------------------------------------------------------------------------

    async def _ask[**P, T](self, ask: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Ask when it is allowed; again after a refusal for the rate limit."""
        async with self._slots:
            for pause_s in (*_PAUSES_S, None):
                await self._allowed.wait()
                try:
                    return await ask(*args, **kwargs)
                except VenueError as error:
                    limited = error.code == Code.TOO_MANY_REQUESTS or error.status in _RATE_LIMITED
                    if pause_s is None or not limited:
                        raise
                    await self._pause(error.retry_after_s or pause_s)
            raise AssertionError("the last pass returns or raises")

    async def _pause(self, pause_s: float) -> None:
        """Let nobody ask for a while; of several refusals at a time the first one counts."""
        if not self._allowed.is_set():
            return
        logger.warning("lighter: the venue refuses history for its rate limit, pausing {:.0f} s", pause_s)
        self._allowed.clear()
        try:
            await self._sleep(pause_s)
        finally:
            self._allowed.set()


def _check_grid(rows: Iterable[_Timed], endpoint: str, market_id: int, resolution: str) -> None:
    if any(row.t % RESOLUTIONS[resolution] for row in rows):
        raise WireError(f"{endpoint} of market {market_id}: a candle off the grid of {resolution}")


def executed_us(row: wire.TradeRow) -> int:
    """Tell when a trade was executed, as exactly as its row says."""
    return row.transaction_time or row.timestamp * 1000


async def together[T](work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines at a time and give their results in order; the first error ends the others and is raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _up(time_ms: int, grid_ms: int) -> int:
    return -(-time_ms // grid_ms) * grid_ms
