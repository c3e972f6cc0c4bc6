"""The data provider: what Qubx subscribes to becomes channels of the venue, and their frames Qubx's market data.

Theory of operation. The registry holds what Qubx wants: instruments by subscription, ``orderbook(0.01, 20)`` and
``orderbook(0, 1)`` apart. From it follows which channels are open, and with which views: one ``order_book`` a market,
however many views of it; ``ticker`` where quotes are wanted, and, unpublished, where trades alone are, so that market
orders have a price bound. Every change is applied as the difference, so an unsubscribe closes what nobody else wants, on
the wire, and a subscribe opens it anew, with a new snapshot.

Qubx calls from many threads: the registry has a lock, and the rest happens on the loop that the socket runs on.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from qubx import logger
from qubx.core.basics import CtrlChannel, DataType, Instrument, ITimeProvider
from qubx.core.exceptions import NotSupported
from qubx.core.interfaces import IDataProvider
from qubx.core.series import Bar, Quote

from qubx_lighter.delivery import Delivery
from qubx_lighter.errors import UnknownMarketError
from qubx_lighter.handlers import (
    HANDLERS,
    MarketHandler,
    TradesHandler,
    View,
    parse,
)
from qubx_lighter.instruments import LighterInstrumentLoader, Market
from qubx_lighter.streams import Recovery, Stream
from qubx_lighter.websocket import LighterWebSocketManager

_SETTLE_S: Final = 1.0  # Qubx subscribes one type after the other
_RESUME_NS: Final = 60_000_000_000  # Qubx's watchdog closes a stream and opens it again after 3 s


@dataclass(slots=True)
class _Plan:
    """What one channel is to be open for."""

    instrument: Instrument
    market: Market
    views: dict[View, None] = field(default_factory=dict)  # in the order they were asked for


class LighterDataProvider(IDataProvider):
    """Lighter's market data for Qubx.

    Args:
        exchange: as the instruments carry it.
        channel: Qubx's, where everything goes.
        time_provider: Qubx's clock.
        instruments: the venue's markets, loaded.
        market_ws: the connection for public channels; the owner of the parts closes it.
        on_start: called when Qubx starts the provider: connects.
        on_close: called once, when Qubx closes it.
    """

    def __init__(
        self,
        *,
        exchange: str,
        channel: CtrlChannel,
        time_provider: ITimeProvider,
        instruments: LighterInstrumentLoader,
        market_ws: LighterWebSocketManager,
        on_start: Callable[[], None] | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.channel = channel
        self.time_provider = time_provider
        self._exchange = exchange
        self._instruments = instruments
        self._socket = market_ws
        self._on_start = on_start
        self._on_close = on_close
        self._lock = threading.RLock()
        self._wanted: dict[str, dict[Instrument, Market]] = {}
        self._streams: dict[str, Stream] = {}
        self._resting: dict[str, tuple[int, MarketHandler]] = {}
        self._unknown: set[Instrument] = set()
        self._counters: Counter[str] = Counter()
        self._delivery = Delivery(channel, self._counters, clock_ns=self._now_ns)
        self._recovery = Recovery(_nothing, self._delivery, self._counters)
        self._loop: asyncio.AbstractEventLoop | None = None  # the socket's, known once it has connected
        market_ws.on_state(self._on_state)

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

    def stats(self) -> dict[str, int]:
        """Count what was published, what went wrong and what the socket did, since the start."""
        with self._lock:
            streams = len(self._streams)
        return {**self._socket.stats(), **dict.fromkeys(_COUNTERS, 0), **self._counters, "streams": streams}

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
            market_id = self._instruments.market(instrument).market_id
        except UnknownMarketError:
            return None
        newest: Quote | None = None
        for kind in _QUOTE_CHANNELS:
            stream = self._streams.get(f"{kind}/{market_id}")
            quote = None if stream is None else stream.handler.quote
            if quote is not None and (newest is None or quote.time > newest.time):
                newest = quote
        return newest

    def is_instrument_listed(self, instrument: Instrument) -> bool:
        """Tell whether the venue trades it. Qubx flattens what is not, so False takes the venue's word for it.

        An instrument whose market id went to another coin counts by its name.
        """
        markets = self._instruments.markets
        if not markets or instrument.exchange.upper() != self._exchange:
            return True
        mine = (instrument.market_type, instrument.base.upper(), instrument.quote.upper())
        return any(market.active and mine == (market.market_type, market.base, market.quote) for market in markets)

    def warmup(self, configs: dict[tuple[str, Instrument], str]) -> None:
        """Refuse: there is no history here yet, neither for bars nor for anything else.

        Raises:
            NotSupported: something was asked for.
        """
        if configs:
            names = ", ".join(sorted({name for name, _ in configs}))
            raise NotSupported(f"{self._exchange}: no warm-up of {names}: history is not supported yet")

    def get_ohlc(self, instrument: Instrument, timeframe: str, nbarsback: int) -> list[Bar]:
        """Refuse: there is no history here yet.

        Raises:
            NotSupported: always.
        """
        raise NotSupported(
            f"{self._exchange}: no bars of {instrument.symbol} ({nbarsback} x {timeframe}): history is not supported yet"
        )

    # --- from wishes to channels -------------------------------------------------------------------------------------

    def _market(self, instrument: Instrument) -> Market | None:
        try:
            return self._instruments.market(instrument)
        except UnknownMarketError as error:
            if instrument not in self._unknown:
                self._unknown.add(instrument)
                logger.error("lighter: no market data for {}: {}", instrument.symbol, str(error))
            return None

    def _apply(self) -> None:
        """Open and close channels until they are what is wanted; the caller holds the lock."""
        self._wanted = {name: held for name, held in self._wanted.items() if held}
        plans = self._plans()
        silent = self._silent_plans(plans)
        for channel in [channel for channel in self._streams if channel not in plans and channel not in silent]:
            self._close_stream(channel)
        for channel, plan in plans.items():
            self._open_stream(channel, plan)
        if silent.keys() - self._streams.keys():
            self._on_loop(lambda loop: loop.call_later(_SETTLE_S, self._open_silent))

    def _open_silent(self) -> None:
        """Open the tickers that nobody subscribed to, once Qubx has gone through its list of subscriptions."""
        with self._lock:
            for channel, plan in self._silent_plans(self._plans()).items():
                self._open_stream(channel, plan)

    def _plans(self) -> dict[str, _Plan]:
        """Derive the channels and views that are subscribed to."""
        plans: dict[str, _Plan] = {}
        for name, held in self._wanted.items():
            wish = parse(name)
            for instrument, market in held.items():
                plan = plans.setdefault(wish.channel(market.market_id), _Plan(instrument, market))
                plan.views[wish.view] = None
        return plans

    def _silent_plans(self, plans: dict[str, _Plan]) -> dict[str, _Plan]:
        """Derive the tickers of the markets whose best prices nothing else tells."""
        markets = {plan.market.market_id: plan for plan in plans.values()}
        return {
            f"ticker/{market_id}": _Plan(plan.instrument, plan.market)
            for market_id, plan in markets.items()
            if not any(f"{kind}/{market_id}" in plans for kind in _QUOTE_CHANNELS)
        }

    def _on_loop(self, function: Callable[[asyncio.AbstractEventLoop], object]) -> None:
        """Have ``function`` called on the socket's loop, if that has ever connected and still runs."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(function, loop)

    def _open_stream(self, channel: str, plan: _Plan) -> None:
        """Open a channel, or show what is known of it to the views that join it."""
        opened = self._streams.get(channel)
        if opened is not None:
            if new := opened.view(plan.views):
                self._on_loop(lambda _: opened.publish_current(new))
            return
        kind = channel.partition("/")[0]
        handler: MarketHandler = HANDLERS[kind](plan.instrument, plan.market.scale, self._counters)
        closed_ns, resting = self._resting.pop(channel, (0, handler))
        if self._now_ns() - closed_ns <= _RESUME_NS:
            handler = resting
        stream = Stream(
            channel,
            plan.market.market_id,
            handler,
            delivery=self._delivery,
            recovery=self._recovery,
            socket=self._socket,
            counters=self._counters,
        )
        stream.view(plan.views)
        self._streams[channel] = stream
        self._socket.subscribe(channel, stream.on_frame)

    def _close_stream(self, channel: str) -> None:
        stream = self._streams.pop(channel)
        stream.close()
        if isinstance(stream.handler, TradesHandler):
            self._resting[channel] = (self._now_ns(), stream.handler)
        self._socket.unsubscribe(channel, stream.on_frame)
        self._on_loop(lambda _: stream.forget())

    def _on_state(self, connected: bool) -> None:  # noqa: FBT001 - the socket's listener
        if not connected:
            return  # the last quotes stay, and their time tells their age
        self._loop = asyncio.get_running_loop()
        with self._lock:
            streams = list(self._streams.values())
        for stream in streams:
            stream.on_lost()
        self._on_loop(lambda loop: loop.call_later(_SETTLE_S, self._open_silent))

    def _now_ns(self) -> int:
        return int(self.time_provider.time().astype("datetime64[ns]").astype("int64"))


async def _nothing(_market_id: int, _missing: object) -> list[object]:
    return []


def _base(subscription_type: str) -> DataType:
    base: DataType = DataType.from_str(subscription_type)[0]
    return base


_QUOTE_CHANNELS: Final = ("ticker", "order_book")
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
)
