"""This package on one core, from a frame's bytes to the objects on Qubx's channel: all that lies between is the real thing.

Only the two ends are replaced: the transport hands out frames from a list, and nobody reads the channel meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from feed import PRICE_DECIMALS, SIZE_DECIMALS, Feed
from qubx.core.basics import CtrlChannel, Instrument, LiveTimeProvider

from qubx_lighter.client import LighterClient
from qubx_lighter.data import LighterDataProvider
from qubx_lighter.history.pages import LighterHistory
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.protocol.pace import AddressLimits, AddressPace
from qubx_lighter.protocol.session import SessionSettings
from qubx_lighter.protocol.wire import MarketRow, OrderBookDetailsBody
from qubx_lighter.sockets.transport import Connect, connect
from qubx_lighter.websocket_pool import LighterWebSocketPool

PATIENCE_S = 60.0
EMPTY = {"ticker": {"a": {"price": "", "size": ""}, "b": {"price": "", "size": ""}}, "trades": []}
CHUNK = 100  # frames: what a strategy may find waiting
AT_WILL = AddressLimits(messages=10**6, in_flight=10**6)
PATIENT = SessionSettings(silence_s=1e9, ping_interval_s=1e9, messages=10**6, in_flight=10**6)


class Listing:
    """A source of perpetuals with these ids."""

    def __init__(self, markets: Iterable[int]) -> None:
        self._markets = list(markets)

    async def order_book_details(self) -> OrderBookDetailsBody:
        """Give their rows."""
        return OrderBookDetailsBody(order_book_details=[market_row(market) for market in self._markets])


def market_row(market: int) -> MarketRow:
    """Write a market's row; all are alike."""
    return MarketRow(
        symbol=f"M{market}",
        market_id=market,
        market_type="perp",
        status="active",
        supported_size_decimals=SIZE_DECIMALS,
        supported_price_decimals=PRICE_DECIMALS,
        min_base_amount="0.0050",
        min_quote_amount="10.000000",
        created_at="1737000000000",
        default_initial_margin_fraction=500,
        min_initial_margin_fraction=200,
        maintenance_margin_fraction=120,
    )


def make_provider(
    url: str, loader: LighterInstrumentLoader, channel: CtrlChannel, connector: Connect = connect
) -> tuple[LighterDataProvider, LighterWebSocketPool]:
    """Make the real data provider over its real connections; it subscribes as fast as it can."""
    loop = asyncio.get_running_loop()
    pace = AddressPace(AT_WILL)
    socket = LighterWebSocketPool(url, loop=loop, session=PATIENT, pace=pace, connector=connector)
    provider = LighterDataProvider(
        exchange="LIGHTER",
        channel=channel,
        time_provider=LiveTimeProvider(),
        instruments=loader,
        market_ws=socket,
        history=LighterHistory(LighterClient("http://127.0.0.1:9")),  # a benchmark misses nothing
        loop=loop,
        on_start=socket.start,
    )
    return provider, socket


class Line:
    """A transport that answers subscribes from a feed and plays its updates on request; one connection."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._control: asyncio.Queue[bytes] = asyncio.Queue()
        self._played: asyncio.Future[float] | None = None
        self._updates: list[bytes] = []
        self._subscribed = 0
        self._complete = asyncio.Event()
        self._control.put_nowait(b'{"session_id":"s","type":"connected"}')

    async def connect(self, _url: str) -> Line:
        """Open it."""
        return self

    async def pump(self, take: Callable[[bytes], None]) -> None:
        """Hand out frames; updates are timed as one."""
        while True:
            raw = await self._control.get()
            if raw:
                take(raw)
                continue
            updates, played = self._updates, self._played
            start = time.thread_time()
            for update in updates:
                take(update)
            took = time.thread_time() - start
            if played is not None:
                played.set_result(took)

    async def send(self, text: str) -> None:
        """Take what the client writes."""
        frame = json.loads(text)
        channel = frame.get("channel", "").replace("/", ":")
        if frame["type"] == "subscribe":
            if channel in self._feed.snapshots:
                self._control.put_nowait(self._feed.snapshots[channel])
                self._subscribed += 1
                if self._subscribed == len(self._feed.snapshots):
                    self._complete.set()
            else:
                kind = channel.partition(":")[0]
                body = {"channel": channel} | EMPTY | {"type": f"subscribed/{kind}"}
                self._control.put_nowait(json.dumps(body).encode())

    async def close(self) -> None:
        """Close it."""

    async def complete(self) -> None:
        """Wait until every channel of the feed is subscribed and its snapshot was taken."""
        async with asyncio.timeout(PATIENCE_S):
            await self._complete.wait()
        await self.play([])

    async def play(self, updates: list[bytes]) -> float:
        """Play updates; gives the seconds of CPU that they took."""
        self._updates = updates
        self._played = asyncio.get_running_loop().create_future()
        self._control.put_nowait(b"")
        return await self._played


class Rig:
    """A data provider over a line.

    Args:
        feed: what the line plays.
        subscriptions: Qubx's, and the markets of each; none: all of the feed.
    """

    def __init__(self, feed: Feed, subscriptions: Mapping[str, list[int]]) -> None:
        self.feed = feed
        self.channel = CtrlChannel("bench")
        self._subscriptions = subscriptions
        self._line = Line(feed)
        self._socket: LighterWebSocketPool | None = None
        self.instruments: dict[int, Instrument] = {}
        self.last: dict[tuple[Instrument, str], Any] = {}
        self.outputs = 0

    async def open(self) -> None:
        """Connect, subscribe and take the snapshots."""
        loader = LighterInstrumentLoader(Listing(self.feed.markets))
        await loader.load()
        self.instruments = {market: loader.instrument(market) for market in self.feed.markets}
        provider, self._socket = make_provider("ws://bench", loader, self.channel, self._line.connect)
        provider.start()
        for subscription, markets in self._subscriptions.items():
            provider.subscribe(subscription, {self.instruments[market] for market in markets or self.feed.markets})
        await self._line.complete()
        self.drain()

    async def play(self, updates: list[bytes]) -> float:
        """Play updates of the feed, reading Qubx's channel after every ``CHUNK`` outside of the time; the seconds of CPU."""
        took = 0.0
        for start in range(0, len(updates), CHUNK):
            took += await self._line.play(updates[start : start + CHUNK])
            self.drain()
        return took

    def top(self, market: int) -> tuple[float, float, float, float] | None:
        """Give the best prices and sizes of the last book."""
        book = self.last.get((self.instruments[market], "orderbook"))
        return None if book is None else (book.top_bid, float(book.bids[0]), book.top_ask, float(book.asks[0]))

    async def close(self) -> None:
        """Disconnect."""
        if self._socket is not None:
            await self._socket.close()

    def drain(self) -> None:
        """Read Qubx's channel; the newest of each kind stays in ``last``."""
        while self.waiting:
            instrument, data_type, data, _ = self.channel.receive(1)
            self.last[instrument, str(data_type)] = data
            self.outputs += 1

    @property
    def waiting(self) -> int:
        """Count what lies on the channel, which has no public word for it."""
        return int(self.channel._queue.qsize())  # noqa: SLF001 - see above
