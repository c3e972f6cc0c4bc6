"""Spot markets end to end: one coin as a perpetual and as a spot market, which stay apart everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from qubx.core.basics import Instrument, MarketType, OrderStatus
from qubx.core.events import DealEvent, OrderRejectedEvent
from qubx.core.exceptions import NotSupported
from qubx.core.series import OrderBook, Quote, Trade

from qubx_lighter.cli import main
from qubx_lighter.sim.app import open_venue
from qubx_lighter.sim.model.commands import DepositAsset
from qubx_lighter.storage import LighterStorage
from tests.live import ETH, MAKER, US, Desk, LiveVenue, desk_on

SPOT = 2048
COIN, USDC = 1, 3
PERP_NAME, SPOT_NAME = "ETH-USDC", "SPOT:ETH-USDC"


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[LiveVenue]:
    """Run a venue with ETH both ways; we have 2 ETH and 9,000 USDC beside the collateral."""
    made = LiveVenue(tmp_path, markets=["ETH", "ETH/USDC"])
    for account, coins, money in ((US, 2 * 10**8, 9_000 * 10**6), (MAKER, 10**12, 10**13)):
        assert made.execute(DepositAsset(account, COIN, coins)).ok
        assert made.execute(DepositAsset(account, USDC, money)).ok
    made.quote(ETH, 299_900, 300_100)
    made.quote(SPOT, 304_900, 305_100)
    yield made
    made.close()


@pytest.fixture
def desk(venue: LiveVenue) -> Iterator[Desk]:
    with desk_on(venue) as desk:
        for name in (PERP_NAME, SPOT_NAME):
            desk.provider.subscribe("quote", {desk.instrument(name)})
        desk.until(lambda: all(desk.provider.get_quote(desk.instrument(n)) for n in (PERP_NAME, SPOT_NAME)))
        yield desk


def held(venue: LiveVenue) -> dict[int, tuple[int, int]]:
    """Give what we have at the venue: units, and how many are locked."""
    return venue.ask(lambda: {k: (row.balance, row.locked) for k, row in venue.engine.account(US).assets.items()})


def balances(desk: Desk) -> dict[str, float]:
    """Give Qubx's totals; that of USDC is the collateral and the spot balance."""
    return {name: round(desk.account.get_balance(name, "LIGHTER").total, 8) for name in ("ETH", "USDC")}


def came(desk: Desk, instrument: Instrument, kind: type) -> list[Any]:
    return [message[2] for message in desk.data if message[0] == instrument and isinstance(message[2], kind)]


def test_the_two_markets_of_a_coin_are_two_instruments(desk: Desk) -> None:
    perpetual, spot = desk.instrument(PERP_NAME), desk.instrument(SPOT_NAME)
    assert ("LIGHTER:SWAP:ETH-USDC", "LIGHTER:SPOT:ETH-USDC") == (str(perpetual), str(spot))
    assert (0, SPOT) == (perpetual.venue_attributes["market_id"], spot.venue_attributes["market_id"])
    assert perpetual != spot
    assert (MarketType.SWAP, MarketType.SPOT) == (perpetual.market_type, spot.market_type)
    assert ("ETH", "USDC", 0.01, 0.0001) == (spot.base, spot.quote, spot.tick_size, spot.lot_size)


def test_quotes_books_trades_and_bars_of_the_two_stay_apart(desk: Desk) -> None:
    perpetual, spot = desk.instrument(PERP_NAME), desk.instrument(SPOT_NAME)
    for kind in ("orderbook(0, 10)", "trade", "ohlc(1m)"):
        desk.provider.subscribe(kind, {perpetual, spot})
    desk.until(lambda: came(desk, perpetual, OrderBook) and came(desk, spot, OrderBook))
    desk.until_status(desk.submit(PERP_NAME, 0.1), OrderStatus.FILLED)
    desk.until_status(desk.submit(SPOT_NAME, 0.2), OrderStatus.FILLED)
    desk.until(lambda: came(desk, perpetual, Trade) and came(desk, spot, Trade))
    for instrument, bid, ask, size in ((perpetual, 2999.0, 3001.0, 0.1), (spot, 3049.0, 3051.0, 0.2)):
        assert {(bid, ask)} == {(quote.bid, quote.ask) for quote in came(desk, instrument, Quote)}
        assert {(bid, ask)} == {(book.top_bid, book.top_ask) for book in came(desk, instrument, OrderBook)}
        assert [(ask, size)] == [(trade.price, trade.size) for trade in came(desk, instrument, Trade)]
        (bar,) = desk.provider.get_ohlc(instrument, "1m", 1)[-1:]
        assert (ask, size) == (bar.close, bar.volume)
    with pytest.raises(NotSupported):
        desk.connector.cancel_all_orders(spot)  # type: ignore[attr-defined]


def test_a_market_order_buys_and_the_fee_comes_out_of_the_coin(venue: LiveVenue, desk: Desk) -> None:
    order = desk.submit(SPOT_NAME, 1.0)
    desk.until_status(order, OrderStatus.FILLED)
    desk.until(lambda: desk.of_type(DealEvent))
    (event,) = desk.of_type(DealEvent)
    assert desk.instrument(SPOT_NAME) == event.instrument
    assert (1.0, 3051.0, 0.0002, "ETH") == (
        event.deal.amount,
        event.deal.price,
        event.deal.fee_amount,
        event.deal.fee_currency,
    )
    assert {COIN: (3 * 10**8 - 20_000, 0), USDC: ((9_000 - 3_051) * 10**6, 0)} == held(venue)
    assert {} == venue.truth()["positions"], "no perpetual was touched"
    desk.until(lambda: balances(desk) == {"ETH": 3 - 0.0002, "USDC": 10_000 + 9_000 - 3_051})


def test_a_sale_is_paid_for_in_money_and_the_fee_comes_out_of_it(venue: LiveVenue, desk: Desk) -> None:
    desk.until_status(desk.submit(SPOT_NAME, -1.0), OrderStatus.FILLED)
    desk.until(lambda: desk.of_type(DealEvent))
    deal = desk.of_type(DealEvent)[-1].deal
    assert (-1.0, 3049.0, 0.6098, "USDC") == (deal.amount, deal.price, deal.fee_amount, deal.fee_currency)
    assert {COIN: (10**8, 0), USDC: (12_049 * 10**6 - 609_800, 0)} == held(venue)


def test_a_limit_order_rests_locks_is_amended_and_is_cancelled(venue: LiveVenue, desk: Desk) -> None:
    order = desk.submit(SPOT_NAME, 1.0, 3000.0)
    desk.until_status(order, OrderStatus.ACCEPTED)
    assert (9_000 * 10**6, 3_000 * 10**6) == held(venue)[USDC]
    desk.amend(order, price=2900.0, quantity=2.0)
    desk.until(lambda: held(venue)[USDC][1] == 5_800 * 10**6 and desk.order(order).price == 2900.0)
    assert (2.0, OrderStatus.ACCEPTED) == (desk.order(order).quantity, desk.order(order).status)
    desk.cancel(order)
    desk.until_status(order, OrderStatus.CANCELED)
    assert {COIN: (2 * 10**8, 0), USDC: (9_000 * 10**6, 0)} == held(venue)


def test_a_resting_order_is_filled_in_parts(venue: LiveVenue, desk: Desk) -> None:
    order = desk.submit(SPOT_NAME, 1.0, 3050.0)
    desk.until_status(order, OrderStatus.ACCEPTED)
    venue.take(SPOT, 305_000, 4_000, is_ask=True)
    desk.until_status(order, OrderStatus.PARTIALLY_FILLED)
    venue.take(SPOT, 305_000, 6_000, is_ask=True)
    desk.until_status(order, OrderStatus.FILLED)
    desk.until(lambda: len(desk.of_type(DealEvent)) == 2)
    assert [(0.4, False), (0.6, False)] == [(e.deal.amount, e.deal.aggressive) for e in desk.of_type(DealEvent)]


def test_what_the_balance_does_not_pay_for_is_refused(venue: LiveVenue, desk: Desk) -> None:
    too_much = desk.submit(SPOT_NAME, 4.0, 3000.0)
    desk.until(lambda: any(e.client_order_id == too_much.client_order_id for e in desk.of_type(OrderRejectedEvent)))
    assert "21739" == desk.of_type(OrderRejectedEvent)[-1].code
    short = desk.submit(SPOT_NAME, -3.0)
    desk.until(lambda: any(e.client_order_id == short.client_order_id for e in desk.of_type(OrderRejectedEvent)))
    assert "canceled-invalid-balance" == desk.of_type(OrderRejectedEvent)[-1].code
    assert {COIN: (2 * 10**8, 0), USDC: (9_000 * 10**6, 0)} == held(venue)


def test_orders_on_both_markets_have_one_truth_after_a_lost_connection(venue: LiveVenue, desk: Desk) -> None:
    perpetual = desk.submit(PERP_NAME, 0.1, 2900.0)
    spot = desk.submit(SPOT_NAME, 0.5, 2950.0)
    for order in (perpetual, spot):
        desk.until_status(order, OrderStatus.ACCEPTED)
    venue.drop_connections()
    venue.rest(SPOT, 295_000, 5_000, is_ask=True)
    venue.take(SPOT, 295_000, 5_000, is_ask=True)
    desk.until_status(spot, OrderStatus.FILLED)
    desk.until(lambda: desk.connector.is_ws_ready() and desk.of_type(DealEvent))
    assert [desk.instrument(SPOT_NAME)] == [event.instrument for event in desk.of_type(DealEvent)]
    assert OrderStatus.ACCEPTED == desk.order(perpetual).status
    assert [ETH] == [(index >> 48) - 1 for index in venue.truth()["orders"]]


# --- history ----------------------------------------------------------------------------------------------------------


async def test_history_of_spot_is_read_and_downloaded_and_is_not_that_of_the_perpetual(tmp_path: Path) -> None:
    async with open_venue(markets=["ETH", "ETH/USDC"], history_days=2, synthetic=False) as venue:

        def read(kind: str, dtype: str) -> Any:
            storage = LighterStorage(venue.url, cache_dir=False)
            try:
                stop = str(np.datetime64(venue.engine.now // 60_000_000 * 60_000 - 600_000, "ms"))
                return storage.get_reader("LIGHTER", kind).read("ETH-USDC", dtype, None, stop)
            finally:
                storage.close()

        bars = {kind: await asyncio.to_thread(read, kind, "ohlc(1m)") for kind in ("SWAP", "SPOT")}
        for kind, market_id in (("SWAP", ETH), ("SPOT", SPOT)):
            times = bars[kind].data.column(0).to_numpy(zero_copy_only=False).astype("datetime64[ms]").astype(int)
            rows = venue.engine.history(market_id).candles(60_000, int(times[-1]), 10**6)
            closes = bars[kind].data.column(bars[kind].names.index("close")).to_pylist()
            assert 2 * 1440 - 20 <= len(rows) == len(closes)
            assert [int(row[4]) / 100 for row in rows] == closes
        trades = await asyncio.to_thread(read, "SPOT", "trade")
        assert 5_000 < len(trades)
        arguments = ["download", "ohlc", "--symbols", "SPOT:ETH-USDC", "--timeframe", "1m", "--out", str(tmp_path)]
        start, stop = (str(np.datetime64(venue.engine.now // 1000 - ago, "ms")) for ago in (36_000_000, 3_600_000))
        arguments += ["--start", start[:16], "--stop", stop[:16], "--base-url", venue.url]
        result = await asyncio.to_thread(CliRunner().invoke, main, arguments)
        assert 0 == result.exit_code, result.output
    downloaded = files_of(tmp_path)
    assert 540 == sum(len(pq.read_table(file)) for file in downloaded)
    assert all("SPOT" in str(file) for file in downloaded)


def files_of(folder: Path) -> list[Path]:
    return list(folder.rglob("*.parquet"))
