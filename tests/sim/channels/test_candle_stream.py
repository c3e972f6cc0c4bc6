"""The candle channels: the live candle, batched changes, a closed candle before its successor, silence without trades."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from qubx_lighter.constants import RESOLUTIONS
from qubx_lighter.protocol import wire
from qubx_lighter.sim.app import Venue
from qubx_lighter.sim.model.commands import AdvanceTime, CreateAccount
from tests.sim.caller import FEED, Caller, calling, place, quiet_venue
from tests.sim.clock import START_MS, Clock

MINUTE_MS = 60_000
MINUTE = START_MS // MINUTE_MS * MINUTE_MS
STRANGER = 10
Row = dict[str, Any]


class Listener:
    """A subscriber that takes frames without a socket."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def send(self, text: str) -> None:
        self.texts.append(text)

    def take(self) -> list[list[Row]]:
        """Take the candles of the frames that came."""
        frames = [json.loads(text)["candles"] for text in self.texts]
        self.texts.clear()
        return frames


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def venue(clock: Clock) -> AsyncIterator[Venue]:
    async with quiet_venue(now=clock) as venue:
        venue.server.execute(CreateAccount(STRANGER, "0xdead", 10**15, fee_free=True))
        yield venue


@pytest.fixture
async def aged(clock: Clock) -> AsyncIterator[Venue]:
    async with quiet_venue(now=clock, history_days=1.0) as venue:
        venue.server.execute(CreateAccount(STRANGER, "0xdead", 10**15, fee_free=True))
        yield venue


def trade(venue: Venue, price: int, lots: int = 1_000) -> int:
    place(venue, "sell", lots, price, account=STRANGER)
    place(venue, "buy", lots, price, account=FEED)
    return venue.engine.trades()[0].trade_id


def listen(venue: Venue, name: str = "candle/0/1m") -> Listener:
    listener = Listener()
    venue.server.channels.subscribe(venue.server.channels.find(name), listener)
    return listener


def flush(venue: Venue, listener: Listener) -> list[list[Row]]:
    venue.server.channels.flush_candles()
    return listener.take()


def prices(frames: list[list[Row]]) -> list[list[tuple[int, float, float, float, float, float]]]:
    """Spell frames as minutes from the start, prices and volume."""
    return [
        [((row["t"] - MINUTE) // MINUTE_MS, row["o"], row["h"], row["l"], row["c"], row.get("v", 0.0)) for row in frame]
        for frame in frames
    ]


# --- over the socket --------------------------------------------------------------------------------------------------


async def test_a_candle_is_pushed_to_who_subscribed(venue: Venue, clock: Clock) -> None:
    async with calling(venue) as caller:
        trade(venue, 300_000)
        snapshot = await caller.subscribe("candle/0/1m")
        trade_id = trade(venue, 300_100, 2_500)
        update = await caller.read_until("update/candle")
    first, last = snapshot["candles"][0], update["candles"][0]
    assert ("subscribed/candle", "candle:0:1m", [MINUTE]) == (snapshot["type"], snapshot["channel"], [first["t"]])
    expected = {"t": MINUTE, "o": 3000.0, "h": 3001.0, "l": 3000.0, "c": 3001.0, "v": 0.35, "V": 1050.25, "i": trade_id}
    assert expected == last
    text = caller.texts[-1]
    assert ["candles", "channel", "timestamp", "type"] == list(json.loads(text))
    assert ": " not in text
    assert ("update/candle", "candle:0:1m") == wire.route(text.encode())
    frame = wire.decode(wire.CandleFrame, text.encode())
    assert frame.timestamp == clock.ms
    assert [wire.CandleRow(**expected)] == frame.candles


async def test_a_mark_price_candle_is_pushed_to_who_subscribed(venue: Venue, clock: Clock) -> None:
    async with calling(venue) as caller:
        snapshot = await caller.subscribe("mark_price_candle/0/5m")
        assert ("subscribed/mark_price_candle", "mark_price_candle:0:5m") == (snapshot["type"], snapshot["channel"])
        sampled = sum(row["sc"] for row in snapshot["candles"])
        clock.ms += 1_000
        venue.server.execute(AdvanceTime())
        row = (await caller.read_until("update/mark_price_candle"))["candles"][0]
    assert {
        "t": MINUTE // 300_000 * 300_000,
        "o": 3000.0,
        "h": 3000.0,
        "l": 3000.0,
        "c": 3000.0,
        "sc": sampled + 1,
    } == row


@pytest.mark.parametrize("name", ["candle/0/1w", "candle/0", "candle/77/1m", "candle/0/1m/2", "mark_price_candle/x/1m"])
async def test_there_are_no_other_candles(venue: Venue, name: str) -> None:
    async with calling(venue) as caller:
        answer = await caller.subscribe(name)
        assert {"error": {"code": 30005, "message": f"Invalid Channel: {name}"}} == answer


async def test_candles_can_be_unsubscribed(venue: Venue) -> None:
    async with calling(venue) as caller:
        for _ in range(2):
            assert "subscribed/candle" == (await caller.subscribe("candle/0/1m"))["type"]
            answer = await caller.ask(type="unsubscribe", channel="candle/0/1m")
            assert {"channel": "candle:0:1m", "type": "unsubscribed"} == answer
        trade(venue, 300_000)
        venue.server.channels.flush_candles()
        assert {"type": "pong"} == await caller.ask(type="ping")
    assert {} == venue.server.channels._candles._feeds


# --- what is sent, and when -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", RESOLUTIONS)
async def test_the_snapshot_is_the_live_candle(aged: Venue, clock: Clock, resolution: str) -> None:
    step_ms = RESOLUTIONS[resolution]
    clock.ms += 90_000
    trade(aged, 333_300)
    [[row]] = listen(aged, f"candle/0/{resolution}").take()
    assert (clock.ms // step_ms * step_ms, 3333.0) == (row["t"], row["c"])
    expected = aged.engine.history(0).candles(step_ms, clock.ms, 1)[0].tolist()
    assert expected[1:5] == [round(row[name] * 100) for name in "ohlc"]
    clock.ms += 2 * step_ms
    [[row]] = listen(aged, f"candle/0/{resolution}").take()
    assert (clock.ms // step_ms * step_ms, 3333.0, 3333.0, None) == (row["t"], row["o"], row["c"], row.get("v"))


async def test_before_the_first_trade_there_is_no_candle(venue: Venue) -> None:
    listener = listen(venue)
    assert [[]] == listener.take()
    assert [] == flush(venue, listener)
    trade(venue, 300_000)
    assert [[(0, 3000.0, 3000.0, 3000.0, 3000.0, 0.1)]] == prices(flush(venue, listener))


async def test_changes_of_a_batch_are_one_frame(venue: Venue) -> None:
    trade(venue, 300_000)
    listener = listen(venue)
    listener.take()
    for price in (300_500, 299_000, 300_200):
        trade(venue, price)
    assert [[(0, 3000.0, 3005.0, 2990.0, 3002.0, 0.4)]] == prices(flush(venue, listener))
    assert [] == flush(venue, listener)


async def test_a_closed_candle_comes_before_the_next_one(venue: Venue, clock: Clock) -> None:
    listener = listen(venue)
    trade(venue, 300_000)
    flush(venue, listener)
    listener.take()
    trade(venue, 300_700)
    clock.ms += MINUTE_MS
    trade(venue, 299_900)
    assert [
        [(0, 3000.0, 3007.0, 3000.0, 3007.0, 0.2), (1, 2999.0, 2999.0, 2999.0, 2999.0, 0.1)],
    ] == prices(flush(venue, listener))
    trade(venue, 299_800)
    assert [[(1, 2999.0, 2999.0, 2998.0, 2998.0, 0.2)]] == prices(flush(venue, listener))


async def test_nothing_is_pushed_until_the_next_trade(venue: Venue, clock: Clock) -> None:
    listener = listen(venue)
    trade(venue, 300_000)
    flush(venue, listener)
    for _ in range(5):
        clock.ms += MINUTE_MS
        venue.server.execute(AdvanceTime())
        assert [] == flush(venue, listener)
    trade(venue, 301_000)
    assert [
        [(0, 3000.0, 3000.0, 3000.0, 3000.0, 0.1), (5, 3010.0, 3010.0, 3010.0, 3010.0, 0.1)],
    ] == prices(flush(venue, listener))


async def test_a_candle_closes_even_if_it_is_from_before_the_subscription(aged: Venue, clock: Clock) -> None:
    last = aged.engine.history(0).candles(MINUTE_MS, MINUTE - 1, 1)[0].tolist()
    clock.ms += 2 * MINUTE_MS
    listener = listen(aged)
    assert [[2]] == [[row[0] for row in frame] for frame in prices(listener.take())]
    clock.ms += MINUTE_MS
    trade(aged, 301_000)
    [[closed, forming]] = flush(aged, listener)
    assert (last[0], last[4] / 100) == (closed["t"], closed["c"])
    assert [[(3, 3010.0, 3010.0, 3010.0, 3010.0, 0.1)]] == prices([[forming]])


async def test_candles_of_a_long_batch_come_pair_by_pair(venue: Venue, clock: Clock) -> None:
    trade(venue, 300_000)
    listener = listen(venue)
    listener.take()
    for _ in range(3):
        clock.ms += MINUTE_MS
        trade(venue, 300_000)
    assert [[0, 1], [1, 2], [2, 3]] == [[row[0] for row in frame] for frame in prices(flush(venue, listener))]


async def test_a_newcomer_costs_nobody_a_candle(venue: Venue, clock: Clock) -> None:
    early = listen(venue)
    early.take()
    trade(venue, 300_000)
    clock.ms += MINUTE_MS
    late = listen(venue)
    assert [[0]] == [[row[0] for row in frame] for frame in prices(early.take())]
    assert [[1]] == [[row[0] for row in frame] for frame in prices(late.take())]
    trade(venue, 300_000)
    venue.server.channels.flush_candles()
    assert early.texts == late.texts
    assert [[0, 1]] == [[row[0] for row in frame] for frame in prices(early.take())]


async def test_a_clock_that_is_set_back_breaks_nothing(venue: Venue, clock: Clock) -> None:
    trade(venue, 300_000)
    clock.ms += 10 * MINUTE_MS
    listener = listen(venue)
    listener.take()
    clock.ms -= 5 * MINUTE_MS
    trade(venue, 301_000)
    clock.ms += 10 * MINUTE_MS
    trade(venue, 302_000)
    assert [[0, 5], [5, 15]] == [[row[0] for row in frame] for frame in prices(flush(venue, listener))]


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("kind", ["candle", "mark_price_candle"])
async def test_frames_add_up_to_what_rest_gives(aged: Venue, clock: Clock, kind: str, resolution: str) -> None:
    """Whoever keeps the last row of each time has the candles of REST, but for those in which nothing happened."""
    step_ms = RESOLUTIONS[resolution]
    listener = listen(aged, f"{kind}/0/{resolution}")
    begin = clock.ms // step_ms * step_ms
    for step in range(40):
        clock.ms += (step % 7) * step_ms // 9
        trade(aged, 300_000 + step * 7)
        if step % 3:
            aged.server.channels.flush_candles()
    aged.server.channels.flush_candles()
    kept: dict[int, Row] = {row["t"]: row for frame in listener.take() for row in frame}
    path = {"candle": "candles", "mark_price_candle": "markPriceCandles"}[kind]
    async with calling(aged) as caller:
        rows = await ask(caller, path, resolution, clock.ms)
    happened = [row for row in rows if row["t"] >= begin and ("v" in row or "sc" in row)]
    assert len(happened) > 2
    assert happened == [row for time, row in sorted(kept.items()) if time >= begin and ("v" in row or "sc" in row)]


async def ask(caller: Caller, path: str, resolution: str, end_ms: int) -> list[Row]:
    params = {"start_timestamp": 0, "end_timestamp": end_ms, "count_back": 500}
    rows: list[Row] = (await caller.body(f"/api/v1/{path}", market_id=0, resolution=resolution, **params))["c"]
    return rows
