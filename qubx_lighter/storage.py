"""History for backtests, warm-up and research: ``storage: lighter``, or ``qubx_lighter.storage.LighterStorage``.

No keys are needed. ``ohlc(timeframe)`` of any whole number of minutes, ``trade`` and ``liquidation``; of perpetuals also
``funding_payment``, ``funding_rate``, and candles of the mark price: ``ohlc(1m)`` read with ``price="mark"``, or the type
``mark_ohlc(1m)``. The venue tells neither candles of the index price nor open interest of the past, and of a candle
neither the number of trades nor what the takers bought.

Both ends of a range are included, as in Qubx's ccxt storage. A range begins at a market's listing at the earliest and ends
now at the latest; nothing else is cut, and what cannot be read is an error.

Light to import, since a live run registers the name: what does the work is imported when a storage is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa
from qubx.core.basics import DataType, MarketType
from qubx.data.containers import RawData, RawMultiData
from qubx.data.registry import storage
from qubx.data.storage import IReader, IStorage, Transformable
from qubx.utils.misc import BackgroundEventLoop

from qubx_lighter.constants import EXCHANGE, NETWORKS
from qubx_lighter.errors import ConfigurationError, TransportError

if TYPE_CHECKING:
    from qubx.rate_limiting import ExchangeRateLimiter

    from qubx_lighter.history.qubx_types import VenueHistory, Wanted
    from qubx_lighter.markets import Market

_MARKET_TYPES: Final = (MarketType.SWAP, MarketType.SPOT)
_LEAST_ROWS: Final = 2  # of a chunk: Qubx infers the frequency from each


@storage("lighter")
class LighterStorage(IStorage):
    """Read Lighter's history; its instruments are made known to Qubx at once.

    Args:
        base_url: of the venue, ``https://host``; or the name of a network, so that ``lighter::testnet`` works.
        network: ``mainnet``, ``testnet``, ``robinhood`` or ``robinhood-testnet``, in place of ``base_url``. What is given
            nowhere comes from ``LIGHTER_*`` variables and the defaults of ``settings``.
        symbol_format: ``BASE-QUOTE`` or ``BASEQUOTE``.
        cache_dir: where pages are kept; ``~/.qubx/cache/lighter`` by default, except for a venue on this machine, whose
            past may be another one every time it starts; False keeps none.
        rate_limiters: Qubx's, by exchange.
        requests_per_minute: in place of what the venue allows an address without a tier.
        concurrency: requests in flight at most.

    Raises:
        ConfigurationError: a setting is wrong.
        LighterError: the venue's markets cannot be read.
    """

    def __init__(
        self,
        base_url: str | None = None,
        network: str | None = None,
        *,
        symbol_format: str | None = None,
        cache_dir: str | Path | Literal[False] | None = None,
        rate_limiters: Mapping[str, ExchangeRateLimiter] | None = None,
        requests_per_minute: int | None = None,
        concurrency: int = 3,
        **_: Any,
    ) -> None:
        from qubx_lighter.history.qubx_types import VenueHistory
        from qubx_lighter.settings import LighterSettings

        if base_url in NETWORKS:
            base_url, network = None, base_url
        settings = LighterSettings.build(
            {
                "base_url": base_url,
                "network": network,
                "symbol_format": symbol_format,
                "requests_per_minute": requests_per_minute,
            }
        )
        limiters = {name.upper(): limiter for name, limiter in (rate_limiters or {}).items()}
        folder = Path(cache_dir) if isinstance(cache_dir, str) else cache_dir

        async def opened() -> VenueHistory:
            history = VenueHistory(settings, cache_dir=folder, limiter=limiters.get(EXCHANGE), concurrency=concurrency)
            try:
                await history.open()
            except BaseException:
                await history.close()
                raise
            return history

        self._loop: BackgroundEventLoop | None = BackgroundEventLoop(name="LighterStorage")
        try:
            self._history = self.run(opened())
        except BaseException:
            self._stop()
            raise

    def get_exchanges(self) -> list[str]:
        """List the exchange."""
        return [EXCHANGE]

    def get_market_types(self, exchange: str) -> list[str]:
        """List the types of markets."""
        return [one.value for one in _MARKET_TYPES] if exchange.upper() == EXCHANGE else []

    def get_reader(self, exchange: str, market: str) -> LighterReader:
        """Return the reader of one type of markets.

        Raises:
            ValueError: there is no such exchange or type here.
        """
        if market.upper() not in self.get_market_types(exchange):
            raise ValueError(
                f"no {exchange}:{market} here: {EXCHANGE} has {', '.join(self.get_market_types(EXCHANGE))}"
            )
        return LighterReader(self, self._history, MarketType(market.upper()))

    def close(self) -> None:
        """Close the connections; what is being read ends with an error. Idempotent."""
        if self._loop is not None:
            try:
                self.run(self._history.close())
            finally:
                self._stop()

    def run[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Run on this storage's loop and wait; from any thread.

        Raises:
            ConfigurationError: the storage is closed.
            TransportError: it was closed meanwhile.
        """
        if self._loop is None:
            work.close()
            raise ConfigurationError("this storage is closed")
        future: Future[T] = self._loop.submit(work)
        try:
            return future.result()
        except CancelledError:
            raise TransportError("the storage was closed while it was reading") from None
        except BaseException:
            future.cancel()  # who was interrupted wants nothing more
            raise

    def _stop(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.submit(_cancel_others()).result()
            loop.stop()
            loop.loop.close()


class LighterReader(IReader):
    """Read one type of markets; made by ``LighterStorage.get_reader``, which also closes it."""

    is_rate_limited = True

    def __init__(self, owner: LighterStorage, history: VenueHistory, market_type: MarketType) -> None:
        self._owner = owner
        self._history = history
        self._market_type = market_type

    def read(
        self,
        data_id: str | Sequence[str],
        dtype: DataType | str,
        start: str | None = None,
        stop: str | None = None,
        chunksize: int = 0,
        **kwargs: Any,
    ) -> Iterator[Transformable] | Transformable:
        """Read rows, both ends included.

        Args:
            data_id: a symbol, several, or an empty list for all that trade.
            dtype: see the module.
            start: the first time; None means the listing. May be later than ``stop``: then they are swapped.
            stop: the last time; None means now.
            chunksize: about how many rows at a time: gives an iterator that reads as it goes. 0 for all at once.
            kwargs: ``price="mark"`` for candles of the mark price; others are ignored.

        Raises:
            ValueError: there is no such data.
            UnknownMarketError: an unknown symbol; the message names what comes close.
            LighterError: the venue cannot be read.
        """
        wanted = self._wanted(dtype, kwargs.get("price"))
        symbols = [data_id] if isinstance(data_id, str) else list(data_id) or self.get_data_id(dtype)
        markets = [self._history.market(self._market_type, symbol) for symbol in symbols]
        ranges = self._owner.run(self._history.ranges(wanted, markets, _bounds(start, stop)))
        if chunksize > 0:
            chunks = self._chunks(wanted, symbols, markets, ranges, chunksize=max(chunksize, _LEAST_ROWS))
            return (rows[0] for rows in chunks) if isinstance(data_id, str) else (RawMultiData(rows) for rows in chunks)
        tables = self._owner.run(self._history.read(wanted, markets, ranges))
        rows = [_raw(symbol, wanted, table) for symbol, table in zip(symbols, tables, strict=True)]
        return rows[0] if isinstance(data_id, str) else RawMultiData(rows)

    def get_data_id(self, dtype: DataType | str = DataType.ALL) -> list[str]:
        """List the symbols that trade; those that no longer do can be read by name.

        Raises:
            ValueError: there is no such data.
        """
        if str(dtype) not in (str(DataType.ALL), str(DataType.OHLC)):
            self._wanted(dtype, None)
        return self._history.symbols(self._market_type)

    def get_data_types(self, data_id: str) -> list[DataType]:
        """List the types that a symbol has.

        Raises:
            UnknownMarketError: an unknown symbol.
        """
        self._history.market(self._market_type, data_id)
        types = [DataType.OHLC, DataType.TRADE, DataType.LIQUIDATION]
        swap = self._market_type is MarketType.SWAP
        return [*types, DataType.FUNDING_PAYMENT, DataType.FUNDING_RATE] if swap else types

    def get_time_range(self, data_id: str, dtype: DataType | str) -> tuple[np.datetime64, np.datetime64]:
        """Tell the day of a market's listing, and now; whatever the type.

        Raises:
            UnknownMarketError: an unknown symbol.
        """
        del dtype
        market = self._history.market(self._market_type, data_id)
        times_ms = self._owner.run(self._history.listed_ms(market)), self._history.now_ms()
        first, last = (np.datetime64(time_ms, "ms").astype("datetime64[ns]") for time_ms in times_ms)
        return first, last

    def close(self) -> None:
        """Do nothing: the storage owns the connections."""

    def _wanted(self, dtype: DataType | str, price: str | None) -> Wanted:
        from qubx_lighter.history.qubx_types import Wanted

        return Wanted.parse(str(dtype), self._market_type, price)

    def _chunks(
        self,
        wanted: Wanted,
        symbols: Sequence[str],
        markets: Sequence[Market],
        ranges: Sequence[tuple[int, int]],
        *,
        chunksize: int,
    ) -> Iterator[list[RawData]]:
        """Read all symbols step by step, a chunk of each at a time; those without rows in a chunk are left out of it.

        The last two rows of each wait for the next step, so that none of its chunks is shorter.
        """
        waiting: dict[str, pa.Table] = {}
        for begin_ms, stop_ms in _windows(wanted, ranges, chunksize):
            parts = [(max(start, begin_ms), max(start, begin_ms, min(end, stop_ms))) for start, end in ranges]
            tables = self._owner.run(self._history.read(wanted, markets, parts))
            for symbol, table in zip(symbols, tables, strict=True):
                waiting[symbol] = pa.concat_tables([waiting[symbol], table]) if symbol in waiting else table
            while ready := [symbol for symbol, table in waiting.items() if table.num_rows >= 2 * _LEAST_ROWS]:
                sizes = {symbol: min(chunksize, waiting[symbol].num_rows - _LEAST_ROWS) for symbol in ready}
                yield [_raw(symbol, wanted, waiting[symbol].slice(0, size)) for symbol, size in sizes.items()]
                waiting |= {symbol: waiting[symbol].slice(size) for symbol, size in sizes.items()}
        if last := [_raw(symbol, wanted, table) for symbol, table in waiting.items() if table.num_rows]:
            yield last


def _windows(wanted: Wanted, ranges: Sequence[tuple[int, int]], chunksize: int) -> Iterator[tuple[int, int]]:
    """Cut the time that the ranges span; trades are not cut: pages of them lead back from the newest only."""
    begin_ms, end_ms = min(start for start, _ in ranges), max(end for _, end in ranges)
    if not wanted.step_ms:
        yield begin_ms, end_ms
        return
    span_ms = chunksize * wanted.step_ms
    first_ms = begin_ms // wanted.step_ms * wanted.step_ms
    yield from ((start, start + span_ms) for start in range(first_ms, end_ms, span_ms))


def _bounds(start: Any, stop: Any) -> tuple[int | None, int | None]:
    """Read a range as Qubx gives them, both ends included, into [start, end) in ms.

    Raises:
        ValueError: an end is no time.
    """
    from qubx_lighter.history.times import read_range

    first, last = read_range(start, "now" if stop is None else stop)
    start_ms = None if first is None else -(-first.value // 1_000_000)
    return start_ms, None if stop is None or last is None else last.value // 1_000_000 + 1


def _raw(symbol: str, wanted: Wanted, table: pa.Table) -> RawData:
    batches = table.combine_chunks().to_batches()
    batch = batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
    dtype: Any = wanted.dtype  # Qubx's own storages give the text as well: it has the timeframe
    return RawData.from_record_batch(symbol, dtype, batch)


async def _cancel_others() -> None:
    """Cancel whatever else runs on this loop, and wait for its end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
