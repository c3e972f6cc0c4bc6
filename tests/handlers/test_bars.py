"""Bars of several timeframes leave in the one order that Qubx's cache adds up rightly."""

from __future__ import annotations

from collections import Counter

import pytest
from qubx.core.basics import Instrument
from qubx.core.mixins.market import CachedMarketDataHolder
from qubx.core.series import Bar

from qubx_lighter.handlers import (
    BarOrder,
    CandleHandler,
    MarketContext,
    MarketHandler,
    OhlcView,
    Output,
    make_handler,
    parse,
)
from qubx_lighter.handlers.bars import TradeBars
from qubx_lighter.protocol import wire
from qubx_lighter.protocol.units import Scale
from tests.handlers.trading import BATCH_MS, NS_A_MS, Figures, Market, figures_of
from tests.markets import loaded_instruments

HOUR_MS = 3_600_000
START_MS = 1_760_040_000_000  # on the hour
STOP_MS = START_MS + HOUR_MS + 734_500
MINUTE_NS = 60_000_000_000
LENGTHS_MS = {"15s": 15_000, "1m": 60_000, "5m": 300_000, "10m": 600_000, "1h": HOUR_MS}
ONE = OhlcView("ohlc(1m)", MINUTE_NS)
FIVE = OhlcView("ohlc(5m)", 5 * MINUTE_NS)


@pytest.fixture
async def instrument() -> Instrument:
    return (await loaded_instruments()).instrument(0)


class Rig:
    """The handlers of one market's bars, and Qubx's cache behind them."""

    def __init__(self, instrument: Instrument, *timeframes: str, shared: bool = True) -> None:
        self.instrument = instrument
        self.cache = CachedMarketDataHolder(timeframes[0])
        self.cache.init_ohlcv(instrument)
        self.counters: Counter[str] = Counter()
        self.handlers: dict[tuple[str, str], MarketHandler] = {}
        self.published: list[tuple[str, Bar]] = []
        context = MarketContext(instrument, 0, Scale(2, 4), self.counters)
        for timeframe in timeframes:
            self.cache.get_ohlcv(instrument, timeframe)
            wish = parse(f"ohlc({timeframe})")
            key = (wish.kind, wish.resolution)
            if not shared:
                context = MarketContext(instrument, 0, Scale(2, 4), self.counters)
            if key not in self.handlers:
                self.handlers[key] = make_handler(wish.kind, wish.resolution, context)
            self.handlers[key].views = (*self.handlers[key].views, wish.view)

    def publish(self, outputs: list[Output]) -> None:
        for view, bar in outputs:
            self.published.append((view.data_type, bar))
            self.cache.update(self.instrument, view.data_type, bar, update_ohlc=True)

    def series(self, timeframe: str) -> dict[int, Figures]:
        series = self.cache.get_ohlcv(self.instrument, timeframe)
        bars: list[Bar] = [series[place] for place in range(len(series))]
        return {bar.time // NS_A_MS: figures_of(bar) for bar in reversed(bars)}

    def subscribe(self, market: Market, now_ms: int) -> None:
        for (kind, resolution), handler in market.random.sample(list(self.handlers.items()), len(self.handlers)):
            if kind == "trade":
                self.publish(handler.snapshot(market.trade_frame(market.between(0, now_ms)[-50:], "subscribed")))
            else:
                self.publish(handler.snapshot(market.snapshot(resolution, now_ms)))

    def reconnect(self, market: Market, now_ms: int) -> None:
        """Begin anew after a disconnection, and answer what is missing."""
        for handler in self.handlers.values():
            handler.reset()
        self.subscribe(market, now_ms)
        for (_, resolution), handler in self.handlers.items():
            missing = handler.missing
            if missing is not None and missing.kind == "trades":
                raw = market.trade_frame(market.between(0, now_ms))
                rows = wire.decode(wire.TradeFrame, raw).trades or []
                self.publish(handler.recover([row for row in rows if row.trade_id > missing.after]))
            elif missing is not None:
                self.publish(handler.recover(market.history(resolution, missing.after, now_ms)))

    def run(self, market: Market, start_ms: int, stop_ms: int) -> None:
        """Play a span of the market; each channel is up to some batches behind the others."""
        frames: list[tuple[int, MarketHandler, bytes]] = []
        for (kind, resolution), handler in self.handlers.items():
            late_ms, sent_ms = 0, start_ms
            for now_ms in range(start_ms + BATCH_MS, stop_ms + 1, BATCH_MS):
                if kind == "trade":
                    prints = market.between(sent_ms, now_ms)
                    batch = [market.trade_frame(prints)] if prints else []
                elif market.random.random() < 0.2:
                    continue  # more trades in the next batch
                else:
                    batch = market.batch(resolution, start_ms, sent_ms, now_ms)
                sent_ms = now_ms
                late_ms = max(late_ms, now_ms + market.random.randrange(3) * BATCH_MS)
                frames += [(late_ms, handler, raw) for raw in batch]
            final = [] if kind == "trade" else market.batch(resolution, start_ms, sent_ms, stop_ms)
            frames += [(max(late_ms, stop_ms), handler, raw) for raw in final]
        for _, handler, raw in sorted(frames, key=lambda item: item[0]):
            self.publish(handler.update(raw))


def assert_same(expected: dict[int, Figures], actual: dict[int, Figures]) -> None:
    assert list(expected) == list(actual)
    for opened, figures in expected.items():
        assert pytest.approx(figures, rel=1e-9) == actual[opened], opened


def market_of(seed: int) -> Market:
    print(f"seed {seed}")
    return Market(seed, START_MS - HOUR_MS, STOP_MS, at_ms=START_MS)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "timeframes", [("1m",), ("1m", "5m"), ("1m", "5m", "1h"), ("1m", "10m", "1h"), ("15s", "1m", "5m"), ("5m", "1h")]
)
def test_qubxs_series_of_every_timeframe_are_what_was_traded(
    instrument: Instrument, timeframes: tuple[str, ...], seed: int
) -> None:
    market, rig = market_of(seed), Rig(instrument, *timeframes)
    rig.subscribe(market, START_MS + 1)
    rig.run(market, START_MS + 1, STOP_MS)
    assert 0 == rig.counters["stale_candles"]
    for timeframe in timeframes:
        assert_same(market.windows(LENGTHS_MS[timeframe], START_MS, STOP_MS), rig.series(timeframe))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("timeframes", [("1m", "5m", "1h"), ("15s", "1m", "10m")])
def test_a_disconnection_leaves_no_trace_in_qubxs_series(
    instrument: Instrument, timeframes: tuple[str, ...], seed: int
) -> None:
    market, rig = market_of(seed), Rig(instrument, *timeframes)
    lost_ms = START_MS + market.random.randrange(HOUR_MS)
    back_ms = lost_ms + market.random.randrange(600_000)
    rig.subscribe(market, START_MS + 1)
    rig.run(market, START_MS + 1, lost_ms)
    rig.reconnect(market, back_ms)
    rig.run(market, back_ms, STOP_MS)
    for timeframe in timeframes:
        assert_same(market.windows(LENGTHS_MS[timeframe], START_MS, STOP_MS), rig.series(timeframe))


def test_without_the_order_qubxs_series_are_wrong(instrument: Instrument) -> None:
    market, rig = market_of(1), Rig(instrument, "1m", "5m", shared=False)
    rig.subscribe(market, START_MS + 1)
    rig.run(market, START_MS + 1, STOP_MS)
    traded = sum(bar[4] for bar in market.windows(60_000, START_MS, STOP_MS).values())
    assert pytest.approx(traded) != sum(bar[4] for bar in rig.series("1m").values())


@pytest.mark.parametrize("seed", range(2))
def test_every_view_gets_all_of_its_own_bars(instrument: Instrument, seed: int) -> None:
    market, rig = market_of(seed), Rig(instrument, "1m", "5m", "1h")
    rig.subscribe(market, START_MS + 1)
    rig.run(market, START_MS + 1, STOP_MS)
    last = max(market.windows(60_000, START_MS, STOP_MS))  # a bar that begins with it may wait for the next
    for timeframe in ("1m", "5m", "1h"):
        bars = [bar for data_type, bar in rig.published if data_type == f"ohlc({timeframe})"]
        assert [bar.time for bar in bars] == sorted(bar.time for bar in bars)
        newest = {bar.time // NS_A_MS: figures_of(bar) for bar in bars}
        expected = market.windows(LENGTHS_MS[timeframe], START_MS, STOP_MS)
        assert_same(*({opened: bar for opened, bar in found.items() if opened < last} for found in (expected, newest)))


# --- the order, step by step ------------------------------------------------------------------------------------------


def bar(minute: int, close: float = 1.0, volume: float = 1.0, bought: float = 0.0) -> Bar:
    return Bar(minute * MINUTE_NS, 1.0, 2.0, 0.5, close, volume, bought_volume=bought)


@pytest.fixture
def handlers(instrument: Instrument) -> tuple[CandleHandler, CandleHandler]:
    order = BarOrder()
    one, five = (
        CandleHandler(instrument, Scale(2, 4), Counter(), order, resolution=resolution) for resolution in ("1m", "5m")
    )
    one.views, five.views = (ONE,), (FIVE,)
    return one, five


def times(outputs: list[Output]) -> list[tuple[str, int]]:
    return [(view.data_type, data.time // MINUTE_NS) for view, data in outputs]


def test_a_coarse_bar_waits_for_the_second_fine_one(handlers: tuple[CandleHandler, CandleHandler]) -> None:
    order = handlers[0]._order
    assert [] == order.pass_on([(FIVE, bar(5, volume=3.0))])
    assert [] == order.pass_on([(FIVE, bar(5, volume=4.0))])
    assert [("ohlc(1m)", 5)] == times(order.pass_on([(ONE, bar(5))]))
    released = order.pass_on([(ONE, bar(6))])
    assert [("ohlc(1m)", 6), ("ohlc(5m)", 5)] == times(released)
    assert 4.0 == released[1][1].volume, "the newest state, once"
    assert [("ohlc(5m)", 5)] == times(order.pass_on([(FIVE, bar(5, volume=5.0))]))


def test_a_coarse_bar_that_says_the_same_does_not_wait(handlers: tuple[CandleHandler, CandleHandler]) -> None:
    order = handlers[0]._order
    order.pass_on([(ONE, bar(5, volume=0.1 + 0.2))])
    assert [("ohlc(5m)", 5)] == times(order.pass_on([(FIVE, bar(5, volume=0.3))]))
    assert [] == order.pass_on([(FIVE, bar(5, volume=0.3, close=1.5))])
    assert [] == order.pass_on([(FIVE, bar(5, volume=0.3, bought=0.1))])


def test_a_closed_coarse_bar_goes_before_the_next_that_waits(handlers: tuple[CandleHandler, CandleHandler]) -> None:
    order = handlers[0]._order
    order.pass_on([(ONE, bar(9))])
    released = order.pass_on([(FIVE, bar(5, volume=7.0)), (FIVE, bar(10, volume=1.0))])
    assert [("ohlc(5m)", 5)] == times(released)
    assert [("ohlc(1m)", 11), ("ohlc(5m)", 10)] == times(order.pass_on([(ONE, bar(11))]))


def test_when_the_finest_view_closes_the_next_takes_its_place(handlers: tuple[CandleHandler, CandleHandler]) -> None:
    one, _ = handlers
    order = one._order
    order.pass_on([(ONE, bar(5))])
    assert [] == order.pass_on([(FIVE, bar(10))])
    one.views = ()
    assert [("ohlc(5m)", 10), ("ohlc(5m)", 10)] == times(order.pass_on([(FIVE, bar(10, volume=2.0))]))[-2:]


def test_what_waits_for_a_view_that_left_is_dropped(handlers: tuple[CandleHandler, CandleHandler]) -> None:
    _, five = handlers
    order = five._order
    order.pass_on([(FIVE, bar(5))])
    five.views = ()
    assert [("ohlc(1m)", 6)] == times(order.pass_on([(ONE, bar(6))]))


# --- bars of trades ---------------------------------------------------------------------------------------------------


def test_bars_of_trades_have_both_volumes_and_the_count() -> None:
    bars = TradeBars(OhlcView("ohlc(1s)", 1_000_000_000), 0)
    bars.add(5_000_000_000, 10.0, 2.0, 1)
    bars.add(5_999_999_999, 12.0, 1.0, -1)
    ((_, forming),) = bars.outputs()
    assert (5_000_000_000, 10.0, 12.0, 10.0, 12.0) == (
        forming.time, forming.open, forming.high, forming.low, forming.close,
    )  # fmt: skip
    assert (3.0, 2.0, 32.0, 20.0, 2) == (
        forming.volume, forming.bought_volume, forming.volume_quote, forming.bought_volume_quote, forming.trade_count,
    )  # fmt: skip
    assert [] == bars.outputs(), "nothing has changed"


def test_a_bar_that_closes_among_the_trades_of_a_frame_comes_in_its_last_state() -> None:
    bars = TradeBars(OhlcView("ohlc(1s)", 1_000_000_000), 0)
    bars.add(1_000_000_000, 10.0, 1.0, 1)
    bars.outputs()
    for second in (1, 2, 2, 4):
        bars.add(second * 1_000_000_000, 11.0, 1.0, 1)
    assert [(1, 2.0), (2, 2.0), (4, 1.0)] == [(data.time // 10**9, data.volume) for _, data in bars.outputs()]


def test_a_bar_that_began_unseen_is_left_out() -> None:
    bars = TradeBars(OhlcView("ohlc(1s)", 1_000_000_000), 1_000_000_001)
    bars.add(1_500_000_000, 10.0, 1.0, 1)
    assert [] == bars.outputs()
    bars.add(2_500_000_000, 10.0, 1.0, 1)
    assert [2_000_000_000] == [data.time for _, data in bars.outputs()]
