"""The venue's past in Qubx's terms: warm-up, bars on request, and what a stream missed.

Qubx calls from its own threads and waits; the fetching happens on the loop that the sockets run on, at the pace that the
venue allows.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple

from qubx import logger
from qubx.core.basics import CtrlChannel, DataType, Instrument
from qubx.core.exceptions import NotSupported
from qubx.core.series import Bar
from qubx.utils.time import to_timedelta

from qubx_lighter.constants import RESOLUTIONS
from qubx_lighter.errors import TransportError, UnknownMarketError
from qubx_lighter.handlers import Missing, bar_of, payment_of, trade_of
from qubx_lighter.history.pages import LighterHistory
from qubx_lighter.history.times import bar_length_ms
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.markets import Market
from qubx_lighter.protocol.timeframes import bar_open, merge, resolution_for
from qubx_lighter.protocol.wire import CandleRow

_BARS_TIMEOUT_S: Final = 60.0  # Qubx's own connectors wait as long
_STALLED_S: Final = 120.0  # a warm-up may take as long as the pace needs, but not stand still
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000
_NS_A_MS: Final = 1_000_000

_WITH_HISTORY: Final = (DataType.OHLC, DataType.TRADE, DataType.FUNDING_PAYMENT)


class _Read(NamedTuple):
    """The history of one subscription; of bars also their length in ms and the resolution that adds up to it."""

    subscription: str
    base: DataType
    instrument: Instrument
    market_id: int
    start_ms: int
    bars: tuple[int, str] | None


class HistoryReads:
    """Answer Qubx from the venue's history.

    Args:
        history: fetches.
        instruments: resolves.
        channel: Qubx's, where a warm-up goes.
        counters: counts objects.
        clock_ns: the wall clock, ns.
        loop: where ``history`` runs.
    """

    def __init__(
        self,
        history: LighterHistory,
        instruments: LighterInstrumentLoader,
        *,
        channel: CtrlChannel,
        counters: Counter[str],
        clock_ns: Callable[[], int],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._history = history
        self._instruments = instruments
        self._channel = channel
        self._counters = counters
        self._clock_ns = clock_ns
        self._loop = loop

    # --- for Qubx's threads ------------------------------------------------------------------------------------------

    def bars(self, instrument: Instrument, timeframe: str, count: int) -> list[Bar]:
        """Fetch the last ``count`` bars, oldest first, the forming one last.

        Where nothing was traded there is no bar, so they reach back as far as it takes; fewer come of a younger market
        only. Qubx asks anew whenever it has fewer than a strategy wants.

        Raises:
            NotSupported: no candles of the venue add up to this timeframe.
            LighterError: the venue could not be asked, or does not list the instrument.
        """
        timeframe_ms, resolution = _resolution(timeframe)
        market = self._instruments.market(instrument)
        if count < 1:
            return []
        return self._wait(self._newest(market, resolution, timeframe_ms, count), _BARS_TIMEOUT_S)

    def warmup(self, configs: dict[tuple[str, Instrument], str]) -> None:
        """Put the history of subscriptions on Qubx's channel and return when all of it is there.

        What cannot be had, bars below a minute for instance, is reported and left out: the other subscriptions begin
        with their history all the same.

        Raises:
            LighterError: the venue could not be asked; nothing more of it comes after that.
        """
        planned = [self._planned(*subscription, period) for subscription, period in configs.items()]
        if reads := [self._warm(read) for read in planned if read is not None]:
            self._wait(self._all(reads), None)

    # --- for streams, on the loop ------------------------------------------------------------------------------------

    async def fetch_missing(self, market_id: int, missing: Missing) -> Sequence[Any]:
        """Fetch what a handler missed, oldest first.

        Raises:
            LighterError: the venue could not be asked.
        """
        end_ms = self._now_ms() + 1
        match missing.kind:
            case "trades":
                return await self._history.trades(market_id, after_id=missing.after)
            case "candles":
                return await self._history.candles(market_id, missing.resolution, missing.after, end_ms)
            case "fundings":
                start_ms = bar_open(missing.after, _HOUR_MS) + _HOUR_MS
                return await self._history.fundings(market_id, start_ms, end_ms)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _planned(self, subscription: str, instrument: Instrument, period: str) -> _Read | None:
        """Find out what to ask the venue for; None where there is nothing to be had."""
        try:
            base, parameters = DataType.from_str(subscription)
            if base not in _WITH_HISTORY:
                logger.debug("lighter: {} has no history to warm up from", subscription)
                return None
            market_id = self._instruments.market(instrument).market_id
            bars = _resolution(parameters.get("timeframe", "")) if base is DataType.OHLC else None
            start_ms = self._now_ms() - int(to_timedelta(period).value) // _NS_A_MS
        except (NotSupported, UnknownMarketError, ValueError) as error:
            logger.error("lighter: {} of {} begins without history: {}", subscription, instrument.symbol, str(error))
            return None
        return _Read(subscription, base, instrument, market_id, start_ms, bars)

    async def _all(self, reads: list[Coroutine[Any, Any, None]]) -> None:
        """Run all reads; the first failure ends the others, or late bars would land behind live ones."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(read) for read in reads]
            waiting = set(tasks)
            while waiting:
                done, waiting = await asyncio.wait(waiting, timeout=_STALLED_S, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    raise TransportError(f"the warm-up stands still: nothing came within {_STALLED_S:g} s")
                if any(task.exception() is not None for task in done):
                    break

    async def _warm(self, read: _Read) -> None:
        end_ms = self._now_ms() + 1
        items: list[Any]
        match read.base:
            case DataType.OHLC if read.bars is not None:
                timeframe_ms, resolution = read.bars
                start_ms = bar_open(read.start_ms, timeframe_ms)
                items = list(await self._bars(read.market_id, resolution, timeframe_ms, start_ms, end_ms))
            case DataType.TRADE:
                trades = await self._history.trades(read.market_id, start_ms=read.start_ms, end_ms=end_ms)
                items = [trade_of(row) for row in trades]
            case _:
                fundings = await self._history.fundings(read.market_id, read.start_ms, end_ms)
                items = [payment_of(row) for row in fundings]
        self._counters["history_objects"] += len(items)
        if items:
            self._channel.send((read.instrument, read.subscription, items, True))

    async def _bars(self, market_id: int, resolution: str, timeframe_ms: int, start_ms: int, end_ms: int) -> list[Bar]:
        rows = await self._history.candles(market_id, resolution, start_ms, end_ms)
        merged = rows if RESOLUTIONS[resolution] == timeframe_ms else merge(rows, timeframe_ms)
        return [bar_of(row) for row in merged]

    async def _newest(self, market: Market, resolution: str, timeframe_ms: int, count: int) -> list[Bar]:
        now_ms = self._now_ms()
        length_ms = RESOLUTIONS[resolution]
        start_ms = bar_open(now_ms, timeframe_ms) - (count - 1) * timeframe_ms
        pages = self._history.newest_candles(
            market.market_id,
            resolution,
            count=(bar_open(now_ms, length_ms) - start_ms) // length_ms + 1,
            end_ms=now_ms + 1,
            since_ms=bar_open(market.created_at_ns // _NS_A_MS, _DAY_MS),
        )
        rows: list[CandleRow] = []
        bars: list[CandleRow] = []
        async for page in pages:
            rows = page + rows
            bars = merge(rows, timeframe_ms)
            if len(bars) > count or (len(bars) == count and rows[0].t == bars[0].t):  # else the oldest is a part of one
                break
        return [bar_of(row) for row in bars[-count:]]

    def _wait[T](self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None) -> T:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout_s)
        except concurrent.futures.TimeoutError as error:
            future.cancel()
            raise TransportError(f"no history within {timeout_s:g} s") from error
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    def _now_ms(self) -> int:
        return self._clock_ns() // _NS_A_MS


def _resolution(timeframe: str) -> tuple[int, str]:
    """Give a timeframe in ms and the venue's resolution that adds up to it.

    Raises:
        NotSupported: there is none.
    """
    try:
        timeframe_ms = bar_length_ms("ohlc", timeframe)
    except ValueError:
        timeframe_ms = 0
    resolution = resolution_for(timeframe_ms)
    if resolution is None:
        raise NotSupported(
            f"LIGHTER: no history of {timeframe} bars: the venue's candles are {', '.join(RESOLUTIONS)}, and add up to "
            "their multiples only"
        )
    return timeframe_ms, resolution
