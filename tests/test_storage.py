"""LighterStorage: history through Qubx's own doors."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import respx
from qubx.backtester.simulated_data import DataPump, SimulatedDataIterator
from qubx.core.basics import DataType, FundingPayment, FundingRate, Liquidation, MarketType
from qubx.core.lookups import lookup
from qubx.core.series import Bar, Quote, Trade
from qubx.data.cache import CachedStorage
from qubx.data.containers import RawData, RawMultiData
from qubx.data.registry import StorageRegistry
from qubx.data.transformers import TypedRecords
from qubx.utils.runner.configs import StorageConfig
from qubx.utils.runner.factory import construct_storage
from qubx.utils.time import to_timedelta

from qubx_lighter.errors import ConfigurationError, TransportError, UnknownMarketError, VenueError
from qubx_lighter.storage import LighterReader, LighterStorage
from tests.history_venue import BTC, ETH_SPOT, HOUR_MS, HistoryVenue, candles, funding, trade
from tests.markets import ETH_ROW

ROOT = Path(__file__).parents[1]
URL = "https://venue.test"
MINUTE = 60_000
DAY = 86_400_000
NOW = pd.Timestamp.now(tz="UTC").value // 1_000_000
LISTED = NOW // DAY * DAY - 5 * DAY


def made_at(time_ms: int) -> dict[str, str]:
    return {"created_at": str(time_ms)}


@pytest.fixture
def venue() -> Iterator[HistoryVenue]:
    minutes = list(range(LISTED + 3 * HOUR_MS, NOW, MINUTE))
    venue = HistoryVenue(
        NOW,
        minutes={0: minutes, 1: minutes[::7], 2048: minutes[-3000:]},
        fundings={0: [funding(time) for time in range(LISTED, NOW, HOUR_MS)]},
        trades={0: [trade(id_, NOW - 2 * HOUR_MS + id_ * 1000) for id_ in range(1, 250)]},
        markets=[ETH_ROW | made_at(LISTED), BTC, ETH_SPOT | made_at(LISTED)],
    )
    with respx.mock(base_url=URL, assert_all_called=False) as router:
        router.route().mock(side_effect=venue._handle)
        yield venue


@pytest.fixture
def storage(venue: HistoryVenue) -> Iterator[LighterStorage]:
    storage = a_storage()
    yield storage
    storage.close()


def a_storage(**options: Any) -> LighterStorage:
    return LighterStorage(**({"base_url": URL, "cache_dir": False, "requests_per_minute": 10**9} | options))


@pytest.fixture
def reader(storage: LighterStorage) -> LighterReader:
    return storage.get_reader("LIGHTER", "SWAP")


def at(time_ms: int) -> str:
    return str(pd.Timestamp(time_ms, unit="ms"))


def times(raw: RawData) -> list[int]:
    return [
        int(time) for time in raw.data.column(0).to_numpy(zero_copy_only=False).astype("datetime64[ms]").astype(int)
    ]


def opens(venue: HistoryVenue, market_id: int, length: int, first: int, last: int) -> list[int]:
    return [row["t"] for row in candles(venue.minutes[market_id], length) if first <= row["t"] <= last]


# --- doors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lighter", "qubx_lighter.storage.LighterStorage"])
def test_qubx_builds_it_by_name_and_by_class_path_with_what_its_runner_adds(venue: HistoryVenue, name: str) -> None:
    config = StorageConfig(
        storage=name,
        args={"base_url": URL, "cache_dir": False, "requests_per_minute": 10**9, "rate_limiters": {"lighter": None}},
    )
    storage = construct_storage(config)
    assert isinstance(storage, LighterStorage)
    assert (["LIGHTER"], ["SWAP", "SPOT"]) == (storage.get_exchanges(), storage.get_market_types("LIGHTER"))
    assert isinstance(storage["LIGHTER", "SWAP"], LighterReader)
    storage.close()


def test_a_network_may_stand_after_the_name() -> None:
    with respx.mock(assert_all_called=False) as router:
        router.route(host="testnet.zklighter.elliot.ai").mock(side_effect=HistoryVenue(NOW)._handle)
        StorageRegistry.get("lighter::testnet", cache_dir=False).close()


def test_its_instruments_are_known_to_qubx_at_once(storage: LighterStorage) -> None:
    for market_type in (MarketType.SWAP, MarketType.SPOT):
        instrument = lookup.find_symbol("LIGHTER", "ETH-USDC", market_type)
        assert instrument is not None
        assert market_type is instrument.market_type


def test_a_symbol_format_is_as_asked_for(venue: HistoryVenue) -> None:
    storage = a_storage(symbol_format="BASEQUOTE")
    assert ["ETHUSDC", "BTCUSDC"] == storage.get_reader("LIGHTER", "SWAP").get_data_id()
    storage.close()


@pytest.mark.parametrize(("exchange", "market"), [("BINANCE", "SWAP"), ("LIGHTER", "FUTURE")])
def test_other_exchanges_and_types_are_refused(storage: LighterStorage, exchange: str, market: str) -> None:
    with pytest.raises(ValueError, match="LIGHTER has SWAP, SPOT"):
        storage.get_reader(exchange, market)


def test_a_venue_that_cannot_be_read_is_an_error_and_leaves_no_thread(venue: HistoryVenue) -> None:
    venue.before = lambda _: httpx.Response(403, html="<html>blocked</html>")
    before = threading.active_count()
    with pytest.raises(TransportError, match="HTTP 403"):
        a_storage()
    assert before == threading.active_count()


REGISTRY = """
import json, sys
{first}
import qubx_lighter{module}
registered = "qubx.data.registry" in sys.modules and "lighter" in sys.modules["qubx.data.registry"].StorageRegistry._storages
print(json.dumps([registered, "qubx" in sys.modules, "qubx_lighter.client" in sys.modules]))
"""


@pytest.mark.parametrize(
    ("first", "module", "expected"),
    [
        ("import qubx.data", "", [True, True, False]),  # plugins: {modules: [qubx_lighter]}
        ("", ".plugin", [True, True, False]),  # the entry point
        ("", "", [False, False, False]),  # alone it is light
        ("", ".protocol.wire", [False, False, False]),
    ],
)
def test_the_name_is_registered_where_qubx_runs_and_nothing_is_imported_for_it(
    first: str, module: str, expected: list[bool]
) -> None:
    command = [sys.executable, "-c", REGISTRY.format(first=first, module=module)]
    run = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert expected == json.loads(run.stdout.splitlines()[-1])


# --- candles ----------------------------------------------------------------------------------------------------------


def test_candles_come_with_both_ends(reader: LighterReader, venue: HistoryVenue) -> None:
    first, last = NOW // MINUTE * MINUTE - 3000 * MINUTE, NOW // MINUTE * MINUTE - 10 * MINUTE
    raw = reader.read("ETH-USDC", "ohlc(1min)", at(first), at(last))
    assert isinstance(raw, RawData)
    assert list(range(first, last + 1, MINUTE)) == times(raw)
    assert ("ETH-USDC", DataType.OHLC) == (raw.data_id, raw.dtype)
    frame = raw.to_pd()
    rows = {row["t"]: row for row in candles(venue.minutes[0], MINUTE)}
    assert [rows[time].get("V", 0) for time in times(raw)] == frame["quote_volume"].tolist()
    assert ["open", "high", "low", "close", "volume", "quote_volume"] == list(frame.columns)
    assert isinstance(raw.to_records()[0], Bar)


def test_ends_between_the_grid_are_left_out(reader: LighterReader) -> None:
    first = NOW // MINUTE * MINUTE - 100 * MINUTE
    raw = reader.read("ETH-USDC", "ohlc(1m)", at(first + 1), str(pd.Timestamp((first + 3 * MINUTE) * 10**6 - 1)))
    assert [first + MINUTE, first + 2 * MINUTE] == times(raw)


def test_swapped_ends_and_other_ways_to_say_a_time(reader: LighterReader) -> None:
    first, last = NOW // MINUTE * MINUTE - 50 * MINUTE, NOW // MINUTE * MINUTE - 40 * MINUTE
    expected = times(reader.read("ETH-USDC", "ohlc(1m)", at(first), at(last)))
    stamp = pd.Timestamp(last, unit="ms")
    for start, stop in (
        (at(last), at(first)),
        (pd.Timestamp(first, unit="ms"), stamp),
        (np.datetime64(first, "ms"), np.datetime64(last, "ms")),
        (at(first) + "+00:00", stamp.tz_localize("UTC").tz_convert("Asia/Tokyo").isoformat()),
        ("-10min", at(last)),
        (at(first), "10min"),
    ):
        assert expected == times(reader.read("ETH-USDC", "ohlc(1m)", start, stop))


def test_now_leaves_nothing_out_west_of_greenwich(reader: LighterReader, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = times(reader.read("ETH-USDC", "ohlc(1m)", at(NOW - DAY), None))
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        found = [times(reader.read("ETH-USDC", "ohlc(1m)", at(NOW - DAY), stop)) for stop in ("now", "today")]
    time.tzset()
    assert [expected, expected] == found


@pytest.mark.parametrize(("start", "stop"), [("yesterday evening", None), (None, "2026-13-01"), ("1h", "2h")])
def test_a_time_that_cannot_be_read_is_an_error(reader: LighterReader, start: str | None, stop: str | None) -> None:
    with pytest.raises(ValueError, match=r"time|deltas"):
        reader.read("ETH-USDC", "ohlc(1m)", start, stop)


def test_without_ends_all_there_is_comes_from_the_listing_on(reader: LighterReader, venue: HistoryVenue) -> None:
    raw = reader.read("ETH-USDC", "ohlc(1h)", None, None)
    assert opens(venue, 0, HOUR_MS, 0, NOW) == times(raw)
    early = reader.read("ETH-USDC", "ohlc(1h)", "2015-01-01", "2100-01-01")
    assert raw.data.equals(early.data)
    assert 4 >= venue.asked["candles"]  # and nothing is asked about the years before


def test_a_market_that_does_not_tell_its_listing_begins_with_its_first_candle(
    reader: LighterReader, venue: HistoryVenue
) -> None:
    first, last = reader.get_time_range("BTC-USDC", "ohlc(1h)")
    assert np.datetime64((LISTED + 3 * HOUR_MS) // DAY * DAY, "ms") == first
    assert abs(last - np.datetime64(NOW, "ms")) < np.timedelta64(5, "m")
    assert np.datetime64(LISTED, "ms") == reader.get_time_range("ETH-USDC", "trade")[0]
    asked = venue.asked["candles"]
    reader.read("BTC-USDC", "ohlc(1d)", "2015-01-01", None)
    assert asked + 2 >= venue.asked["candles"]


@pytest.mark.parametrize("timeframe", ["2m", "3min", "10m", "45min", "2h", "6h", "1d", "3d", "1w"])
@pytest.mark.parametrize("symbol", ["ETH-USDC", "BTC-USDC"])
def test_any_number_of_minutes_is_added_up_exactly(
    reader: LighterReader, venue: HistoryVenue, symbol: str, timeframe: str
) -> None:
    raw = reader.read(symbol, f"ohlc({timeframe})", at(LISTED), at(NOW))
    length = int(to_timedelta(timeframe).total_seconds() * 1000)
    made = [row for row in candles(venue.minutes[symbol == "BTC-USDC"], length) if LISTED <= row["t"] <= NOW]
    columns = [raw.data.column(index).to_pylist() for index in range(1, 7)]
    assert [row["t"] for row in made] == times(raw)
    assert [[row.get(name, 0) for row in made] for name in "ohlcvV"] == columns


@pytest.mark.parametrize("timeframe", ["1h", "3d", "1w", "52w"])
@pytest.mark.parametrize("symbol", ["ETH-USDC", "BTC-USDC"])  # the second does not tell its listing
def test_the_bar_that_a_market_was_listed_in_is_its_first(
    reader: LighterReader, venue: HistoryVenue, symbol: str, timeframe: str
) -> None:
    length = int(to_timedelta(timeframe).total_seconds() * 1000)
    made = candles(venue.minutes[symbol == "BTC-USDC"], length)
    for start in (None, "2020-01-01"):
        chunks = list(reader.read(symbol, f"ohlc({timeframe})", start, None, 1000))
        for parts in ([reader.read(symbol, f"ohlc({timeframe})", start)], chunks):
            assert [row["t"] for row in made] == [time for part in parts for time in times(part)]
            assert [row.get("v", 0) for row in made] == [
                traded for part in parts for traded in part.data.column(5).to_pylist()
            ]


@pytest.mark.parametrize(
    ("dtype", "options", "text"),
    [
        ("ohlc(30s)", {}, "30s is not a multiple"),
        ("ohlc(90s)", {}, "90s is not a multiple"),
        ("ohlc", {}, "needs a timeframe"),
        ("ohlc(1M)", {}, "no bars of calendar months"),
        ("OHLC(3 M)", {}, "no bars of calendar months"),
        ("mark_ohlc(1M)", {}, "no bars of calendar months"),
        ("ohlc(1Y)", {}, "no bars of calendar months or years"),
        ("ohlc(1m)", {"price": "index"}, "no candles of the index price"),
        ("orderbook(0.01, 10)", {}, "there is ohlc, trade, liquidation, mark_ohlc, funding_payment, funding_rate"),
        ("open_interest", {}, "no history of open_interest"),
        ("quote", {}, "no history of quote"),
    ],
)
def test_what_the_venue_does_not_have_is_refused_with_what_it_has(
    reader: LighterReader, dtype: str, options: dict[str, str], text: str
) -> None:
    with pytest.raises(ValueError, match=text.replace("(", r"\(")):
        reader.read("ETH-USDC", dtype, at(LISTED), at(NOW), **options)


@pytest.mark.parametrize(
    ("spelled", "same"), [("OHLC(15Min)", "15m"), ("ohlc(15MIN)", "15m"), ("ohlc(1H)", "60m"), ("ohlc(1D)", "24h")]
)
def test_a_timeframe_may_be_spelled_as_qubx_and_pandas_do(reader: LighterReader, spelled: str, same: str) -> None:
    first, last = at(LISTED), at(NOW - HOUR_MS)
    expected = reader.read("ETH-USDC", f"ohlc({same})", first, last)
    assert 2 < len(expected)
    assert expected.data.equals(reader.read("ETH-USDC", spelled, first, last).data)


def test_candles_of_the_mark_price_can_be_asked_for_in_two_ways(reader: LighterReader, venue: HistoryVenue) -> None:
    first = at(NOW - 100 * MINUTE)
    typed = reader.read("ETH-USDC", "mark_ohlc(5m)", first, None)
    asked = reader.read("ETH-USDC", "ohlc(5m)", first, None, price="mark")
    assert typed.data.equals(asked.data)
    assert ["timestamp", "open", "high", "low", "close"] == typed.names
    assert isinstance(asked.to_records()[0], Bar)
    assert {"open", "high", "low", "close"} == typed.to_records()[0].data.keys()
    assert 0 == venue.asked["candles"]


def test_spot_and_perpetual_of_one_symbol_stay_apart(storage: LighterStorage, venue: HistoryVenue) -> None:
    spot = storage.get_reader("LIGHTER", "SPOT")
    assert ["ETH-USDC"] == spot.get_data_id()
    raw = spot.read("ETH-USDC", "ohlc(1m)", at(NOW - 100 * MINUTE), None)
    assert opens(venue, 2048, MINUTE, NOW - 100 * MINUTE, NOW) == times(raw)
    assert {"2048"} == {query["market_id"] for _, query in venue.queries}
    for dtype in ("funding_payment", "funding_rate", "mark_ohlc(1m)"):
        with pytest.raises(ValueError, match="SPOT markets: there is ohlc, trade, liquidation"):
            spot.read("ETH-USDC", dtype, None, None)
    assert {DataType.OHLC, DataType.TRADE, DataType.LIQUIDATION} == set(spot.get_data_types("ETH-USDC"))


def test_unknown_symbols_are_refused_with_what_comes_close(reader: LighterReader) -> None:
    for chunksize in (0, 100):
        with pytest.raises(UnknownMarketError, match="no SWAP market ETC-USDC; did you mean ETH-USDC"):
            reader.read(["BTC-USDC", "ETC-USDC"], "ohlc(1m)", None, None, chunksize)
    with pytest.raises(UnknownMarketError, match=r"no SWAP market XYZ$"):
        reader.get_time_range("XYZ", "trade")
    with pytest.raises(UnknownMarketError):
        reader.get_data_types("XYZ")


def test_a_symbol_of_another_format_is_understood_and_kept(reader: LighterReader) -> None:
    raw = reader.read("ethusdc", "ohlc(1h)", at(NOW - 5 * HOUR_MS), None)
    assert ("ethusdc", 5) == (raw.data_id, len(raw))


def test_a_list_gives_each_symbol_and_an_empty_one_all(reader: LighterReader, venue: HistoryVenue) -> None:
    assert ["ETH-USDC", "BTC-USDC"] == reader.get_data_id() == reader.get_data_id("ohlc(1h)")
    first = NOW - 20 * HOUR_MS
    both = reader.read(["BTC-USDC", "ETH-USDC"], "ohlc(5m)", at(first), at(NOW))
    assert isinstance(both, RawMultiData)
    assert ["BTC-USDC", "ETH-USDC"] == both.get_data_ids()
    assert opens(venue, 1, 5 * MINUTE, first, NOW) == times(both["BTC-USDC"])
    every = reader.read([], "ohlc(5m)", at(first), at(NOW))
    assert {"BTC-USDC", "ETH-USDC"} == set(every.get_data_ids())


# --- trades and funding -----------------------------------------------------------------------------------------------


def test_trades_have_side_and_id_and_off_book_ones_are_left_out(reader: LighterReader, venue: HistoryVenue) -> None:
    venue.trades[0] += [
        trade(1000, NOW - 1500, type="liquidation"),
        trade(1001, NOW - 1400, type="deleverage"),
        trade(1002, NOW - 1300, type="market-settlement"),
    ]
    raw = reader.read("ETH-USDC", "trade", at(NOW - 2 * HOUR_MS), None)
    assert [*range(1, 250), 1000] == raw.data.column(raw.names.index("id")).to_pylist()
    first = raw.to_records()[0]
    assert isinstance(first, Trade)
    assert (2001.0, 0.5, -1, 1) == (first.price, first.size, first.side, first.trade_id)
    assert (NOW - 2 * HOUR_MS + 1000) * 1_000_000 == first.time
    (liquidation,) = reader.read("ETH-USDC", "liquidation", at(NOW - HOUR_MS), None).to_records()
    assert isinstance(liquidation, Liquidation)
    assert (0.5, 2000.0, 1) == (liquidation.quantity, liquidation.price, liquidation.side)


def test_funding_payments_are_fractions_of_an_hour_positive_where_longs_pay(
    reader: LighterReader, venue: HistoryVenue
) -> None:
    hour = NOW // HOUR_MS * HOUR_MS
    venue.fundings[0][-1]["direction"] = "short"
    raw = reader.read("ETH-USDC", "funding_payment", at(hour - 3 * HOUR_MS), at(hour))
    payments = raw.to_records()
    assert all(isinstance(one, FundingPayment) for one in payments)
    assert [hour - 3 * HOUR_MS, hour - 2 * HOUR_MS, hour - HOUR_MS, hour] == times(raw)
    assert pytest.approx([0.000012] * 3 + [-0.000012]) == [one.funding_rate for one in payments]
    assert {1} == {one.funding_interval_hours for one in payments}


def test_funding_rates_tell_when_the_next_one_is_due(reader: LighterReader) -> None:
    hour = NOW // HOUR_MS * HOUR_MS
    (rate,) = reader.read("ETH-USDC", DataType.FUNDING_RATE, at(hour), at(hour)).to_records()
    assert isinstance(rate, FundingRate)
    assert (pytest.approx(0.000012), 1.0) == (rate.rate, rate.interval)
    assert (hour + HOUR_MS) * 1_000_000 == int(rate.next_funding_time)


def test_types_are_told(reader: LighterReader) -> None:
    expected = {
        DataType.OHLC,
        DataType.TRADE,
        DataType.LIQUIDATION,
        DataType.FUNDING_PAYMENT,
        DataType.FUNDING_RATE,
    }
    assert expected == set(reader.get_data_types("ETH-USDC"))
    for dtype in expected - {DataType.OHLC}:
        raw = reader.read("BTC-USDC", dtype, at(NOW - HOUR_MS), None)
        assert 0 == len(raw)
        assert 2 < len(raw.names)


# --- chunks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 2, 7, 500, 10_000])
@pytest.mark.parametrize("dtype", ["ohlc(1m)", "ohlc(15m)", "funding_payment", "trade"])
def test_chunks_put_together_are_the_whole_and_none_is_too_short(
    reader: LighterReader, dtype: str, chunksize: int
) -> None:
    start = at(NOW - (3 if chunksize < 10 else 72) * HOUR_MS)
    whole = reader.read("ETH-USDC", dtype, start, at(NOW))
    chunks = reader.read("ETH-USDC", dtype, start, at(NOW), chunksize)
    assert isinstance(chunks, Iterator)
    parts = list(chunks)
    assert times(whole) == [time for part in parts for time in times(part)]
    assert all(2 <= len(part) <= max(chunksize, 3) for part in parts)
    both = list(reader.read(["ETH-USDC", "BTC-USDC"], dtype, start, at(NOW), chunksize))
    assert all(isinstance(part, RawMultiData) for part in both)
    assert times(whole) == [time for part in both if "ETH-USDC" in part.raws for time in times(part["ETH-USDC"])]


def test_chunks_are_read_as_they_are_wanted(reader: LighterReader, venue: HistoryVenue) -> None:
    chunks = reader.read("ETH-USDC", "ohlc(1m)", at(LISTED), at(NOW), 1000)
    next(chunks)
    assert 4 >= venue.asked["candles"]


def test_nothing_gives_no_chunk(reader: LighterReader) -> None:
    assert [] == list(reader.read("BTC-USDC", "trade", at(NOW - HOUR_MS), None, 100))
    assert [] == list(reader.read(["BTC-USDC"], "ohlc(1m)", at(LISTED), at(LISTED + HOUR_MS), 100))


@pytest.mark.parametrize("subscription", ["ohlc(15Min)", "ohlc_quotes(15Min)", "ohlc_trades(15Min)", "funding_payment"])
def test_qubx_simulator_plays_it(storage: LighterStorage, venue: HistoryVenue, subscription: str) -> None:
    instruments = [lookup.find_symbol("LIGHTER", symbol, MarketType.SWAP) for symbol in ("ETH-USDC", "BTC-USDC")]
    data = SimulatedDataIterator(storage)
    data.add_instruments_for_subscription(subscription, instruments)
    start, stop = LISTED + DAY, LISTED + 2 * DAY
    seen: dict[str, list[Any]] = {}
    for instrument, _, event, _ in data.create_iterable(at(start), at(stop)):
        if instrument is not None:
            seen.setdefault(instrument.symbol, []).append(event)
    kind = {"ohlc(15Min)": Bar, "ohlc_quotes(15Min)": Quote, "ohlc_trades(15Min)": Trade}.get(subscription)
    assert isinstance(seen["ETH-USDC"][0], kind or FundingPayment)
    last = max(int(event.time) for event in seen["ETH-USDC"]) // 1_000_000
    assert stop - HOUR_MS <= last <= stop + HOUR_MS
    assert (kind is not None) == ("BTC-USDC" in seen)


def test_a_pump_retries_after_a_failure_and_loses_nothing(reader: LighterReader, venue: HistoryVenue) -> None:
    pump = DataPump(reader, "ohlc(1m)", "LIGHTER", "SWAP", chunksize=600, retry_wait=0.0)
    pump.attach_instrument(lookup.find_symbol("LIGHTER", "ETH-USDC", MarketType.SWAP))
    failed = False

    def third_fails(request: httpx.Request) -> httpx.Response | None:
        nonlocal failed
        if venue.asked["candles"] == 3 and not failed:
            failed = True
            return httpx.Response(400, json={"code": 20001, "message": "invalid param"})
        return None

    venue.before = third_fails
    (stream,) = pump.start_read(at(LISTED + DAY), at(LISTED + 3 * DAY)).values()
    opened = {bar.time // 1_000_000 // MINUTE for bars in stream for bar in bars}
    assert failed
    assert {time // MINUTE for time in opens(venue, 0, MINUTE, LISTED + DAY, LISTED + 3 * DAY)} == opened


def test_qubx_own_cache_around_it_gives_the_same(storage: LighterStorage) -> None:
    cached = CachedStorage(storage, prefetch_period="1w").get_reader("LIGHTER", "SWAP")
    for dtype in ("ohlc(1h)", "trade", "funding_payment"):
        start, stop = at(NOW - 20 * HOUR_MS), at(NOW - 30 * MINUTE)
        plain = storage.get_reader("LIGHTER", "SWAP").read("ETH-USDC", dtype, start, stop)
        for _ in range(2):
            rows = cached.read("ETH-USDC", dtype, start, stop)
            assert plain.transform(TypedRecords()) == rows.transform(TypedRecords()) or times(plain) == times(rows)


# --- life -------------------------------------------------------------------------------------------------------------


def test_failures_are_raised_and_never_emptied(reader: LighterReader, venue: HistoryVenue) -> None:
    venue.before = lambda _: httpx.Response(400, json={"code": 20001, "message": "invalid param"})
    for dtype in ("ohlc(1m)", "mark_ohlc(1m)", "trade", "funding_payment"):
        with pytest.raises(VenueError):
            reader.read(["ETH-USDC", "BTC-USDC"], dtype, at(NOW - HOUR_MS), None)
        with pytest.raises(VenueError):
            list(reader.read("ETH-USDC", dtype, at(NOW - HOUR_MS), None, 100))


def test_any_thread_may_read(reader: LighterReader, venue: HistoryVenue) -> None:
    def read(_: int) -> list[int]:
        return times(reader.read("ETH-USDC", "ohlc(1m)", at(NOW - DAY), at(NOW - HOUR_MS)))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, range(16)))
    assert 1 == len({tuple(one) for one in found})
    assert opens(venue, 0, MINUTE, NOW - DAY, NOW - HOUR_MS) == found[0]


def test_pages_are_kept_on_disk_where_it_is_told(venue: HistoryVenue, tmp_path: Path) -> None:
    for _ in range(2):
        storage = a_storage(cache_dir=str(tmp_path))
        storage.get_reader("LIGHTER", "SWAP").read("ETH-USDC", "ohlc(1m)", at(LISTED + DAY), at(LISTED + 2 * DAY))
        storage.close()
        assert 4 >= venue.asked["candles"]
    assert [] != list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize("asked", ["LIGHTER", "lighter"])
def test_qubx_limiter_paces_what_it_declares(venue: HistoryVenue, asked: str) -> None:
    from qubx.rate_limiting import ExchangeRateLimiter

    from qubx_lighter.rate_limits import rate_limit_config

    ours = ExchangeRateLimiter("LIGHTER", rate_limit_config())
    storage = a_storage(rate_limiters={asked: ours})
    storage.get_reader("LIGHTER", "SWAP").read("ETH-USDC", "ohlc(1m)", at(NOW - DAY), None)
    storage.close()
    state = asyncio.run(ours.get_pool_state("rest_ip"))
    assert state is not None
    # A standard address has 60 requests a minute, which are counted as 24,000 by weight.
    assert 400.0 * sum(venue.asked.values()) == state["consumed"]


def test_closing_is_idempotent_ends_what_is_read_and_leaves_no_thread(venue: HistoryVenue) -> None:
    before = threading.active_count()
    storage = a_storage()
    reader = storage.get_reader("LIGHTER", "SWAP")
    failures: list[str] = []

    def read() -> None:
        try:
            reader.read("ETH-USDC", "ohlc(1m)", at(NOW - HOUR_MS), None)
        except TransportError as error:
            failures.append(str(error))

    venue.is_silent = True
    reading = threading.Thread(target=read)
    reading.start()
    assert venue.was_asked.wait(5)
    storage.close()
    reading.join(5)
    storage.close()
    assert ["the storage was closed while it was reading"] == failures
    assert before == threading.active_count()
    with pytest.raises(ConfigurationError, match="closed"):
        reader.read("ETH-USDC", "ohlc(1m)", at(NOW - HOUR_MS), None)
