"""Isolated margin: what a position takes along and gives back, who may move it, and the figures of both kinds of margin."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from qubx_lighter.constants import Code, TxType
from qubx_lighter.sim.accounts import ledger, margin
from qubx_lighter.sim.accounts.margin import Health, Risk
from qubx_lighter.sim.app import Venue
from qubx_lighter.sim.model.commands import PlaceOrder, Result, SettleFunding
from qubx_lighter.sim.model.events import PositionChanged
from qubx_lighter.sim.model.records import Position
from tests.sim.caller import Caller
from tests.sim.desk import ALICE, BOB, FEED, FUNDS, KEY, OTHER_FEED, Desk
from tests.sim.money import everything_micro

ETH_ID = 0
USDC = 1_000_000


@pytest.fixture
def desk() -> Desk:
    """ETH is isolated for Alice, at 10 %."""
    desk = Desk()
    assert isolate(desk).ok
    return desk


def isolate(desk: Desk, fraction: int = 1000, **fields: Any) -> Result:
    return desk.leverage(fraction, MarginMode=1, **fields)


def move(desk: Desk, amount: int, direction: int = 1, **fields: Any) -> Result:
    body = {"MarketIndex": ETH_ID, "USDCAmount": amount, "Direction": direction}
    return desk.send(TxType.UPDATE_MARGIN, **(body | fields))


def trade(desk: Desk, side: str, lots: int, price: int = 300_000, account: int = ALICE) -> None:
    """Let an account take from the feed, at a price that becomes the mark price."""
    desk.place(FEED, "sell" if side == "buy" else "buy", lots, price)
    order = desk.order(desk.ioc(side, lots, price, account=account))
    assert "filled" == order.status


def mark(desk: Desk, price: int) -> None:
    """Let the feed trade with itself."""
    desk.place(FEED, "sell", 1_000, price)
    desk.place(OTHER_FEED, "buy", 1_000, price, time_in_force=0)
    assert price == desk.engine.mark_price_ticks(ETH_ID)


def row(desk: Desk, account: int = ALICE) -> Position:
    return desk.account(account).positions[ETH_ID]


def money(desk: Desk, account: int = ALICE) -> tuple[int, int]:
    """Collateral and allocated margin."""
    return desk.account(account).collateral_micro, row(desk, account).allocated_micro


# --- modes -----------------------------------------------------------------------------------------------------------


def test_the_mode_changes_without_position_and_orders(desk: Desk) -> None:
    assert (1, 1000) == (row(desk).margin_mode, row(desk).initial_margin_fraction)
    assert desk.leverage(500).ok
    assert 0 == row(desk).margin_mode


def test_the_mode_stays_with_a_position_or_an_order(desk: Desk) -> None:
    order = desk.order(desk.create("buy", 1_000, 290_000))
    assert 21132 == desk.leverage(1000).code
    assert isolate(desk, 2000).ok, "the fraction alone may change"
    desk.cancel(order.order_index)
    trade(desk, "buy", 1_000)
    assert 21132 == desk.leverage(1000).code
    trade(desk, "sell", 1_000)
    assert desk.leverage(1000).ok


# --- what a position takes and returns ------------------------------------------------------------------------------


def test_opening_takes_the_initial_margin_and_the_fee(desk: Desk) -> None:
    trade(desk, "buy", 10_000)  # 3,000: 300 of margin, 0.6 of fees
    assert (FUNDS - 300 * USDC - 600_000, 300 * USDC) == money(desk)
    risk = desk.engine.isolated_risks(ALICE)[ETH_ID]
    assert Risk(300 * USDC, 300 * USDC, 300 * USDC, 36 * USDC, 24 * USDC) == risk
    assert Risk(FUNDS - 300_600_000, FUNDS - 300_600_000) == desk.engine.cross_risk(ALICE)


def test_opening_off_the_mark_takes_the_difference_too(desk: Desk) -> None:
    mark(desk, 300_000)
    desk.place(FEED, "sell", 10_000, 310_000)
    assert "filled" == desk.order(desk.ioc("buy", 10_000, 310_000)).status
    # margin at the mark before the trade, 300; what it lost at that mark, 100; the fee, 0.62
    assert (FUNDS - 400_620_000, 400_620_000 - 620_000) == money(desk)


def test_closing_returns_everything_with_the_profit(desk: Desk) -> None:
    trade(desk, "buy", 10_000)
    trade(desk, "sell", 10_000, 310_000)
    assert (FUNDS + 100 * USDC - 600_000 - 620_000, 0) == money(desk)
    assert {} == desk.engine.isolated_risks(ALICE)


def test_reducing_returns_the_share_that_is_not_required(desk: Desk) -> None:
    trade(desk, "buy", 10_000)
    assert move(desk, 100 * USDC).ok
    trade(desk, "sell", 4_000)  # 400 backed 1 ETH: 240 stay with 0.6; the fee of 0.24 is paid out of the rest
    assert (FUNDS - 300_600_000 - 100 * USDC + 160 * USDC - 240_000, 240 * USDC) == money(desk)


def test_reducing_at_a_loss_keeps_what_is_required(desk: Desk) -> None:
    trade(desk, "buy", 10_000)
    mark(desk, 280_000)  # 200 lost: 100 of 280 required are left
    before = money(desk)[0]
    trade(desk, "sell", 5_000, 280_000)
    assert (before, 300 * USDC - 100 * USDC - 280_000) == money(desk), "nothing is free"


def test_turning_around_brings_the_margin_of_the_new_side(desk: Desk) -> None:
    trade(desk, "buy", 10_000)
    trade(desk, "sell", 30_000)  # short 2 ETH: 600 required
    assert (-20_000, 600 * USDC) == (row(desk).lots, row(desk).allocated_micro)
    assert FUNDS - 600 * USDC - 600_000 - 1_800_000 == money(desk)[0]


def test_what_the_collateral_cannot_back_is_canceled(desk: Desk) -> None:
    desk.place(FEED, "sell", 100_000, 300_000)
    order = desk.order(desk.ioc("buy", 33_333, 300_000))  # 999.99 of margin, 2 of fees
    assert ("canceled-margin-not-allowed", 0) == (order.status, order.filled_lots)
    assert "filled" == desk.order(desk.ioc("buy", 33_200, 300_000)).status


def test_other_positions_cannot_use_allocated_margin(desk: Desk) -> None:
    trade(desk, "buy", 30_000)  # 900 of 1,000 are gone
    desk.place(FEED, "sell", 2_100, 1_000_000, market_id=1)
    order = desk.order(desk.ioc("buy", 2_100, 1_000_000, MarketIndex=1))  # 2,100 at 5 %: 105
    assert "canceled-margin-not-allowed" == order.status
    assert Code.NOT_ENOUGH_MARGIN == desk.create("buy", 2_100, 900_000, MarketIndex=1).code
    assert desk.create("buy", 1_900, 900_000, MarketIndex=1).ok


def test_resting_orders_of_an_isolated_market_need_the_accounts_collateral(desk: Desk) -> None:
    trade(desk, "buy", 20_000)  # 600; 398.8 are left
    assert Code.NOT_ENOUGH_MARGIN == desk.create("buy", 13_300, 299_999).code
    assert desk.create("buy", 13_200, 299_999).ok
    assert desk.create("sell", 20_000, 310_000).ok, "to reduce takes nothing"


def test_funding_is_paid_out_of_the_position(desk: Desk) -> None:
    trade(desk, "buy", 10_000)
    before = money(desk)
    assert desk.apply(SettleFunding(ETH_ID, 50)).ok
    assert (before[0], before[1] - 150_000) == money(desk)


def test_a_leverage_that_the_allocated_margin_cannot_bear_fails(desk: Desk) -> None:
    trade(desk, "buy", 10_000)
    assert isolate(desk, 2000).ok
    assert 1000 == row(desk).initial_margin_fraction
    assert move(desk, 300 * USDC).ok
    assert isolate(desk, 2000).ok
    assert 2000 == row(desk).initial_margin_fraction


def test_a_random_run_creates_and_loses_nothing() -> None:
    seed = 90_210
    print("seed", seed)
    random, desk = Random(seed), Desk()
    for one in (ALICE, BOB):
        assert isolate(desk, random.choice([500, 1000]), account=one).ok

    before, price, statuses, moved = everything_micro(desk.engine), 300_000, set(), 0
    for step in range(2_000):
        price += random.randint(-300, 300)
        one = random.choice([ALICE, BOB])
        action = random.random()
        if action < 0.8:
            desk.place(FEED, *(side := random.choice([("sell", 40_000), ("buy", 40_000)])), price)
            order = desk.ioc("buy" if side[0] == "sell" else "sell", random.randint(50, 40_000), price, account=one)
            if order.ok:
                statuses.add(desk.order(order).status)
            desk.apply(PlaceOrder(OTHER_FEED, 0, side[0] == "buy", 40_000, price, time_in_force=0))
        elif action < 0.9:
            moved += move(desk, random.randint(1, 300 * USDC), random.randint(0, 1), account=one).ok
        else:
            desk.apply(SettleFunding(ETH_ID, random.randint(-40, 40)))
        assert before == everything_micro(desk.engine), step
        for account in map(desk.account, (ALICE, BOB)):
            assert account.collateral_micro >= 0
            position = account.positions[ETH_ID]
            assert position.lots or not position.allocated_micro
            value = ledger.total_value_micro(account, desk.engine._sequencer.state.markets)
            risks = desk.engine.isolated_risks(account.account_index).values()
            cross = desk.engine.cross_risk(account.account_index)
            assert value == cross.value_micro + sum(risk.value_micro for risk in risks)
        desk.engine.drain()
    assert {"filled", "canceled-margin-not-allowed"} <= statuses
    assert moved > 10


# --- moving margin ---------------------------------------------------------------------------------------------------


def test_margin_is_added_and_removed(desk: Desk) -> None:
    trade(desk, "buy", 10_000)
    collateral, allocated = money(desk)
    desk.engine.drain()
    assert move(desk, 50 * USDC).ok
    assert (collateral - 50 * USDC, allocated + 50 * USDC) == money(desk)
    assert [PositionChanged(ALICE, ETH_ID, desk.now)] == desk.events(PositionChanged)
    assert move(desk, 50 * USDC, 0).ok
    assert (collateral, allocated) == money(desk)


def test_no_more_is_moved_than_is_free(desk: Desk) -> None:
    trade(desk, "buy", 10_000)
    collateral, allocated = money(desk)
    assert 21301 == move(desk, collateral + 1).code
    assert 21301 == move(desk, 1, 0).code, "all of it is required"
    mark(desk, 310_000)  # 100 of profit; 310 required; profit cannot be taken out
    assert 21301 == move(desk, 90 * USDC + 1, 0).code
    assert move(desk, 90 * USDC, 0).ok
    assert (collateral + 90 * USDC, allocated - 90 * USDC) == money(desk)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"Direction": 2}, 21615),
        ({"Direction": -1}, 21615),
        ({"USDCAmount": 0}, 21300),
        ({"USDCAmount": -5}, 21300),
        ({"MarketIndex": 1}, 21613),
        ({"MarketIndex": 9}, 21602),
    ],
)
def test_what_cannot_be_moved_is_refused_and_uses_no_nonce(desk: Desk, fields: dict[str, int], code: int) -> None:
    trade(desk, "buy", 10_000)
    nonce, before = desk.engine.next_nonce(ALICE, KEY), money(desk)
    assert code == move(desk, USDC, **fields).code
    assert (nonce, before) == (desk.engine.next_nonce(ALICE, KEY), money(desk))


def test_without_a_position_there_is_nothing_to_back(desk: Desk) -> None:
    assert 21614 == move(desk, USDC).code


# --- health ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "health"),
    [(100, 0), (99, 1), (60, 1), (59, 2), (40, 2), (39, 3), (0, 3), (-1, 4)],
)
def test_health_falls_with_the_value(value: int, health: int) -> None:
    assert Health(health) is Risk(0, value, 100, 60, 40).health


def test_nothing_required_and_nothing_there_is_healthy() -> None:
    assert Risk(0, 0).health is Health.HEALTHY


@pytest.mark.parametrize(("collateral", "value", "free"), [(80, 150, 50), (30, 150, 30), (90, 90, 0), (-5, 120, 0)])
def test_free_is_neither_margin_nor_profit(collateral: int, value: int, free: int) -> None:
    assert free == Risk(collateral, value, 100).free_micro


def test_below_the_initial_margin_only_reducing_orders_are_taken() -> None:
    desk = Desk()
    trade(desk, "buy", 60_000)  # 18,000 on 1,000: 900 required
    resting = desk.order(desk.create("buy", 100, 290_000))
    mark(desk, 297_000)  # 180 lost: 816 left, 891 required
    assert Health.PRE_LIQUIDATION is desk.engine.cross_risk(ALICE).health
    nonce = desk.engine.next_nonce(ALICE, KEY)
    assert Code.PRE_LIQUIDATION == desk.create("buy", 100, 290_000).code
    assert Code.PRE_LIQUIDATION == desk.ioc("buy", 100, 300_000).code
    assert Code.PRE_LIQUIDATION == desk.create("sell", 2_000, 1_100_000, MarketIndex=1).code
    assert Code.PRE_LIQUIDATION == desk.modify(resting.order_index, 200, 290_000).code
    assert nonce == desk.engine.next_nonce(ALICE, KEY)
    assert desk.modify(resting.order_index, 60, 290_000).ok
    assert desk.create("sell", 30_000, 310_000).ok
    assert desk.create("sell", 60_000, 320_000, ReduceOnly=1).ok
    assert desk.cancel_all().ok


def test_an_isolated_position_below_its_margin_leaves_other_markets_free(desk: Desk) -> None:
    trade(desk, "buy", 10_000)
    mark(desk, 290_000)  # 200 of 290 are left
    assert Code.PRE_LIQUIDATION == desk.create("buy", 100, 280_000).code
    assert desk.create("buy", 100, 900_000, MarketIndex=1).ok


# --- figures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["buy", "sell"])
@pytest.mark.parametrize("isolated", [False, True])
def test_at_the_liquidation_price_the_value_is_the_maintenance_margin(side: str, isolated: bool) -> None:
    desk = Desk()
    if isolated:
        isolate(desk)
    trade(desk, side, 20_000)
    price = desk.engine.liquidation_price_ticks(ALICE, ETH_ID)
    position, market = row(desk), desk.engine._sequencer.state.markets[ETH_ID]
    lots, own = abs(position.lots), position.allocated_micro if isolated else desk.account().collateral_micro
    value = own + margin.unrealized_micro(market, position, price)
    needed = market.quote_micro(price, lots) * 120 // 10_000
    assert abs(value - needed) <= market.quote_micro(1, lots), "to the tick"
    assert (price < 300_000) == (side == "buy")


def test_a_position_that_cannot_be_liquidated_has_no_price() -> None:
    desk = Desk()
    trade(desk, "buy", 1_000)  # 300 on 1,000
    assert 0 == desk.engine.liquidation_price_ticks(ALICE, ETH_ID)
    assert 0 == desk.engine.liquidation_price_ticks(BOB, ETH_ID)


async def test_the_account_row_tells_cross_and_isolated_margin_apart(venue: Venue, caller: Caller) -> None:
    engine = venue.engine
    account = engine.account(ALICE)
    assert account is not None
    eth, btc = (account.open_position(engine._sequencer.state.markets[market_id]) for market_id in (0, 1))
    eth.margin_mode, eth.initial_margin_fraction = 1, 1000
    for market_id, price in ((0, 300_000), (1, 1_000_000)):
        venue.server.execute(PlaceOrder(50, market_id, True, 1_000, price))
        venue.server.execute(PlaceOrder(ALICE, market_id, False, 1_000, price, time_in_force=0))
    venue.server.execute(PlaceOrder(50, 0, True, 1_000, 320_000))
    venue.server.execute(PlaceOrder(ALICE, 0, False, 100, 310_000))
    assert (30_000_000, 0) == (eth.allocated_micro, btc.allocated_micro)
    body = await caller.body("/api/v1/account", by="index", value=ALICE)
    (found,) = body["accounts"]
    # 10,000 less 30 of margin and fees of 0.06 and 0.2; ETH at 3,100 has 10 of profit, 31 required
    assert {
        "collateral": "9969.740000",
        "total_asset_value": "10009.740000",
        "cross_asset_value": "9969.740000",
        "cross_initial_margin_requirement": "50.000000",
        "cross_maintenance_margin_requirement": "12.000000",
        "available_balance": "9928.740000",
        "total_order_count": 1,
        "total_isolated_order_count": 1,
    } == {
        name: found[name]
        for name in (
            "collateral",
            "total_asset_value",
            "cross_asset_value",
            "cross_initial_margin_requirement",
            "cross_maintenance_margin_requirement",
            "available_balance",
            "total_order_count",
            "total_isolated_order_count",
        )
    }
    row_of_eth = found["positions"][0]
    assert (1, "30.000000", "10.00", "10.000000", "2732.80") == tuple(
        row_of_eth[name]
        for name in (
            "margin_mode",
            "allocated_margin",
            "initial_margin_fraction",
            "unrealized_pnl",
            "liquidation_price",
        )
    )
    stats = (await caller.subscribe(f"user_stats/{ALICE}"))["stats"]
    assert {
        "collateral": "9969.740000",
        "portfolio_value": "9969.740000",
        "leverage": "0.10",
        "available_balance": "9919.740000",
        "margin_usage": "0.50",
        "buying_power": "0",
    } == stats["cross_stats"]
    assert {
        "collateral": "9999.740000",
        "portfolio_value": "10009.740000",
        "leverage": "0.13",
        "available_balance": "9928.740000",
        "margin_usage": "0.80",
        "buying_power": "0",
    } == stats["total_stats"]
    assert stats["total_stats"] == {name: stats[name] for name in stats["total_stats"]}
