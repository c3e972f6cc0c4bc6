"""LighterStorage against the local venue: what is read is what the venue has."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from qubx.core.basics import Bar, FundingPayment
from qubx.data.containers import RawData

from qubx_lighter.client import LighterClient
from qubx_lighter.sim.app import Venue, open_venue
from qubx_lighter.storage import LighterStorage

MINUTE = 60_000
HOUR_MS = 3_600_000


async def read(venue: Venue, dtype: str, *, hours: float | None = None, cache: Path | None = None) -> RawData:
    """Read BTC of the last hours, or from the listing on, up to ten minutes ago."""
    until = venue.engine.now // 1000 // MINUTE * MINUTE - 10 * MINUTE

    def work() -> RawData:
        storage = LighterStorage(venue.url, cache_dir=cache or False)
        try:
            start = None if hours is None else str(np.datetime64(int(until - hours * HOUR_MS), "ms"))
            raw = storage.get_reader("LIGHTER", "SWAP").read("BTC-USDC", dtype, start, str(np.datetime64(until, "ms")))
        finally:
            storage.close()
        assert isinstance(raw, RawData)
        return raw

    return await asyncio.to_thread(work)


def btc(venue: Venue) -> int:
    return next(market_id for market_id, spec in venue.engine.markets.items() if spec.symbol == "BTC")


def column(raw: RawData, name: str) -> list[float]:
    values = raw.data.column(raw.names.index(name))
    return values.cast(pa.timestamp("ms")).cast(pa.int64()).to_pylist() if name == "timestamp" else values.to_pylist()


async def test_thirty_days_of_minutes_are_the_venues_own_with_and_without_a_cache(tmp_path: Path) -> None:
    async with open_venue(markets=["BTC"], history_days=30, synthetic=False) as venue:
        raw = await read(venue, "ohlc(1m)")
        times = column(raw, "timestamp")
        rows = venue.engine.history(btc(venue)).candles(MINUTE, int(times[-1]), 10**6)
        assert 30 * 1440 - 20 <= len(rows)
        assert [int(row[0]) for row in rows] == times
        spec = venue.engine.markets[btc(venue)]
        assert [int(row[4]) / 10**spec.price_decimals for row in rows] == column(raw, "close")
        first = await read(venue, "ohlc(1m)", cache=tmp_path)
        again = await read(venue, "ohlc(1m)", cache=tmp_path)
        assert raw.data.slice(0, len(times)).equals(first.data.slice(0, len(times)))
        assert first.data.equals(again.data)
        assert isinstance(raw.to_records()[0], Bar)


async def test_hours_are_the_sums_of_their_minutes() -> None:
    async with open_venue(markets=["BTC"], history_days=3, synthetic=False) as venue:
        minutes, bars = await read(venue, "ohlc(1m)", hours=50), await read(venue, "ohlc(7m)", hours=50)
        opened = np.array(column(minutes, "timestamp"), dtype=int) // (7 * MINUTE) * (7 * MINUTE)
        for start, high, volume in list(zip(*(column(bars, n) for n in ("timestamp", "high", "volume")), strict=True))[
            :-1
        ]:
            mine = np.flatnonzero(opened == start)
            assert high == max(column(minutes, "high")[index] for index in mine)
            assert volume == pytest.approx(sum(column(minutes, "volume")[index] for index in mine))


async def test_every_hour_since_the_listing_has_its_funding() -> None:
    async with open_venue(markets=["BTC"], history_days=40, synthetic=False) as venue:
        raw = await read(venue, "funding_payment")
        times = column(raw, "timestamp")
        assert {HOUR_MS} == set(np.diff(times).tolist())
        assert 40 * 24 - 1 <= len(times)
        fundings = venue.engine.history(btc(venue)).fundings(int(times[0]) // HOUR_MS, int(times[-1]) // HOUR_MS + 1)
        assert pytest.approx([one.rate / 10**6 for one in fundings]) == column(raw, "funding_rate")
        assert isinstance(raw.to_records()[0], FundingPayment)


async def test_trades_are_those_that_a_plain_walk_finds(tmp_path: Path) -> None:
    async with open_venue(markets=["BTC"], history_days=4, synthetic=False) as venue:
        old = await read(venue, "trade", hours=40, cache=tmp_path)
        kept = await read(venue, "trade", hours=60, cache=tmp_path)
        client, cursor, expected = LighterClient(venue.url), None, set()
        while True:
            body = await client.market_trades(btc(venue), cursor=cursor)
            expected |= {(row.trade_id, row.transaction_time or row.timestamp * 1000) for row in body.trades or []}
            if not (cursor := body.next_cursor):
                break
        await client.close()
        for raw in (old, kept):
            times = raw.data.column(0).to_numpy(zero_copy_only=False).astype("datetime64[us]").astype(int)
            wanted = sorted((us, id_) for id_, us in expected if times[0] <= us <= times[-1])
            assert [id_ for _, id_ in wanted] == column(raw, "id")
            assert (np.diff(raw.data.column(0).to_numpy(zero_copy_only=False).astype(int)) > 0).all()
        assert len(kept) > len(old) > 1000
