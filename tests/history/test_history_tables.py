"""HistoryTables: pages that are closed are fetched once, and what comes out is the same with and without a cache."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from qubx_lighter.client import LighterClient
from qubx_lighter.errors import VenueError, WireError
from qubx_lighter.history.page_cache import PageCache
from qubx_lighter.history.pages import LighterHistory
from qubx_lighter.history.tables import CANDLES, MARK_CANDLES, TRADES, HistoryTables, MarketName
from tests.history_venue import HOUR_MS, HistoryVenue, candles, funding, trade

ROOT = Path(__file__).parents[2]
MINUTE = 60_000
DAY = 86_400_000
NOW = 1_790_000_000_000 // DAY * DAY + 7 * HOUR_MS + 31_234
PAGE = 500 * MINUTE
ETH = MarketName(0, "ETH")
URL = "https://venue.test"


def tables_of(venue: HistoryVenue, folder: Path | None) -> HistoryTables:
    client = LighterClient(URL, transport=venue.transport)
    cache = PageCache(URL, folder) if folder is not None else None
    return HistoryTables(LighterHistory(client), cache, lambda: venue.now_ms)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def times(table: pa.Table) -> list[int]:
    return [int(time) for time in table.column(0).to_numpy().astype("datetime64[ms]").astype(int)]


def a_venue(seed: int = 0) -> HistoryVenue:
    print("seed", seed)
    source = random.Random(seed)
    minutes = [m for m in range(NOW // MINUTE * MINUTE - 4 * DAY, NOW, MINUTE) if source.random() < 0.7]
    return HistoryVenue(NOW, {0: minutes})


# --- candles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
async def test_a_cache_changes_nothing_but_the_number_of_requests(tmp_path: Path, seed: int) -> None:
    source, venue = random.Random(seed), a_venue(seed)
    cached = tables_of(venue, tmp_path)
    for _ in range(6):
        start = NOW - source.randrange(5 * DAY)
        end = start + source.randrange(NOW + HOUR_MS - start)
        resolution = source.choice(["1m", "5m"])
        plain = await tables_of(venue, None).candles(ETH, resolution, start, end)
        assert plain.equals(await cached.candles(ETH, resolution, start, end))
        length = {"1m": 1, "5m": 5}[resolution] * MINUTE
        assert [row["t"] for row in candles(venue.minutes[0], length) if start <= row["t"] < end] == times(plain)
        assert CANDLES == plain.schema


async def test_closed_pages_are_fetched_once_by_whomever_and_the_open_one_always(tmp_path: Path) -> None:
    venue = a_venue()
    await tables_of(venue, tmp_path).candles(ETH, "1m", NOW - 3 * DAY, NOW)
    first = venue.asked["candles"]
    before = await tables_of(venue, tmp_path).candles(ETH, "1m", NOW - 3 * DAY, NOW)
    assert first + 1 == venue.asked["candles"]
    venue.minutes[0].append(NOW // MINUTE * MINUTE + MINUTE)
    venue.now_ms += 2 * MINUTE
    after = await tables_of(venue, tmp_path).candles(ETH, "1m", NOW - 3 * DAY, NOW + 2 * MINUTE)
    assert first + 2 == venue.asked["candles"]
    assert [*times(before), venue.minutes[0][-1]] == times(after)


async def test_a_page_is_closed_some_minutes_after_its_end(tmp_path: Path) -> None:
    venue = a_venue()
    end = NOW // PAGE * PAGE
    for age_ms, requests in ((299_999, 1), (299_999, 2), (300_000, 3), (300_000, 3)):
        venue.now_ms = end + age_ms
        await tables_of(venue, tmp_path).candles(ETH, "1m", end - PAGE, end)
        assert requests == venue.asked["candles"]


async def test_the_same_page_wanted_twice_at_a_time_is_fetched_once(tmp_path: Path) -> None:
    venue = a_venue()
    tables = tables_of(venue, tmp_path)
    begin = NOW // PAGE * PAGE - 2 * PAGE
    found = await asyncio.gather(*(tables.candles(ETH, "1m", begin, begin + PAGE) for _ in range(5)))
    assert 1 == venue.asked["candles"]
    assert all(found[0].equals(other) for other in found)


async def test_pages_without_a_candle_are_kept_too(tmp_path: Path) -> None:
    venue = HistoryVenue(NOW, {0: [NOW // MINUTE * MINUTE]})
    for _ in range(2):
        table = await tables_of(venue, tmp_path).candles(ETH, "1m", NOW - 3 * DAY, NOW - 2 * DAY)
        assert 0 == table.num_rows
        assert 4 == venue.asked["candles"]


async def test_what_fails_is_raised_and_not_kept(tmp_path: Path) -> None:
    venue = a_venue()
    good, venue.before = venue.before, lambda _: httpx.Response(400, json={"code": 20001, "message": "no"})
    with pytest.raises(VenueError):
        await tables_of(venue, tmp_path).candles(ETH, "1m", NOW - 2 * DAY, NOW - DAY)
    assert [] == files(tmp_path)
    venue.before = good
    table = await tables_of(venue, tmp_path).candles(ETH, "1m", NOW - 2 * DAY, NOW - DAY)
    assert 900 < table.num_rows


async def test_a_damaged_page_is_fetched_again(tmp_path: Path) -> None:
    venue = a_venue()
    begin = NOW // PAGE * PAGE - 2 * PAGE
    before = await tables_of(venue, tmp_path).candles(ETH, "1m", begin, begin + PAGE)
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    for _ in range(2):
        assert before.equals(await tables_of(venue, tmp_path).candles(ETH, "1m", begin, begin + PAGE))
    assert 2 == venue.asked["candles"]


async def test_an_id_that_is_another_coins_now_has_pages_of_its_own(tmp_path: Path) -> None:
    venue = a_venue()
    for name in ("GRAM", "TON"):
        await tables_of(venue, tmp_path).candles(MarketName(0, name), "1m", NOW - 2 * DAY, NOW - 2 * DAY + MINUTE)
    assert 2 == venue.asked["candles"]


async def test_candles_of_the_mark_price_are_kept_apart(tmp_path: Path) -> None:
    venue = a_venue()
    tables = tables_of(venue, tmp_path)
    start, end = NOW - 2 * DAY, NOW - DAY
    of_trades = await tables.candles(ETH, "1m", start, end)
    of_mark = await tables.candles(ETH, "1m", start, end, mark=True)
    assert MARK_CANDLES == of_mark.schema
    assert of_trades.select(MARK_CANDLES.names).equals(of_mark)


SCRIPT = """
import asyncio, json, sys
from pathlib import Path
from tests.history.test_history_tables import ETH, NOW, DAY, a_venue, tables_of, times
venue = a_venue(7)
table = asyncio.run(tables_of(venue, Path(sys.argv[1])).candles(ETH, "1m", NOW - 3 * DAY, NOW - DAY))
print(json.dumps([times(table), venue.asked["candles"]]))
"""


def test_processes_share_a_cache_without_harm(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    results = [json.loads(process.communicate()[0].splitlines()[-1]) for process in running]
    late = json.loads(
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    )
    assert results[0][0] == results[1][0] == late[0]
    assert 0 == late[1]
    assert [] == [path for path in files(tmp_path) if path.suffix != ".parquet"]


# --- funding ----------------------------------------------------------------------------------------------------------


async def test_fundings_are_signed_fractions_and_kept_by_month(tmp_path: Path) -> None:
    first = NOW // HOUR_MS * HOUR_MS - 90 * 24 * HOUR_MS
    hours = list(range(first, NOW, HOUR_MS))
    rows = [funding(time, "0.0012", "short" if index % 3 == 0 else "long") for index, time in enumerate(hours)]
    venue = HistoryVenue(NOW, fundings={0: rows})
    table = await tables_of(venue, tmp_path).fundings(ETH, first, NOW)
    assert hours == times(table)
    expected = [-0.000012 if index % 3 == 0 else 0.000012 for index in range(len(hours))]
    assert pytest.approx(expected, rel=1e-12) == table.column("rate").to_pylist()
    asked = venue.asked["fundings"]
    assert table.equals(await tables_of(venue, tmp_path).fundings(ETH, first, NOW))
    assert asked + 1 == venue.asked["fundings"]
    assert table.equals(await tables_of(venue, None).fundings(ETH, first, NOW))


async def test_a_funding_that_does_not_say_who_pays_is_an_error_unless_nobody_does() -> None:
    time = NOW // HOUR_MS * HOUR_MS - HOUR_MS
    venue = HistoryVenue(NOW, fundings={0: [funding(time, "0.0000", "")]})
    assert [0.0] == (await tables_of(venue, None).fundings(ETH, NOW - DAY, NOW)).column("rate").to_pylist()
    venue.fundings[0] = [funding(time, "0.0001", "")]
    with pytest.raises(WireError, match="direction"):
        await tables_of(venue, None).fundings(ETH, NOW - DAY, NOW)


# --- trades -----------------------------------------------------------------------------------------------------------


def a_busy_venue(seed: int, days: int = 6, count: int = 3000) -> HistoryVenue:
    print("seed", seed)
    source = random.Random(seed)
    begin = NOW // DAY * DAY - days * DAY
    executed = sorted(begin + source.randrange((NOW - begin) * 1000) / 1000 for _ in range(count))
    executed = [time for time in executed if not begin + 2 * DAY < time < begin + 3.5 * DAY]  # a day without, and more
    for midnight in range(begin + DAY, int(NOW), DAY):  # and many just around midnight
        executed += [midnight + source.uniform(-30_000, 30_000) for _ in range(40)]
    block_ms = 0
    rows = []
    for trade_id, time in enumerate(sorted(executed), start=100):
        block_ms = max(block_ms, int(time - time % 15_000 + source.choice([-12_000, 12_000])))
        rows.append(trade(trade_id, time, lag_ms=block_ms - int(time)))
    return HistoryVenue(NOW, trades={0: rows})


def expected_ids(venue: HistoryVenue, start: int, end: int) -> list[int]:
    rows = venue.trades[0]
    return [row["trade_id"] for row in rows if start * 1000 <= row["transaction_time"] < end * 1000]


@pytest.mark.parametrize("seed", range(8))
async def test_trades_of_any_range_come_whole_whatever_is_kept_already(tmp_path: Path, seed: int) -> None:
    source, venue = random.Random(seed), a_busy_venue(seed)
    for _ in range(8):
        start = NOW - source.randrange(7 * DAY)
        end = start + source.randrange(NOW + HOUR_MS - start)
        for folder in (tmp_path, None):
            table = await tables_of(venue, folder).trades(ETH, start, end)
            assert expected_ids(venue, start, end) == table.column("id").to_pylist()
            assert TRADES == table.schema


async def test_kept_days_lead_on_so_that_nothing_is_walked_twice(tmp_path: Path) -> None:
    venue, today = a_busy_venue(3), NOW // DAY * DAY
    await tables_of(venue, tmp_path).trades(ETH, today - DAY, today)
    first = venue.asked["trades"]
    await tables_of(venue, tmp_path).trades(ETH, today - DAY, today)
    assert first == venue.asked["trades"]
    assert "cursor" not in venue.queries[0][1]
    await tables_of(venue, tmp_path).trades(ETH, today - 6 * DAY, today)
    assert "cursor" in venue.queries[first][1]
    pages = {query.get("cursor") for _, query in venue.queries}
    assert len(pages) + 1 >= venue.asked["trades"]  # the page on the seam is read twice
    await tables_of(venue, tmp_path).trades(ETH, today - 5 * DAY, today - 2 * DAY)
    assert len(pages) + 1 >= venue.asked["trades"]


async def test_a_day_is_complete_only_when_no_trade_of_it_can_follow(tmp_path: Path) -> None:
    day = NOW // DAY * DAY - 2 * DAY
    rows = [trade(1000 + i, day + HOUR_MS + i) for i in range(99)]
    rows += [trade(999, day - 5_000), trade(5, day + 3_000, lag_ms=-12_000), trade(4, day - DAY)]
    venue = HistoryVenue(NOW, trades={0: rows})
    for _ in range(2):
        table = await tables_of(venue, tmp_path).trades(ETH, day, day + DAY)
        assert [5, *range(1000, 1099)] == table.column("id").to_pylist()


async def test_a_day_leads_on_from_the_first_page_that_may_have_trades_before_it(tmp_path: Path) -> None:
    day = NOW // DAY * DAY - 2 * DAY
    rows = [trade(2000 + i, day + 2 * HOUR_MS + i) for i in range(100)]
    rows += [trade(1000 + i, day + HOUR_MS + i) for i in range(99)] + [trade(999, day - 2_000, lag_ms=10_000)]
    rows += [trade(5, day - HOUR_MS)]
    venue = HistoryVenue(NOW, trades={0: rows})
    await tables_of(venue, tmp_path).trades(ETH, day, day + DAY)
    asked = len(venue.queries)
    table = await tables_of(venue, tmp_path).trades(ETH, day - DAY, day)
    assert [5, 999] == table.column("id").to_pylist()
    assert "cursor" in venue.queries[asked][1]


async def test_a_way_leads_on_over_several_walks(tmp_path: Path) -> None:
    today = NOW // DAY * DAY
    rows = [trade(i, today - 20 * DAY + i * HOUR_MS / 2) for i in range(20 * 48 + 10)]
    venue = HistoryVenue(NOW, trades={0: rows})
    for back in (3, 4, 5, 6):
        asked = len(venue.queries)
        table = await tables_of(venue, tmp_path).trades(ETH, today - back * DAY, today - (back - 1) * DAY)
        assert 48 == table.num_rows
        assert (back > 3) == ("cursor" in venue.queries[asked][1])


@pytest.mark.parametrize("change", ["refused", "elsewhere"])
async def test_a_kept_way_that_is_lost_is_walked_from_the_newest_again(tmp_path: Path, change: str) -> None:
    venue, today = a_busy_venue(4), NOW // DAY * DAY
    await tables_of(venue, tmp_path).trades(ETH, today - DAY, today)
    begun = venue.asked["trades"]
    answered, oldest = venue._trades, venue.trades[0][50]

    def once_elsewhere(endpoint: str, query: dict[str, str]) -> httpx.Response:
        venue._trades = answered  # type: ignore[method-assign]
        if change == "refused":
            return httpx.Response(400, json={"code": 20009, "message": "invalid cursor"})
        return answered(endpoint, query | {"cursor": f"{oldest['timestamp']}.{oldest['trade_id']}"})

    venue._trades = once_elsewhere  # type: ignore[method-assign]
    table = await tables_of(venue, tmp_path).trades(ETH, today - 3 * DAY, today)
    assert expected_ids(venue, today - 3 * DAY, today) == table.column("id").to_pylist()
    assert [True, False] == ["cursor" in query for _, query in venue.queries[begun : begun + 2]]


async def test_today_is_read_only_as_far_as_it_is_wanted(tmp_path: Path) -> None:
    venue = a_busy_venue(5, days=1, count=3000)
    await tables_of(venue, tmp_path).trades(ETH, NOW - HOUR_MS, NOW)
    assert 4 >= venue.asked["trades"]
    assert [] == files(tmp_path)


async def test_times_of_trades_grow_where_they_are_equal_and_what_they_are_is_told() -> None:
    at = NOW - HOUR_MS
    rows: list[dict[str, Any]] = [trade(id_, at) for id_ in range(5, 9)]
    rows += [trade(9, at + 1, type="liquidation"), trade(10, at + 2, transaction_time=0)]
    table = await tables_of(HistoryVenue(NOW, trades={0: rows}), None).trades(ETH, at, NOW)
    assert [0, 1, 2, 3, 1_000_000, 2_000_000] == [
        int(time) - at * 1_000_000 for time in table.column("timestamp").to_numpy().astype("int64")
    ]
    assert [-1, 1, -1, 1, -1, 1] == table.column("side").to_pylist()
    assert ["trade"] * 4 + ["liquidation", "trade"] == table.column("type").to_pylist()
