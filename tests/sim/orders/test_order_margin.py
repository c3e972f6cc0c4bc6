"""Margin of orders: what a maker is refused, what a taker keeps, and what reducing needs."""

from __future__ import annotations

from qubx_lighter.constants import Code
from tests.sim.desk import ALICE, FEED, FUNDS, OTHER_FEED, Desk, long_position


def test_maker_beyond_margin_is_refused_and_uses_no_nonce(desk: Desk) -> None:
    result = desk.create("buy", 70_000, 300_000)  # 21,000 notional on 1,000 at 5 %
    assert (Code.NOT_ENOUGH_MARGIN, 0) == (result.code, desk.engine.next_nonce(ALICE, 4))
    assert 200 == desk.create("buy", 66_666, 300_000).code


def test_taker_beyond_margin_is_canceled_and_uses_its_nonce(desk: Desk) -> None:
    desk.place(FEED, "sell", 70_000, 300_000)
    order = desk.order(desk.create("buy", 70_000, 300_000))
    assert ("canceled-margin-not-allowed", 0) == (order.status, order.filled_lots)
    assert 1 == desk.engine.next_nonce(ALICE, 4)


def test_taker_keeps_the_fills_that_its_margin_allowed(desk: Desk) -> None:
    desk.place(FEED, "sell", 50_000, 300_000)
    desk.place(FEED, "sell", 50_000, 300_000)
    order = desk.order(desk.ioc("buy", 100_000, 300_000))
    assert ("canceled-margin-not-allowed", 50_000, 50_000) == (order.status, order.filled_lots, desk.lots())


def test_rest_of_a_taker_beyond_margin_is_canceled(desk: Desk) -> None:
    desk.place(FEED, "sell", 100, 300_000)
    order = desk.order(desk.create("buy", 70_000, 300_000))
    assert ("canceled-margin-not-allowed", 100) == (order.status, order.filled_lots)
    assert [] == desk.bids()


def test_maker_that_can_no_longer_pay_is_canceled_and_passed_over(desk: Desk) -> None:
    poor = desk.order(desk.create("buy", 60_000, 300_000))
    rich = desk.order(desk.place(FEED, "buy", 60_000, 300_000))
    desk.account().collateral_micro -= FUNDS // 2
    taker = desk.order(desk.place(OTHER_FEED, "sell", 60_000, 300_000))
    assert ["canceled-margin-not-allowed", "filled", "filled"] == [poor.status, rich.status, taker.status]


def test_reducing_needs_no_margin(desk: Desk) -> None:
    long_position(desk, 60_000)
    desk.account().collateral_micro -= FUNDS // 2  # below the initial margin, above the maintenance margin
    assert desk.engine.available_balance_micro(ALICE) < 0
    assert "open" == desk.order(desk.create("sell", 60_000, 310_000)).status
    desk.place(FEED, "buy", 60_000, 299_000)
    assert ("filled", 0) == (desk.order(desk.market("sell", 60_000, 299_000)).status, desk.lots())


def test_turning_a_position_around_needs_margin(desk: Desk) -> None:
    long_position(desk, 60_000)
    desk.account().collateral_micro -= FUNDS // 2
    desk.place(FEED, "buy", 120_000, 300_000)
    order = desk.order(desk.market("sell", 120_000, 300_000))
    assert ("canceled-margin-not-allowed", 60_000) == (order.status, desk.lots())


def test_orders_of_both_sides_and_all_markets_share_the_margin(desk: Desk) -> None:
    assert desk.create("buy", 40_000, 300_000).ok  # 600 of 1,000
    assert desk.create("sell", 40_000, 310_000).ok  # only one side can fill first
    assert desk.create("buy", 3_000, 1_200_000, MarketIndex=1).ok  # 3,600 notional: 180
    assert Code.NOT_ENOUGH_MARGIN == desk.create("buy", 5_000, 1_200_000, MarketIndex=1).code
