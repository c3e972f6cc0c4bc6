"""The data provider: Qubx's subscriptions and reads of Lighter's markets.

The registry here holds what Qubx wants: instruments by subscription, ``orderbook(0.01, 20)`` and ``orderbook(0, 1)`` apart.
``feeds`` turns it into channels of the venue, ``warmup`` answers from history. Qubx calls from many threads: the
registry has a lock, and the rest happens on the loop that the sockets run on.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from qubx import logger
from qubx.core.basics import CtrlChannel, DataType, Instrument, ITimeProvider
from qubx.core.interfaces import IDataProvider
from qubx.core.lookups import InstrumentChanges
from qubx.core.series import Bar, Quote

from qubx_lighter.errors import UnknownMarketError
from qubx_lighter.handlers import parse
from qubx_lighter.history.pages import LighterHistory
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.market_data.delivery import Delivery
from qubx_lighter.market_data.feeds import Feeds
from qubx_lighter.market_data.streams import Recovery
from qubx_lighter.market_data.warmup import HistoryReads
from qubx_lighter.markets import ListingChanges, Market
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.rates import Rates
from qubx_lighter.websocket_pool import LighterWebSocketPool


class LighterDataProvider(IDataProvider):
    """Lighter's market data for Qubx.

    Args:
        exchange: as the instruments carry it.
        channel: Qubx's, where everything goes.
        time_provider: Qubx's clock.
        instruments: the venue's markets, loaded.
        market_ws: the connections for public channels; the owner of the parts closes them.
        history: the venue's past.
        loop: where the sockets run.
        on_start: called when Qubx starts the provider: connects.
        on_close: called once, when Qubx closes it.
        on_instruments: called when Qubx's lookup has changed instruments of ours.
    """

    def __init__(
        self,
        *,
        exchange: str,
        channel: CtrlChannel,
        time_provider: ITimeProvider,
        instruments: LighterInstrumentLoader,
        market_ws: LighterWebSocketPool,
        history: LighterHistory,
        loop: asyncio.AbstractEventLoop,
        on_start: Callable[[], None] | None = None,
        on_close: Callable[[], None] | None = None,
        on_instruments: Callable[[], None] | None = None,
    ) -> None:
        self.channel = channel
        self.time_provider = time_provider
        self._exchange = exchange
        self._instruments = instruments
        self._socket = market_ws
        self._on_start = on_start
        self._on_close = on_close
        self._on_instruments = on_instruments
        self._lock = threading.RLock()
        self._wanted: dict[str, dict[Instrument, Market]] = {}
        self._unknown: set[Instrument] = set()
        self._counters: Counter[str] = Counter()
        self._rates = Rates()
        self._delivery = Delivery(channel, self._counters, clock_ns=self._now_ns)
        self._history = HistoryReads(
            history, instruments, channel=channel, counters=self._counters, clock_ns=self._now_ns, loop=loop
        )
        self._feeds = Feeds(
            socket=market_ws,
            delivery=self._delivery,
            recovery=Recovery(self._history.fetch_missing, self._delivery, self._counters),
            counters=self._counters,
            clock_ns=self._now_ns,
            loop=loop,
            settled=self._open_silent,
        )

    # --- lifecycle ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect, and do not wait for it: subscriptions are kept until then."""
        if self._on_start is not None:
            self._on_start()

    def close(self) -> None:
        """Close the market data side; a second call does nothing."""
        with self._lock:
            on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

    def exchange(self) -> str:
        """Give the exchange's name, as the instruments carry it."""
        return self._exchange

    def is_connected(self) -> bool:
        """Tell whether the market data socket is up."""
        return self._socket.connected

    @property
    def is_simulation(self) -> bool:
        """Tell Qubx that this is the real thing."""
        return False

    def stats(self) -> dict[str, int | float]:
        """Count what was published, what went wrong and what the sockets did, since the start.

        ``lag_p50_ms`` and ``lag_p99_ms`` are how old the newest objects were when they were delivered, by the venue's
        time and this machine's clock; ``frames_<kind>_per_s`` are rates over the last seconds, from the second question on.
        What is not a count is named by its unit.
        """
        p50, p99 = self._delivery.lag.percentiles_ms()
        sockets = self._socket.stats()
        frames = {f"{name}_per_s": count for name, count in sockets.items() if name.startswith("frames")}
        with self._lock:
            streams = len(self._feeds)
            rates = self._rates.of(frames, self._now_ns() / 1e9)
        counts = {**sockets, **dict.fromkeys(_COUNTERS, 0), **self._counters, **self._delivery.published}
        return {
            **counts,
            **rates,
            "dropped": sum(counts.get(name, 0) for name in _DROPPED),
            "streams": streams,
            "lag_p50_ms": round(p50, 3),
            "lag_p99_ms": round(p99, 3),
        }

    # --- subscriptions -----------------------------------------------------------------------------------------------

    def subscribe(self, subscription_type: str, instruments: Iterable[Instrument], reset: bool = False) -> None:  # noqa: FBT001, FBT002 - Qubx's signature
        """Add instruments to a subscription, or with ``reset`` make them all that it has.

        Returns at once; the first message follows from the venue's snapshot. Instruments that the venue does not list
        are reported and left out: raising would stop Qubx half-way through its other subscriptions.

        Raises:
            NotSupported: this connector has no such data; names what it has.
        """
        parse(subscription_type)
        found = {instrument: self._market(instrument) for instrument in instruments}
        with self._lock:
            held = {} if reset else self._wanted.get(subscription_type, {})
            listed = {instrument: market for instrument, market in found.items() if market is not None}
            self._wanted[subscription_type] = held | listed
            self._apply()

    def unsubscribe(self, subscription_type: str | None, instruments: Iterable[Instrument]) -> None:
        """Take instruments out of a subscription, or out of all of them; those that are not in it are ignored."""
        gone = set(instruments)
        with self._lock:
            for name in [subscription_type] if subscription_type is not None else list(self._wanted):
                if name in self._wanted:
                    self._wanted[name] = {i: market for i, market in self._wanted[name].items() if i not in gone}
            self._apply()

    def has_subscription(self, instrument: Instrument, subscription_type: str) -> bool:
        """Tell whether an instrument has a subscription of this base type, whatever its parameters."""
        base = DataType.from_str(subscription_type)[0]
        with self._lock:
            return any(instrument in held for name, held in self._wanted.items() if _base(name) is base)

    def get_subscriptions(self, instrument: Instrument | None = None) -> list[str]:
        """List the subscriptions, as Qubx spelled them, of an instrument or of any."""
        with self._lock:
            return [name for name, held in self._wanted.items() if instrument is None or instrument in held]

    def get_subscribed_instruments(self, subscription_type: str | None = None) -> list[Instrument]:
        """List the instruments of a subscription; of all with its base type, where none is spelled so; or of any."""
        with self._lock:
            if subscription_type in self._wanted:
                return list(self._wanted[subscription_type])
            base = None if subscription_type is None else DataType.from_str(subscription_type)[0]
            return list(
                {i: None for name, held in self._wanted.items() if base is None or _base(name) is base for i in held}
            )

    # --- reads -------------------------------------------------------------------------------------------------------

    def get_quote(self, instrument: Instrument) -> Quote | None:
        """Give the newest best prices of the ticker or the book; None when neither is known to be right."""
        try:
            return self._feeds.quote(self._instruments.market(instrument).market_id)
        except UnknownMarketError:
            return None

    def get_figures(self, instrument: Instrument) -> wire.MarketStats | None:
        """Give the newest mark and index price, premium, funding and open interest that the venue told of a perpetual.

        None where no subscription of the instrument needs them (``funding_rate``, ``funding_payment``,
        ``open_interest``), or before the first frame.
        """
        try:
            return self._feeds.figures(self._instruments.market(instrument).market_id)
        except UnknownMarketError:
            return None

    def is_instrument_listed(self, instrument: Instrument) -> bool:
        """Tell whether the venue trades it. Qubx flattens what is not, so False takes the venue's word for it."""
        return instrument.exchange.upper() != self._exchange or self._instruments.is_listed(instrument)

    def warmup(self, configs: dict[tuple[str, Instrument], str]) -> None:
        """Put the history of subscriptions on Qubx's channel, oldest first, and return when all of it is there.

        Bars, trades and funding payments have a history; other types are skipped, and what cannot be had is reported.

        Raises:
            LighterError: the venue could not be asked; nothing more of it comes after that.
        """
        self._history.warmup(configs)

    def get_ohlc(self, instrument: Instrument, timeframe: str, nbarsback: int) -> list[Bar]:
        """Fetch the last ``nbarsback`` bars, oldest first, the forming one last; fewer where the market has no more.

        Raises:
            NotSupported: no candles of the venue add up to this timeframe.
            LighterError: the venue could not be asked, or does not list the instrument.
        """
        return self._history.bars(instrument, timeframe, nbarsback)

    # --- listings ----------------------------------------------------------------------------------------------------

    def on_instruments_changed(self, changes: InstrumentChanges) -> None:
        """Take up what Qubx's lookup has changed of our instruments."""
        changed = [*changes.updated, *changes.listed]
        if self._on_instruments is not None and any(i.exchange.upper() == self._exchange for i in changed):
            self._on_instruments()

    def on_listing(self, changes: ListingChanges) -> None:
        """Take what the venue listed, delisted or gave new rules: markets with a new grid begin anew."""
        with self._lock:
            self._unknown.clear()
            self._wanted = {
                name: {instrument: self._market(instrument) or market for instrument, market in held.items()}
                for name, held in self._wanted.items()
            }
            changed = (self._market(change.instrument) for change in changes.changed if change.grid_changed)
            self._feeds.rebuild([market.market_id for market in changed if market is not None], self._wanted)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _market(self, instrument: Instrument) -> Market | None:
        try:
            return self._instruments.market(instrument)
        except UnknownMarketError as error:
            if instrument not in self._unknown:
                self._unknown.add(instrument)
                logger.error("lighter: no market data for {}: {}", instrument.symbol, str(error))
            return None

    def _apply(self) -> None:
        self._wanted = {name: held for name, held in self._wanted.items() if held}
        self._feeds.apply(self._wanted)

    def _open_silent(self) -> None:
        with self._lock:
            self._feeds.refresh_silent(self._wanted)

    def _now_ns(self) -> int:
        return int(self.time_provider.time().astype("datetime64[ns]").astype("int64"))


def _base(subscription_type: str) -> DataType:
    base: DataType = DataType.from_str(subscription_type)[0]
    return base


_DROPPED: Final = (  # frames that were read and led to nothing: of a channel or a connection that is over, or too old
    "orphan_frames",
    "stale_frames",
    "stale_books",
    "stale_candles",
    "stale_quotes",
    "updates_before_snapshot",
)
_COUNTERS: Final = (
    "orderbook",
    "quote",
    "trade",
    "book_gaps",
    "crossed_books",
    "one_sided_books",
    "snapshots_asked",
    "conflated",
    "conflation_episodes",
    "missed_trades",
    "repeated_trades",
    "trade_holes",
    "recoveries",
    "recoveries_given_up",
)
