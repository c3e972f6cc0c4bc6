"""What others do with the same frames, each used as its authors meant it: ccxt, the venue's own SDK, and the plain way.

A rival takes the snapshots of a feed, then its updates, and must know the right best prices in the end.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import orjson
from ccxt.async_support.base.ws.client import Client
from ccxt.async_support.base.ws.order_book import OrderBook
from ccxt.pro import lighter as ccxt_lighter
from feed import Feed
from lighter.ws_client import WsClient
from ours import CHUNK, Listing, market_row
from qubx.connectors.ccxt.utils import ccxt_convert_orderbook
from qubx.core.basics import CtrlChannel

from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.protocol import wire

Top = tuple[float, float, float, float]


class Rival(ABC):
    """One way to read a feed.

    Args:
        feed: whose markets it must know.
        depth: of the books that it is to show.

    Attributes:
        channels: the kinds of channel that it can read.
        most: updates that it is given, because it is slow.
    """

    channels: frozenset[str] = frozenset()
    most = 10**9

    def __init__(self, feed: Feed, depth: int) -> None:
        self.feed = feed
        self.depth = depth

    @classmethod
    def reads(cls, feed: Feed) -> bool:
        """Tell whether it knows every channel of a feed."""
        return cls.channels >= {channel.partition(":")[0] for channel in feed.snapshots}

    @abstractmethod
    def take(self, frame: Any) -> None:
        """Take one frame as ``texts`` prepared it."""

    @staticmethod
    def prepare(frame: bytes) -> Any:
        """Give a frame the type in which its own socket hands it over."""
        return frame

    def top(self, market: int) -> Top | None:  # noqa: ARG002 - of what keeps no book
        """Give the best prices and sizes as it knows them; None when it keeps none."""
        return None

    def play(self, updates: Iterable[bytes]) -> float:
        """Take the snapshots and the updates; gives the seconds of CPU that the updates took."""
        for frame in self.feed.snapshots.values():
            self.take(self.prepare(frame))
        frames = [self.prepare(frame) for frame in updates]
        take = self.take
        start = time.thread_time()
        for frame in frames:
            take(frame)
        return time.thread_time() - start

    async def open(self) -> None:  # noqa: B027 - most have nothing to do
        """Make ready."""

    async def close(self) -> None:  # noqa: B027 - the same
        """Let go of everything."""


class Floor(Rival):
    """Decode alone, with the structs of this package: no frame can be read faster this way."""

    channels = frozenset({"order_book", "ticker", "trade", "market_stats"})

    def __init__(self, feed: Feed, depth: int) -> None:
        super().__init__(feed, depth)
        kinds: dict[bytes, Any] = {
            b"o": wire.BookFrame, b"m": wire.MarketStatsFrame,
            b"ti": wire.TickerFrame, b"tr": wire.TradeFrame,
        }  # fmt: skip
        self._decoders = {start: msgspec.json.Decoder(kind, strict=False).decode for start, kind in kinds.items()}

    def play(self, updates: Iterable[bytes]) -> float:
        """Decode each with what its channel needs; the choice is made before."""
        pairs = [(self._decoder(frame), frame) for frame in updates]
        start = time.thread_time()
        for decode, frame in pairs:
            decode(frame)
        return time.thread_time() - start

    def take(self, frame: bytes) -> None:
        """Decode it."""
        self._decoder(frame)(frame)

    def _decoder(self, frame: bytes) -> Callable[[bytes], Any]:
        return self._decoders.get(frame[12:13]) or self._decoders[frame[12:14]]


class Plain(Rival):
    """``orjson``, a dict a side, sorted for each book that is shown."""

    channels = frozenset({"order_book"})
    most = 200

    def __init__(self, feed: Feed, depth: int) -> None:
        super().__init__(feed, depth)
        self._books: dict[str, tuple[dict[float, float], dict[float, float]]] = {}
        self._shown: dict[str, tuple[list[tuple[float, float]], list[tuple[float, float]]]] = {}

    def take(self, frame: bytes) -> None:
        """Write each level, then sort."""
        message = orjson.loads(frame)
        channel = message["channel"]
        book = self._books.setdefault(channel, ({}, {}))
        for side, levels in zip(book, (message["order_book"]["bids"], message["order_book"]["asks"]), strict=True):
            for level in levels:
                size = float(level["size"])
                if size:
                    side[float(level["price"])] = size
                else:
                    side.pop(float(level["price"]), None)
        bids, asks = book
        self._shown[channel] = (
            sorted(bids.items(), reverse=True)[: self.depth],
            sorted(asks.items())[: self.depth],
        )

    def top(self, market: int) -> Top:
        """See the base."""
        (bid, *_), (ask, *_) = self._shown[f"order_book:{market}"]
        return *bid, *ask


class Sdk(Rival):
    """The venue's SDK: ``WsClient.on_message``; its callback gets the book, whose levels are in no order."""

    channels = frozenset({"order_book"})
    most = 100

    def __init__(self, feed: Feed, depth: int) -> None:
        super().__init__(feed, depth)
        logging.getLogger("lighter").setLevel(logging.ERROR)
        self._books: dict[str, Any] = {}
        self._client = WsClient(host="bench", order_book_ids=feed.markets, on_order_book_update=self._books.__setitem__)

    @staticmethod
    def prepare(frame: bytes) -> str:
        """Its socket hands over text."""
        return frame.decode()

    def take(self, frame: str) -> None:
        """Hand it over."""
        self._client.on_message(None, frame)

    def top(self, market: int) -> Top:
        """See the base."""
        book = self._books[str(market)]
        bids, asks = (
            [(float(level["price"]), float(level["size"])) for level in book[side]] for side in ("bids", "asks")
        )
        return *max(bids), *min(asks)


class Ccxt(Rival):
    """ccxt.pro's ``lighter``: what its client does with a text, a watcher that waits for each update, and what that gets."""

    channels = frozenset({"order_book", "trade", "market_stats"})
    most = 600

    def __init__(self, feed: Feed, depth: int) -> None:
        super().__init__(feed, depth)
        self._exchange = ccxt_lighter()
        self._client = Client("ws://bench", self._exchange.handle_message, _ignore, _ignore, _ignore)
        self._waits: dict[str, str] = {}

    async def open(self) -> None:
        """Load the markets, as its ``load_markets`` does, from our rows."""
        rows = [msgspec.to_builtins(market_row(market)) for market in self.feed.markets]

        async def details(_: Any) -> dict[str, Any]:
            return {"order_book_details": rows, "spot_order_book_details": []}

        self._exchange.publicGetOrderBookDetails = details
        self._exchange.set_markets(await self._exchange.fetch_markets())
        message_hash = self._exchange.get_message_hash
        for channel in self.feed.snapshots:
            kind, _, market = channel.partition(":")
            symbol = f"M{market}/USDC:USDC"
            self._waits[channel] = {
                "order_book": message_hash("orderbook", symbol),
                "trade": message_hash("trade", symbol),
                "market_stats": message_hash("ticker"),
            }[kind]

    @staticmethod
    def prepare(frame: bytes) -> str:
        """Its socket hands over text."""
        return frame.decode()

    def take(self, frame: str) -> Any:
        """Hand it over; gives what the watcher returns."""
        future = self._client.future(self._waits[frame[12 : frame.index('"', 12)]])
        self._client.handle_text_or_binary_message(frame)
        result = future.result()
        return result.limit() if isinstance(result, OrderBook) else result

    def top(self, market: int) -> Top | None:
        """See the base."""
        book = self._exchange.orderbooks.get(f"M{market}/USDC:USDC")
        return None if book is None else (*book["bids"][0][:2], *book["asks"][0][:2])

    async def close(self) -> None:
        """Close its session."""
        await self._exchange.close()


class QubxCcxt(Ccxt):
    """The same, and what Qubx's ccxt connector makes of it: an object on the channel. It has no ``lighter``: a bound."""

    channels = frozenset({"order_book"})
    most = 100

    async def open(self) -> None:
        """Load the markets and the instruments."""
        await super().open()
        loader = LighterInstrumentLoader(Listing(self.feed.markets))
        await loader.load()
        self._instruments = {str(market): loader.instrument(market) for market in self.feed.markets}
        self._channel = CtrlChannel("bench")

    def take(self, frame: str) -> None:
        """Hand it over, convert, send."""
        result = super().take(frame)
        channel = frame[12 : frame.index('"', 12)]
        instrument = self._instruments[channel.partition(":")[2]]
        book = ccxt_convert_orderbook(result, instrument, levels=self.depth, tick_size_pct=0)
        self._channel.send((instrument, "orderbook", book, False))
        if self._channel._queue.qsize() > CHUNK:  # noqa: SLF001 - no public word for it
            self._channel._queue.queue.clear()  # noqa: SLF001


def _ignore(*_: object) -> None:
    """Hear nothing."""
