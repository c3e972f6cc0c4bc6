"""A made-up past: the same for everybody and for ever, consistent in itself, fast."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random

import numpy as np
import pytest

from qubx_lighter.constants import RESOLUTIONS
from qubx_lighter.sim.markets import listing, past
from qubx_lighter.sim.markets.candles import CLOSE, COUNT, HIGH, LAST_ID, LOTS, LOW, MINUTE_MS, OPEN, QUOTE, TIME
from qubx_lighter.sim.markets.market import Market
from qubx_lighter.sim.markets.market_history import HOUR_MS, MarketHistory
from qubx_lighter.sim.markets.past import Past, give_past
from qubx_lighter.sim.model.records import Trade
from qubx_lighter.sim.model.specs import MarketSpec

NOW_MS = 1_795_000_012_345
DAY_MS = RESOLUTIONS["1d"]
ETH, HYPE = listing.KNOWN["ETH"], listing.KNOWN["HYPE"]
END = 2**63 - 1
BOTH = pytest.mark.parametrize("spec", [ETH, HYPE], ids=lambda spec: spec.symbol)


def make(spec: MarketSpec = ETH, days: float = 2, seed: int = 0, now_ms: int = NOW_MS) -> Past:
    return Past(seed, give_past(spec, seed, days, now_ms), now_ms)


def history(spec: MarketSpec = ETH, days: float = 2, seed: int = 0) -> MarketHistory:
    return MarketHistory(give_past(spec, seed, days, NOW_MS), seed, NOW_MS * 1000)


def all_trades(one: Past, page: int = 1_000) -> list[Trade]:
    found: list[Trade] = []
    cursor = END
    while rows := one.trades_before(cursor, page):
        found += rows
        cursor = rows[-1].trade_id
    return found


# --- the same for everybody -------------------------------------------------------------------------------------------


def test_a_past_is_the_same_on_every_machine() -> None:
    rows = make().rows(NOW_MS - 5 * MINUTE_MS, NOW_MS)
    assert GOLDEN_ROWS == rows.tolist()
    assert GOLDEN_RATES == past.funding_rates(0, 0, 498_600, 498_612)


@BOTH
def test_venues_of_one_seed_have_one_past_whenever_they_start(spec: MarketSpec) -> None:
    early, late = make(spec, days=3), make(spec, days=1, now_ms=NOW_MS + 11 * HOUR_MS)
    start, stop = late.begin_ms, early.end_ms
    assert stop - start > 10 * HOUR_MS
    assert early.rows(start, stop).tolist() == late.rows(start, stop).tolist()
    assert early.mark_rows(start, stop).tolist() == late.mark_rows(start, stop).tolist()
    cursor = past.first_trade_id(stop)
    assert early.trades_before(cursor, 100) == late.trades_before(cursor, 100)


def test_seeds_and_markets_have_pasts_of_their_own() -> None:
    rows = [make(spec, seed=seed).rows(0, NOW_MS)[:100, LOTS].tolist() for spec in (ETH, HYPE) for seed in (0, 1)]
    assert 4 == len({tuple(one) for one in rows})


@BOTH
def test_a_part_equals_the_same_part_of_the_whole(spec: MarketSpec) -> None:
    seed = 7
    print("seed", seed)
    random, one = Random(seed), make(spec)
    whole, marks, trades = one.rows(0, END), one.mark_rows(0, END), all_trades(one)
    for _ in range(100):
        start = random.randrange(one.begin_ms - HOUR_MS, one.end_ms + HOUR_MS)
        stop = start + random.randrange(10 * HOUR_MS)
        for rows, part in ((whole, one.rows(start, stop)), (marks, one.mark_rows(start, stop))):
            inside = (rows[:, TIME] >= start) & (rows[:, TIME] < stop)
            assert rows[inside].tolist() == part.tolist()
        before = whole[whole[:, TIME] < start]
        assert before[-1:].tolist() == one.before(start).tolist()
        place = random.randrange(len(trades))
        assert trades[place + 1 :][:50] == one.trades_before(trades[place].trade_id, 50)


# --- consistent -------------------------------------------------------------------------------------------------------


@BOTH
def test_candles_are_those_of_the_trades(spec: MarketSpec) -> None:
    one = make(spec)
    expected: dict[int, list[int]] = {}
    for trade in reversed(all_trades(one, page=77)):
        minute, price = trade.time // 1000 // MINUTE_MS * MINUTE_MS, trade.price_ticks
        row = expected.setdefault(minute, [minute, price, price, price, price, 0, 0, 0, 0])
        row[HIGH], row[LOW], row[CLOSE] = max(row[HIGH], price), min(row[LOW], price), price
        row[LOTS], row[QUOTE] = row[LOTS] + trade.lots, row[QUOTE] + trade.quote_micro
        row[COUNT], row[LAST_ID] = row[COUNT] + 1, trade.trade_id
    assert list(expected.values()) == one.rows(0, END).tolist()


@pytest.mark.parametrize("spec", listing.KNOWN.values(), ids=lambda spec: spec.symbol)
def test_trades_are_as_the_engine_makes_them(spec: MarketSpec) -> None:
    one, market = make(spec), Market(spec)
    trades = all_trades(one)
    ids, times = [trade.trade_id for trade in trades], [trade.time for trade in trades]
    assert sorted(set(ids), reverse=True) == ids
    assert sorted(times, reverse=True) == times
    assert one.begin_ms * 1000 <= times[-1]
    assert times[0] < one.end_ms * 1000
    assert ids[0] < past.first_trade_id(one.end_ms)
    for trade in trades:
        assert (spec.market_id, True) == (trade.market_id, trade.lots > 0)
        assert market.quote_micro(trade.price_ticks, trade.lots) == trade.quote_micro
        assert trade.ask_order_index >> 48 == trade.bid_order_index >> 48 == spec.market_id + 1
        assert trade.ask_order_index != trade.bid_order_index
    assert len(trades) == len({trade.ask_order_index for trade in trades})
    assert 0.4 < sum(trade.is_maker_ask for trade in trades) / len(trades) < 0.6


@pytest.mark.parametrize(("spec", "least", "most"), [(ETH, 0.98, 1.0), (HYPE, 0.08, 0.13)])
def test_some_markets_are_illiquid_but_none_rests_for_more_than_an_hour(
    spec: MarketSpec, least: float, most: float
) -> None:
    one = make(spec, days=10)
    rows = one.rows(0, END)
    assert least < len(rows) / ((one.end_ms - one.begin_ms) / MINUTE_MS) < most
    assert np.diff(rows[:, TIME]).max() <= HOUR_MS
    assert one.begin_ms == rows[0, TIME]


@BOTH
def test_prices_wander_near_the_initial_price_without_jumps(spec: MarketSpec) -> None:
    one = make(spec, days=60)
    rows = one.rows(0, END)
    relative = rows[:, OPEN : CLOSE + 1] / spec.initial_price_ticks
    assert 0.95 < relative.min() < 0.99
    assert 1.01 < relative.max() < 1.05
    minutes = make(ETH, days=10).mark_rows(0, END)
    assert (minutes[1:, OPEN] == minutes[:-1, CLOSE]).all()
    assert np.abs(np.diff(np.log(minutes[:, CLOSE]))).max() < 0.003


def test_a_market_opens_where_its_past_ends() -> None:
    spec = give_past(ETH, 3, 2, NOW_MS)
    one = Past(3, spec, NOW_MS)
    assert spec.initial_price_ticks == one.rows(0, END)[-1, CLOSE] != ETH.initial_price_ticks
    assert (NOW_MS - 2 * DAY_MS) // HOUR_MS * HOUR_MS == spec.created_at_ms == one.begin_ms
    assert NOW_MS // MINUTE_MS * MINUTE_MS == one.end_ms


def test_without_days_or_a_price_there_is_no_past() -> None:
    assert ETH == give_past(ETH, 0, 0, NOW_MS)
    nameless = MarketSpec(77, "M77", 2, 4, min_base_lots=1)
    assert nameless == give_past(nameless, 0, 5, NOW_MS)
    assert [] == MarketHistory(ETH, 0, NOW_MS * 1000).candles(MINUTE_MS, NOW_MS, 500).tolist()


@BOTH
def test_before_the_listing_there_is_nothing(spec: MarketSpec) -> None:
    one = make(spec)
    assert 0 == len(one.rows(0, one.begin_ms))
    assert 0 == len(one.mark_rows(0, one.begin_ms))
    assert 0 == len(one.before(one.begin_ms))
    assert [] == one.trades_before(past.first_trade_id(one.begin_ms), 10)
    lived = history(spec)
    assert [] == lived.candles(MINUTE_MS, one.begin_ms - 1, 500).tolist()
    assert one.begin_ms == lived.candles(MINUTE_MS, one.begin_ms + 5 * MINUTE_MS, 500)[0, TIME]
    assert one.begin_ms // HOUR_MS + 1 == lived.fundings(0, NOW_MS // HOUR_MS)[0].hour


def test_a_past_shorter_than_a_minute_is_none() -> None:
    spec = give_past(ETH, 0, 1, NOW_MS)
    one = Past(0, spec, spec.created_at_ms + 30_000)
    assert one.begin_ms == one.end_ms
    assert 0 == len(one.rows(0, END))
    assert [] == one.trades_before(END, 10)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@BOTH
def test_coarser_candles_add_up(spec: MarketSpec, resolution: str) -> None:
    step_ms = RESOLUTIONS[resolution]
    lived = history(spec, days=5)
    rows = [row for row in lived.candles(MINUTE_MS, NOW_MS, 10_000).tolist() if row[LOTS]]
    expected: list[list[int]] = []
    for row in rows:
        opens = row[TIME] // step_ms * step_ms
        if expected and expected[-1][TIME] == opens:
            last = expected[-1]
            last[HIGH], last[LOW], last[CLOSE] = max(last[HIGH], row[HIGH]), min(last[LOW], row[LOW]), row[CLOSE]
            last[LOTS:LAST_ID] = [last[column] + row[column] for column in range(LOTS, LAST_ID)]
            last[LAST_ID] = row[LAST_ID]
        else:
            expected.append([opens, *row[1:]])
    assert expected == [row for row in lived.candles(step_ms, NOW_MS, 10_000).tolist() if row[LOTS]]


# --- funding ----------------------------------------------------------------------------------------------------------


def test_rates_are_small_and_of_both_signs() -> None:
    rates = past.funding_rates(0, 1, 400_000, 401_000)
    assert -24 <= min(rates) < 0 < max(rates) <= 44
    assert rates[500:510] == past.funding_rates(0, 1, 400_500, 400_510)
    assert [] == past.funding_rates(0, 1, 5, 5)


def test_fundings_of_past_and_present_are_one_row_an_hour() -> None:
    lived = history()
    for hour in range(1, 4):
        lived.add_mark_price((NOW_MS + hour * HOUR_MS) * 1000, 300_000 + hour)
    last = NOW_MS // HOUR_MS + 3
    whole = lived.fundings(0, last + 1)
    assert [row.hour for row in whole] == list(range(whole[0].hour, last + 1))
    assert [300_001, 300_002] == [row.price_ticks for row in whole[-2:]]
    for start, stop in ((10, 20), (45, 51), (47, 50), (49, 49), (50, 49)):
        part = lived.fundings(whole[0].hour + start, whole[0].hour + stop)
        assert whole[start:stop] == part
    assert [lived.funding_rate(row.hour) for row in whole] == [row.rate for row in whole]


# --- fast -------------------------------------------------------------------------------------------------------------


def best_ms(work: Callable[[], object], rounds: int = 5) -> float:
    """Give the processor time of the fastest of a few rounds."""
    taken = []
    for _ in range(rounds):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return min(taken) * 1000


def test_a_past_costs_nothing_until_it_is_asked_for() -> None:
    assert best_ms(lambda: [history(spec, days=30) for spec in listing.KNOWN.values()]) < 100


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_a_page_is_made_in_no_time(resolution: str) -> None:
    step_ms = RESOLUTIONS[resolution]
    assert best_ms(lambda: history(days=30).candles(step_ms, NOW_MS, 500)) < 60
    lived = history(days=30)
    lived.candles(step_ms, NOW_MS, 500)
    assert best_ms(lambda: lived.candles(step_ms, NOW_MS, 500)) < 20
    assert best_ms(lambda: lived.trades_before(END, 100)) < 20


GOLDEN_ROWS = [
    [1794999720000, 298706, 298722, 298706, 298722, 2349, 701681274, 2, 3921236819968],
    [1794999780000, 298728, 298764, 298718, 298718, 18146, 5420652942, 3, 3921236918272],
    [1794999840000, 298676, 298794, 298647, 298794, 7281, 2174500138, 3, 3921237082112],
    [1794999900000, 298739, 298818, 298739, 298818, 22871, 6833364184, 4, 3921237213184],
]
GOLDEN_RATES = [-2, -3, -2, -9, 0, -9, -4, -4, -8, -9, 3, 0]
