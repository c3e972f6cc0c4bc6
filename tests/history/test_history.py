"""LighterHistory: whole ranges from odd pages, without a hole and without a duplicate."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx
import pytest

from qubx_lighter.client import LighterClient
from qubx_lighter.constants import RESOLUTIONS
from qubx_lighter.errors import TransportError, VenueError, WireError
from qubx_lighter.history.pages import LighterHistory
from qubx_lighter.pacing import RestPace, Turnstile
from qubx_lighter.protocol.budget import Budget
from tests.history_venue import HOUR_MS, HistoryVenue, candles, funding, trade

MINUTE = 60_000
DAY = 86_400_000
NOW = 1_790_000_000_000 // DAY * DAY + 7 * HOUR_MS + 31_234


class Sleeps:
    """Keeps how long somebody wanted to sleep, and lets others run instead."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


def history_of(venue: HistoryVenue, **options: Any) -> LighterHistory:
    client = LighterClient("https://venue.test", transport=venue.transport, retry_wait_s=0.0)
    return LighterHistory(client, sleep=options.pop("sleep", Sleeps()), **options)


def every_minute(first: int, last: int) -> list[int]:
    return list(range(first // MINUTE * MINUTE, last, MINUTE))


# --- candles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
async def test_any_range_of_any_market_comes_whole_and_once(seed: int) -> None:
    print("seed", seed)
    source = random.Random(seed)
    listed = NOW - source.randrange(HOUR_MS, 3 * DAY)
    share = source.choice([1.0, 0.9, 0.3, 0.01])
    minutes = [minute for minute in every_minute(listed, NOW + 1) if source.random() < share]
    for _ in range(3):  # long rests
        begin = source.randrange(listed, NOW)
        length = source.randrange(0, DAY)
        minutes = [minute for minute in minutes if not begin <= minute < begin + length]
    venue = HistoryVenue(
        NOW, {0: minutes}, cap=source.choice([500, 500, 499, 100]), extends=source.choice([True, True, False])
    )
    resolution = source.choice(["1m", "5m", "15m", "1h"])
    start = NOW - source.randrange(0, 4 * DAY)
    end = start + source.randrange(0, 4 * DAY)
    rows = await history_of(venue, concurrency=source.choice([1, 3])).candles(0, resolution, start, end)
    expected = [row["t"] for row in candles(minutes, RESOLUTIONS[resolution]) if start <= row["t"] < end]
    assert expected == [row.t for row in rows]


async def test_a_window_names_the_exact_number_of_its_opens_and_pages_do_not_overlap() -> None:
    venue = HistoryVenue(NOW, {0: every_minute(NOW - 2 * DAY, NOW)})
    start = NOW // MINUTE * MINUTE - 1200 * MINUTE
    rows = await history_of(venue, concurrency=1).candles(0, "1m", start, start + 1100 * MINUTE)
    windows = [
        [int(query[n]) for n in ("start_timestamp", "end_timestamp", "count_back")] for _, query in venue.queries
    ]
    assert [(500, 500 * MINUTE - 1), (500, 500 * MINUTE - 1), (100, 100 * MINUTE - 1)] == [
        (count, end - first) for first, end, count in windows
    ]
    assert 1100 == len(rows)


async def test_the_candle_in_progress_is_included_and_a_rest_is_no_end() -> None:
    begin = NOW // MINUTE * MINUTE - 3000 * MINUTE
    minutes = [begin, begin + 2900 * MINUTE, NOW // MINUTE * MINUTE]
    rows = await history_of(HistoryVenue(NOW, {0: minutes})).candles(0, "1m", begin, NOW + 1)
    assert minutes == [row.t for row in rows]


async def test_candles_outside_the_window_are_dropped_on_both_sides() -> None:
    begin = NOW // MINUTE * MINUTE - 100 * MINUTE
    rows = candles(every_minute(begin - 5 * MINUTE, begin + 9 * MINUTE), MINUTE)
    venue = HistoryVenue(NOW, before=lambda _: httpx.Response(200, json={"code": 200, "r": "1m", "c": rows[::-1]}))
    found = await history_of(venue).candles(0, "1m", begin, begin + 4 * MINUTE)
    assert [begin + i * MINUTE for i in range(4)] == [row.t for row in found]


async def test_a_single_candle_is_asked_for_with_the_one_before() -> None:
    begin = NOW // MINUTE * MINUTE - 10 * MINUTE
    venue = HistoryVenue(NOW, {0: every_minute(NOW - DAY, NOW)})
    rows = await history_of(venue).candles(0, "1m", begin, begin + 1)
    assert [begin] == [row.t for row in rows]
    assert "2" == venue.queries[0][1]["count_back"]


async def test_numbers_that_the_venue_leaves_out_are_zero() -> None:
    begin = NOW // MINUTE * MINUTE - 13 * MINUTE
    rows = await history_of(HistoryVenue(NOW, {0: every_minute(begin, NOW)})).candles(0, "1m", begin, NOW)
    assert 0.0 in [row.v for row in rows]
    assert 0.0 not in [row.o for row in rows]


async def test_candles_of_the_mark_price_come_from_their_own_endpoint() -> None:
    begin = NOW // MINUTE * MINUTE - 700 * MINUTE
    venue = HistoryVenue(NOW, {0: every_minute(begin, NOW)})
    rows = await history_of(venue).candles(0, "1m", begin, NOW, mark=True)
    assert 701 == len(rows)
    assert 60 == rows[0].sc
    assert {"markPriceCandles"} == set(venue.asked)


async def test_candles_off_the_grid_are_an_error() -> None:
    body = {"code": 200, "r": "1m", "c": [{"t": NOW // MINUTE * MINUTE + 1, "o": 1, "h": 1, "l": 1, "c": 1}]}
    venue = HistoryVenue(NOW, before=lambda _: httpx.Response(200, json=body))
    with pytest.raises(WireError, match="candles of market 0: a candle off the grid of 1m"):
        await history_of(venue).candles(0, "1m", NOW - HOUR_MS, NOW)


async def test_a_resolution_that_the_venue_does_not_have_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="no 2m candles: 1m, 5m"):
        await history_of(HistoryVenue(NOW)).candles(0, "2m", 0, 1)


async def test_the_first_candle_is_found_in_a_few_requests() -> None:
    first = (NOW - 1234 * DAY) // DAY * DAY
    venue = HistoryVenue(NOW, {0: list(range(first, NOW, DAY))})
    assert first == await history_of(venue).first_candle_ms(0, NOW)
    assert 5 >= venue.asked["candles"]
    assert await history_of(HistoryVenue(NOW)).first_candle_ms(0, NOW) is None


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(400, json={"code": 20001, "message": "invalid param"}), VenueError),
        (httpx.Response(403, html="<html>Request blocked</html>"), TransportError),
        (httpx.Response(200, json={"code": 200, "r": "1m", "c": [{"o": 1}]}), WireError),
    ],
)
async def test_a_page_that_fails_is_an_error_and_ends_the_others(
    answer: httpx.Response, error: type[Exception]
) -> None:
    requests = 0

    def third_fails(_: httpx.Request) -> httpx.Response | None:
        nonlocal requests
        requests += 1
        return answer if requests == 3 else None

    begin = NOW - 30 * DAY
    venue = HistoryVenue(NOW, {0: every_minute(begin, NOW)}, before=third_fails)
    with pytest.raises(error):
        await history_of(venue, concurrency=1).candles(0, "1m", begin, NOW)
    assert 4 >= requests
    assert 1 == len(asyncio.all_tasks())


@pytest.mark.parametrize(
    ("refusal", "pause_s"),
    [
        (httpx.Response(429, json={"code": 23000, "message": "too many requests"}), 5.0),
        (httpx.Response(429, html="<html>Too many</html>"), 5.0),
        (httpx.Response(405, html="<html>Too many</html>"), 5.0),
        (httpx.Response(429, json={"code": 429, "message": "slow down"}, headers={"retry-after": "17"}), 17.0),
    ],
)
async def test_a_refusal_for_the_rate_limit_stops_all_requests_for_a_while(
    refusal: httpx.Response, pause_s: float
) -> None:
    requests = 0

    def second_is_refused(_: httpx.Request) -> httpx.Response | None:
        nonlocal requests
        requests += 1
        return refusal if requests == 2 else None

    begin = NOW - DAY
    venue = HistoryVenue(NOW, {0: every_minute(begin, NOW)}, before=second_is_refused)
    sleeps = Sleeps()
    rows = await history_of(venue, concurrency=1, sleep=sleeps).candles(0, "1m", begin, NOW)
    assert [row["t"] for row in candles(venue.minutes[0], MINUTE) if row["t"] >= begin] == [row.t for row in rows]
    assert [pause_s] == sleeps.seconds
    assert 4 == requests  # three pages, one of them twice: the client itself did not try again


async def test_a_venue_that_keeps_refusing_is_given_up() -> None:
    venue = HistoryVenue(NOW, before=lambda _: httpx.Response(429, json={"code": 23000, "message": "too many"}))
    sleeps = Sleeps()
    with pytest.raises(VenueError, match="23000"):
        await history_of(venue, sleep=sleeps).candles(0, "1m", NOW - HOUR_MS, NOW)
    assert [5.0, 15.0, 30.0, 60.0] == sleeps.seconds


async def test_each_request_waits_for_its_pace_and_no_more_are_in_flight_than_allowed() -> None:
    flying, most, stile = 0, 0, Turnstile(Budget(1e9))
    venue = HistoryVenue(NOW, {0: every_minute(NOW - 3 * DAY, NOW)})

    async def handle(request: httpx.Request) -> httpx.Response:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0)
        flying -= 1
        return venue.handle(request)

    client = LighterClient("https://venue.test", transport=httpx.MockTransport(handle), pace=RestPace(stile))
    history = LighterHistory(client, concurrency=2)
    await asyncio.gather(history.candles(0, "1m", NOW - 2 * DAY, NOW), history.candles(0, "5m", NOW - 2 * DAY, NOW))
    assert 2 == most
    assert 400.0 * venue.asked["candles"] == stile.stats()["spent"]


# --- funding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cap", [749, 100])
async def test_fundings_come_whole_and_once_whatever_a_page_holds(cap: int) -> None:
    first = NOW // HOUR_MS * HOUR_MS - 2000 * HOUR_MS
    times = list(range(first, NOW, HOUR_MS))
    venue = HistoryVenue(NOW, fundings={0: [funding(time) for time in times]}, cap=cap)
    start, end = first - 100 * HOUR_MS, NOW + 1
    rows = await history_of(venue).fundings(0, start, end)
    assert times == [row.timestamp * 1000 for row in rows]
    rows = await history_of(venue).fundings(0, times[700], times[1500])
    assert times[700:1500] == [row.timestamp * 1000 for row in rows]
    assert all(int(query["count_back"]) <= 700 for _, query in venue.queries)


async def test_a_settlement_off_the_hour_is_an_error() -> None:
    venue = HistoryVenue(NOW, fundings={0: [funding(NOW // HOUR_MS * HOUR_MS - HOUR_MS // 2)]})
    with pytest.raises(WireError, match="not on the hour"):
        await history_of(venue).fundings(0, NOW - DAY, NOW)


# --- trades -----------------------------------------------------------------------------------------------------------


def some_trades(seed: int, count: int = 700) -> list[dict[str, Any]]:
    print("seed", seed)
    source = random.Random(seed)
    executed = sorted(NOW - DAY + source.randrange(DAY * 1000) / 1000 for _ in range(count))
    # A block's time is that of its trades give or take 20 s, and blocks are in order.
    block_ms = [time - time % 15_000 + source.choice([-12_000, 12_000]) for time in executed]
    block_ms = [max(block_ms[: i + 1][-500:]) for i in range(count)]
    return [
        trade(5000 + i, time, lag_ms=int(block) - int(time))
        for i, (time, block) in enumerate(zip(executed, block_ms, strict=True))
    ]


@pytest.mark.parametrize("seed", range(4))
async def test_trades_are_picked_by_execution_though_pages_are_sorted_by_block_time(seed: int) -> None:
    rows = some_trades(seed)
    start, end = NOW - 18 * HOUR_MS, NOW - 6 * HOUR_MS
    venue = HistoryVenue(NOW, trades={0: rows})
    found = await history_of(venue).trades(0, start_ms=start, end_ms=end)
    expected = [row["trade_id"] for row in rows if start * 1000 <= row["transaction_time"] < end * 1000]
    assert expected == [row.trade_id for row in found]
    assert len(rows) / 100 > venue.asked["trades"]  # and not all pages were read


@pytest.mark.parametrize("seed", range(4))
async def test_trades_after_an_id_are_all_that_is_newer(seed: int) -> None:
    rows = some_trades(seed)
    venue = HistoryVenue(NOW, trades={0: rows})
    found = await history_of(venue).trades(0, after_id=5449)
    assert list(range(5450, 5700)) == [row.trade_id for row in found]
    assert 5 > venue.asked["trades"]


async def test_a_page_that_reaches_the_start_is_not_the_last_since_block_times_are_off() -> None:
    start = NOW - HOUR_MS
    rows = [trade(1000 + i, start + 60_000 + i) for i in range(99)]
    rows += [trade(999, start - 5_000), trade(5, start + 3_000, lag_ms=-12_000), trade(4, start - DAY)]
    found = await history_of(HistoryVenue(NOW, trades={0: rows})).trades(0, start_ms=start)
    assert [5, *range(1000, 1099)] == [row.trade_id for row in found]


async def test_a_page_that_ends_within_the_block_of_the_known_trade_is_not_the_last() -> None:
    pages = [[trade(503, NOW), trade(500, NOW - 9_000)], [trade(501, NOW - 9_000), trade(400, NOW - 10_000)]]
    answers = iter([{"code": 200, "trades": page, "next_cursor": f"c{i}"} for i, page in enumerate(pages)])
    venue = HistoryVenue(NOW, before=lambda _: httpx.Response(200, json=next(answers)))
    found = await history_of(venue).trades(0, after_id=500)
    assert [501, 503] == [row.trade_id for row in found]


async def test_all_trades_come_where_nothing_is_said() -> None:
    found = await history_of(HistoryVenue(NOW, trades={0: some_trades(1)})).trades(0)
    assert list(range(5000, 5700)) == [row.trade_id for row in found]
    assert [] == await history_of(HistoryVenue(NOW)).trades(0)


async def test_pages_overlapping_give_a_trade_once() -> None:
    rows = [trade(id_, NOW - 1000 + id_) for id_ in range(30)]
    pages = [rows[15:], rows[5:20], rows[:10]]
    answers = iter([{"code": 200, "trades": page, "next_cursor": f"c{i}"} for i, page in enumerate(pages)])
    venue = HistoryVenue(NOW, before=lambda _: httpx.Response(200, json=next(answers, {"code": 200, "trades": None})))
    assert list(range(30)) == [row.trade_id for row in await history_of(venue).trades(0)]


async def test_pages_can_be_resumed_by_their_cursor() -> None:
    venue = HistoryVenue(NOW, trades={0: some_trades(3)})
    history = history_of(venue)
    pages = [page async for page in history.trade_pages(0)]
    assert pages[-1].cursor is None
    resumed = [page async for page in history.trade_pages(0, cursor=pages[2].cursor)]
    assert pages[3:] == resumed


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"code": 200, "trades": [trade(1, NOW)], "next_cursor": "same"}, "repeats a page cursor"),
        ({"code": 200, "trades": [trade(1, NOW, market_id=7)]}, "a trade of another market"),
    ],
)
async def test_pages_that_cannot_be_true_are_an_error(answer: dict[str, Any], text: str) -> None:
    venue = HistoryVenue(NOW, before=lambda _: httpx.Response(200, json=answer))
    with pytest.raises(WireError, match=text):
        await history_of(venue).trades(0)


async def test_recent_trades_come_oldest_first() -> None:
    venue = HistoryVenue(NOW, trades={0: some_trades(5)})
    assert list(range(5600, 5700)) == [row.trade_id for row in await history_of(venue).recent_trades(0)]
