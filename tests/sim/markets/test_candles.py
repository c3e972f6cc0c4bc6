"""Candles from trades and mark prices: exact, of every resolution, over a journal's restart, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from random import Random

import pytest

from qubx_lighter.constants import RESOLUTIONS
from qubx_lighter.sim.journal import Journal
from qubx_lighter.sim.markets.candles import MARK_COLUMNS, MINUTE_MS, TIME, TRADE_COLUMNS, Series, add_up, on_grid
from qubx_lighter.sim.markets.market_history import MarketHistory
from qubx_lighter.sim.markets.trade_log import TradeLog
from qubx_lighter.sim.model.commands import AdvanceTime, CreateAccount, CreateMarket, PlaceOrder
from qubx_lighter.sim.model.records import Trade
from tests.sim.desk import ETH, FEED, OTHER_FEED, START, Desk

DAY_MS = RESOLUTIONS["1d"]
MIDNIGHT = START // 1000 // DAY_MS * DAY_MS
Row = list[int]


def make_trade(trade_id: int, time_ms: int, price: int, lots: int) -> Trade:
    return Trade(trade_id, 0, price, lots, price * lots, 1, 2, 8, 9, 0, 0, True, 0, 0, time_ms * 1000, "ab" * 40)


def random_trades(random: Random, count: int, *, longest_pause_ms: int) -> list[Trade]:
    time_ms, price, trades = MIDNIGHT + 12_345, 300_000, []
    for number in range(count):
        time_ms += random.choice((0, 1, random.randrange(longest_pause_ms)))
        price += random.randrange(-50, 51)
        trades.append(make_trade(1_000 + number, time_ms, price, random.randrange(1, 1_000)))
    return trades


def plain(trades: Iterable[Trade], step_ms: int) -> list[Row]:
    """Make the candles of trades one by one, buckets without a trade left out."""
    rows: dict[int, Row] = {}
    for trade in trades:
        time, price = trade.time // 1000 // step_ms * step_ms, trade.price_ticks
        row = rows.setdefault(time, [time, price, price, price, price, 0, 0, 0, 0])
        row[2:5] = max(row[2], price), min(row[3], price), price
        row[5:] = row[5] + trade.lots, row[6] + trade.quote_micro, row[7] + 1, trade.trade_id
    return list(rows.values())


def filled(rows: list[Row], step_ms: int, until_ms: int) -> list[Row]:
    """Put in the buckets without a trade."""
    result: list[Row] = []
    by_time = {row[0]: row for row in rows}
    for time in range(rows[0][0], until_ms + 1, step_ms):
        last = result[-1] if result else []
        result.append(by_time.get(time) or [time, *[last[4]] * 4, 0, 0, 0, last[8]])
    return result


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("longest_pause_ms", [2_000, 100_000, 3_000_000])
def test_candles_equal_those_made_one_by_one(resolution: str, longest_pause_ms: int) -> None:
    seed = longest_pause_ms
    print("seed", seed)
    step_ms = RESOLUTIONS[resolution]
    trades = random_trades(Random(seed), 2_000, longest_pause_ms=longest_pause_ms)
    history = MarketHistory(ETH)
    for trade in trades:
        history.add_trade(trade)
    end_ms = trades[-1].time // 1000 + 200_000
    expected = filled(plain(trades, step_ms), step_ms, end_ms)
    assert expected == history.candles(step_ms, end_ms, len(expected) + 10).tolist()
    for end, count in ((end_ms, 7), (end_ms - 40 * MINUTE_MS, 13), (trades[0].time // 1000, 5)):
        until = [row for row in expected if row[0] <= end]
        assert until[-count:] == history.candles(step_ms, end, count).tolist()
    assert [] == history.candles(step_ms, trades[0].time // 1000 - step_ms, 5).tolist()


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_what_has_changed_is_every_candle_with_a_trade_since(resolution: str) -> None:
    step_ms = RESOLUTIONS[resolution]
    trades = random_trades(Random(5), 500, longest_pause_ms=1_000_000)
    history = MarketHistory(ETH)
    assert () == history.newest(is_mark=False)
    assert 0 == len(history.changed_since(step_ms, 0, is_mark=False))
    for trade in trades:
        history.add_trade(trade)
    expected = plain(trades, step_ms)
    assert trades[-1].trade_id == history.newest(is_mark=False)[-1]
    assert expected == history.changed_since(step_ms, expected[0][0], is_mark=False).tolist()
    assert expected[-1:] == history.changed_since(step_ms, expected[-1][0], is_mark=False).tolist()


def test_mark_prices_are_counted_as_samples() -> None:
    history = MarketHistory(ETH)
    for second, price in ((0, 10), (1, 12), (59, 9), (60, 11), (181, 20)):
        history.add_mark_price((MIDNIGHT + second * 1000) * 1000, price)
    assert [
        [MIDNIGHT, 10, 12, 9, 9, 3],
        [MIDNIGHT + 60_000, 11, 11, 11, 11, 1],
        [MIDNIGHT + 120_000, 11, 11, 11, 11, 0],
        [MIDNIGHT + 180_000, 20, 20, 20, 20, 1],
    ] == history.mark_candles(60_000, MIDNIGHT + 200_000, 10).tolist()
    assert [[MIDNIGHT, 10, 20, 9, 20, 5]] == history.mark_candles(300_000, MIDNIGHT + 200_000, 10).tolist()


# --- series -----------------------------------------------------------------------------------------------------------


def minutes(*numbers: int, kept: int = 1_000) -> Series:
    series = Series(TRADE_COLUMNS, kept)
    for number in numbers:
        series.add_trade(number * MINUTE_MS, number, 1, 1, number)
    return series


def test_a_series_is_read_by_half_open_ranges() -> None:
    series = minutes(1, 2, 5, 7)
    for start, stop, expected in (
        (1, 7, [1, 2, 5]),
        (2, 8, [2, 5, 7]),
        (3, 5, []),
        (7, 8, [7]),
        (8, 9, []),
        (0, 1, []),
    ):
        rows = series.between(start * MINUTE_MS, stop * MINUTE_MS)
        assert expected == (rows[:, TIME] // MINUTE_MS).tolist()
    for time, expected in ((1, []), (2, [1]), (5, [2]), (6, [5]), (8, [7])):
        assert expected == (series.before(time * MINUTE_MS)[:, TIME] // MINUTE_MS).tolist()


def test_a_series_gives_copies() -> None:
    series = minutes(1, 2)
    for rows in (series.between(0, 3 * MINUTE_MS), series.before(2 * MINUTE_MS), series.before(3 * MINUTE_MS)):
        rows[:] = 0
    assert [1, 2] == series.between(0, 3 * MINUTE_MS)[:, 1].tolist()


def test_a_series_keeps_what_it_should_and_forgets_what_is_older() -> None:
    series = minutes(*range(1, 100), kept=100)
    assert (False, MINUTE_MS) == (series.forgot, series.first_ms)
    for number in range(100, 1_000):
        series.add_trade(number * MINUTE_MS, number, 1, 1, number)
        rows = series.between(0, 2_000 * MINUTE_MS)
        assert min(number, 100) <= len(rows) <= 130
        assert list(range(number - len(rows) + 1, number + 1)) == rows[:, 1].tolist()
    assert series.forgot
    assert len(series._rows) <= 130


def test_a_trade_with_a_time_before_the_last_minute_counts_in_that() -> None:
    series = minutes(5)
    series.add_trade(4 * MINUTE_MS, 9, 2, 3, 6)
    assert [[5 * MINUTE_MS, 5, 9, 5, 9, 3, 4, 2, 6]] == series.between(0, 6 * MINUTE_MS).tolist()


def test_nothing_adds_up_to_nothing() -> None:
    none = Series(MARK_COLUMNS).between(0, 1)
    assert [] == add_up(none, 300_000).tolist()
    assert [] == on_grid(none, none, 0, 3, 60_000).tolist()


# --- the engine -------------------------------------------------------------------------------------------------------


def test_the_engine_makes_candles_of_its_trades() -> None:
    desk = Desk()
    for step in range(200):
        desk.now += 700_000 * (step % 50)
        side, account = ("sell", FEED) if step % 2 else ("buy", OTHER_FEED)
        desk.place(account, side, 100 + step, 300_000 + step % 7)
    trades = desk.engine.trades(market_id=0)[::-1]
    assert len(trades) > 50
    end_ms = desk.now // 1000
    for step_ms in (60_000, 900_000):
        expected = filled(plain(trades, step_ms), step_ms, end_ms)
        assert expected == desk.engine.history(0).candles(step_ms, end_ms, 500).tolist()
    assert [] == desk.engine.history(1).candles(60_000, end_ms, 500).tolist()


def test_mark_prices_are_sampled_once_a_second_of_the_venue() -> None:
    desk = Desk(ETH)
    desk.place(FEED, "sell", 100, 300_000)
    for _ in range(20):
        desk.now += 250_000
        desk.apply(AdvanceTime())
    assert [5] == desk.engine.history(0).mark_candles(60_000, desk.now // 1000, 5)[:, 5].tolist()


def test_a_journal_brings_the_candles_back(tmp_path: Path) -> None:
    def read(journal: Journal) -> list[list[Row]]:
        history = journal.restore().history(0)
        return [
            [
                *history.candles(step_ms, MIDNIGHT + DAY_MS, 500).tolist(),
                *history.mark_candles(step_ms, MIDNIGHT, 9).tolist(),
            ]
            for step_ms in RESOLUTIONS.values()
        ]

    with Journal(tmp_path / "venue.jsonl") as journal:
        engine = journal.restore()
        journal.apply(engine, CreateMarket(ETH), MIDNIGHT * 1000)
        for index in (1, 2):
            journal.apply(engine, CreateAccount(index, f"0x{index}", 10**15, fee_free=True), MIDNIGHT * 1000)
        for step in range(60):
            order = PlaceOrder(1 + step % 2, 0, bool(step % 2), 100, 300_000 + step // 2)
            assert journal.apply(engine, order, (MIDNIGHT + 20_000 * step) * 1000).ok
        assert len(engine.trades()) == 30
        first = read(journal)
    with Journal(tmp_path / "venue.jsonl") as journal:
        assert first == read(journal)
    assert first[0]


# --- trades of any age ------------------------------------------------------------------------------------------------


def test_every_trade_can_be_paged_back_to() -> None:
    log = TradeLog(recent=100)
    trades = [make_trade(10 + 3 * number, MIDNIGHT + number, 1_000 + number, 1) for number in range(2_345)]
    for trade in trades:
        log.append(trade)
    assert 100 == len(log.recent)
    found: list[Trade] = []
    cursor = 2**63 - 1
    while page := log.before(cursor, 77):
        found += page
        cursor = page[-1].trade_id
    assert trades[::-1] == found
    assert not log.forgot
    assert trades[:1] == log.before(11, 5)
    assert [] == log.before(10, 5)


def test_the_oldest_trades_go_at_last() -> None:
    log = TradeLog(recent=100, packs=2)
    for number in range(1, 1_600):
        log.append(make_trade(number, MIDNIGHT, 1, 1))
    assert not log.forgot
    for number in range(1_600, 2_000):
        log.append(make_trade(number, MIDNIGHT, 1, 1))
    assert log.forgot
    assert list(range(1_999, 500, -1)) == [trade.trade_id for trade in log.before(2**63 - 1, 10_000)]
