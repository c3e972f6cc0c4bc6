"""A lagging strategy sees the newest market and every trade; a lost thread is asked for once, then ever later."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from qubx.core.basics import CtrlChannel, DataType

from qubx_lighter.errors import TransportError, WireError
from qubx_lighter.handlers import HANDLERS, QUOTES, TRADES, BookView, MarketHandler, Missing, Output
from qubx_lighter.market_data import streams
from qubx_lighter.market_data.delivery import Delivery
from qubx_lighter.market_data.streams import Recovery, Stream
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.units import Scale
from tests.handlers.test_orderbook import frame as book_frame
from tests.handlers.test_quote import frame as ticker_frame
from tests.handlers.test_trades import frame as trade_frame
from tests.handlers.test_trades import row
from tests.markets import loaded_instruments

LIMIT = 10
TOP = BookView(0.0, 1)


class Socket:
    """Takes note of what is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def resubscribe(self, channel: str) -> None:
        self.asked.append(channel)


class Rig:
    """A stream of each kind on one channel of Qubx's, with a low limit."""

    def __init__(self, instrument: Any) -> None:
        self.channel = CtrlChannel("test")
        self.counters: Counter[str] = Counter()
        self.socket = Socket()
        self.now_ns = 0
        self.delivery = Delivery(self.channel, self.counters, clock_ns=lambda: self.now_ns, limit=LIMIT)
        self.answers: list[Any] = []
        self.fetched: list[tuple[int, Missing]] = []
        self.recovery = Recovery(self.fetch, self.delivery, self.counters)
        self.instrument = instrument

    def stream(self, kind: str, *views: Any) -> Stream:
        handler = HANDLERS[kind](self.instrument, Scale(2, 4), self.counters)
        return self.open(kind, handler, *views)

    def open(self, kind: str, handler: MarketHandler, *views: Any) -> Stream:
        stream = Stream(
            f"{kind}/0",
            0,
            handler,
            delivery=self.delivery,
            recovery=self.recovery,
            socket=self.socket,
            counters=self.counters,
            clock_ns=lambda: self.now_ns,
        )
        stream.view(views or (TRADES if kind == "trade" else QUOTES,))
        return stream

    async def fetch(self, market_id: int, missing: Missing) -> Any:
        self.fetched.append((market_id, missing))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def fill(self) -> None:
        for _ in range(LIMIT + 1):
            self.channel.send("something else")

    def drain(self) -> list[Any]:
        items = []
        while self.channel._queue.qsize():
            items.append(self.channel.receive(1))
        return [item for item in items if item != "something else"]


@pytest.fixture
async def rig() -> Rig:
    return Rig((await loaded_instruments()).instrument(0))


def bid(price: str) -> bytes:
    return ticker_frame((price, "1"), ("100.00", "1"))


async def next_item(channel: CtrlChannel) -> Any:
    return await asyncio.to_thread(channel.receive, 5)


async def test_what_goes_to_qubx_is_live_and_has_the_base_type(rig: Rig) -> None:
    rig.stream("ticker").on_frame("subscribed", bid("90.00"))
    ((instrument, data_type, quote, historical),) = rig.drain()
    assert (rig.instrument, DataType.QUOTE, 90.0, False) == (instrument, data_type, quote.bid, historical)


async def test_up_to_the_limit_every_frame_is_published(rig: Rig) -> None:
    stream = rig.stream("ticker")
    for number in range(LIMIT + 1):
        stream.on_frame("update", bid(f"{50 + number}.00"))
    assert [50.0 + number for number in range(LIMIT + 1)] == [item[2].bid for item in rig.drain()]
    assert 0 == rig.counters["conflation_episodes"]


async def test_beyond_the_limit_the_newest_of_each_view_waits_and_trades_do_not(rig: Rig) -> None:
    ticker, trades = rig.stream("ticker"), rig.stream("trade")
    book = rig.stream("order_book", TOP, BookView(0.0, 2))
    rig.fill()
    for number in range(1, 4):
        ticker.on_frame("update", bid(f"5{number}.00"))
        trades.on_frame("update", trade_frame(row(number)))
        book.on_frame("subscribed", book_frame([(f"6{number}.00", "1.0")], [("70.00", "1.0")], number, 0))
    assert [1, 2, 3] == [item[2].trade_id for item in rig.drain()]
    held = [await next_item(rig.channel) for _ in range(3)]
    assert [("quote", 53.0), ("orderbook", 63.0), ("orderbook", 63.0)] == [
        (str(item[1]), getattr(item[2], "bid", None) or item[2].top_bid) for item in held
    ]
    assert [1, 2] == [len(item[2].bids) for item in held[1:]]
    assert (1, 6) == (rig.counters["conflation_episodes"], rig.counters["conflated"])


async def test_a_strategy_that_stays_too_slow_is_told_of_once_a_minute(rig: Rig, warnings_seen: list[str]) -> None:
    stream = rig.stream("ticker")
    for second in (0, 1, 59, 60, 61):
        rig.now_ns = second * 1_000_000_000
        rig.fill()
        stream.on_frame("update", bid(f"{20 + second}.00"))
        rig.drain()
        await next_item(rig.channel)
    assert (5, 2) == (
        rig.counters["conflation_episodes"],
        sum("wait for the strategy" in text for text in warnings_seen),
    )


async def test_nothing_overtakes_what_waits(rig: Rig) -> None:
    stream = rig.stream("ticker")
    rig.fill()
    stream.on_frame("update", bid("51.00"))
    rig.drain()
    stream.on_frame("update", bid("52.00"))  # room again, but an older one waits still
    assert 52.0 == (await next_item(rig.channel))[2].bid
    stream.on_frame("update", bid("53.00"))
    assert 53.0 == rig.drain()[0][2].bid


async def test_what_waits_of_a_closed_stream_is_dropped(rig: Rig) -> None:
    closed, open_ = rig.stream("ticker"), rig.stream("order_book", TOP)
    rig.fill()
    closed.on_frame("update", bid("51.00"))
    open_.on_frame("subscribed", book_frame([("60.00", "1.0")], [("70.00", "1.0")], 1, 0))
    closed.close()
    closed.forget()
    rig.drain()
    assert 60.0 == (await next_item(rig.channel))[2].top_bid
    assert [] == rig.drain()


Lose = Callable[[Stream], None]


def lose_by_gap(stream: Stream) -> None:
    stream.on_frame("update", book_frame([("63.00", "1.0")], [], 20, 15))


def lose_by_unreadable_frame(stream: Stream) -> None:
    with pytest.raises(WireError):
        stream.on_frame("update", b'{"order_book":7,"ticker":7}')


def lose_connection(stream: Stream) -> None:
    stream.on_lost()


@pytest.mark.parametrize("lose", [lose_by_gap, lose_by_unreadable_frame, lose_connection])
async def test_a_book_that_waits_is_not_shown_once_its_thread_is_lost(rig: Rig, lose: Lose) -> None:
    stream, other = rig.stream("order_book", TOP, QUOTES), rig.stream("ticker")
    rig.fill()
    stream.on_frame("subscribed", book_frame([("61.00", "1.0")], [("70.00", "1.0")], 1, 0))
    other.on_frame("update", bid("51.00"))
    lose(stream)
    rig.drain()
    assert 51.0 == (await next_item(rig.channel))[2].bid, "nothing of others is dropped"
    assert [] == rig.drain()
    stream.on_frame("subscribed", book_frame([("61.00", "1.0")], [("70.00", "1.0")], 1, 0))
    assert ["orderbook", "quote"] == [str(item[1]) for item in rig.drain()], "the same again is news: it never arrived"


@pytest.mark.parametrize("lose", [lose_by_unreadable_frame, lose_connection])
async def test_a_quote_that_waits_is_not_shown_once_its_thread_is_lost(rig: Rig, lose: Lose) -> None:
    stream, other = rig.stream("ticker"), rig.stream("order_book", TOP)
    rig.fill()
    stream.on_frame("subscribed", bid("51.00"))
    other.on_frame("subscribed", book_frame([("60.00", "1.0")], [("70.00", "1.0")], 1, 0))
    lose(stream)
    rig.drain()
    assert 60.0 == (await next_item(rig.channel))[2].top_bid
    assert [] == rig.drain()
    stream.on_frame("subscribed", bid("51.00"))
    assert [51.0] == [item[2].bid for item in rig.drain()], "the same again is news: it never arrived"


async def test_what_was_delivered_before_a_lost_connection_is_no_news_after_it(rig: Rig) -> None:
    stream = rig.stream("ticker")
    stream.on_frame("subscribed", bid("51.00"))
    stream.on_lost()
    stream.on_frame("subscribed", bid("51.00"))
    assert [51.0] == [item[2].bid for item in rig.drain()]


async def test_a_closed_stream_publishes_nothing(rig: Rig) -> None:
    stream = rig.stream("ticker")
    stream.on_frame("subscribed", bid("90.00"))
    rig.drain()
    stream.close()
    stream.on_frame("update", bid("91.00"))
    stream.publish_current([QUOTES])
    assert [] == rig.drain()


async def test_a_gap_asks_for_one_snapshot_until_it_comes(rig: Rig) -> None:
    stream = rig.stream("order_book", TOP)
    stream.on_frame("subscribed", book_frame([("60.00", "1.0")], [("70.00", "1.0")], 1, 0))
    for nonce in (5, 6, 7):
        stream.on_frame("update", book_frame([("60.00", "2.0")], [], nonce, nonce - 1))
    assert ["order_book/0"] == rig.socket.asked
    assert 1 == len(rig.drain())
    stream.on_frame("subscribed", book_frame([("61.00", "1.0")], [("70.00", "1.0")], 9, 0))
    stream.on_frame("update", book_frame([("62.00", "2.0")], [], 10, 9))
    assert [61.0, 62.0] == [item[2].top_bid for item in rig.drain()]


CROSSED = book_frame([("70.00", "1.0")], [("70.00", "1.0")], 1, 0)


async def test_a_market_that_keeps_breaking_is_asked_at_once_four_times_then_ever_later(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = rig.stream("order_book", TOP)
    pauses: list[float] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_later", lambda delay, *_: pauses.append(delay))
    for _ in range(2_000):
        stream.on_frame("subscribed", CROSSED)
    assert ["order_book/0"] * 4 == rig.socket.asked
    assert [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] == pauses[:7]
    assert {30.0} == set(pauses[7:])
    assert 2_000 == rig.counters["snapshots_asked"] == rig.counters["crossed_books"]


async def test_a_book_that_held_for_long_earns_its_questions_at_once_back(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = rig.stream("order_book", TOP)
    pauses: list[float] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda delay, *_: pauses.append(delay))
    for held_s in (0, 0, 0, 0, 5, 0, 20, 0, 0, 0):
        stream.on_frame("subscribed", book_frame([("60.00", "1.0")], [("70.00", "1.0")], 1, 0))
        rig.now_ns += held_s * 1_000_000_000
        stream.on_frame("update", book_frame([], [], 9, 8))
    assert ["order_book/0"] * 8 == rig.socket.asked
    assert [1.0, 1.0] == pauses


async def test_a_late_question_is_not_asked_when_a_new_connection_answered_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = rig.stream("order_book", TOP)
    later: list[Any] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda _, function, *__: later.append(function))
    for _ in range(5):
        stream.on_frame("subscribed", CROSSED)
    stream.on_lost()
    later[0]()
    assert ["order_book/0"] * 4 == rig.socket.asked


@pytest.mark.parametrize(("kind", "asked"), [("order_book", ["order_book/0"]), ("trade", [])])
async def test_a_frame_that_cannot_be_read_breaks_a_book_but_no_trades(rig: Rig, kind: str, asked: list[str]) -> None:
    stream = rig.stream(kind, TOP)
    with pytest.raises(WireError):
        stream.on_frame("update", b'{"order_book":7,"trades":7}')
    assert asked == rig.socket.asked


async def test_a_new_connection_begins_anew(rig: Rig) -> None:
    stream = rig.stream("order_book", TOP)
    stream.on_frame("subscribed", book_frame([("60.00", "1.0")], [("70.00", "1.0")], 1, 0))
    rig.drain()
    stream.on_lost()
    stream.on_frame("update", book_frame([("61.00", "1.0")], [], 2, 1))
    assert [] == rig.drain()
    assert stream.handler.quote is None


# --- what was missed ---------------------------------------------------------------------------------------------------

FIRST = Missing("trades", 7)
SECOND = Missing("trades", 9)


class Forgetful(MarketHandler):
    """Misses something at each frame, and shows the rows that it is given."""

    rebuilds = False

    def snapshot(self, raw: bytes) -> list[Output]:
        return self.update(raw)

    def update(self, raw: bytes) -> list[Output]:
        self.missing = FIRST
        return []

    def reset(self) -> None:
        self.missing = SECOND

    def recover(self, rows: Any) -> list[Output]:
        self.missing = None
        return [(TRADES, row) for row in rows or ()]


class Row:
    """Something with a time."""

    time = 0


@pytest.fixture
def forgetful(rig: Rig) -> Stream:
    return rig.open("trade", Forgetful(rig.instrument, Scale(2, 4), rig.counters))


async def test_what_a_handler_misses_is_fetched_once_and_published(rig: Rig, forgetful: Stream) -> None:
    row = Row()
    rig.answers = [[row]]
    forgetful.on_frame("update", b"1")
    forgetful.on_frame("update", b"2")
    assert row is (await next_item(rig.channel))[2]
    assert [(0, FIRST)] == rig.fetched
    assert (1, 0) == (rig.counters["recoveries"], rig.counters["recoveries_given_up"])


async def test_a_fetch_that_fails_is_tried_again_then_given_up(
    rig: Rig, forgetful: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_RECOVERY_PAUSE_S", 0.0)
    row = Row()
    rig.answers = [TransportError("no route"), [row], *[TransportError("no route")] * 4]
    forgetful.on_frame("update", b"1")
    assert row is (await next_item(rig.channel))[2]
    forgetful.on_frame("update", b"2")
    while forgetful.handler.missing is not None:
        await asyncio.sleep(0)
    assert [] == rig.drain()
    assert (1, 1) == (rig.counters["recoveries"], rig.counters["recoveries_given_up"])
    assert 6 == len(rig.fetched)


def missing_some(rig: Rig) -> Stream:
    """Open a stream that knows the trade 9, then 30."""
    stream = rig.stream("trade")
    stream.on_frame("subscribed", trade_frame(row(9)))
    stream.on_lost()
    stream.on_frame("subscribed", trade_frame(row(30)))
    return stream


def history(*trade_ids: int) -> list[wire.TradeRow]:
    return [wire.decode(wire.TradeRow, json.dumps(row(trade_id))) for trade_id in trade_ids]


async def test_history_that_is_not_as_far_as_the_socket_is_asked_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_RECOVERY_PAUSE_S", 0.0)
    rig.answers = [history(), history(10), history(10, 20, 30)]
    missing_some(rig)
    assert [10, 20, 30] == [(await next_item(rig.channel))[2].trade_id for _ in range(3)]
    assert (3, 0) == (rig.counters["recoveries"], rig.counters["recoveries_given_up"])


async def test_history_that_stays_behind_has_to_do(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_RECOVERY_PAUSE_S", 0.0)
    rig.answers = [history(10)] * 4
    missing_some(rig)
    assert [10, 30] == [(await next_item(rig.channel))[2].trade_id for _ in range(2)]
    assert (4, 1) == (rig.counters["recoveries"], rig.counters["recoveries_given_up"])


async def test_an_answer_to_a_question_that_changed_meanwhile_is_not_used(rig: Rig, forgetful: Stream) -> None:
    stale, fresh = Row(), Row()
    asked = asyncio.Event()
    go_on = asyncio.Event()

    async def slow(market_id: int, missing: Missing) -> Any:
        asked.set()
        await go_on.wait()
        return [stale if missing is FIRST else fresh]

    rig.recovery._fetch = slow
    forgetful.on_frame("update", b"1")
    await asked.wait()
    forgetful.on_lost()
    go_on.set()
    assert fresh is (await next_item(rig.channel))[2]
    assert [] == rig.drain()


async def test_a_closed_stream_fetches_no_more(rig: Rig, forgetful: Stream) -> None:
    asked = asyncio.Event()

    async def never(market_id: int, missing: Missing) -> Any:
        asked.set()
        await asyncio.Event().wait()

    rig.recovery._fetch = never
    forgetful.on_frame("update", b"1")
    await asked.wait()
    (task,) = rig.recovery._running.values()
    forgetful.close()
    forgetful.forget()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert {} == rig.recovery._running


async def test_the_lag_of_live_data_is_measured_in_samples(rig: Rig) -> None:
    stream = rig.stream("trade")
    rig.now_ns = 1_760_041_996_900_000_000
    for number in range(1, 33):
        stream.on_frame("update", trade_frame(row(number)))
    p50, p99 = rig.delivery.lag.percentiles_ms()
    times = [item[2].time for item in rig.drain()]
    assert 32 == len(times)
    expected = sorted((rig.now_ns - time) / 1e6 for time in times[7::8])
    assert (expected[2], expected[3]) == (p50, p99)
