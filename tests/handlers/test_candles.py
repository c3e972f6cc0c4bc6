"""Candles become bars of any timeframe: none twice after it closed, none made up, none lost to a reconnect."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from qubx.core.basics import Instrument

from qubx_lighter.constants import RESOLUTIONS
from qubx_lighter.errors import WireError
from qubx_lighter.handlers import CandleHandler, Missing, OhlcView, Output, bar_of, parse
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.units import Scale
from tests.handlers.trading import BATCH_MS, NS_A_MS, Market, candle_frame, figures_of
from tests.markets import loaded_instruments

MINUTE_MS = 60_000
START_MS = 1_760_040_000_000  # on the hour
STOP_MS = START_MS + 90 * MINUTE_MS


@pytest.fixture
async def instrument() -> Instrument:
    return (await loaded_instruments()).instrument(0)


def handler_of(instrument: Instrument, *timeframes: str, resolution: str = "1m") -> CandleHandler:
    handler = CandleHandler(instrument, Scale(2, 4), Counter(), resolution=resolution)
    handler.views = tuple(view(timeframe) for timeframe in timeframes)
    return handler


def view(timeframe: str) -> OhlcView:
    found = parse(f"ohlc({timeframe})").view
    assert isinstance(found, OhlcView)
    return found


def row(minute: int, close: float = 10.0, volume: float = 1.0, **more: float) -> dict[str, Any]:
    fields = {"t": START_MS + minute * MINUTE_MS, "o": 10.0, "h": max(10.0, close), "l": min(10.0, close)}
    return fields | {"c": close, "v": volume, "V": volume * close, "i": minute * 10 + 1} | more


def flat(minute: int, price: float = 10.0) -> dict[str, Any]:
    """Write a candle without trades: the venue omits zeros."""
    return {"t": START_MS + minute * MINUTE_MS, "o": price, "h": price, "l": price, "c": price}


def frame(*rows: dict[str, Any]) -> bytes:
    return candle_frame("update", *rows)


def history(*rows: dict[str, Any]) -> list[wire.CandleRow]:
    return [wire.decode(wire.CandleRow, json.dumps(row)) for row in rows]


def shown(outputs: list[Output]) -> list[tuple[str, int, float, float]]:
    """Name bars by view, minute, close and volume."""
    return [
        (view.data_type, (bar.time // NS_A_MS - START_MS) // MINUTE_MS, bar.close, bar.volume) for view, bar in outputs
    ]


# --- one candle, one bar ----------------------------------------------------------------------------------------------


def test_a_candle_is_a_bar_with_its_open_in_nanoseconds_and_both_volumes(instrument: Instrument) -> None:
    ((seen, bar),) = handler_of(instrument, "1m").snapshot(frame(row(0, 12.0, 3.0)))
    assert view("1m") == seen
    assert "ohlc(1m)" == seen.data_type
    assert START_MS * NS_A_MS == bar.time
    assert (10.0, 12.0, 10.0, 12.0, 3.0, 36.0) == figures_of(bar)
    assert (0.0, 0.0, 0) == (bar.bought_volume, bar.bought_volume_quote, bar.trade_count)


def test_volumes_are_cumulative_and_the_closed_bar_comes_once_more(instrument: Instrument) -> None:
    handler = handler_of(instrument, "1m")
    handler.snapshot(frame(row(0, volume=1.0)))
    assert [("ohlc(1m)", 0, 11.0, 2.0)] == shown(handler.update(frame(row(0, 11.0, 2.0))))
    assert [("ohlc(1m)", 0, 12.0, 3.0), ("ohlc(1m)", 1, 10.0, 1.0)] == shown(
        handler.update(frame(row(0, 12.0, 3.0), row(1)))
    )


def test_a_successor_alone_closes_the_bar_as_it_was(instrument: Instrument) -> None:
    handler = handler_of(instrument, "1m", "2m")
    handler.snapshot(frame(row(0, volume=2.0)))
    assert [("ohlc(1m)", 1, 10.0, 1.0), ("ohlc(2m)", 0, 10.0, 3.0)] == shown(handler.update(frame(row(1))))
    assert handler.missing is None


@pytest.mark.parametrize("late", [row(0, volume=9.0), row(1, volume=1.0)], ids=["older", "less volume"])
def test_what_is_older_than_the_newest_is_left_out(instrument: Instrument, late: dict[str, Any]) -> None:
    handler = handler_of(instrument, "1m")
    handler.snapshot(frame(row(1, volume=2.0)))
    assert [] == handler.update(frame(late))
    assert 1 == handler.counters["stale_candles"]


def test_frames_in_any_order_and_without_candles(instrument: Instrument) -> None:
    handler = handler_of(instrument, "1m")
    assert [] == handler.snapshot(b'{"candles":null}')
    assert [0, 1] == [minute for _, minute, _, _ in shown(handler.update(frame(row(1), row(0))))]


def test_several_spellings_of_a_timeframe_are_several_views(instrument: Instrument) -> None:
    handler = handler_of(instrument, "1m", "60s")
    assert ["ohlc(1m)", "ohlc(60s)"] == [name for name, *_ in shown(handler.snapshot(frame(row(0))))]


def test_without_views_nothing_comes_out(instrument: Instrument) -> None:
    handler = handler_of(instrument)
    assert [] == handler.snapshot(frame(row(0)))
    assert [] == handler.update(frame(row(0), row(1)))
    handler.reset()
    assert [] == handler.snapshot(frame(row(9)))
    assert handler.missing is None


def test_a_frame_that_cannot_be_read_is_a_wire_error(instrument: Instrument) -> None:
    with pytest.raises(WireError):
        handler_of(instrument, "1m").update(b'{"candles":[{}]}')


# --- candles without trades -------------------------------------------------------------------------------------------


def test_a_market_at_rest_shows_one_bar_and_no_more_are_made_up(instrument: Instrument) -> None:
    handler = handler_of(instrument, "1m")
    assert [("ohlc(1m)", 7, 10.0, 0.0)] == shown(handler.snapshot(frame(flat(7))))
    handler.reset()
    assert [] == handler.snapshot(frame(flat(9)))
    assert [] == handler.recover(history(flat(7), flat(8), flat(9)))
    assert [("ohlc(1m)", 12, 11.0, 1.0)] == shown(handler.update(frame(flat(9), row(12, 11.0))))


def test_a_repeated_price_is_no_part_of_a_longer_bar(instrument: Instrument) -> None:
    handler = handler_of(instrument, "5m")
    handler.snapshot(frame(flat(5, 99.0)))
    ((_, bar),) = handler.update(frame(flat(5, 99.0), row(7, 12.0, 2.0)))
    assert (10.0, 12.0, 10.0, 12.0, 2.0, 24.0) == figures_of(bar)


# --- longer bars ------------------------------------------------------------------------------------------------------


def test_a_longer_bar_adds_candles_up(instrument: Instrument) -> None:
    handler = handler_of(instrument, "3m")
    handler.snapshot(frame(row(0, 12.0, 2.0)))
    assert [("ohlc(3m)", 0, 15.0, 4.0)] == shown(handler.update(frame(row(0, 8.0, 3.0), row(1, 15.0))))
    ((_, bar),) = handler.update(frame(row(2, 9.0)))
    assert (10.0, 15.0, 8.0, 9.0, 5.0, 3 * 8.0 + 15.0 + 9.0) == figures_of(bar)
    assert [("ohlc(3m)", 0, 8.0, 6.0), ("ohlc(3m)", 3, 10.0, 1.0)] == shown(
        handler.update(frame(row(2, 8.0, 2.0), row(3)))
    )


def test_a_longer_bar_that_began_earlier_waits_for_its_beginning(instrument: Instrument) -> None:
    handler = handler_of(instrument, "1m", "5m", "10m")
    assert ["ohlc(1m)"] == [name for name, *_ in shown(handler.snapshot(frame(row(7))))]
    assert Missing("candles", START_MS, "1m", START_MS + 7 * MINUTE_MS) == handler.missing
    assert ["ohlc(1m)", "ohlc(1m)"] == [name for name, *_ in shown(handler.update(frame(row(7, volume=2.0), row(8))))]
    past = history(row(0, volume=10.0), row(5, volume=20.0), row(6, volume=40.0), row(7, volume=80.0), flat(8))
    assert [("ohlc(5m)", 5, 10.0, 63.0), ("ohlc(10m)", 0, 10.0, 73.0)] == shown(handler.recover(past))
    assert handler.missing is None
    assert [("ohlc(5m)", 5, 10.0, 64.0), ("ohlc(10m)", 0, 10.0, 74.0)] == shown(
        handler.update(frame(row(8, volume=2.0)))
    )[1:]


def test_a_longer_bar_whose_beginning_cannot_be_had_is_left_out(instrument: Instrument) -> None:
    handler = handler_of(instrument, "5m")
    handler.snapshot(frame(row(7)))
    assert [] == handler.recover(None)
    assert 1 == handler.counters["candle_holes"]
    assert handler.missing is None
    assert [] == handler.update(frame(row(7), row(9)))
    assert [("ohlc(5m)", 10, 10.0, 1.0)] == shown(handler.update(frame(row(9), row(10))))


def test_a_bar_that_begins_with_its_first_candle_waits_for_nothing(instrument: Instrument) -> None:
    handler = handler_of(instrument, "5m")
    assert [("ohlc(5m)", 5, 10.0, 1.0)] == shown(handler.snapshot(frame(row(5))))
    assert handler.missing is None


def test_a_view_that_joins_shows_its_bar_or_lacks_its_beginning(instrument: Instrument) -> None:
    handler = handler_of(instrument, "1m")
    handler.snapshot(frame(row(6)))
    handler.views = (view("1m"), view("60s"), view("3m"), view("5m"))
    joined = [view("60s"), view("3m"), view("5m")]
    assert ["ohlc(60s)", "ohlc(3m)"] == [name for name, *_ in shown(handler.current(joined))]
    assert Missing("candles", START_MS + 5 * MINUTE_MS, "1m", START_MS + 6 * MINUTE_MS) == handler.missing
    assert [("ohlc(5m)", 5, 10.0, 3.0)] == shown(handler.recover(history(row(5, volume=2.0))))


def test_a_view_that_leaves_takes_its_question_along(instrument: Instrument) -> None:
    handler = handler_of(instrument, "1m", "5m")
    handler.snapshot(frame(row(7)))
    handler.views = (view("1m"),)
    assert ["ohlc(1m)"] == [name for name, *_ in shown(handler.update(frame(row(7, volume=2.0))))]
    assert handler.missing is None


# --- reconnects -------------------------------------------------------------------------------------------------------


def test_the_same_candle_after_a_reconnect_goes_on(instrument: Instrument) -> None:
    handler = handler_of(instrument, "1m")
    handler.snapshot(frame(row(0, volume=2.0)))
    handler.reset()
    assert [("ohlc(1m)", 0, 10.0, 3.0)] == shown(handler.snapshot(frame(row(0, volume=3.0))))
    assert handler.missing is None


def test_candles_that_closed_while_away_are_fetched_and_come_once_and_in_order(instrument: Instrument) -> None:
    handler = handler_of(instrument, "1m", "5m")
    handler.snapshot(frame(row(0, volume=2.0)))
    handler.reset()
    assert [] == handler.snapshot(frame(row(6)))
    assert Missing("candles", START_MS, "1m", START_MS + 6 * MINUTE_MS) == handler.missing
    assert [] == handler.update(frame(row(6, volume=2.0), row(7, volume=1.0)))
    past = history(row(0, volume=3.0), row(2), flat(3), flat(4), flat(5), row(6, volume=1.5), row(7))
    assert [
        ("ohlc(1m)", 0, 10.0, 3.0),
        ("ohlc(1m)", 2, 10.0, 1.0),
        ("ohlc(1m)", 6, 10.0, 2.0),
        ("ohlc(1m)", 7, 10.0, 1.0),
    ] == [bar for bar in shown(handler.recover(past)) if bar[0] == "ohlc(1m)"]


def test_candles_that_closed_while_the_channel_was_renewed_on_a_live_connection_are_fetched(
    instrument: Instrument,
) -> None:
    handler = handler_of(instrument, "1m", "3m")
    handler.snapshot(frame(row(0, volume=2.0)))
    assert [("ohlc(1m)", 0, 10.0, 3.0), ("ohlc(3m)", 0, 10.0, 3.0)] == shown(
        handler.snapshot(frame(row(0, volume=3.0)))
    )
    assert handler.missing is None
    assert [] == handler.snapshot(frame(row(2)))
    assert Missing("candles", START_MS, "1m", START_MS + 2 * MINUTE_MS) == handler.missing
    past = history(row(0, volume=5.0), row(1, volume=7.0), row(2))
    assert [
        ("ohlc(1m)", 0, 10.0, 5.0),
        ("ohlc(1m)", 1, 10.0, 7.0),
        ("ohlc(1m)", 2, 10.0, 1.0),
        ("ohlc(3m)", 0, 10.0, 13.0),
    ] == shown(handler.recover(past))


def test_a_second_disconnection_makes_the_question_larger(instrument: Instrument) -> None:
    handler = handler_of(instrument, "1m")
    handler.snapshot(frame(row(0)))
    handler.reset()
    handler.snapshot(frame(row(2)))
    handler.reset()
    handler.snapshot(frame(row(4)))
    assert Missing("candles", START_MS, "1m", START_MS + 4 * MINUTE_MS) == handler.missing
    past = history(row(0, volume=5.0), row(2, volume=6.0), row(3, volume=7.0))
    assert [5.0, 6.0, 7.0, 1.0] == [volume for *_, volume in shown(handler.recover(past))]


def test_what_was_seen_counts_where_history_is_behind(instrument: Instrument) -> None:
    handler = handler_of(instrument, "1m", "5m")
    handler.snapshot(frame(row(0, volume=2.0)))
    handler.reset()
    handler.snapshot(frame(row(3)))
    outputs = shown(handler.recover(history(row(0, volume=1.0), row(1))))
    assert [("ohlc(1m)", 0, 10.0, 2.0), ("ohlc(1m)", 1, 10.0, 1.0)] == outputs[:2]
    assert [2.0, 1.0, 1.0] == [volume for _, _, _, volume in outputs[:3]]


def test_history_is_behind_until_it_has_the_first_candle_that_is_known_again(instrument: Instrument) -> None:
    handler = handler_of(instrument, "1m")
    assert not handler.is_behind([])
    handler.snapshot(frame(row(0)))
    handler.snapshot(frame(flat(3)))
    answers = history(row(0)), history(row(0), flat(3)), history(row(0), row(3))
    assert [True, False, False] == [handler.is_behind(rows) for rows in answers]
    handler.update(frame(row(3), row(4)))
    assert [True, True, False] == [handler.is_behind(rows) for rows in answers], "the same candle has trades now"


def test_an_unanswered_question_is_counted_and_bars_with_holes_are_left_out(instrument: Instrument) -> None:
    handler = handler_of(instrument, "1m", "5m")
    handler.snapshot(frame(row(0)))
    handler.reset()
    handler.snapshot(frame(row(3)))
    assert [("ohlc(1m)", 3, 10.0, 1.0)] == shown(handler.recover(None))
    assert 1 == handler.counters["candle_holes"]
    handler.update(frame(row(3), row(4)))
    assert ["ohlc(1m)", "ohlc(1m)", "ohlc(5m)"] == [n for n, *_ in shown(handler.update(frame(row(4), row(5))))]


def test_an_empty_answer_to_a_subscribe_leaves_the_question_to_the_next_frame(instrument: Instrument) -> None:
    handler = handler_of(instrument, "1m")
    handler.snapshot(frame(row(0)))
    handler.reset()
    handler.snapshot(b'{"candles":[]}')
    assert [] == handler.update(frame(row(3)))
    assert Missing("candles", START_MS, "1m", START_MS + 3 * MINUTE_MS) == handler.missing


def test_rows_that_nobody_asked_for_are_ignored(instrument: Instrument) -> None:
    handler = handler_of(instrument, "1m")
    handler.snapshot(frame(row(3)))
    assert [] == handler.recover(history(row(2)))


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_on_the_way_every_bar_is_what_was_traded(instrument: Instrument, seed: int) -> None:
    print(f"seed {seed}")
    market = Market(seed, START_MS - 60 * MINUTE_MS, STOP_MS, at_ms=START_MS)
    chance = market.random
    begun_ms = START_MS + chance.randrange(20 * MINUTE_MS)
    resolution = chance.choice(["1m", "5m"])
    timeframes = {"1m": ["1m", "2m", "7m", "60s"], "5m": ["5m", "10m", "20m"]}[resolution]
    handler = handler_of(instrument, *timeframes, resolution=resolution)
    outputs = handler.snapshot(market.snapshot(resolution, begun_ms))
    subscribed_ms = sent_ms = begun_ms
    back_ms = answer_ms = 0  # when the connection, and an answer, will be there
    asked: Missing | None = None
    asked_ms = 0
    for now_ms in range(begun_ms + BATCH_MS, STOP_MS + 1, BATCH_MS):
        if back_ms and now_ms >= back_ms:
            back_ms, subscribed_ms, sent_ms = 0, now_ms, now_ms
            outputs += handler.snapshot(market.snapshot(resolution, now_ms))
        elif not back_ms and chance.random() < 0.002:
            if chance.random() < 0.5:  # else the channel alone is away
                handler.reset()
            back_ms = now_ms + chance.randrange(12 * MINUTE_MS)
        elif not back_ms:
            for raw in market.batch(resolution, subscribed_ms, sent_ms, now_ms):
                outputs += handler.update(raw)
            sent_ms = now_ms
        if handler.missing != asked:
            asked, asked_ms = handler.missing, now_ms
            answer_ms = now_ms + chance.randrange(3 * MINUTE_MS)
        if asked is not None and now_ms >= answer_ms:
            outputs += handler.recover(market.history(resolution, asked.after, asked_ms))
            asked = handler.missing
    outputs += handler.snapshot(market.snapshot(resolution, STOP_MS))
    if handler.missing is not None:
        outputs += handler.recover(market.history(resolution, handler.missing.after, STOP_MS))
    assert 0 == handler.counters["candle_holes"]
    for timeframe in timeframes:
        length_ms = view(timeframe).timeframe_ns // NS_A_MS
        bars = [bar for seen, bar in outputs if seen.data_type == f"ohlc({timeframe})"]
        assert [bar.time for bar in bars] == sorted(bar.time for bar in bars)
        states = [(bar.time, bar.volume) for bar in bars]
        assert states == sorted(states), "volumes only grow"
        newest = {bar.time // NS_A_MS: figures_of(bar) for bar in bars if bar.volume}
        first = begun_ms // length_ms * length_ms
        expected = market.windows(length_ms, first, STOP_MS)
        assert list(expected) == list(newest)
        for opened, figures in expected.items():
            assert pytest.approx(figures, rel=1e-9) == newest[opened]


def test_bar_of_reads_history_too() -> None:
    (found,) = history(row(1, 11.0, 2.0))
    assert (10.0, 11.0, 10.0, 11.0, 2.0, 22.0) == figures_of(bar_of(found))


def test_every_resolution_of_the_venue_has_its_own_channel() -> None:
    assert {f"candle/3/{name}" for name in RESOLUTIONS} == {parse(f"ohlc({name})").channel(3) for name in RESOLUTIONS}
