"""Qubx's data types, made from the venue's history.

What a storage reads with: the venue's markets, its history as tables, and how each data type is made from them.
"""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from qubx.core.basics import MarketType
from qubx.rate_limiting import ExchangeRateLimiter

from qubx_lighter import lookup
from qubx_lighter.client import LighterClient
from qubx_lighter.constants import RESOLUTIONS
from qubx_lighter.errors import UnknownMarketError
from qubx_lighter.history.page_cache import PageCache
from qubx_lighter.history.pages import LighterHistory, together
from qubx_lighter.history.tables import HistoryTables, MarketName
from qubx_lighter.history.times import bar_length_ms
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.markets import Market
from qubx_lighter.pacing import is_local, rest_pace
from qubx_lighter.protocol.timeframes import bar_open, resolution_for
from qubx_lighter.rate_limits import SharedLimits
from qubx_lighter.settings import LighterSettings

Kind = Literal["ohlc", "mark_ohlc", "trade", "liquidation", "funding_payment", "funding_rate"]

_SPOT_KINDS: Final[tuple[Kind, ...]] = ("ohlc", "trade", "liquidation")
_SWAP_KINDS: Final[tuple[Kind, ...]] = (*_SPOT_KINDS, "mark_ohlc", "funding_payment", "funding_rate")
_TYPE: Final = re.compile(r"(\w+)(?:\((.*)\))?")
_OFF_BOOK: Final = ("deleverage", "market-settlement")  # at a price that nobody offered; not among live trades either
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000
_CLOCK_DRIFT_MS: Final = 2_000  # less is the rounding of the venue's seconds, and the way there
_CLOSE_MATCHES: Final = 3


@dataclass(frozen=True, slots=True)
class Wanted:
    """A data type to read.

    Attributes:
        dtype: as Qubx spelled it.
        step_ms: between two rows: a bar's length, an hour for funding, 0 for trades.
    """

    dtype: str
    kind: Kind
    step_ms: int

    @classmethod
    def parse(cls, dtype: str, market_type: MarketType, price: str | None = None) -> Wanted:
        """Read a data type.

        Args:
            dtype: ``ohlc(1h)`` for instance.
            market_type: of the markets to read.
            price: ``mark`` makes candles those of the mark price.

        Raises:
            ValueError: there is no such history; the message lists what there is.
        """
        known = _SWAP_KINDS if market_type is MarketType.SWAP else _SPOT_KINDS
        match = _TYPE.fullmatch(dtype.strip())
        name, parameter = (match[1].lower(), match[2]) if match else (dtype, None)
        if price not in (None, "trade", "mark"):
            raise ValueError(f"the venue has no candles of the {price} price: trade or mark")
        if price == "mark" and name == "ohlc":
            name = "mark_ohlc"
        kind = next((kind for kind in known if kind == name), None)
        if kind is None:
            raise ValueError(f"no history of {dtype} for {market_type.value} markets: there is {', '.join(known)}")
        if kind in ("ohlc", "mark_ohlc"):
            return cls(dtype, kind, _bar_ms(dtype, parameter))
        return cls(dtype, kind, _HOUR_MS if kind.startswith("funding") else 0)


def _bar_ms(dtype: str, timeframe: str | None) -> int:
    bar_ms = bar_length_ms(dtype, timeframe)
    if resolution_for(bar_ms) is None:
        raise ValueError(
            f"{dtype}: the venue's finest candles are of a minute, and {timeframe} is not a multiple of it"
        )
    return bar_ms


class VenueHistory:
    """The history of all markets of a venue; on one loop.

    Args:
        settings: which venue, and how to name its markets.
        cache_dir: of pages; None for the default, which is none where the venue is on this machine; False for none.
        limiter: Qubx's.
        concurrency: requests in flight at most.
    """

    def __init__(
        self,
        settings: LighterSettings,
        *,
        cache_dir: Path | Literal[False] | None = None,
        limiter: ExchangeRateLimiter | None = None,
        concurrency: int = 3,
    ) -> None:
        url = settings.base_url
        pace = rest_pace(url, requests=settings.requests_per_minute, paced=settings.account_tier is not None)
        if limiter is not None and pace.is_paced:
            pace.shared = SharedLimits(limiter)
        self._client = LighterClient(url, timeout=settings.rest_timeout_s, pace=pace)
        self.loader = LighterInstrumentLoader(
            self._client, symbol_format=settings.symbol_format, collateral=settings.collateral
        )
        history = LighterHistory(self._client, concurrency=concurrency)
        uncached = cache_dir is False or (cache_dir is None and is_local(url))
        cache = None if uncached else PageCache(url, cache_dir or None)
        self._tables = HistoryTables(history, cache, self.now_ms)
        self._ahead_ms = 0
        self._first_ms: dict[int, int] = {}

    async def open(self) -> None:
        """Load the markets, make them known to Qubx, and compare clocks.

        Raises:
            LighterError: the venue cannot be read.
        """
        await self.loader.load()
        lookup.publish(self.loader.instruments)
        venue_s = (await self._client.status()).timestamp
        ahead_ms = venue_s * 1000 - time.time_ns() // 1_000_000 if venue_s else 0
        self._ahead_ms = ahead_ms if abs(ahead_ms) > _CLOCK_DRIFT_MS else 0

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def now_ms(self) -> int:
        """Tell the venue's time."""
        return time.time_ns() // 1_000_000 + self._ahead_ms

    # --- markets -----------------------------------------------------------------------------------------------------

    def symbols(self, market_type: MarketType) -> list[str]:
        """List the symbols that trade."""
        return [one.symbol for one in self.loader.instruments if one.market_type is market_type]

    def market(self, market_type: MarketType, symbol: str) -> Market:
        """Find a market by Qubx's symbol; separators need not agree.

        Raises:
            UnknownMarketError: there is none; the message names what comes close.
        """
        markets = [market for market in self.loader.markets if market.market_type is market_type]
        for spell in (str.upper, _bare):
            found = [market for market in markets if spell(market.symbol) == spell(symbol)]
            if len(found) == 1:
                return found[0]
        close = difflib.get_close_matches(symbol.upper(), [market.symbol for market in markets], n=_CLOSE_MATCHES)
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise UnknownMarketError(f"the venue has no {market_type.value} market {symbol}{hint}")

    async def listed_ms(self, market: Market) -> int:
        """Tell since when a market may have history: the day of its listing, else of its first candle."""
        if market.created_at_ns:
            return market.created_at_ns // 1_000_000 // _DAY_MS * _DAY_MS
        if market.market_id not in self._first_ms:
            first_ms = await self._tables.first_candle_ms(_name(market))
            self._first_ms[market.market_id] = self.now_ms() if first_ms is None else first_ms
        return self._first_ms[market.market_id]

    async def ranges(
        self, wanted: Wanted, markets: Sequence[Market], bounds: tuple[int | None, int | None]
    ) -> list[tuple[int, int]]:
        """Give what there is of a range for each market, [start, end) in ms: up to now, and from its listing on.

        The bar in which a market was listed counts, although it opened before: that of a week for instance.
        """
        start_ms, end_ms = bounds
        now_ms = self.now_ms() + 1
        listed = await together(self.listed_ms(market) for market in markets)
        end_ms = now_ms if end_ms is None else min(end_ms, now_ms)
        starts = [max(start_ms or 0, bar_open(first_ms, wanted.step_ms or 1)) for first_ms in listed]
        return [(begin_ms, max(begin_ms, end_ms)) for begin_ms in starts]

    # --- data --------------------------------------------------------------------------------------------------------

    async def read(
        self, wanted: Wanted, markets: Sequence[Market], ranges: Sequence[tuple[int, int]]
    ) -> list[pa.Table]:
        """Read a range of each market, all at a time; in Qubx's columns, sorted by time."""
        work = (self._read(wanted, _name(market), *one) for market, one in zip(markets, ranges, strict=True))
        return await together(work)

    async def _read(self, wanted: Wanted, market: MarketName, start_ms: int, end_ms: int) -> pa.Table:
        match wanted.kind:
            case "ohlc" | "mark_ohlc":
                bar_ms = wanted.step_ms
                first_ms, stop_ms = (-(-time_ms // bar_ms) * bar_ms for time_ms in (start_ms, end_ms))
                name = resolution_for(bar_ms) or "1m"
                mark = wanted.kind == "mark_ohlc"
                stop_ms = max(first_ms, min(stop_ms, self.now_ms() + 1))
                candles = await self._tables.candles(market, name, first_ms, stop_ms, mark=mark)
                return candles if bar_ms == RESOLUTIONS[name] else added_up(candles, bar_ms)
            case "funding_payment" | "funding_rate":
                payment = wanted.kind == "funding_payment"
                fundings = await self._tables.fundings(market, start_ms, end_ms)
                return _payments(fundings) if payment else _rates(fundings)
            case "trade":
                trades = await self._tables.trades(market, start_ms, end_ms)
                off_book = pc.is_in(trades.column("type"), pa.array(_OFF_BOOK))
                return trades.filter(pc.invert(off_book)).drop_columns(["type"])
            case "liquidation":
                trades = await self._tables.trades(market, start_ms, end_ms)
                rows = trades.filter(pc.equal(trades.column("type"), "liquidation"))
                return rows.select(["timestamp", "size", "price", "side"]).rename_columns(
                    ["timestamp", "quantity", "price", "side"]
                )


def added_up(candles: pa.Table, bar_ms: int) -> pa.Table:
    """Add candles, sorted by time, up to longer bars; a bar is what its candles are, however few.

    A bar of the venue's opens with its first trade: candles without one count only where their bar has no other.
    """
    if not candles.num_rows:
        return candles
    if "volume" in candles.column_names:
        candles = _traded(candles, bar_ms)
    opened = candles.column("timestamp").to_numpy().astype("datetime64[ms]").astype(np.int64) // bar_ms * bar_ms
    starts = np.flatnonzero(np.diff(opened, prepend=-1))
    ends = np.append(starts[1:], len(opened)) - 1
    made: dict[str, Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]] = {
        "open": lambda values: values[starts],
        "high": lambda values: np.maximum.reduceat(values, starts),
        "low": lambda values: np.minimum.reduceat(values, starts),
        "close": lambda values: values[ends],
        "volume": lambda values: np.add.reduceat(values, starts),
        "quote_volume": lambda values: np.add.reduceat(values, starts),
    }
    bars = {name: made[name](candles.column(name).to_numpy()) for name in candles.column_names[1:]}
    times = pa.array(opened[starts], pa.timestamp("ms"))
    return pa.table({"timestamp": times, **bars}, schema=candles.schema)


def _traded(candles: pa.Table, bar_ms: int) -> pa.Table:
    """Leave candles without trades out where their bar has trades."""
    bars = candles.column("timestamp").to_numpy().astype("datetime64[ms]").astype(np.int64) // bar_ms
    traded = candles.column("volume").to_numpy() > 0
    return candles.filter(pa.array(traded | ~np.isin(bars, bars[traded])))


def _payments(fundings: pa.Table) -> pa.Table:
    hours = pa.array(np.ones(fundings.num_rows))
    return pa.table(
        [fundings.column("timestamp"), fundings.column("rate"), hours],
        names=["timestamp", "funding_rate", "funding_interval_hours"],
    )


def _rates(fundings: pa.Table) -> pa.Table:
    """Make rates; the interval is in hours, as in Qubx's own database: its transformers read a number there."""
    following = fundings.column("timestamp").to_numpy().astype("datetime64[ns]") + np.timedelta64(_HOUR_MS, "ms")
    return pa.table(
        [fundings.column("timestamp"), fundings.column("rate"), pa.array(np.ones(fundings.num_rows)), following],
        names=["timestamp", "rate", "interval", "next_funding_time"],
    )


def _name(market: Market) -> MarketName:
    return MarketName(market.market_id, market.venue_symbol)


def _bare(symbol: str) -> str:
    return re.sub(r"[-/_]", "", symbol.upper())
