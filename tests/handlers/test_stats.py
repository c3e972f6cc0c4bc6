"""Figures of all perpetuals: in the right unit, at most once a second, the newest never lost; each settlement once."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qubx.core.basics import FundingPayment, FundingRate, Instrument, OpenInterest

from qubx_lighter.errors import WireError
from qubx_lighter.handlers import (
    FUNDING_PAYMENTS,
    FUNDING_RATES,
    OPEN_INTEREST,
    Missing,
    Output,
    StatsFrames,
    StatsHandler,
    View,
    payment_of,
)
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.units import Scale
from tests.markets import loaded_instruments

HOUR_MS = 3_600_000
HOUR_NS = 3_600_000_000_000
SETTLED_MS = 1_760_040_000_002  # as captured: some ms after the hour
HOUR = SETTLED_MS // HOUR_MS
NOW_MS = SETTLED_MS + 1_234_567
NOW_NS = NOW_MS * 1_000_000
SECOND_NS = 1_000_000_000
ALL = (FUNDING_RATES, FUNDING_PAYMENTS, OPEN_INTEREST)


def stats(**more: Any) -> dict[str, Any]:
    """Write ETH's row as captured."""
    return {
        "market_id": 0,
        "index_price": "4333.85",
        "mark_price": "4332.63",
        "open_interest": "177130129.383759",
        "current_funding_rate": "0.0012",
        "funding_rate": "-0.0034",
        "funding_timestamp": SETTLED_MS,
    } | more


def row(**more: Any) -> wire.MarketStats:
    return wire.decode(wire.MarketStats, json.dumps(stats(**more)))


def frame(*rows: dict[str, Any], timestamp: int = NOW_MS) -> bytes:
    body = {"channel": "market_stats:all", "market_stats": {str(r["market_id"]): r for r in rows}}
    return json.dumps(body | ({"timestamp": timestamp} if timestamp else {})).encode()


@pytest.fixture
async def instrument() -> Instrument:
    return (await loaded_instruments()).instrument(0)


@pytest.fixture
def handler(instrument: Instrument) -> StatsHandler:
    return handler_of(instrument)


def handler_of(instrument: Instrument, *views: View, market_id: int = 0, size_decimals: int = 4) -> StatsHandler:
    handler = StatsHandler(instrument, Scale(2, size_decimals), Counter(), market_id)
    handler.views = views or ALL
    return handler


def named(outputs: list[Output]) -> list[str]:
    return [view.data_type for view, _ in outputs]


def payments(outputs: list[Output]) -> list[tuple[int, float]]:
    """Give the hour, counted from the captured one, and the rate of each payment."""
    found = [data for _, data in outputs if isinstance(data, FundingPayment)]
    assert all(payment.time % HOUR_NS == 0 and payment.funding_interval_hours == 1 for payment in found)
    return [(payment.time // HOUR_NS - HOUR, payment.funding_rate) for payment in found]


# --- units ------------------------------------------------------------------------------------------------------------


def test_a_funding_rate_is_a_fraction_an_hour_and_names_the_exact_next_hour(handler: StatsHandler) -> None:
    (_, rate), _ = handler.take(row(), NOW_NS)
    assert isinstance(rate, FundingRate)
    assert (0.000012, "1h", 4332.63, 4333.85) == (rate.rate, rate.interval, rate.mark_price, rate.index_price)
    assert np.datetime64(NOW_NS, "ns") == rate.time
    assert np.datetime64((HOUR + 1) * HOUR_NS, "ns") == rate.next_funding_time


def test_on_the_hour_the_next_settlement_is_an_hour_away(handler: StatsHandler) -> None:
    (_, rate), _ = handler.take(row(), (HOUR + 3) * HOUR_NS)
    assert np.datetime64((HOUR + 4) * HOUR_NS, "ns") == rate.next_funding_time


def test_open_interest_is_in_lots_and_in_the_collateral(handler: StatsHandler) -> None:
    _, (_, interest) = handler.take(row(), NOW_NS)
    assert isinstance(interest, OpenInterest)
    assert (40882.8193, 177130129.383759, "ETH-USDC") == (
        interest.open_interest, interest.open_interest_usd, interest.symbol,
    )  # fmt: skip
    assert np.datetime64(NOW_NS, "ns") == interest.time


@pytest.mark.parametrize("percent", ["100.1", "-250"])
def test_a_rate_beyond_all_sense_is_dropped_and_counted(handler: StatsHandler, percent: str) -> None:
    assert ["open_interest"] == named(handler.take(row(current_funding_rate=percent), NOW_NS))
    assert 1 == handler.counters["funding_rates_out_of_range"]
    assert [] == handler.take(row(funding_rate=percent, funding_timestamp=SETTLED_MS + HOUR_MS), NOW_NS)[:-1]
    assert 2 == handler.counters["funding_rates_out_of_range"]


def test_a_market_without_a_mark_price_has_no_open_interest(handler: StatsHandler) -> None:
    ((_, rate),) = handler.take(row(mark_price="0.00", index_price="0.00", open_interest="0.000000"), NOW_NS)
    assert (None, None) == (rate.mark_price, rate.index_price)


# --- when -------------------------------------------------------------------------------------------------------------


def test_what_has_not_changed_does_not_come_again(handler: StatsHandler) -> None:
    handler.take(row(), NOW_NS)
    assert [] == handler.take(row(premium="0.1"), NOW_NS + 5 * SECOND_NS)
    for changed in ({"current_funding_rate": "0.0013"}, {"mark_price": "4332.64"}, {"index_price": "4333.86"}):
        handler = handler_of(handler.instrument)
        handler.take(row(), NOW_NS)
        assert ["funding_rate"] == named(handler.take(row(**changed), NOW_NS + SECOND_NS))
    assert ["open_interest"] == named(handler.take(row(**changed, open_interest="177130120"), NOW_NS + 2 * SECOND_NS))


def test_a_market_speaks_once_a_second_and_then_says_the_newest(handler: StatsHandler) -> None:
    handler.take(row(), NOW_NS)
    for step in range(1, 10):
        assert [] == handler.take(row(mark_price=f"43{step}0.00"), NOW_NS + step * SECOND_NS // 10)
    assert NOW_NS + SECOND_NS == handler.due_ns
    assert [] == handler.flush(NOW_NS + SECOND_NS - 1)
    ((_, rate),) = handler.flush(NOW_NS + SECOND_NS)
    assert (4390.0, np.datetime64(NOW_NS + 9 * SECOND_NS // 10, "ns")) == (rate.mark_price, rate.time)
    assert 0 == handler.due_ns
    assert [] == handler.flush(NOW_NS + 9 * SECOND_NS)


def test_times_never_go_back(handler: StatsHandler) -> None:
    handler.take(row(), NOW_NS)
    handler.take(row(mark_price="1.0"), NOW_NS - 9 * SECOND_NS)
    ((_, rate),) = handler.flush(NOW_NS + SECOND_NS)
    assert np.datetime64(NOW_NS, "ns") == rate.time


def test_views_see_their_own_type_and_what_is_known_when_they_join(instrument: Instrument) -> None:
    handler = handler_of(instrument, OPEN_INTEREST)
    assert [] == handler.current(ALL)
    assert ["open_interest"] == named(handler.take(row(), NOW_NS))
    assert ["funding_rate", "open_interest"] == named(handler.current(ALL))
    assert row() == handler.latest


# --- settlements ------------------------------------------------------------------------------------------------------


def settled(hours: int, percent: str = "0.5") -> wire.MarketStats:
    """Write the row once a settlement later than the captured one has passed."""
    return row(funding_rate=percent, funding_timestamp=SETTLED_MS + hours * HOUR_MS)


def test_the_first_settlement_is_history_and_each_later_one_comes_once(instrument: Instrument) -> None:
    handler = handler_of(instrument, FUNDING_PAYMENTS)
    assert [] == handler.take(row(), NOW_NS)
    assert [] == handler.take(row(), NOW_NS + 1)
    assert [(1, 0.005)] == payments(handler.take(settled(1), NOW_NS + HOUR_NS))
    assert [] == handler.take(settled(1), NOW_NS + HOUR_NS + 1)
    assert [(2, -0.0025)] == payments(handler.take(settled(2, "-0.25"), NOW_NS + 2 * HOUR_NS))
    assert handler.missing is None


def test_settlements_that_were_missed_are_fetched_and_come_in_order(instrument: Instrument) -> None:
    handler = handler_of(instrument, FUNDING_PAYMENTS)
    handler.take(row(), NOW_NS)
    handler.reset()
    assert [] == handler.take(settled(4), NOW_NS)
    assert Missing("fundings", HOUR * HOUR_MS, until=(HOUR + 4) * HOUR_MS) == handler.missing
    assert [] == handler.take(settled(5, "0.6"), NOW_NS)
    rows = [funding(hours, percent) for hours, percent in ((0, 9.0), (1, 0.1), (2, -0.2), (3, 0.3), (4, 9.0))]
    assert [(1, 0.001), (2, -0.002), (3, 0.003), (4, 0.005), (5, 0.006)] == [
        (hour, pytest.approx(rate)) for hour, rate in payments(handler.recover(rows))
    ]
    assert handler.missing is None
    assert [(6, 0.005)] == payments(handler.take(settled(6), NOW_NS))


def test_a_second_disconnection_makes_the_question_larger(instrument: Instrument) -> None:
    handler = handler_of(instrument, FUNDING_PAYMENTS)
    handler.take(row(), NOW_NS)
    handler.take(settled(2), NOW_NS)
    handler.take(settled(4), NOW_NS)
    assert Missing("fundings", HOUR * HOUR_MS, until=(HOUR + 4) * HOUR_MS) == handler.missing
    rows = [funding(1, 0.1), funding(2, 0.1), funding(3, 0.1)]
    assert [(1, 0.001), (2, 0.005), (3, 0.001), (4, 0.005)] == payments(handler.recover(rows)), "what was seen counts"


def test_history_is_behind_until_it_has_the_last_settlement_that_was_missed(instrument: Instrument) -> None:
    handler = handler_of(instrument, FUNDING_PAYMENTS)
    assert not handler.is_behind([])
    handler.take(row(), NOW_NS)
    handler.take(settled(3), NOW_NS)
    answers = [], [funding(1, 0.1)], [funding(1, 0.1), funding(2, 0.1)]
    assert [True, True, False] == [handler.is_behind(rows) for rows in answers]


def test_settlements_that_cannot_be_had_are_counted(instrument: Instrument) -> None:
    handler = handler_of(instrument, FUNDING_PAYMENTS)
    handler.take(row(), NOW_NS)
    handler.take(settled(3), NOW_NS)
    assert [(3, 0.005)] == payments(handler.recover(None))
    assert 1 == handler.counters["funding_holes"]
    assert [] == handler.recover([funding(2, 0.1)])


def test_nobody_who_wants_no_payments_has_any_fetched(instrument: Instrument) -> None:
    handler = handler_of(instrument, FUNDING_RATES)
    handler.take(row(), NOW_NS)
    assert [] == handler.take(settled(9), NOW_NS)
    assert handler.missing is None


@pytest.mark.parametrize(("away_s", "expected"), [(59, [(1, 0.005)]), (61, [])])
def test_a_settlement_waits_a_minute_for_who_wants_it_again(
    instrument: Instrument, away_s: int, expected: list[tuple[int, float]]
) -> None:
    handler = handler_of(instrument, FUNDING_RATES, FUNDING_PAYMENTS)
    handler.take(row(), NOW_NS)
    handler.views = (FUNDING_RATES,)
    assert [] == payments(handler.take(settled(1), NOW_NS + SECOND_NS))
    assert [] == payments(handler.take(settled(1), NOW_NS + away_s * SECOND_NS))
    handler.views = (FUNDING_RATES, FUNDING_PAYMENTS)
    assert expected == payments(handler.take(settled(1), NOW_NS + away_s * SECOND_NS))
    assert [(2, 0.005)] == payments(handler.take(settled(2), NOW_NS + HOUR_NS))


def test_settlements_that_nobody_wants_any_more_are_fetched_for_who_wants_them_again(instrument: Instrument) -> None:
    handler = handler_of(instrument, FUNDING_PAYMENTS)
    handler.take(row(), NOW_NS)
    handler.take(settled(2), NOW_NS)
    handler.views = ()
    assert [] == handler.take(settled(2), NOW_NS)
    assert handler.missing is None
    handler.views = (FUNDING_PAYMENTS,)
    assert [] == handler.take(settled(2), NOW_NS)
    assert Missing("fundings", HOUR * HOUR_MS, until=(HOUR + 2) * HOUR_MS) == handler.missing
    assert [(1, 0.001), (2, 0.005)] == payments(handler.recover([funding(1, 0.1)]))


@pytest.mark.parametrize("told", [0, 2])
def test_a_handler_that_follows_another_tells_what_that_did_not(instrument: Instrument, told: int) -> None:
    before, handler = (handler_of(instrument, FUNDING_PAYMENTS) for _ in range(2))
    before.take(row(), NOW_NS)
    before.take(settled(told), NOW_NS)  # after 2 hours the first of them is missing still
    handler.follow(before)
    assert [] == handler.take(settled(2), NOW_NS)
    assert Missing("fundings", HOUR * HOUR_MS, until=(HOUR + 2) * HOUR_MS) == handler.missing


def test_before_its_first_settlement_a_market_has_none(instrument: Instrument) -> None:
    handler = handler_of(instrument, FUNDING_PAYMENTS)
    assert [] == handler.take(row(funding_timestamp=0), NOW_NS)
    assert [] == handler.take(row(), NOW_NS)
    assert handler.missing is None


def funding(hours: int, percent: float) -> wire.FundingRow:
    """Write a row of history: the size in percent, and who pays."""
    direction = "short" if percent < 0 else "long"
    return wire.FundingRow((HOUR + hours) * 3600, 0.1, abs(percent), direction)


def test_history_has_the_sign_of_who_pays() -> None:
    assert [0.0025, -0.0025] == [payment_of(funding(1, percent)).funding_rate for percent in (0.25, -0.25)]
    assert (HOUR + 1) * HOUR_NS == payment_of(funding(1, 0.25)).time


# --- frames of all markets --------------------------------------------------------------------------------------------


@pytest.fixture
def frames(instrument: Instrument) -> StatsFrames:
    frames = StatsFrames(Counter())
    frames.handlers = {market_id: handler_of(instrument, market_id=market_id) for market_id in (0, 7)}
    return frames


def markets(results: list[tuple[StatsHandler, list[Output]]]) -> list[tuple[int, list[str]]]:
    return [(handler.market_id, named(outputs)) for handler, outputs in results]


def test_a_frame_is_read_for_those_who_want_it(frames: StatsFrames) -> None:
    raw = frame(stats(), stats(market_id=5), stats(market_id=7))
    both = ["funding_rate", "open_interest"]
    assert [(0, both), (7, both)] == markets(frames.read(raw, 1))
    frames.handlers = {5: frames.handlers[7]}
    assert [] == frames.read(frame(stats(), stats(market_id=7)), 1)


def test_a_market_that_joins_is_read_from_the_next_frame_on(frames: StatsFrames, instrument: Instrument) -> None:
    frames.read(frame(stats()), 1)
    frames.handlers = {**frames.handlers, 5: handler_of(instrument, market_id=5)}
    assert [5] == [market_id for market_id, _ in markets(frames.read(frame(stats(market_id=5)), 1))]


def test_frames_without_a_time_have_that_of_their_arrival(frames: StatsFrames) -> None:
    ((_, outputs),) = frames.read(frame(stats(), timestamp=0), 123 * SECOND_NS)
    assert np.datetime64(123 * SECOND_NS, "ns") == outputs[0][1].time
    ((_, outputs),) = frames.read(frame(stats(market_id=7)), 123 * SECOND_NS)
    assert np.datetime64(NOW_NS, "ns") == outputs[0][1].time


@pytest.mark.parametrize(
    "broken", [stats(market_id=5, mark_price="x"), {"market_id": 5}, {"market_id": 5, "mark_price": []}]
)
def test_a_row_that_nobody_reads_breaks_nothing(frames: StatsFrames, broken: dict[str, Any]) -> None:
    assert [0] == [market_id for market_id, _ in markets(frames.read(frame(broken, stats()), 1))]


def test_a_row_that_cannot_be_read_costs_only_itself(frames: StatsFrames) -> None:
    raw = frame(stats(market_id=7, mark_price=""), stats())
    assert [0] == [market_id for market_id, _ in markets(frames.read(raw, 1))]
    assert 1 == frames._counters["unreadable_stats"]


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"market_stats":[]}', b'{"market_stats":{"0":{"market_id":0}'])
def test_a_frame_that_cannot_be_read_is_a_wire_error(frames: StatsFrames, raw: bytes) -> None:
    with pytest.raises(WireError):
        frames.read(raw, 1)


def test_what_waits_is_flushed_by_any_later_frame(frames: StatsFrames) -> None:
    frames.read(frame(stats()), 1)
    assert [] == frames.read(frame(stats(mark_price="5000.00"), timestamp=NOW_MS + 500), 1)
    ((handler, outputs),) = frames.read(frame(timestamp=NOW_MS + 1000), 1)
    assert (0, 5000.0) == (handler.market_id, outputs[0][1].mark_price)


def test_what_is_missing_is_told_even_without_outputs(frames: StatsFrames) -> None:
    frames.read(frame(stats()), 1)
    ((handler, outputs),) = frames.read(frame(stats(funding_timestamp=SETTLED_MS + 9 * HOUR_MS)), 1)
    assert ([], 0) == (outputs, handler.market_id)
    assert handler.missing is not None


def test_captured_figures_are_what_an_independent_reading_gives(instrument: Instrument, wire_dir: Path) -> None:
    with gzip.open(wire_dir / "market_stats_all.jsonl.gz") as lines:
        raws = list(lines)
    plain = [json.loads(raw, parse_float=Decimal)["market_stats"] for raw in raws]
    market_ids = sorted({int(market_id) for rows in plain for market_id in rows})
    frames = StatsFrames(Counter())
    frames.handlers = {
        market_id: handler_of(instrument, market_id=market_id, size_decimals=6) for market_id in market_ids
    }
    found: dict[int, list[Any]] = {market_id: [] for market_id in market_ids}
    expected: dict[int, list[Any]] = {market_id: [] for market_id in market_ids}
    last: dict[int, dict[str, Any]] = {}
    for number, (raw, rows) in enumerate(zip(raws, plain, strict=True), 1):
        now_ns = number * 10 * SECOND_NS  # so far apart that nothing waits
        for handler, outputs in frames.read(raw, now_ns):
            found[handler.market_id] += [data for _, data in outputs]
        for name, figures in rows.items():
            expected[int(name)] += reading(last.get(int(name), {}), figures, instrument.symbol, now_ns)
            last[int(name)] = figures
    assert 92 == len(market_ids)
    assert expected == found
    assert sum(len(data) for data in found.values()) > 1000
    for market_id, figures in last.items():
        latest = frames.handlers[market_id].latest
        assert latest is not None
        assert (float(figures["mark_price"]), figures["funding_timestamp"]) == (
            latest.mark_price, latest.funding_timestamp,
        )  # fmt: skip


def reading(before: dict[str, Any], figures: dict[str, Any], symbol: str, now_ns: int) -> list[Any]:
    """Read a captured row with exact decimals."""
    now = np.datetime64(now_ns, "ns")
    found: list[Any] = []
    mark, index = Decimal(figures["mark_price"]), Decimal(figures["index_price"])
    percent = Decimal(figures["current_funding_rate"])
    if any(before.get(name) != figures[name] for name in ("mark_price", "index_price", "current_funding_rate")):
        next_hour = np.datetime64((now_ns // HOUR_NS + 1) * HOUR_NS, "ns")
        found.append(FundingRate(now, float(percent / 100), "1h", next_hour, float(mark) or None, float(index) or None))
    if before.get("open_interest") != figures["open_interest"] and mark:
        usd = Decimal(figures["open_interest"])
        found.append(OpenInterest(now, symbol, float(round(usd / mark, 6)), float(usd)))
    return found
