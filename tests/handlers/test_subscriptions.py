"""Every subscription string of Qubx finds its channel and view, or is refused with what there is."""

from __future__ import annotations

from collections import Counter

import pytest
from qubx.core.basics import DataType, Instrument
from qubx.core.exceptions import NotSupported

from qubx_lighter.handlers import (
    FUNDING_PAYMENTS,
    FUNDING_RATES,
    LIQUIDATIONS,
    OPEN_INTEREST,
    QUOTES,
    SUPPORTED,
    TRADES,
    BookView,
    CandleHandler,
    LiquidationSumsView,
    MarketContext,
    OhlcView,
    OrderBookHandler,
    QuoteHandler,
    StatsHandler,
    TradesHandler,
    View,
    make_handler,
    parse,
)
from qubx_lighter.protocol.units import Scale
from tests.markets import loaded_instruments

MINUTE_NS = 60_000_000_000
WEEK_NS = 7 * 24 * 60 * MINUTE_NS


@pytest.mark.parametrize(
    ("subscription", "channel", "view"),
    [
        ("orderbook", "order_book/3", BookView(0.01, 200)),
        ("orderbook(0, 1)", "order_book/3", BookView(0.0, 1)),
        ("quote", "ticker/3", QUOTES),
        ("trade", "trade/3", TRADES),
        ("funding_rate", "market_stats/all", FUNDING_RATES),
        ("funding_rate(all)", "market_stats/all", FUNDING_RATES),
        ("funding_rate(all, 30)", "market_stats/all", FUNDING_RATES),
        ("funding_payment", "market_stats/all", FUNDING_PAYMENTS),
        ("open_interest", "market_stats/all", OPEN_INTEREST),
        ("liquidation", "trade/3", LIQUIDATIONS),
        ("aggregated_liquidations(5m)", "trade/3", LiquidationSumsView(5 * MINUTE_NS)),
    ],
)
def test_a_subscription_is_a_view_of_a_channel(subscription: str, channel: str, view: View) -> None:
    wish = parse(subscription)
    assert (channel, view) == (wish.channel(3), wish.view)
    assert DataType.from_str(subscription)[0].value == view.data_type


@pytest.mark.parametrize(
    ("timeframe", "channel"),
    [
        *((name, f"candle/3/{name}") for name in ("1m", "5m", "15m", "30m", "1h", "4h", "12h", "1d")),
        ("1Min", "candle/3/1m"),
        ("60s", "candle/3/1m"),
        ("2m", "candle/3/1m"),
        ("3m", "candle/3/1m"),
        ("10m", "candle/3/5m"),
        ("45m", "candle/3/15m"),
        ("90m", "candle/3/30m"),
        ("2h", "candle/3/1h"),
        ("8h", "candle/3/4h"),
        ("36h", "candle/3/12h"),
        ("3d", "candle/3/1d"),
        ("1w", "candle/3/1d"),
        ("1s", "trade/3"),
        ("5s", "trade/3"),
        ("30s", "trade/3"),
        ("90s", "trade/3"),
        ("100ms", "trade/3"),
    ],
)
def test_bars_come_from_the_coarsest_candles_that_add_up_to_them_else_from_trades(timeframe: str, channel: str) -> None:
    assert channel == parse(f"ohlc({timeframe})").channel(3)


def test_bars_go_under_their_subscription_as_it_was_spelled() -> None:
    assert OhlcView("ohlc(1w)", WEEK_NS) == parse("ohlc(1w)").view
    assert "ohlc(1Min)" == parse("ohlc(1Min)").view.data_type
    assert DataType.OHLC["1h"] == parse(DataType.OHLC["1h"]).view.data_type


@pytest.mark.parametrize(
    "subscription",
    [
        "ohlc",
        "ohlc()",
        "ohlc(1M)",
        "ohlc(1y)",
        "ohlc(0m)",
        "ohlc(-1m)",
        "ohlc(1us)",
        "ohlc(abc)",
        "ohlc(99999999999d)",
        "ohlc_quotes(1m)",
        "ohlc_trades(1m)",
        "orderbook(100ms)",
        "orderbook(x, 1)",
        "orderbook(1)",
        "orderbook(0, 0)",
        "orderbook(100, 10)",
        "orderbook(0, 100000)",
        "quote(1s)",
        "trade(1s)",
        "funding_rate(some)",
        "aggregated_liquidations",
        "record",
        "fundamental(pe)",
        "__all__",
        "gibberish",
        "",
    ],
)
@pytest.mark.filterwarnings("ignore:'y' is deprecated:FutureWarning")
def test_anything_else_is_refused(subscription: str) -> None:
    with pytest.raises(NotSupported) as refusal:
        parse(subscription)
    assert SUPPORTED in str(refusal.value) or "tick_size_pct is" in str(refusal.value)


@pytest.fixture
async def swap() -> Instrument:
    return (await loaded_instruments()).instrument(0)


def test_spot_has_no_funding_open_interest_and_liquidations(swap: Instrument, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["orderbook", "quote", "trade", "ohlc(1m)", "ohlc(1s)"]
    derivative = ["funding_rate", "funding_payment", "open_interest", "liquidation", "aggregated_liquidations(1m)"]
    assert all(parse(name).applies_to(swap) for name in names + derivative)
    monkeypatch.setattr(Instrument, "is_spot", lambda _: True)
    assert names == [name for name in names + derivative if parse(name).applies_to(swap)]


@pytest.mark.parametrize(
    ("subscription", "reader"),
    [
        ("orderbook", OrderBookHandler),
        ("quote", QuoteHandler),
        ("trade", TradesHandler),
        ("ohlc(10s)", TradesHandler),
        ("ohlc(10m)", CandleHandler),
        ("open_interest", StatsHandler),
    ],
)
def test_every_channel_has_its_reader(swap: Instrument, subscription: str, reader: type) -> None:
    wish = parse(subscription)
    handler = make_handler(wish.kind, wish.resolution, MarketContext(swap, 0, Scale(2, 4), Counter()))
    assert reader is type(handler)


def test_nobody_reads_an_unknown_channel(swap: Instrument) -> None:
    with pytest.raises(KeyError):
        make_handler("height", "", MarketContext(swap, 0, Scale(2, 4), Counter()))
