"""The ledger: fees, profit, margin figures and marks, by arithmetic of the test's own."""

from __future__ import annotations

from random import Random

import pytest

from qubx_lighter.sim.accounts import ledger
from qubx_lighter.sim.model.commands import Deposit
from qubx_lighter.sim.model.records import Position
from qubx_lighter.sim.model.specs import MarketSpec
from tests.sim.desk import ALICE, BOB, BTC, ETH, FEED, FUNDS, OTHER_FEED, Desk
from tests.sim.money import everything_micro

FINE = MarketSpec(market_id=5, symbol="FINE", price_decimals=5, size_decimals=4, min_base_lots=1, min_quote_micro=1)
COARSE = MarketSpec(market_id=6, symbol="COARSE", price_decimals=1, size_decimals=0, min_base_lots=1)


def trade(desk: Desk, side: str, lots: int, price: int, account: int = ALICE, market_id: int = 0) -> None:
    """Let an account take from the feed, at a price."""
    desk.place(FEED, "sell" if side == "buy" else "buy", lots, price, market_id=market_id)
    order = desk.order(desk.ioc(side, lots, price, account=account, MarketIndex=market_id))
    assert "filled" == order.status


def test_round_trip_books_price_difference_and_fees(desk: Desk) -> None:
    trade(desk, "buy", 1_000, 300_000)  # 0.1 at 3,000: 300; fee 200 ppm: 0.06
    row = desk.account().positions[0]
    assert (1_000, 300_000_000, FUNDS - 60_000) == (row.lots, row.entry_quote_micro, desk.account().collateral_micro)
    trade(desk, "sell", 400, 301_000)  # 0.04 at 3,010: 120.4, profit 0.4; fee 0.02408
    assert (600, 180_000_000, 400_000) == (row.lots, row.entry_quote_micro, row.realized_pnl_micro)
    assert FUNDS - 60_000 + 400_000 - 24_080 == desk.account().collateral_micro
    trade(desk, "sell", 600, 299_000)  # 0.06 at 2,990: 179.4, loss 0.6; fee 0.03588
    assert (0, 0, 0) == (row.lots, row.entry_quote_micro, row.realized_pnl_micro)  # the venue forgets it when flat
    assert FUNDS - 60_000 + 400_000 - 24_080 - 600_000 - 35_880 == desk.account().collateral_micro
    assert 60_000 + 24_080 + 35_880 == desk.engine.fees_micro


def test_short_position_gains_when_the_price_falls(desk: Desk) -> None:
    trade(desk, "sell", 1_000, 300_000)
    trade(desk, "buy", 1_000, 290_000)
    assert FUNDS + 10_000_000 - 60_000 - 58_000 == desk.account().collateral_micro


def test_position_turns_around_at_the_new_price(desk: Desk) -> None:
    trade(desk, "buy", 100, 300_000)
    trade(desk, "sell", 300, 310_000)
    row = desk.account().positions[0]
    assert (-200, 62_000_000, 0) == (row.lots, row.entry_quote_micro, row.realized_pnl_micro)
    assert FUNDS + 1_000_000 - 6_000 - 18_600 == desk.account().collateral_micro


def test_maker_pays_the_makers_rate_and_the_feed_nothing(desk: Desk) -> None:
    desk.create("buy", 1_000, 300_000)
    desk.create("sell", 1_000, 300_000, account=BOB)
    assert (FUNDS - 6_000, FUNDS - 60_000) == (desk.account().collateral_micro, desk.account(BOB).collateral_micro)
    trade(desk, "sell", 1_000, 300_000)
    assert 10**15 == desk.account(FEED).collateral_micro
    newest = desk.engine.trades()[0]
    assert (0, 200) == (newest.maker_fee_ppm, newest.taker_fee_ppm)


@pytest.mark.parametrize(("quote", "ppm", "fee"), [(2_499, 200, 0), (2_500, 200, 1), (7_500, 200, 2), (10**12, 0, 0)])
def test_fees_round_half_up(quote: int, ppm: int, fee: int) -> None:
    assert fee == ledger.fee_micro(quote, ppm)


def test_quote_is_exact_where_decimals_allow_and_rounded_down_where_not() -> None:
    desk = Desk(ETH, BTC, FINE, COARSE)
    assert 300_001 * 7 == desk.engine.quote_micro(0, 300_001, 7)
    assert 123 * 45 * 10**5 == desk.engine.quote_micro(6, 123, 45)
    assert 12_345 * 67_891 // 1000 == desk.engine.quote_micro(5, 12_345, 67_891)


def test_rounding_creates_and_loses_nothing() -> None:
    seed = 20_251
    print("seed", seed)
    random, desk = Random(seed), Desk(FINE)
    before = everything_micro(desk.engine)
    for _ in range(300):
        trade(desk, random.choice(["buy", "sell"]), random.randint(1, 99_999), random.randint(1, 9_999), market_id=5)
    assert before == everything_micro(desk.engine)
    lots = desk.lots(market_id=5)
    trade(desk, "sell" if lots > 0 else "buy", abs(lots), 5_000, market_id=5)
    collateral = sum(account.collateral_micro for account in desk.engine.accounts())
    assert before == collateral + desk.engine.fees_micro


def test_entry_share_of_a_partial_close_is_rounded_down_and_the_rest_stays() -> None:
    row = Position(0)
    assert 0 == ledger.book_fill(row, 3, 100)
    assert 40 - 33 == ledger.book_fill(row, -1, 40)
    assert (2, 67, 7) == (row.lots, row.entry_quote_micro, row.realized_pnl_micro)
    assert 80 - 67 == ledger.book_fill(row, -2, 80)
    assert (0, 0, 0) == (row.lots, row.entry_quote_micro, row.realized_pnl_micro)


def test_same_total_in_one_trade_or_many() -> None:
    once, often = Position(0), Position(0)
    ledger.book_fill(once, 10, 1_000)
    for _ in range(10):
        ledger.book_fill(often, 1, 100)
    assert once == often
    assert ledger.book_fill(once, -10, 1_100) == sum(ledger.book_fill(often, -1, 110) for _ in range(10))


def test_mark_is_the_last_trade_moved_into_the_touch(desk: Desk) -> None:
    assert 0 == desk.engine.mark_price_ticks(0)
    desk.place(FEED, "buy", 100, 290_000)
    assert 290_000 == desk.engine.mark_price_ticks(0)
    desk.place(FEED, "sell", 100, 310_001)
    assert 300_000 == desk.engine.mark_price_ticks(0)  # the middle, rounded down
    trade(desk, "buy", 100, 301_000)
    assert 301_000 == desk.engine.mark_price_ticks(0)
    desk.place(FEED, "buy", 100, 303_000)
    assert 303_000 == desk.engine.mark_price_ticks(0)
    trade(desk, "sell", 200, 303_000)
    desk.place(FEED, "sell", 100, 302_000)
    assert 302_000 == desk.engine.mark_price_ticks(0)
    assert 303_000 == desk.engine.last_trade_ticks(0)


def test_mark_starts_from_the_markets_initial_price() -> None:
    spec = MarketSpec(
        market_id=0, symbol="ETH", price_decimals=2, size_decimals=4, min_base_lots=50, initial_price_ticks=7
    )
    desk = Desk(spec)
    assert (7, 0) == (desk.engine.mark_price_ticks(0), desk.engine.last_trade_ticks(0))
    desk.place(FEED, "buy", 10**6, 10)
    assert 10 == desk.engine.mark_price_ticks(0)


def test_margin_figures_follow_the_mark(desk: Desk) -> None:
    trade(desk, "buy", 10_000, 300_000)  # 1 at 3,000; fee 0.6
    trade(desk, "sell", 1_000, 1_000_000, market_id=1)  # 0.01 at 100,000; fee 0.2
    desk.place(FEED, "buy", 10_000, 301_000)
    engine = desk.engine
    assert (10_000_000, 0) == tuple(engine.unrealized_micro(row) for row in desk.account().positions.values())
    assert FUNDS - 600_000 - 200_000 + 10_000_000 == engine.total_value_micro(ALICE)
    assert 150_500_000 + 50_000_000 == engine.cross_risk(ALICE).initial_micro
    assert 36_120_000 + 12_000_000 == engine.cross_risk(ALICE).maintenance_micro
    assert engine.total_value_micro(ALICE) - 200_500_000 == engine.available_balance_micro(ALICE)
    assert (10_000, 1_000) == (engine.open_interest_lots(0), engine.open_interest_lots(1))
    desk.create("buy", 10_000, 300_000)
    assert engine.total_value_micro(ALICE) - 200_500_000 == engine.available_balance_micro(ALICE)  # orders do not count


def test_margin_is_rounded_up(desk: Desk) -> None:
    trade(desk, "buy", 101, 300_001)
    assert -(-101 * 300_001 * 500 // 10_000) == desk.engine.cross_risk(ALICE).initial_micro


def test_withdrawal_leaves_the_positions_margin(desk: Desk) -> None:
    trade(desk, "buy", 10_000, 300_000)
    available = desk.engine.available_balance_micro(ALICE)
    assert not desk.apply(Deposit(ALICE, -available - 1)).ok
    assert desk.apply(Deposit(ALICE, -available)).ok
    assert 0 == desk.engine.available_balance_micro(ALICE)


def test_last_affordable_lot_fills_and_one_more_does_not() -> None:
    # value - fee >= margin: 1,000 - n * (0.06 % ...) solved by hand for price 3,000: each lot 0.3, margin 0.015, fee 0.00006
    affordable = FUNDS // (15_000 + 60)
    for lots, status in [(affordable, "filled"), (affordable + 1, "canceled-margin-not-allowed")]:
        desk = Desk()
        desk.place(FEED, "sell", lots, 300_000)
        assert status == desk.order(desk.ioc("buy", lots, 300_000)).status


@pytest.mark.parametrize(("side", "price"), [("buy", 330_000), ("sell", 270_000)])
def test_fill_beyond_the_mark_costs_the_difference_at_once(side: str, price: int) -> None:
    fee = price * 200 // 10**6
    affordable = FUNDS // (15_000 + 30_000 + fee)  # a lot: 5 % of the mark of 3,000, the distance of 300, the fee
    for lots, status in [(affordable, "filled"), (affordable + 1, "canceled-margin-not-allowed")]:
        desk = Desk()
        desk.place(FEED, "sell", 100, 300_000)
        desk.place(OTHER_FEED, "buy", 100, 300_000)
        desk.place(FEED, "sell" if side == "buy" else "buy", lots, price)
        assert status == desk.order(desk.ioc(side, lots, price)).status
