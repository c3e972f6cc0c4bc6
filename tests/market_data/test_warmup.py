"""The venue's past in Qubx's terms: what is asked for comes, from as few requests as the venue allows."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from loguru import logger
from qubx.core.basics import CtrlChannel, Instrument

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
LISTED = NOW // DAY * DAY - 90 * DAY


class Reads:
    """What Qubx has: a channel, and threads of its own."""

    def __init__(self, venue: HistoryVenue, client: LighterClient, loader: LighterInstrumentLoader) -> None:
        self.venue = venue
        self.channel = CtrlChannel("test")
        self.counters: Counter[str] = Counter()
        self.eth, self.btc = (loader.instrument(market_id) for market_id in (0, 1))
        self._history = HistoryReads(
            LighterHistory(client),
            loader,
            channel=self.channel,
            counters=self.counters,
            clock_ns=lambda: venue.now_ms * 1_000_000,
            loop=asyncio.get_running_loop(),
        )

    async def warmup(self, configs: dict[tuple[str, Instrument], str]) -> None:
        await asyncio.to_thread(self._history.warmup, configs)

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
