"""The venue's history over REST: candles with the venue's oddities, funding, trades of any age, and no seam between."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from qubx_lighter.constants import RESOLUTIONS
from qubx_lighter.protocol import wire
from qubx_lighter.sim.app import Venue
from qubx_lighter.sim.model.commands import AdvanceTime, CreateAccount
from tests.sim.caller import Caller, calling, place, quiet_venue
from tests.sim.clock import START_MS, Clock

V1 = "/api/v1/"
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
MINUTE = START_MS // MINUTE_MS * MINUTE_MS
LISTED = (START_MS - 2 * DAY_MS) // HOUR_MS * HOUR_MS
OPTIONS: dict[str, Any] = {"markets": ["ETH", "HYPE"], "history_days": 2.0, "seed": 5}
STRANGER = 10
Row = dict[str, Any]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def venue(clock: Clock) -> AsyncIterator[Venue]:
    async with quiet_venue(now=clock, **OPTIONS) as venue:
        yield venue


@pytest.fixture
async def young(clock: Clock) -> AsyncIterator[Caller]:
    """A venue whose markets have no past."""
    async with quiet_venue(now=clock) as venue, calling(venue) as caller:
        yield caller


def trade(venue: Venue, price: int, lots: int = 1_000, market_id: int = 0) -> None:
    place(venue, "sell", lots, price, market_id=market_id)
    place(venue, "buy", lots, price, account=STRANGER, market_id=market_id)


def live(venue: Venue, clock: Clock, minutes: int, *, seed: int, market_id: int = 0) -> None:
    """Let somebody trade now and then for a while."""
    open_stranger(venue)
    random = Random(seed)
    price = venue.engine.last_trade_ticks(market_id) or venue.engine.markets[market_id].initial_price_ticks
    stop_ms = clock.ms + minutes * MINUTE_MS
    while (next_ms := clock.ms + random.choice((500, 7_000, 20_000, 150_000))) < stop_ms:
        clock.ms = next_ms
        price += random.randrange(-30, 31)
        trade(venue, price, random.randrange(500, 5_000), market_id)
    clock.ms = stop_ms


def open_stranger(venue: Venue) -> None:
    if venue.engine.account(STRANGER) is None:
        venue.server.execute(CreateAccount(STRANGER, "0xdead", 10**15, fee_free=True))


async def ask(
    caller: Caller, resolution: str = "1m", end_ms: int = START_MS, count: int = 500, **more: Any
) -> list[Row]:
    window = {"start_timestamp": end_ms - count * RESOLUTIONS[resolution], "end_timestamp": end_ms, "count_back": count}
    path = more.pop("path", "candles")
    body = await caller.body(V1 + path, **({"market_id": 0, "resolution": resolution} | window | more))
    assert resolution == body["r"]
    assert 200 == body["code"]
    rows: list[Row] = body["c"]
    return rows


async def ask_all(caller: Caller, resolution: str, end_ms: int, since_ms: int = LISTED, **more: Any) -> list[Row]:
    """Page back to a time, or to the listing."""
    step_ms, pages = RESOLUTIONS[resolution], []
    while end_ms >= since_ms // step_ms * step_ms:
        pages.append(await ask(caller, resolution, end_ms, **more))
        end_ms = pages[-1][0]["t"] - 1
    return [row for page in reversed(pages) for row in page]


async def all_trades(caller: Caller, **params: Any) -> list[Row]:
    found: list[Row] = []
    cursor: dict[str, str] = {}
    while True:
        body = await caller.body(V1 + "trades", **({"sort_by": "trade_id", "limit": 100} | params | cursor))
        assert wire.decode(wire.TradesBody, msgspec.json.encode(body)).trades is not None
        found += body["trades"]
        if "next_cursor" not in body:
            return found
        cursor = {"cursor": body["next_cursor"]}


# --- candles: the venue's oddities ------------------------------------------------------------------------------------


async def test_candles_have_the_shape_of_the_venue(venue: Venue, caller: Caller) -> None:
    body = await caller.body(
        V1 + "candles",
        market_id=0,
        resolution="1h",
        start_timestamp=START_MS - DAY_MS,
        end_timestamp=START_MS,
        count_back=24,
    )
    assert ["code", "r", "c"] == list(body)
    assert all(["t", "o", "h", "l", "c", "v", "V", "i"] == list(row) for row in body["c"])
    assert all(isinstance(row[name], float) for row in body["c"] for name in "ohlcvV")
    read = wire.decode(wire.CandlesBody, msgspec.json.encode(body))
    assert (24, "1h") == (len(read.c or []), read.r)
    history = venue.engine.history(0).candles(HOUR_MS, START_MS, 24).tolist()
    assert [[round(row[name] * 100) for name in "ohlc"] for row in body["c"]] == [row[1:5] for row in history]


@pytest.mark.parametrize("path", ["candles", "markPriceCandles"])
async def test_the_start_says_nothing(caller: Caller, path: str) -> None:
    end = START_MS - HOUR_MS
    expected = await ask(caller, end_ms=end, count=10, path=path)
    assert 10 == len(expected)
    assert end // MINUTE_MS * MINUTE_MS == expected[-1]["t"]
    for start in (end - MINUTE_MS, end - 3 * MINUTE_MS, end - 5 * HOUR_MS, 0):
        assert expected == await ask(caller, end_ms=end, count=10, start_timestamp=start, path=path)


async def test_500_candles_are_a_page_at_most(caller: Caller) -> None:
    rows = await ask(caller, count=2_000)
    assert 500 == len(rows)
    assert list(range(MINUTE - 499 * MINUTE_MS, MINUTE + 1, MINUTE_MS)) == [row["t"] for row in rows]


async def test_the_end_is_part_of_the_range(caller: Caller) -> None:
    end = MINUTE - HOUR_MS
    assert [end - MINUTE_MS, end] == [row["t"] for row in await ask(caller, end_ms=end, count=2)]
    assert [end - 2 * MINUTE_MS, end - MINUTE_MS] == [row["t"] for row in await ask(caller, end_ms=end - 1, count=2)]


async def test_times_may_be_in_seconds(caller: Caller) -> None:
    in_ms = await ask(caller, end_ms=MINUTE, count=7)
    assert in_ms == await ask(
        caller, end_ms=MINUTE, count=7, start_timestamp=MINUTE // 1000 - 420, end_timestamp=MINUTE // 1000
    )


async def test_the_candle_in_progress_is_included_and_the_future_is_not(
    venue: Venue, caller: Caller, clock: Clock
) -> None:
    open_stranger(venue)
    for resolution, step_ms in RESOLUTIONS.items():
        assert START_MS // step_ms * step_ms == (await ask(caller, resolution, START_MS + DAY_MS))[-1]["t"]
    before = (await ask(caller, count=2))[-1]
    assert before["o"] == before["c"]
    assert "v" not in before
    trade(venue, 312_345, 1_500)
    expected = {"t": MINUTE, "o": 3123.45, "h": 3123.45, "l": 3123.45, "c": 3123.45, "v": 0.15, "V": 468.5175}
    row = (await ask(caller, count=2))[-1]
    assert venue.engine.trades()[0].trade_id == row.pop("i")
    assert expected == row


async def test_a_bucket_without_a_trade_has_the_close_before_and_no_volume(
    venue: Venue, caller: Caller, clock: Clock
) -> None:
    open_stranger(venue)
    trade(venue, 301_000)
    trade_id = venue.engine.trades()[0].trade_id
    clock.ms += 3 * MINUTE_MS
    trade(venue, 302_000)
    flat = {"o": 3010.0, "h": 3010.0, "l": 3010.0, "c": 3010.0, "i": trade_id}
    rows = await ask(caller, end_ms=clock.ms, count=4)
    assert [{"t": MINUTE + MINUTE_MS} | flat, {"t": MINUTE + 2 * MINUTE_MS} | flat] == rows[1:3]
    assert (3020.0, 0.1) == (rows[3]["o"], rows[3]["v"])


@pytest.mark.parametrize("path", ["candles", "markPriceCandles"])
async def test_candle_requests_are_refused_in_the_venues_words(caller: Caller, path: str) -> None:
    good = {"market_id": 0, "resolution": "1m", "start_timestamp": 0, "end_timestamp": START_MS, "count_back": 5}
    assert 200 == (await caller.get(V1 + path, **good))[0]
    refused: list[tuple[Row, int]] = [
        ({"market_id": 77}, 21602),
        ({"resolution": "1w"}, 20001),
        ({"resolution": "1M"}, 20001),
        ({"count_back": "many"}, 20001),
        ({"count_back": -1}, 20001),
        ({"end_timestamp": 10**13}, 20001),
        ({"end_timestamp": LISTED - 1}, 22400),
        ({"start_timestamp": START_MS + 5}, 22400),
        ({"start_timestamp": START_MS - 30_000}, 22400),
    ]
    for change, code in refused:
        status, body = await caller.get(V1 + path, **(good | change))
        assert (400, code) == (status, body["code"]), change
    for name in good:
        status, body = await caller.get(V1 + path, **{key: value for key, value in good.items() if key != name})
        assert (400, 20001) == (status, body["code"]), name


async def test_history_begins_with_the_listing(caller: Caller) -> None:
    details = await caller.body(V1 + "orderBookDetails", market_id=0)
    assert str(LISTED) == details["order_book_details"][0]["created_at"]
    for path in ("candles", "markPriceCandles"):
        rows = await ask(caller, end_ms=LISTED + 2 * MINUTE_MS, path=path)
        assert [LISTED, LISTED + MINUTE_MS, LISTED + 2 * MINUTE_MS] == [row["t"] for row in rows]


async def test_without_a_past_candles_begin_with_the_first_trade(young: Caller, clock: Clock) -> None:
    open_stranger(young.venue)
    window = {"start_timestamp": 0, "end_timestamp": clock.ms, "count_back": 5}
    for path in ("candles", "markPriceCandles"):
        status, body = await young.get(V1 + path, market_id=0, resolution="1m", **window)
        assert (400, 22400) == (status, body["code"])
    trade(young.venue, 300_000)
    clock.ms += MINUTE_MS
    assert [MINUTE, MINUTE + MINUTE_MS] == [row["t"] for row in await ask(young, end_ms=clock.ms)]


async def test_mark_price_candles_hold_samples(venue: Venue, caller: Caller, clock: Clock) -> None:
    for _ in range(3):
        clock.ms += 1_000
        venue.server.execute(AdvanceTime())
    rows = await ask(caller, end_ms=clock.ms, count=3, path="markPriceCandles")
    mark = venue.engine.mark_price_ticks(0) / 100
    assert {"t": MINUTE, "o": mark, "h": mark, "l": mark, "c": mark, "sc": 3} == rows[-1]
    assert [60, 60] == [row["sc"] for row in rows[:2]]
    assert rows[0]["c"] == rows[1]["o"]
    read = wire.decode(wire.MarkCandlesBody, msgspec.json.encode({"c": rows, "r": "1m"}))
    assert [60, 60, 3] == [row.sc for row in read.c or []]


# --- the seam ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("market_id", [0, 24])
async def test_candles_are_whole_and_exact_across_the_start(
    venue: Venue, caller: Caller, clock: Clock, market_id: int
) -> None:
    """Every resolution, from the listing to now, against the trades that the venue gives page by page."""
    seed = 11
    print("seed", seed)
    live(venue, clock, 75, seed=seed, market_id=market_id)
    trades = (await all_trades(caller, market_id=market_id))[::-1]
    assert len(trades) > 300
    assert [row["trade_id"] for row in trades] == sorted({row["trade_id"] for row in trades})
    assert [row["transaction_time"] for row in trades] == sorted(row["transaction_time"] for row in trades)
    for resolution, step_ms in RESOLUTIONS.items():
        expected: dict[int, list[Any]] = {}
        for row in trades:
            price, opens = float(row["price"]), row["transaction_time"] // 1000 // step_ms * step_ms
            one = expected.setdefault(opens, [price, price, price, price, Decimal(0), Decimal(0), 0])
            one[1], one[2], one[3] = max(one[1], price), min(one[2], price), price
            one[4] += Decimal(row["size"])
            one[5] += Decimal(row["usd_amount"])
            one[6] = row["trade_id"]
        rows = await ask_all(caller, resolution, clock.ms, market_id=market_id)
        opens = list(range(LISTED // step_ms * step_ms, clock.ms + 1, step_ms))
        assert opens == [row["t"] for row in rows]
        close, last_id = 0.0, 0
        for row in rows:
            one = expected.get(row["t"], [close, close, close, close, 0, 0, last_id])
            close, last_id = one[3], one[6]
            assert one[:4] == [row[name] for name in "ohlc"]
            assert (float(one[4]), float(one[5]), last_id) == (row.get("v", 0.0), row.get("V", 0.0), row["i"])


async def test_closed_candles_never_change(tmp_path: Path, clock: Clock) -> None:
    """Not as time passes, not over a restart, not where a venue of the same seed starts at another time."""
    state = tmp_path / "venue.jsonl"
    async with quiet_venue(now=clock, state=state, **OPTIONS) as venue, calling(venue) as caller:
        live(venue, clock, 20, seed=3)
        closed = clock.ms // MINUTE_MS * MINUTE_MS - 1
        first = {path: await ask_all(caller, "1m", closed, path=path) for path in ("candles", "markPriceCandles")}
        funding = (await caller.body(V1 + "fundings", **window(0, clock.ms)))["fundings"]
        trades = await all_trades(caller, market_id=0)
        live(venue, clock, 200, seed=4)
        for path, rows in first.items():
            assert rows == await ask_all(caller, "1m", closed, path=path)
    clock.ms += 30 * MINUTE_MS
    async with quiet_venue(now=clock, state=state, markets=["ETH", "HYPE"]) as venue, calling(venue) as caller:
        live(venue, clock, 5, seed=5)
        for path, rows in first.items():
            assert rows == await ask_all(caller, "1m", closed, path=path)
        assert funding == (await caller.body(V1 + "fundings", **window(0, clock.ms)))["fundings"][: len(funding)]
        assert trades == (await all_trades(caller, market_id=0))[-len(trades) :]
    later = Clock(START_MS + 7 * HOUR_MS)
    async with quiet_venue(now=later, **OPTIONS) as venue, calling(venue) as caller:
        common = {row["t"]: row for row in await ask_all(caller, "1m", MINUTE - 1, since_ms=LISTED + 7 * HOUR_MS)}
        assert len(common) > 2_000
        assert [row for row in first["candles"] if row["t"] in common and row["t"] < MINUTE] == list(common.values())


async def test_a_market_without_a_past_gets_none_by_a_restart(tmp_path: Path, clock: Clock) -> None:
    state = tmp_path / "venue.jsonl"
    async with quiet_venue(now=clock, state=state, markets=["ETH"]) as venue:
        assert 300_000 == venue.engine.markets[0].initial_price_ticks
    async with quiet_venue(now=clock, state=state, **OPTIONS) as venue, calling(venue) as caller:
        assert 1_700_000_000_000 == venue.engine.markets[0].created_at_ms
        assert [] == await all_trades(caller, market_id=0)
        assert await all_trades(caller, market_id=24)


async def test_daily_figures_count_the_past(venue: Venue, caller: Caller, clock: Clock) -> None:
    live(venue, clock, 10, seed=6)
    begin = (clock.ms // HOUR_MS - 23) * HOUR_MS
    trades = [row for row in await all_trades(caller, market_id=0) if row["transaction_time"] >= begin * 1000]
    prices = [float(row["price"]) for row in trades]
    [row] = (await caller.body(V1 + "orderBookDetails", market_id=0))["order_book_details"]
    assert {
        "last_trade_price": prices[0],
        "daily_trades_count": len(trades),
        "daily_base_token_volume": float(sum(Decimal(row["size"]) for row in trades)),
        "daily_quote_token_volume": float(sum(Decimal(row["usd_amount"]) for row in trades)),
        "daily_price_low": min(prices),
        "daily_price_high": max(prices),
        "daily_price_change": pytest.approx((prices[0] - prices[-1]) * 100 / prices[-1]),
    } == {name: value for name, value in row.items() if name.startswith("daily_") and name != "daily_chart"} | {
        "last_trade_price": row["last_trade_price"]
    }


async def test_before_its_first_trade_a_market_has_the_price_of_its_past(venue: Venue, caller: Caller) -> None:
    [row] = (await caller.body(V1 + "orderBookDetails", market_id=0))["order_book_details"]
    [trade] = (await caller.body(V1 + "recentTrades", market_id=0, limit=1))["trades"]
    assert float(trade["price"]) == row["last_trade_price"] == float(row["mark_price"])


# --- trades -----------------------------------------------------------------------------------------------------------


async def test_trades_are_paged_exactly_across_the_start(venue: Venue, caller: Caller, clock: Clock) -> None:
    live(venue, clock, 30, seed=8)
    own = venue.engine.trades(market_id=0)
    assert len(own) > 20
    whole = await all_trades(caller, market_id=0)
    assert [trade.trade_id for trade in own] == [row["trade_id"] for row in whole[: len(own)]]
    assert whole[len(own)]["transaction_time"] < MINUTE * 1000 <= own[-1].time
    assert LISTED * 1000 <= whole[-1]["transaction_time"]
    assert len(whole) == len({row["trade_id"] for row in whole})
    for limit in (1, 7):
        cursor: dict[str, Any] = {"cursor": str(own[-2].trade_id)}
        for place_ in range(len(own) - 1, len(own) + 5):
            body = await caller.body(V1 + "trades", sort_by="timestamp", market_id=0, limit=limit, **cursor)
            assert [row["trade_id"] for row in whole[place_ : place_ + limit]] == [
                row["trade_id"] for row in body["trades"]
            ]
            cursor = {"cursor": str(body["trades"][0]["trade_id"])}


async def test_recent_trades_reach_into_the_past(venue: Venue, caller: Caller, clock: Clock) -> None:
    live(venue, clock, 10, seed=9)
    own = [trade.trade_id for trade in venue.engine.trades(market_id=0)]
    assert own
    body = await caller.body(V1 + "recentTrades", market_id=0, limit=100)
    ids = [row["trade_id"] for row in body["trades"]]
    assert 100 == len(ids) > len(own)
    assert own == ids[: len(own)]
    assert sorted(ids, reverse=True) == ids
    assert ids[:50] == [row["trade_id"] for row in (await caller.subscribe("trade/0"))["trades"]]


async def test_trades_of_all_markets_are_merged(venue: Venue, caller: Caller, clock: Clock) -> None:
    live(venue, clock, 3, seed=1)
    live(venue, clock, 3, seed=2, market_id=24)
    merged = (await caller.body(V1 + "trades", sort_by="trade_id", limit=100))["trades"]
    ids = [row["trade_id"] for row in merged]
    assert sorted(ids, reverse=True) == ids
    assert {0, 24} == {row["market_id"] for row in merged}


async def test_trades_of_an_unknown_market_are_refused(caller: Caller) -> None:
    for path, params in (("trades", {"sort_by": "timestamp", "limit": 5}), ("recentTrades", {"limit": 5})):
        assert (400, {"code": 21602, "message": "invalid market index"}) == await caller.get(
            V1 + path, market_id=77, **params
        )


# --- funding ----------------------------------------------------------------------------------------------------------


def window(start_ms: int, end_ms: int, count: int = 0, **changes: Any) -> Row:
    asked = {"start_timestamp": start_ms, "end_timestamp": end_ms, "count_back": count}
    return {"market_id": 0, "resolution": "1h"} | asked | changes


async def ask_fundings(caller: Caller, start_ms: int, end_ms: int, count: int = 0, **changes: Any) -> list[Row]:
    rows: list[Row] = (await caller.body(V1 + "fundings", **window(start_ms, end_ms, count, **changes)))["fundings"]
    return rows


async def test_fundings_have_the_shape_of_the_venue(venue: Venue, caller: Caller) -> None:
    body = await caller.body(V1 + "fundings", **window(0, START_MS))
    assert ["code", "resolution", "fundings"] == list(body)
    rows = body["fundings"]
    assert {"long", "short"} == {row["direction"] for row in rows}
    marks = {row["t"]: row["o"] for row in await ask_all(caller, "1h", START_MS, path="markPriceCandles")}
    for row in rows:
        assert ["timestamp", "value", "rate", "direction"] == list(row)
        assert Decimal(row["rate"]) >= 0
        assert Decimal(row["value"]) == Decimal(row["rate"]) / 100 * Decimal(str(marks[row["timestamp"] * 1000]))
        rate = venue.engine.history(0).funding_rate(row["timestamp"] // 3_600)
        assert (f"{abs(rate) / 10_000:.4f}", "long" if rate >= 0 else "short") == (row["rate"], row["direction"])
    assert wire.decode(wire.FundingsBody, msgspec.json.encode(body)).fundings


async def test_funding_bounds_are_hours_and_excluded(caller: Caller) -> None:
    hour = START_MS // HOUR_MS * HOUR_MS
    times = [row["timestamp"] * 1000 for row in await ask_fundings(caller, 0, START_MS + HOUR_MS)]
    assert list(range(LISTED + HOUR_MS, hour + 1, HOUR_MS)) == times
    end = hour - 10 * HOUR_MS
    for start_ms, end_ms, first, count in (
        (end - 3 * HOUR_MS, end, end - 2 * HOUR_MS, 2),
        (end - 3 * HOUR_MS + 1, end + HOUR_MS - 1, end - 2 * HOUR_MS, 2),
        (end - 3 * HOUR_MS - 1, end + HOUR_MS, end - 3 * HOUR_MS, 4),
        (end - HOUR_MS, end, 0, 0),
        (end, end - HOUR_MS, 0, 0),
        (end, end, 0, 0),
    ):
        expected = [first + place * HOUR_MS for place in range(count)]
        assert expected == [row["timestamp"] * 1000 for row in await ask_fundings(caller, start_ms, end_ms)]
        in_seconds = await ask_fundings(caller, start_ms // 1000, end_ms // 1000)
        assert expected == [row["timestamp"] * 1000 for row in in_seconds]


async def test_a_count_leaves_the_newest_fundings(caller: Caller) -> None:
    rows = await ask_fundings(caller, 0, START_MS)
    assert len(rows) > 40
    assert rows[-5:] == await ask_fundings(caller, 0, START_MS, 5)


async def test_749_fundings_are_a_page_at_most(clock: Clock) -> None:
    async with quiet_venue(now=clock, **(OPTIONS | {"history_days": 40.0})) as venue, calling(venue) as caller:
        for count in (0, 749, 1_000):
            rows = await ask_fundings(caller, 0, START_MS, count)
            assert (749, START_MS // HOUR_MS * 3_600 - 3_600) == (len(rows), rows[-1]["timestamp"])


async def test_a_funding_shows_when_its_hour_has_come(venue: Venue, caller: Caller, clock: Clock) -> None:
    before = await ask_fundings(caller, 0, START_MS + DAY_MS)
    hour = START_MS // HOUR_MS * HOUR_MS + HOUR_MS
    clock.ms = hour - 1
    assert before == await ask_fundings(caller, 0, START_MS + DAY_MS)
    clock.ms = hour
    after = await ask_fundings(caller, 0, START_MS + DAY_MS)
    assert before == after[:-1]
    assert hour // 1000 == after[-1]["timestamp"]


async def test_without_a_past_fundings_begin_with_the_venue(young: Caller, clock: Clock) -> None:
    assert [] == await ask_fundings(young, 0, clock.ms + HOUR_MS)
    clock.ms += 2 * HOUR_MS
    first = START_MS // HOUR_MS + 1
    assert [first * 3_600, (first + 1) * 3_600] == [
        row["timestamp"] for row in await ask_fundings(young, 0, clock.ms + HOUR_MS)
    ]


async def test_funding_requests_are_refused_in_the_venues_words(caller: Caller) -> None:
    for changes, code in (
        ({"market_id": 77}, 21602),
        ({"resolution": "2h"}, 20001),
        ({"count_back": -1}, 20001),
        ({"resolution": "1d"}, 20001),
    ):
        status, body = await caller.get(V1 + "fundings", **(window(0, START_MS) | changes))
        assert (400, code) == (status, body["code"]), changes
    status, body = await caller.get(V1 + "fundings", market_id=0, resolution="1h", start_timestamp=0, end_timestamp=1)
    assert (400, 20001) == (status, body["code"])


async def test_funding_rates_are_fractions_of_eight_hours(caller: Caller) -> None:
    rows = (await caller.body(V1 + "funding-rates"))["funding_rates"]
    last = (await ask_fundings(caller, 0, START_MS + HOUR_MS))[-1]
    sign = 1 if last["direction"] == "long" else -1
    ours = {row["market_id"]: row for row in rows if row["exchange"] == "lighter"}
    assert {0: "ETH", 24: "HYPE"} == {market_id: row["symbol"] for market_id, row in ours.items()}
    assert pytest.approx(sign * float(last["rate"]) / 100 * 8) == ours[0]["rate"]
    assert {"binance", "bybit", "hyperliquid", "lighter"} == {row["exchange"] for row in rows}


async def test_numbers_are_written_exactly(caller: Caller) -> None:
    rows = await ask(caller, count=500)
    for row in rows:
        for name, decimals in (("o", 2), ("h", 2), ("l", 2), ("c", 2), ("v", 4), ("V", 6)):
            text = json.dumps(row.get(name, 0.0))
            assert len(text.partition(".")[2]) <= decimals, row
