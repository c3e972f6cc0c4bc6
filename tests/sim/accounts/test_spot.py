"""Spot trading in the engine: assets change hands, fees come out of what is received, resting orders lock."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from qubx_lighter.constants import Code, TimeInForce
from qubx_lighter.sim.accounts.assets import KNOWN
from qubx_lighter.sim.journal import Journal
from qubx_lighter.sim.model.commands import (
    AdvanceTime,
    CancelOrder,
    Command,
    CreateAccount,
    CreateAsset,
    CreateMarket,
    DepositAsset,
    PlaceOrder,
)
from qubx_lighter.sim.model.events import AssetsChanged, PositionChanged
from qubx_lighter.sim.model.specs import MarketSpec
from tests.sim.desk import ALICE, BOB, FEED, START, Desk
from tests.sim.desk import ETH as PERPETUAL

ETH, USDC = 1, 3
SPOT = MarketSpec(2048, "ETH/USDC", 2, 4, min_base_lots=50, market_type="spot", base_asset_id=ETH, quote_asset_id=USDC)
LOT = 10_000  # units of ETH, of 1e-8
IN_SPOT = {"MarketIndex": SPOT.market_id}


class SpotDesk(Desk):
    """A desk with ETH as a perpetual and as a spot market, and everybody funded with 10 ETH and 50,000 USDC."""

    def __init__(self) -> None:
        super().__init__(PERPETUAL)
        assert self.apply(CreateAsset(KNOWN[ETH])).ok
        assert self.apply(CreateMarket(SPOT)).ok
        for index in (ALICE, BOB, FEED):
            assert self.apply(DepositAsset(index, ETH, 10 * 10**8)).ok
            assert self.apply(DepositAsset(index, USDC, 50_000 * 10**6)).ok
        self.engine.drain()

    def held(self, asset_id: int, index: int = ALICE) -> tuple[int, int]:
        """Give an account's balance and what is locked of it, in units."""
        holding = self.account(index).assets[asset_id]
        return holding.balance, holding.locked


@pytest.fixture
def desk() -> SpotDesk:
    return SpotDesk()


def test_a_buyer_pays_the_fee_in_what_he_buys_and_a_seller_in_what_he_gets(desk: SpotDesk) -> None:
    desk.place(FEED, "sell", 1_000, 300_000, market_id=2048)
    assert "filled" == desk.order(desk.ioc("buy", 1_000, 300_000, **IN_SPOT)).status
    fee = 1_000 * LOT * 200 // 10**6
    assert (10 * 10**8 + 1_000 * LOT - fee, 0) == desk.held(ETH)
    assert (50_000 * 10**6 - 300 * 10**6, 0) == desk.held(USDC)
    assert {ETH: fee} == {asset: paid for asset, paid in desk.engine.asset_fees.items() if paid}
    desk.place(FEED, "buy", 1_000, 300_000, market_id=2048)
    desk.ioc("sell", 1_000, 300_000, **IN_SPOT)
    assert 50_000 * 10**6 - 300 * 10**6 * 200 // 10**6 == desk.held(USDC)[0]
    assert (0, 1_000_000_000) == (desk.engine.fees_micro, desk.account().collateral_micro), "the collateral is apart"
    assert {} == desk.account().positions


def test_resting_orders_lock_what_they_would_give_and_free_it_when_they_end(desk: SpotDesk) -> None:
    desk.create("buy", 1_000, 290_000, ClientOrderIndex=1, **IN_SPOT)
    desk.create("sell", 2_000, 310_000, ClientOrderIndex=2, **IN_SPOT)
    assert (290 * 10**6, 2_000 * LOT) == (desk.held(USDC)[1], desk.held(ETH)[1])
    desk.place(FEED, "sell", 400, 290_000, market_id=2048)
    assert 174 * 10**6 == desk.held(USDC)[1]
    assert desk.modify(1, 1_000, 280_000, **IN_SPOT).ok
    assert 168 * 10**6 == desk.held(USDC)[1]
    desk.cancel(1, 2048)
    desk.cancel(2, 2048)
    assert (0, 0) == (desk.held(USDC)[1], desk.held(ETH)[1])
    assert 50_000 * 10**6 - 116 * 10**6 == desk.held(USDC)[0]


def test_what_is_locked_cannot_be_sold_twice(desk: SpotDesk) -> None:
    desk.create("sell", 60_000, 310_000, **IN_SPOT)
    assert Code.NOT_ENOUGH_MARGIN == desk.create("sell", 40_001, 310_000, **IN_SPOT).code
    assert desk.create("sell", 40_000, 310_000, **IN_SPOT).ok
    desk.place(FEED, "buy", 100, 300_000, market_id=2048)
    assert "canceled-invalid-balance" == desk.order(desk.ioc("sell", 100, 300_000, **IN_SPOT)).status
    assert Code.NOT_ENOUGH_MARGIN == desk.apply(DepositAsset(ALICE, ETH, -1)).code


def test_a_taker_that_cannot_pay_for_all_gets_what_it_can_pay_for(desk: SpotDesk) -> None:
    for price in (300_000, 310_000):
        desk.place(FEED, "sell", 20_000, price, market_id=2048)
    desk.apply(DepositAsset(ALICE, USDC, 10_500 * 10**6 - 50_000 * 10**6))
    order = desk.order(desk.create("buy", 40_000, 310_000, **IN_SPOT))
    assert ("canceled-invalid-balance", 20_000) == (order.status, order.filled_lots)
    assert 4_500 * 10**6 == desk.held(USDC)[0]


def test_a_bid_may_be_amended_as_far_as_the_balance_goes(desk: SpotDesk) -> None:
    desk.create("buy", 100_000, 300_000, ClientOrderIndex=1, **IN_SPOT)
    assert Code.NOT_ENOUGH_MARGIN == desk.modify(1, 100_000, 500_001, **IN_SPOT).code
    assert 30_000 * 10**6 == desk.held(USDC)[1]
    assert desk.modify(1, 100_000, 500_000, **IN_SPOT).ok
    assert 50_000 * 10**6 == desk.held(USDC)[1]


def test_a_spot_market_has_no_leverage_no_triggers_and_nothing_to_reduce(desk: SpotDesk) -> None:
    refused = (
        desk.leverage(1_000, **IN_SPOT),
        desk.create("buy", 1_000, 290_000, ReduceOnly=1, **IN_SPOT),
        desk.create("buy", 1_000, 290_000, Type=3, TriggerPrice=280_000, **IN_SPOT),
        desk.cancel_all(L2TxAttributes={"5": 2048}),
    )
    assert [21619] * 4 == [result.code for result in refused]


def test_a_twap_is_worked_on_spot_too(desk: SpotDesk) -> None:
    desk.place(FEED, "sell", 100_000, 300_000, market_id=2048)
    end = desk.now // 1000 + 300_000
    order = desk.order(desk.create("buy", 10_000, 301_000, Type=6, OrderExpiry=end, **IN_SPOT))
    for _ in range(10):
        desk.now += 30_000_000
        desk.apply(AdvanceTime())
    assert ("filled", 10_000) == (order.status, order.filled_lots)
    fees = 10 * (1_000 * LOT * 200 // 10**6)
    assert 10 * 10**8 + 10_000 * LOT - fees == desk.held(ETH)[0]


def test_the_average_entry_price_is_that_of_what_was_bought(desk: SpotDesk) -> None:
    for price in (300_000, 320_000):
        desk.place(FEED, "sell", 1_000, price, market_id=2048)
        desk.ioc("buy", 1_000, price, **IN_SPOT)
    holding = desk.account().assets[ETH]
    assert (620 * 10**6, 2_000 * LOT - 4_000) == (holding.cost_micro, holding.bought_units)
    desk.place(FEED, "buy", 50_000, 300_000, market_id=2048)
    before = holding.balance
    desk.ioc("sell", 50_000, 300_000, **IN_SPOT)
    left = (before - 50_000 * LOT) / before
    assert abs(holding.bought_units - (2_000 * LOT - 4_000) * left) <= 1
    assert abs(holding.cost_micro / holding.bought_units - 620 * 10**6 / (2_000 * LOT - 4_000)) < 1e-6


def test_balances_are_told_and_positions_are_not(desk: SpotDesk) -> None:
    desk.create("buy", 1_000, 290_000, **IN_SPOT)
    events = desk.engine.drain()
    assert [ALICE] == [event.account_index for event in events if isinstance(event, AssetsChanged)]
    assert not [event for event in events if isinstance(event, PositionChanged)]


def test_the_same_client_order_index_is_taken_once_over_both_markets(desk: SpotDesk) -> None:
    assert desk.create("buy", 1_000, 290_000, ClientOrderIndex=7, **IN_SPOT).ok
    assert Code.DUPLICATE_CLIENT_ORDER_INDEX == desk.create("buy", 1_000, 290_000, ClientOrderIndex=7).code


def test_a_market_whose_assets_are_not_there_is_refused() -> None:
    desk = Desk(PERPETUAL)
    assert Code.INVALID_PARAM == desk.apply(CreateMarket(SPOT)).code
    assert Code.INVALID_PARAM == desk.apply(DepositAsset(ALICE, ETH, 1)).code


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_nothing_is_made_and_nothing_is_lost(seed: int) -> None:
    print(f"seed {seed}")
    random, desk = Random(seed), SpotDesk()
    desk.apply(CreateAccount(20, "0x20", 0))  # pays fees, and has little
    desk.apply(DepositAsset(20, ETH, 3 * 10**8 + 1))
    desk.apply(DepositAsset(20, USDC, 7_000 * 10**6 + 3))
    accounts = (ALICE, BOB, FEED, 20)
    totals = {asset: sum(desk.held(asset, index)[0] for index in accounts) for asset in (ETH, USDC)}
    statuses = set()
    for _ in range(1_500):
        index = random.choice(accounts)
        if random.random() < 0.25:
            orders = desk.engine.active_orders(index)
            if orders:
                desk.engine._sequencer.open_orders.cancel(random.choice(orders))
            continue
        result = desk.apply(
            PlaceOrder(
                index,
                2048,
                random.random() < 0.5,
                random.randint(50, 30_000),
                300_000 + random.randint(-20, 20),
                time_in_force=random.choice(list(TimeInForce)),
            )
        )
        statuses.add(desk.order(result).status if result.ok else str(result.code))
    for asset, total in totals.items():
        left = sum(desk.held(asset, index)[0] for index in accounts)
        assert total == left + desk.engine.asset_fees[asset]
    for index in accounts:
        orders = desk.engine.active_orders(index)
        asks = sum(order.remaining_lots for order in orders if order.is_ask) * LOT
        bids = sum(order.remaining_lots * order.price_ticks for order in orders if not order.is_ask)
        assert (asks, bids) == (desk.held(ETH, index)[1], desk.held(USDC, index)[1])
        assert all(0 <= holding.locked <= holding.balance for holding in desk.account(index).assets.values())
    assert {"filled", "open", "canceled", "canceled-invalid-balance", "21739"} <= statuses


def test_a_journal_gives_every_balance_back(tmp_path: Path) -> None:
    commands: list[Command] = [CreateAsset(KNOWN[ETH]), CreateMarket(SPOT)]
    for index in (ALICE, FEED):
        commands += [CreateAccount(index, f"0x{index}", 10**9, fee_free=index == FEED)]
        commands += [DepositAsset(index, ETH, 5 * 10**8), DepositAsset(index, USDC, 20_000 * 10**6)]
    commands += [
        PlaceOrder(FEED, 2048, True, 3_000, 300_000),
        PlaceOrder(ALICE, 2048, False, 4_000, 300_000),
        PlaceOrder(ALICE, 2048, True, 2_000, 310_000, client_order_index=5),
        CancelOrder(ALICE, 2048, 5),
    ]
    with Journal(tmp_path / "state") as journal:
        engine = journal.restore()
        for step, command in enumerate(commands):
            assert journal.apply(engine, command, START + step).ok
    with Journal(tmp_path / "state") as journal:
        again = journal.restore()
    before, after = (
        [(account.assets, [order.remaining_lots for order in account.orders.values()]) for account in each.accounts()]
        for each in (engine, again)
    )
    assert before == after
    assert (5 * 10**8 + 3_000 * LOT - 6_000, 300 * 10**6) == (before[0][0][ETH].balance, before[0][0][USDC].locked)
    assert [1_000] == before[0][1]
