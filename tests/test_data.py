"""The data provider over a real socket: what Qubx asks for reaches the wire, and the wire's frames reach Qubx."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from qubx.core.basics import CtrlChannel, DataType, Instrument, LiveTimeProvider
from qubx.core.exceptions import NotSupported

from qubx_lighter.client import LighterClient
from qubx_lighter.data import LighterDataProvider
from qubx_lighter.history.pages import LighterHistory
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.market_data import feeds
from qubx_lighter.markets import ListingChanges, RuleChange
from qubx_lighter.protocol.pace import BackoffSettings
from qubx_lighter.websocket_pool import LighterWebSocketPool
from tests.market_venue import MarketVenue, book, ticker, trades
from tests.markets import Listing, loaded_instruments, market_row
from tests.serving import serving

NOW_MS = 1_760_041_996_000


@pytest.fixture
async def venue() -> AsyncIterator[MarketVenue]:
    venue = MarketVenue()
    async with serving(venue.handle, "/stream") as venue.url:
        yield venue


class Rig:
    """A provider, its parts, and what came out of it."""

    def __init__(
        self, provider: LighterDataProvider, socket: LighterWebSocketPool, loader: LighterInstrumentLoader
    ) -> None:
        self.provider = provider
        self.history = provider._history._history
        self.socket = socket
        self.eth, self.btc, self.hype = (loader.instrument(market_id) for market_id in (0, 1, 24))

    async def next(self) -> tuple[Instrument, DataType, Any]:
        """Wait for the next message to Qubx."""
        instrument, data_type, item, historical = await asyncio.to_thread(self.provider.channel.receive, 5)
        assert not historical
        return instrument, data_type, item

    async def take(self, number: int) -> list[Any]:
        return [(await self.next())[2] for _ in range(number)]

    @property
    def waiting(self) -> int:
        return self.provider.channel._queue.qsize()


@pytest.fixture
async def rig(venue: MarketVenue) -> AsyncIterator[Rig]:
    loader = await loaded_instruments()
    quick = BackoffSettings(initial_s=0.01, cap_s=0.02)
    socket = LighterWebSocketPool(venue.url, loop=asyncio.get_running_loop(), backoff=quick)
    client = LighterClient(venue.url.replace("ws://", "http://").removesuffix("/stream"))
    provider = LighterDataProvider(
        exchange="LIGHTER",
        channel=CtrlChannel("test"),
        time_provider=LiveTimeProvider(),
        instruments=loader,
        market_ws=socket,
        history=LighterHistory(client),
        loop=asyncio.get_running_loop(),
        on_start=socket.start,
    )
    provider.start()
    await socket.wait_connected(5)
    yield Rig(provider, socket, loader)
    await socket.close()
    await client.close()


# --- books -------------------------------------------------------------------------------------------------------------


async def test_a_book_that_nobody_changes_is_published_from_its_snapshot(rig: Rig, venue: MarketVenue) -> None:
    venue.snapshots["order_book:0"] = book({"99.99": "1.0"}, {"100.01": "2.0"}, 7)
    rig.provider.subscribe("orderbook(0, 1)", {rig.eth})
    instrument, data_type, item = await rig.next()
    assert (rig.eth, DataType.ORDERBOOK) == (instrument, data_type)
    assert (99.99, 100.01) == (item.top_bid, item.top_ask)


async def test_views_of_one_market_share_one_channel(rig: Rig, venue: MarketVenue) -> None:
    venue.snapshots["order_book:0"] = book({"99.99": "1.0"}, {"100.01": "2.0"}, 7)
    rig.provider.subscribe("orderbook(0, 1)", {rig.eth})
    rig.provider.subscribe("orderbook(0.5, 20)", {rig.eth})
    rig.provider.subscribe("orderbook", {rig.eth})
    assert [1, 20, 200] == [len(item.bids) for item in await rig.take(3)]
    await venue.send("order_book:0", book({"99.99": "3.0"}, {}, 9, 7))
    assert [0.01, 0.5, 0.01] == [item.tick_size for item in await rig.take(3)]
    assert 1 == venue.count("subscribe", "order_book:0")


async def test_a_view_that_joins_an_open_book_is_published_at_once(rig: Rig, venue: MarketVenue) -> None:
    venue.snapshots["order_book:0"] = book({"99.99": "1.0"}, {"100.01": "2.0"}, 7)
    rig.provider.subscribe("orderbook(0, 1)", {rig.eth})
    await rig.next()
    rig.provider.subscribe("orderbook(1, 5)", {rig.eth}, reset=True)
    (item,) = await rig.take(1)
    assert (5, 1.0) == (len(item.bids), item.tick_size)
    rig.provider.unsubscribe("orderbook(0, 1)", {rig.eth})
    await venue.send("order_book:0", book({"99.98": "1.0"}, {}, 9, 7))
    assert [5] == [len(item.bids) for item in await rig.take(1)]
    assert [("subscribe", "order_book:0")] == venue.frames
    assert 0 == rig.waiting


@pytest.mark.parametrize(
    ("bad", "counter"),
    [(book({"99.98": "1.0"}, {}, 12, 9), "book_gaps"), (book({"100.01": "1.0"}, {}, 8, 7), "crossed_books")],
    ids=["gap", "crossed"],
)
async def test_a_broken_book_is_fetched_anew_and_never_shown(
    rig: Rig, venue: MarketVenue, bad: dict[str, Any], counter: str
) -> None:
    venue.snapshots["order_book:0"] = book({"99.99": "1.0"}, {"100.01": "2.0"}, 7)
    rig.provider.subscribe("orderbook(0, 1)", {rig.eth})
    await rig.next()
    venue.snapshots["order_book:0"] = book({"50.00": "1.0"}, {"60.00": "2.0"}, 20)
    await venue.send("order_book:0", bad)
    await venue.send("order_book:0", book({"99.97": "1.0"}, {}, 13, 12))
    (item,) = await rig.take(1)
    assert (50.0, 60.0) == (item.top_bid, item.top_ask)
    assert ["subscribe", "unsubscribe", "subscribe"] == [kind for kind, _ in venue.frames]
    assert (1, 1) == (rig.provider.stats()[counter], rig.provider.stats()["snapshots_asked"])


async def test_a_frame_that_cannot_be_read_is_survived(rig: Rig, venue: MarketVenue) -> None:
    venue.snapshots["order_book:0"] = book({"99.99": "1.0"}, {"100.01": "2.0"}, 7)
    rig.provider.subscribe("orderbook(0, 1)", {rig.eth})
    await rig.next()
    await venue.send("order_book:0", '{"channel":"order_book:0","order_book":7,"type":"update/order_book"}')
    assert 99.99 == (await rig.next())[2].top_bid
    stats = rig.provider.stats()
    assert (1, 0) == (stats["decode_errors"], stats["handler_errors"])


async def test_frames_that_come_too_late_are_counted_as_dropped(rig: Rig, venue: MarketVenue) -> None:
    venue.snapshots["order_book:0"] = book({"99.99": "1.0"}, {"100.01": "2.0"}, 7)
    rig.provider.subscribe("orderbook(0, 1)", {rig.eth})
    await rig.next()
    for begin, nonce in ((5, 6), (6, 7), (7, 8)):
        await venue.send("order_book:0", book({"99.99": f"{nonce}.0"}, {}, nonce, begin))
    assert 8.0 == (await rig.next())[2].bids[0]
    stats = rig.provider.stats()
    assert (2, 2) == (stats["stale_books"], stats["dropped"])


async def test_every_captured_book_frame_is_one_book_equal_to_a_plain_one(
    rig: Rig, venue: MarketVenue, wire_dir: Path
) -> None:
    with gzip.open(wire_dir / "order_book_0_eth.jsonl.gz", "rt") as lines:
        first, *rest = [line.strip() for line in lines]
    venue.snapshots["order_book:0"] = json.loads(first)
    rig.provider.subscribe("orderbook(0, 20)", {rig.eth})
    rig.provider.subscribe("orderbook(0, 1)", {rig.eth})
    found = await rig.take(2)
    for line in rest:
        await venue.send("order_book:0", line)
    last = json.loads(rest[-1])["timestamp"] * 1_000_000
    async with asyncio.timeout(10):
        while rig.provider.stats()["frames"] < len(rest) + 2:  # the welcome and the snapshot are frames too
            await asyncio.sleep(0)
    found += await rig.take(rig.waiting)
    shown = {len(item.bids): {} for item in found}
    for item in found:
        shown[len(item.bids)][item.time] = item
    assert last >= max(shown[20])
    plain: dict[str, dict[int, float]] = {"bids": {}, "asks": {}}
    grid, top = found[:2]
    for line in [first, *rest]:
        time = json.loads(line)["timestamp"] * 1_000_000
        grid, top = shown[20].get(time, grid), shown[1].get(time, top)  # what does not change is not shown again
        for side, levels in plain.items():
            for level in json.loads(line)["order_book"][side]:
                ticks = int(level["price"].replace(".", ""))
                levels[ticks] = float(level["size"])
                if not levels[ticks]:
                    del levels[ticks]
        bid, ask = max(plain["bids"]), min(plain["asks"])
        assert (bid / 100, ask / 100) == (grid.top_bid, grid.top_ask) == (top.top_bid, top.top_ask)
        assert [plain["bids"].get(bid - i, 0.0) for i in range(20)] == grid.bids.tolist()
        assert [plain["asks"].get(ask + i, 0.0) for i in range(20)] == grid.asks.tolist()
        assert (plain["bids"][bid], plain["asks"][ask]) == (top.bids[0], top.asks[0])
    assert 0 == rig.provider.stats()["book_gaps"]


# --- trades ------------------------------------------------------------------------------------------------------------


async def test_history_is_not_live(rig: Rig, venue: MarketVenue) -> None:
    venue.snapshots["trade:0"] = trades(3, 2, 1)
    rig.provider.subscribe("trade", {rig.eth})
    await venue.until(lambda venue: venue.count("subscribe", "trade:0"))
    await venue.send("trade:0", trades(5, 4, 3))
    assert [4, 5] == [item.trade_id for item in await rig.take(2)]


async def test_trades_missed_by_a_lost_connection_are_published_once(rig: Rig, venue: MarketVenue) -> None:
    venue.snapshots["trade:0"] = trades(1)
    rig.provider.subscribe("trade", {rig.eth})
    await venue.until(lambda venue: venue.count("subscribe", "trade:0"))
    await venue.send("trade:0", trades(2))
    await rig.next()
    venue.snapshots["trade:0"] = trades(4, 3, 2, 1)
    await venue.sockets[-1].close()
    assert [3, 4] == [item.trade_id for item in await rig.take(2)]
    await venue.send("trade:0", trades(4, 5))
    assert [5] == [item.trade_id for item in await rig.take(1)]


async def test_trades_missed_by_a_repair_of_qubxs_watchdog_are_published_once(rig: Rig, venue: MarketVenue) -> None:
    rig.provider.subscribe("trade", {rig.eth})
    await venue.until(lambda venue: venue.count("subscribe", "trade:0"))
    await venue.send("trade:0", trades(1))
    await rig.take(1)
    venue.snapshots["trade:0"] = trades(2, 1)
    rig.provider.unsubscribe("trade", {rig.eth})
    rig.provider.subscribe("trade", {rig.eth}, reset=True)
    assert [2] == [item.trade_id for item in await rig.take(1)]


async def test_trades_of_a_long_absence_are_history(
    rig: Rig, venue: MarketVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "RESUME_NS", -1)
    rig.provider.subscribe("trade", {rig.eth})
    await venue.until(lambda venue: venue.count("subscribe", "trade:0"))
    await venue.send("trade:0", trades(1))
    await rig.take(1)
    rig.provider.unsubscribe("trade", {rig.eth})
    venue.snapshots["trade:0"] = trades(2, 1)
    rig.provider.subscribe("trade", {rig.eth})
    await venue.until(lambda venue: venue.count("subscribe", "trade:0") == 2)
    await venue.send("trade:0", trades(3))
    assert [3] == [item.trade_id for item in await rig.take(1)]


def regridded(instrument: Instrument) -> ListingChanges:
    return ListingChanges(changed=(RuleChange(instrument, {"tick_size": (0.01, 0.001)}),))


async def test_a_new_grid_begins_the_book_anew_and_leaves_trades_alone(rig: Rig, venue: MarketVenue) -> None:
    venue.snapshots["order_book:0"] = book({"99.50": "1.0"}, {"100.50": "2.0"}, 7)
    rig.provider.subscribe("trade", {rig.eth})
    rig.provider.subscribe("orderbook(0, 1)", {rig.eth})
    assert [99.5] == [item.top_bid for item in await rig.take(1)]
    await venue.until(lambda venue: venue.count("subscribe", "trade:0"))
    await venue.send("trade:0", trades(1))
    assert [1] == [item.trade_id for item in await rig.take(1)]
    venue.snapshots |= {"order_book:0": book({"98.50": "1.0"}, {"100.50": "2.0"}, 8), "trade:0": trades(2, 1)}
    rig.provider.on_listing(regridded(rig.eth))
    assert [98.5] == [item.top_bid for item in await rig.take(1)]
    await venue.send("trade:0", trades(3, 2))
    assert [2, 3] == [item.trade_id for item in await rig.take(2)]


async def test_a_market_that_names_another_instrument_begins_anew_for_it(rig: Rig, venue: MarketVenue) -> None:
    rig.provider.subscribe("trade", {rig.eth})
    await venue.until(lambda venue: venue.count("subscribe", "trade:0"))
    await venue.send("trade:0", trades(1))
    await rig.take(1)
    market = rig.provider._instruments.market(rig.eth)
    rig.provider._feeds.rebuild([0], {"trade": {rig.hype: market}})
    await venue.until(lambda venue: venue.count("subscribe", "trade:0") == 2)
    await venue.send("trade:0", trades(2))
    assert rig.hype is (await rig.next())[0]


async def test_trades_are_of_the_instrument_that_subscribed_last(rig: Rig, venue: MarketVenue) -> None:
    foreign = dataclasses.replace(rig.eth, symbol="ETHUSDC", exchange_symbol="0", venue_attributes={})
    rig.provider.subscribe("trade", {rig.eth})
    await venue.until(lambda venue: venue.count("subscribe", "trade:0"))
    await venue.send("trade:0", trades(1))
    await rig.take(1)
    rig.provider.unsubscribe("trade", {rig.eth})
    rig.provider.subscribe("trade", {foreign})
    await venue.until(lambda venue: venue.count("subscribe", "trade:0") == 2)
    await venue.send("trade:0", trades(2))
    assert foreign is (await rig.next())[0]


async def test_captured_trades_come_each_once_and_in_order(rig: Rig, venue: MarketVenue, wire_dir: Path) -> None:
    with gzip.open(wire_dir / "trade_0_eth.jsonl.gz", "rt") as lines:
        history, *live = [line.strip() for line in lines]
    rows = [row for line in live for key in ("trades", "liquidation_trades") for row in json.loads(line)[key] or []]
    venue.snapshots["trade:0"] = json.loads(history)
    rig.provider.subscribe("trade", {rig.eth})
    await venue.until(lambda venue: venue.count("subscribe", "trade:0"))
    for line in live:
        await venue.send("trade:0", line)
    found = await rig.take(len(rows))
    assert sorted((row["trade_id"], 1 if row["is_maker_ask"] else -1) for row in rows) == [
        (item.trade_id, item.side) for item in found
    ]
    assert 0 == rig.waiting


# --- bars --------------------------------------------------------------------------------------------------------------


def candles(*volumes: float) -> dict[str, Any]:
    """Write candles of the first minutes of an hour; without volume they repeat a price."""
    rows = [
        {"t": 1_760_040_000_000 + i * 60_000} | dict.fromkeys("ohlc", 100.0) | {"v": v} for i, v in enumerate(volumes)
    ]
    return {"candles": rows[-2:]}


async def test_bars_go_on_after_a_repair_of_qubxs_watchdog(rig: Rig, venue: MarketVenue) -> None:
    venue.snapshots["candle:0:1m"] = candles(5.0)
    rig.provider.subscribe("ohlc(3m)", {rig.eth})
    assert [5.0] == [bar.volume for bar in await rig.take(1)]
    await venue.send("candle:0:1m", candles(6.0, 1.0))
    assert [7.0] == [bar.volume for bar in await rig.take(1)]
    venue.snapshots["candle:0:1m"] = {"candles": candles(6.0, 2.0)["candles"][-1:]}
    rig.provider.unsubscribe("ohlc(3m)", {rig.eth})
    rig.provider.subscribe("ohlc(3m)", {rig.eth}, reset=True)
    assert [8.0] == [bar.volume for bar in await rig.take(1)], "the minute before is known still"


async def test_a_market_at_rest_shows_its_bar_to_qubxs_watchdog(rig: Rig, venue: MarketVenue) -> None:
    venue.snapshots["candle:0:1m"] = candles(0.0)
    rig.provider.subscribe("ohlc(1m)", {rig.eth})
    first = await rig.take(1)
    rig.provider.unsubscribe("ohlc(1m)", {rig.eth})
    rig.provider.subscribe("ohlc(1m)", {rig.eth}, reset=True)
    assert [bar.time for bar in first] == [bar.time for bar in await rig.take(1)]


# --- settlements of funding --------------------------------------------------------------------------------------------


def settled(hours: int) -> dict[str, Any]:
    """Write the figures of a market so many settlements after the first one of the test."""
    settled_ms = 1_760_040_000_002 + hours * 3_600_000
    figures = {"market_id": 0, "index_price": "100.0", "mark_price": "100.0", "open_interest": "1000.0"}
    figures |= {"current_funding_rate": "0.0012", "funding_rate": "0.0034", "funding_timestamp": settled_ms}
    return {"market_stats": {"0": figures}, "timestamp": settled_ms + 5_000}


async def anew_by_qubxs_watchdog(rig: Rig, venue: MarketVenue) -> None:
    rig.provider.unsubscribe("funding_payment", {rig.eth})
    await venue.until(lambda venue: venue.count("unsubscribe", "market_stats:all"))
    rig.provider.subscribe("funding_payment", {rig.eth}, reset=True)


async def anew_by_a_new_grid(rig: Rig, venue: MarketVenue) -> None:
    rig.provider.on_listing(regridded(rig.eth))


@pytest.mark.parametrize("begin_anew", [anew_by_qubxs_watchdog, anew_by_a_new_grid])
async def test_a_settlement_while_the_subscription_begins_anew_is_told(
    rig: Rig, venue: MarketVenue, begin_anew: Callable[[Rig, MarketVenue], Awaitable[None]]
) -> None:
    venue.snapshots["market_stats:all"] = settled(0)
    rig.provider.subscribe("funding_payment", {rig.eth})
    await venue.until(lambda venue: venue.count("subscribe", "market_stats:all"))
    await venue.send("market_stats:all", settled(1))
    (first,) = await rig.take(1)
    venue.snapshots["market_stats:all"] = settled(2)
    await begin_anew(rig, venue)
    (second,) = await rig.take(1)
    assert 3_600 * 10**9 == second.time - first.time


# --- quotes ------------------------------------------------------------------------------------------------------------


async def test_quotes_come_from_the_venues_ticker(rig: Rig, venue: MarketVenue) -> None:
    venue.snapshots["ticker:0"] = ticker("99.00", "101.00", NOW_MS)
    rig.provider.subscribe("quote", {rig.eth})
    _, data_type, quote = await rig.next()
    assert (DataType.QUOTE, 99.0, 101.0, 2.0, 1.0) == (data_type, quote.bid, quote.ask, quote.bid_size, quote.ask_size)
    assert quote is rig.provider.get_quote(rig.eth)


async def test_quotes_come_from_the_book_where_that_is_subscribed(rig: Rig, venue: MarketVenue) -> None:
    venue.snapshots["ticker:0"] = ticker("99.00", "101.00", NOW_MS)
    venue.snapshots["order_book:0"] = book({"99.50": "1.0"}, {"100.50": "2.0"}, 7)  # sent 7 ms later
    rig.provider.subscribe("quote", {rig.eth})
    assert 99.0 == (await rig.next())[2].bid
    rig.provider.subscribe("orderbook(0, 1)", {rig.eth})
    await venue.until(lambda venue: venue.count("unsubscribe", "ticker:0"))
    assert {"orderbook", "quote"} == {str((await rig.next())[1]) for _ in range(2)}
    assert 99.5 == best(rig, rig.eth)
    await venue.send("order_book:0", book({"99.40": "1.0"}, {}, 8, 7))  # nothing of either changes
    await venue.send("order_book:0", book({"99.70": "1.0"}, {}, 9, 8))
    assert {99.7} == {getattr(item, "bid", None) or item.top_bid for item in await rig.take(2)}
    venue.snapshots["ticker:0"] = ticker("99.70", "100.50", NOW_MS + 9)
    rig.provider.unsubscribe("orderbook(0, 1)", {rig.eth})
    await venue.until(lambda venue: 2 == venue.count("subscribe", "ticker:0"))
    await venue.send("ticker:0", ticker("99.80", "100.50", NOW_MS + 10))
    assert [99.7, 99.8] == [item.bid for item in await rig.take(2)]  # the ticker's own sizes are another quote


async def test_there_is_no_quote_of_what_nobody_watches(rig: Rig, venue: MarketVenue) -> None:
    venue.snapshots["order_book:0"] = book({"99.50": "1.0"}, {"100.50": "2.0"}, 7)
    assert rig.provider.get_quote(rig.eth) is None
    rig.provider.subscribe("orderbook(0, 1)", {rig.eth})
    await rig.take(1)
    assert 99.5 == best(rig, rig.eth)
    rig.provider.unsubscribe("orderbook(0, 1)", {rig.eth})
    assert rig.provider.get_quote(rig.eth) is None


async def test_where_trades_alone_are_wanted_the_ticker_is_read_but_not_published(
    rig: Rig, venue: MarketVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "_SETTLE_S", 0.0)
    venue.snapshots["ticker:0"] = ticker("99.00", "101.00", NOW_MS)
    rig.provider.subscribe("trade", {rig.eth})
    await venue.until(lambda venue: venue.count("subscribe", "ticker:0"))
    await venue.send("trade:0", trades(1))
    assert [1] == [item.trade_id for item in await rig.take(1)]
    assert 99.0 == best(rig, rig.eth)
    rig.provider.subscribe("quote", {rig.eth})
    assert 99.0 == (await rig.next())[2].bid
    rig.provider.unsubscribe(None, {rig.eth})
    await venue.until(lambda venue: venue.count("unsubscribe", "ticker:0") and venue.count("unsubscribe", "trade:0"))


async def test_no_extra_ticker_where_a_book_is_subscribed_right_after(
    rig: Rig, venue: MarketVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "_SETTLE_S", 0.0)
    venue.snapshots["order_book:0"] = book({"99.50": "1.0"}, {"100.50": "2.0"}, 7)
    rig.provider.subscribe("trade", {rig.eth})
    rig.provider.subscribe("orderbook(0, 1)", {rig.eth})
    await rig.take(1)
    assert 0 == venue.count("subscribe", "ticker:0")


def best(rig: Rig, instrument: Instrument) -> float:
    quote = rig.provider.get_quote(instrument)
    assert quote is not None
    return float(quote.bid)


# --- subscriptions -----------------------------------------------------------------------------------------------------


async def test_a_repair_of_qubxs_watchdog_reaches_the_wire(rig: Rig, venue: MarketVenue) -> None:
    venue.snapshots["order_book:0"] = book({"99.50": "1.0"}, {"100.50": "2.0"}, 7)
    rig.provider.subscribe("orderbook(0, 1)", {rig.eth})
    await rig.take(1)
    rig.provider.unsubscribe("orderbook(0, 1)", {rig.eth})
    await venue.until(lambda venue: venue.count("unsubscribe", "order_book:0"))
    venue.snapshots["order_book:0"] = book({"98.50": "1.0"}, {"100.50": "2.0"}, 9)
    rig.provider.subscribe("orderbook(0, 1)", {rig.eth}, reset=True)
    assert 98.5 == (await rig.next())[2].top_bid
    assert ["subscribe", "unsubscribe", "subscribe"] == [kind for kind, _ in venue.frames]


async def test_reset_makes_the_set_equal_and_unsubscribing_again_is_nothing(rig: Rig, venue: MarketVenue) -> None:
    rig.provider.subscribe("trade", {rig.eth, rig.btc})
    await venue.until(lambda venue: venue.count("subscribe", "trade:0") and venue.count("subscribe", "trade:1"))
    rig.provider.subscribe("trade", {rig.btc, rig.hype}, reset=True)
    rig.provider.unsubscribe("trade", {rig.eth})
    rig.provider.unsubscribe("quote", {rig.eth})
    await venue.until(lambda venue: venue.count("unsubscribe", "trade:0") and venue.count("subscribe", "trade:24"))
    assert {rig.btc, rig.hype} == set(rig.provider.get_subscribed_instruments("trade"))
    assert 1 == venue.count("subscribe", "trade:1")
    rig.provider.subscribe("trade", set(), reset=True)
    await venue.until(lambda venue: venue.count("unsubscribe", "trade:1") and venue.count("unsubscribe", "trade:24"))
    assert [] == rig.provider.get_subscriptions()


async def test_subscribing_again_changes_nothing(rig: Rig, venue: MarketVenue) -> None:
    rig.provider.subscribe("trade", {rig.eth})
    rig.provider.subscribe("trade", {rig.eth}, reset=True)
    rig.provider.subscribe("trade", set())
    await venue.until(lambda venue: venue.frames)
    await venue.send("trade:0", trades(1))
    await rig.take(1)
    assert [("subscribe", "trade:0")] == venue.frames


async def test_the_registry_answers_by_type_and_by_spelling(rig: Rig) -> None:
    provider = rig.provider
    provider.subscribe("orderbook(0, 1)", {rig.eth})
    provider.subscribe("orderbook(0.01, 20)", {rig.btc})
    provider.subscribe("trade", {rig.eth})
    assert provider.has_subscription(rig.eth, DataType.ORDERBOOK)
    assert provider.has_subscription(rig.btc, "orderbook(0, 1)")
    assert not provider.has_subscription(rig.btc, "trade")
    assert not provider.has_subscription(rig.hype, "orderbook")
    assert ["orderbook(0, 1)", "trade"] == provider.get_subscriptions(rig.eth)
    assert ["orderbook(0, 1)", "orderbook(0.01, 20)", "trade"] == provider.get_subscriptions()
    assert [rig.eth] == provider.get_subscribed_instruments("orderbook(0, 1)")
    assert [rig.eth, rig.btc] == provider.get_subscribed_instruments("orderbook")
    assert [rig.eth, rig.btc] == provider.get_subscribed_instruments()


@pytest.mark.parametrize(
    "subscription",
    [
        "ohlc", "nonsense", "nonsense(1)", "quote(1s)", "ohlc(x)",
        "orderbook(100ms)", "orderbook(0, 0)", "orderbook(-1, 5)", "orderbook(100, 5)", "orderbook(0, 100000)", "orderbook(nan, 1)",
    ],
)  # fmt: skip
async def test_what_is_not_there_is_refused_and_changes_nothing(rig: Rig, subscription: str) -> None:
    with pytest.raises(NotSupported, match=r"LIGHTER: no (market data|book) "):
        rig.provider.subscribe(subscription, {rig.eth})
    assert [] == rig.provider.get_subscriptions()


async def test_a_refusal_names_what_there_is(rig: Rig) -> None:
    with pytest.raises(NotSupported, match=r"orderbook\(tick_size_pct, depth\).* quote, trade, .*funding_rate"):
        rig.provider.subscribe("quote(1s)", {rig.eth})


async def test_an_instrument_that_the_venue_does_not_list_is_reported_and_left_out(rig: Rig) -> None:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="ERROR")
    try:
        typo = dataclasses.replace(
            rig.eth, symbol="EHT-USDC", base="EHT", venue_attributes={}, exchange_symbol="EHT-USDC"
        )
        rig.provider.subscribe("trade", {typo, rig.btc})
        rig.provider.subscribe("trade", {typo})
    finally:
        logger.remove(sink)
    assert [rig.btc] == rig.provider.get_subscribed_instruments("trade")
    assert 1 == len([line for line in lines if "no market data for EHT-USDC" in line])
    assert rig.provider.get_quote(typo) is None


async def test_an_instrument_of_another_lookup_is_the_same_market(rig: Rig, venue: MarketVenue) -> None:
    foreign = dataclasses.replace(rig.eth, symbol="ETHUSDC", exchange_symbol="0", venue_attributes={})
    venue.snapshots["order_book:0"] = book({"99.50": "1.0"}, {"100.50": "2.0"}, 7)
    rig.provider.subscribe("orderbook(0, 1)", {foreign})
    assert foreign is (await rig.next())[0]
    assert 99.5 == best(rig, foreign)


async def test_subscriptions_may_come_from_any_thread(rig: Rig, venue: MarketVenue) -> None:
    venue.snapshots["order_book:0"] = book({"99.50": "1.0"}, {"100.50": "2.0"}, 7)
    await asyncio.to_thread(rig.provider.subscribe, "orderbook(0, 1)", {rig.eth})
    await rig.take(1)
    await asyncio.to_thread(rig.provider.subscribe, "orderbook(1, 3)", {rig.eth})
    assert [3] == [len(item.bids) for item in await rig.take(1)]
    await asyncio.to_thread(rig.provider.unsubscribe, None, {rig.eth})
    await venue.until(lambda venue: venue.count("unsubscribe", "order_book:0"))


async def test_a_lost_connection_brings_every_book_back(rig: Rig, venue: MarketVenue) -> None:
    venue.snapshots["order_book:0"] = book({"99.50": "1.0"}, {"100.50": "2.0"}, 7)
    rig.provider.subscribe("orderbook(0, 1)", {rig.eth})
    await rig.take(1)
    venue.snapshots["order_book:0"] = book({"90.50": "1.0"}, {"100.50": "2.0"}, 3)  # a venue that began anew
    await venue.sockets[-1].close()
    assert 90.5 == (await rig.next())[2].top_bid
    await venue.send("order_book:0", book({"91.00": "1.0"}, {}, 4, 3))
    assert 91.0 == (await rig.next())[2].top_bid
    assert 0 == rig.provider.stats()["book_gaps"]


# --- the rest of the contract ------------------------------------------------------------------------------------------


async def test_a_strategy_that_lags_sees_the_newest_book_when_it_comes_round(rig: Rig, venue: MarketVenue) -> None:
    for number in range(5_001):
        rig.provider.channel.send(number)
    venue.snapshots["order_book:0"] = book({"99.50": "1.0"}, {"100.50": "2.0"}, 7)
    rig.provider.subscribe("orderbook(0, 1)", {rig.eth})
    rig.provider.subscribe("trade", {rig.eth})
    await venue.until(lambda venue: venue.count("subscribe", "order_book:0") and venue.count("subscribe", "trade:0"))
    for nonce in range(8, 20):
        await venue.send("order_book:0", book({f"99.{nonce + 50}": "1.0"}, {}, nonce, nonce - 1))
    await venue.send("trade:0", trades(1, 2))
    async with asyncio.timeout(5):
        while rig.waiting < 5_003:
            await asyncio.sleep(0)
    before = await asyncio.to_thread(lambda: [rig.provider.channel.receive(5) for _ in range(5_003)])
    assert [1, 2] == [item[2].trade_id for item in before[5_001:]]
    assert 99.69 == (await rig.next())[2].top_bid
    stats = rig.provider.stats()
    assert (1, 12, 1) == (stats["conflation_episodes"], stats["conflated"], stats["orderbook"])


async def test_what_the_venue_lists_is_listed(rig: Rig) -> None:
    listed = rig.provider.is_instrument_listed
    unknown = dataclasses.replace(
        rig.eth, symbol="XYZ-USDC", base="XYZ", venue_attributes={}, exchange_symbol="XYZ-USDC"
    )
    renumbered = dataclasses.replace(rig.eth, venue_attributes={"market_id": 1})
    elsewhere = dataclasses.replace(unknown, exchange="BINANCE.UM")
    assert [True, True, False, True, True] == [listed(i) for i in (rig.eth, rig.btc, unknown, renumbered, elsewhere)]


async def test_before_the_markets_are_known_and_for_markets_at_rest_the_venues_word_counts(rig: Rig) -> None:
    resting = market_row(0, "ETH", 4, 2, "0.0050")
    resting.status = "inactive"
    answers = []
    for load, rows in ((False, []), (True, [resting])):
        loader = LighterInstrumentLoader(Listing(rows))
        if load:
            await loader.load()
        provider = LighterDataProvider(
            exchange="LIGHTER",
            channel=CtrlChannel("test"),
            time_provider=LiveTimeProvider(),
            instruments=loader,
            market_ws=rig.socket,
            history=rig.history,
            loop=asyncio.get_running_loop(),
        )
        answers.append(provider.is_instrument_listed(rig.eth))
    assert [True, False] == answers


async def test_history_is_refused_in_words(rig: Rig) -> None:
    with pytest.raises(NotSupported, match=r"no history of 7s bars"):
        await asyncio.to_thread(rig.provider.get_ohlc, rig.eth, "7s", 5)
    rig.provider.warmup({})
    rig.provider.warmup({("quote", rig.eth): "1h"})


async def test_the_provider_tells_who_and_how_it_is(rig: Rig, venue: MarketVenue) -> None:
    assert ("LIGHTER", False, True) == (
        rig.provider.exchange(), rig.provider.is_simulation, rig.provider.is_connected(),
    )  # fmt: skip
    rig.provider.subscribe("trade", {rig.eth})
    await venue.until(lambda venue: venue.count("subscribe", "trade:0"))
    stats = rig.provider.stats()
    assert (1, 0, 1) == (stats["streams"], stats["orderbook"], stats["connects"])
    assert "frames_per_s" not in stats  # a rate needs two questions
    assert 0.0 <= rig.provider.stats()["frames_trade_per_s"]
    await rig.socket.close()
    assert not rig.provider.is_connected()


async def test_closing_twice_closes_once(rig: Rig) -> None:
    closed: list[int] = []
    on_close: Callable[[], None] = lambda: closed.append(1)  # noqa: E731 - a name for the type
    provider = LighterDataProvider(
        exchange="LIGHTER",
        channel=CtrlChannel("test"),
        time_provider=LiveTimeProvider(),
        instruments=await loaded_instruments(),
        market_ws=rig.socket,
        history=rig.history,
        loop=asyncio.get_running_loop(),
        on_close=on_close,
    )
    provider.start()
    provider.close()
    provider.close()
    assert [1] == closed
