"""The venue's past in Qubx's terms: what is asked for comes, from as few requests as the venue allows."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from loguru import logger
from qubx.core.basics import CtrlChannel, Instrument
from qubx.utils.time import to_timedelta

from qubx_lighter.client import LighterClient
from qubx_lighter.errors import VenueError
from qubx_lighter.history.pages import LighterHistory
from qubx_lighter.instruments import LighterInstrumentLoader
from qubx_lighter.market_data.warmup import HistoryReads
from tests.history_venue import BTC, HOUR_MS, HistoryVenue, candles, funding, trade
from tests.markets import ETH_ROW

MINUTE = 60_000
DAY = 24 * HOUR_MS
NOW = 1_790_000_000_000 // DAY * DAY + 7 * HOUR_MS + 31_234
LISTED = NOW // DAY * DAY - 20 * DAY


class Reads:
    """What Qubx has: a channel, and threads of its own."""

    def __init__(self, venue: HistoryVenue, client: LighterClient, loader: LighterInstrumentLoader) -> None:
        self.venue = venue
        self.channel = CtrlChannel("test")
        self.counters: Counter[str] = Counter()
        self._loader = loader
        self.eth, self.btc = (loader.instrument(market_id) for market_id in (0, 1))
        self._history = HistoryReads(
            LighterHistory(client),
            loader,
            channel=self.channel,
            counters=self.counters,
            clock_ns=lambda: venue.now_ms * 1_000_000,
            loop=asyncio.get_running_loop(),
        )

    async def bars(self, instrument: Instrument, timeframe: str, count: int) -> list[int]:
        """Give the opens of the last bars, which are as the venue's candles are."""
        found = await asyncio.to_thread(self._history.bars, instrument, timeframe, count)
        made = self._candles(instrument, timeframe)
        for bar in found:
            row = made[bar.time // 1_000_000]
            assert [row.get(name, 0) for name in "ohlcv"] == [bar.open, bar.high, bar.low, bar.close, bar.volume]
        return [bar.time // 1_000_000 for bar in found]

    def opens(self, instrument: Instrument, timeframe: str) -> list[int]:
        """Tell when all bars of a market open."""
        return list(self._candles(instrument, timeframe))

    def _candles(self, instrument: Instrument, timeframe: str) -> dict[int, dict[str, Any]]:
        length = int(to_timedelta(timeframe).total_seconds() * 1000)
        return {row["t"]: row for row in self.venue.known_candles(int(instrument is self.btc), length)}

    async def warmup(self, configs: dict[tuple[str, Instrument], str]) -> None:
        await asyncio.to_thread(self._history.warmup, configs)

    async def list_eth(self, created_ms: int) -> None:
        """List a market at another time."""
        self.venue.markets[0] = ETH_ROW | {"created_at": str(created_ms)}
        await self._loader.load()
        self.eth = self._loader.instrument(0)

    def delivered(self) -> dict[tuple[str, str], list[Any]]:
        """Take what is on the channel."""
        found = {}
        while self.channel._queue.qsize():
            instrument, subscription, items, historical = self.channel.receive(1)
            assert historical
            found[subscription, instrument.symbol] = items
        return found


@pytest.fixture
async def reads() -> AsyncIterator[Reads]:
    """A market that trades every minute, and one that trades every 37th."""
    created = {"created_at": str(LISTED)}
    venue = HistoryVenue(
        NOW,
        minutes={0: list(range(LISTED, NOW, MINUTE)), 1: list(range(LISTED, NOW, 37 * MINUTE))},
        fundings={0: [funding(time) for time in range(LISTED, NOW, HOUR_MS)]},
        trades={1: [trade(id_, NOW - id_ * 60_000, market_id=1) for id_ in range(1, 250)]},
        markets=[ETH_ROW | created, BTC | created],
    )
    client = LighterClient("https://venue.test", transport=venue.transport, retry_wait_s=0.0)
    loader = LighterInstrumentLoader(client)
    await loader.load()
    yield Reads(venue, client, loader)
    await client.close()


@pytest.fixture
def said() -> Any:
    """What is logged from errors up."""
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(line.record["message"]), level="ERROR")
    yield lines
    logger.remove(sink)


# --- the last bars ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeframe", ["1m", "15Min", "7m", "3h", "1d", "3d"])
async def test_a_market_that_rests_has_as_many_bars_as_are_asked_for(reads: Reads, timeframe: str) -> None:
    for instrument in (reads.eth, reads.btc):
        for count in (1, 2, 20):
            reads.venue.queries.clear()
            assert reads.opens(instrument, timeframe)[-count:] == await reads.bars(instrument, timeframe, count)
            assert 1 == len(reads.venue.queries)


async def test_more_bars_than_a_page_come_from_as_many_pages_as_they_need(reads: Reads) -> None:
    for instrument in (reads.eth, reads.btc):
        reads.venue.queries.clear()
        assert reads.opens(instrument, "1m")[-700:] == await reads.bars(instrument, "1m", 700)
        assert 2 == len(reads.venue.queries)


async def test_a_venue_that_does_not_reach_back_is_asked_once_more(reads: Reads) -> None:
    reads.venue.extends = False
    assert reads.opens(reads.btc, "1m")[-20:] == await reads.bars(reads.btc, "1m", 20)
    assert 2 == len(reads.venue.queries)
    (_, first), (_, second) = reads.venue.queries
    assert ("20", "500") == (first["count_back"], second["count_back"])
    assert int(second["end_timestamp"]) < int(first["end_timestamp"])  # a cache tells requests apart by end and count


@pytest.mark.parametrize("seed", range(8))
async def test_the_last_bars_are_right_however_the_market_rested_and_the_venue_pages(reads: Reads, seed: int) -> None:
    print("seed", seed)
    source = random.Random(seed)
    reads.venue.minutes[1] = [
        minute for minute in range(LISTED, NOW, MINUTE) if source.random() < 0.004 or minute % (10 * DAY) < HOUR_MS
    ]
    reads.venue.cap = source.choice([500, 499, 60])
    reads.venue.extends = source.choice([True, False])
    for _ in range(6):
        timeframe, count = source.choice(["1m", "3m", "1h", "7h", "2d", "1w"]), source.choice([1, 3, 50, 700])
        expected = reads.opens(reads.btc, timeframe)[-count:]
        assert expected == await reads.bars(reads.btc, timeframe, count), (timeframe, count)


@pytest.mark.parametrize("tells", [True, False])
async def test_a_young_market_has_fewer_and_nothing_is_asked_about_the_time_before(reads: Reads, tells: bool) -> None:
    young = NOW // DAY * DAY
    await reads.list_eth(created_ms=young if tells else 0)
    reads.venue.minutes[0] = list(range(young, young + 10 * MINUTE, MINUTE))
    for timeframe, count in (("1m", 10), ("1h", 1), ("1d", 1)):
        reads.venue.queries.clear()
        assert reads.opens(reads.eth, timeframe) == await reads.bars(reads.eth, timeframe, 100)
        assert count == len(reads.opens(reads.eth, timeframe))
        assert 1 + (not tells) == len(reads.venue.queries)
        assert all(0 <= int(query["start_timestamp"]) for _, query in reads.venue.queries)


async def test_no_bars_are_no_request(reads: Reads) -> None:
    assert [] == await reads.bars(reads.eth, "1m", 0)
    assert [] == reads.venue.queries


# --- warm-up ----------------------------------------------------------------------------------------------------------


async def test_bars_trades_and_payments_of_a_period_come(reads: Reads) -> None:
    await reads.warmup(
        {("ohlc(2h)", reads.eth): "1d", ("trade", reads.btc): "1h", ("funding_payment", reads.eth): "3h"}
    )
    found = reads.delivered()
    first = (NOW - DAY) // (2 * HOUR_MS) * 2 * HOUR_MS
    expected = [row["t"] for row in candles(reads.venue.minutes[0], 2 * HOUR_MS) if row["t"] >= first]
    assert expected == [bar.time // 1_000_000 for bar in found["ohlc(2h)", "ETH-USDC"]]
    assert list(range(60, 0, -1)) == [one.trade_id for one in found["trade", "BTC-USDC"]]
    assert 3 == len(found["funding_payment", "ETH-USDC"])
    assert sum(map(len, found.values())) == reads.counters["history_objects"]


@pytest.mark.parametrize("subscription", ["ohlc(30s)", "ohlc(90s)", "ohlc(1M)", "ohlc"])
async def test_what_has_no_history_leaves_the_others_theirs(reads: Reads, said: list[str], subscription: str) -> None:
    await reads.warmup({("ohlc(1h)", reads.eth): "2d", (subscription, reads.btc): "1h", ("ohlc(1m)", reads.btc): "3h"})
    assert {("ohlc(1h)", "ETH-USDC"): 49, ("ohlc(1m)", "BTC-USDC"): 5} == {
        name: len(items) for name, items in reads.delivered().items()
    }
    (line,) = said
    assert line.startswith(f"lighter: {subscription} of BTC-USDC begins without history: ")


async def test_a_market_that_is_not_listed_leaves_the_others_their_history(reads: Reads, said: list[str]) -> None:
    gone = dataclasses.replace(
        reads.btc, symbol="GONE-USDC", base="GONE", exchange_symbol="GONE-USDC", venue_attributes={}
    )
    await reads.warmup({("ohlc(1h)", gone): "1h", ("ohlc(1h)", reads.eth): "2d", ("trade", reads.btc): "5min"})
    assert {("ohlc(1h)", "ETH-USDC"): 49, ("trade", "BTC-USDC"): 5} == {
        name: len(items) for name, items in reads.delivered().items()
    }
    (line,) = said
    assert "ohlc(1h) of GONE-USDC begins without history: " in line


async def test_a_venue_that_refuses_ends_all(reads: Reads) -> None:
    reads.venue.before = lambda _: httpx.Response(400, json={"code": 20001, "message": "invalid param"})
    with pytest.raises(VenueError, match="20001"):
        await reads.warmup({("ohlc(1h)", reads.eth): "2d", ("trade", reads.btc): "1h"})
    assert {} == reads.delivered()
