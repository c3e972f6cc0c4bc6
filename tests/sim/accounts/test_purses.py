"""The two purses of an account: moving between them, what each can spend, and what unified mode makes of them."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from qubx_lighter.constants import TxType
from qubx_lighter.sim.accounts.assets import KNOWN
from qubx_lighter.sim.model.commands import CreateAsset, CreateMarket, DepositAsset, Result
from qubx_lighter.sim.model.events import AssetsChanged, PositionChanged
from qubx_lighter.sim.model.specs import COLLATERAL_ASSET, MarketSpec
from tests.sim.desk import ALICE, BOB, ETH, FEED, FUNDS, KEY, Desk
from tests.sim.money import everything_micro, units_of

USDC = 1_000_000
ETHER = 10**8
ETH_ASSET = 1
PERPS, SPOT = 0, 1
FEE = 3 * USDC
MARKET = MarketSpec(
    2048,
    "ETH/USDC",
    2,
    4,
    min_base_lots=50,
    market_type="spot",
    base_asset_id=ETH_ASSET,
    quote_asset_id=COLLATERAL_ASSET,
)
IN_SPOT = {"MarketIndex": MARKET.market_id}


@pytest.fixture
def desk() -> Desk:
    """Alice has 1,000 as collateral, 500 USDC and 2 ETH as spot balances; so has Bob."""
    return spot_desk()


def spot_desk(seed: int = 0) -> Desk:
    desk = Desk(ETH, seed=seed)
    assert desk.apply(CreateAsset(KNOWN[ETH_ASSET])).ok
    assert desk.apply(CreateMarket(MARKET)).ok
    for index in (ALICE, BOB, FEED):
        scale = 1 if index != FEED else 10**6
        assert desk.apply(DepositAsset(index, ETH_ASSET, 2 * ETHER * scale)).ok
        assert desk.apply(DepositAsset(index, COLLATERAL_ASSET, 500 * USDC * scale)).ok
    desk.engine.drain()
    return desk


def move(desk: Desk, units: int, way: tuple[int, int], asset: int = COLLATERAL_ASSET, to: int = ALICE) -> Result:
    body: dict[str, Any] = {
        "AccountIndex": None,
        "FromAccountIndex": ALICE,
        "ToAccountIndex": to,
        "AssetIndex": asset,
        "FromRouteType": way[0],
        "ToRouteType": way[1],
        "Amount": units,
        "USDCFee": FEE if to != ALICE else 0,
        "Memo": [0] * 32,
        "L1Sig": "0x" + "ab" * 65,
    }
    return desk.send(TxType.TRANSFER, ALICE, **body)


def withdraw(desk: Desk, units: int, route: int, asset: int) -> Result:
    body = {"AccountIndex": None, "FromAccountIndex": ALICE, "AssetIndex": asset, "RouteType": route, "Amount": units}
    return desk.send(TxType.WITHDRAW, ALICE, **body)


def unify(desk: Desk, mode: int = 1, account: int = ALICE) -> Result:
    return desk.send(41, account, AccountTradingMode=mode)


def spot(desk: Desk, asset: int = COLLATERAL_ASSET, account: int = ALICE) -> tuple[int, int]:
    """Balance and what is locked of it."""
    holding = desk.account(account).assets[asset]
    return holding.balance, holding.locked


def collateral(desk: Desk, account: int = ALICE) -> int:
    return desk.account(account).collateral_micro


# --- between purses --------------------------------------------------------------------------------------------------


def test_money_moves_between_an_accounts_purses_without_a_fee(desk: Desk) -> None:
    assert move(desk, 200 * USDC, (SPOT, PERPS)).ok
    assert (FUNDS + 200 * USDC, (300 * USDC, 0)) == (collateral(desk), spot(desk))
    assert [PositionChanged(ALICE, 255, desk.now), AssetsChanged(ALICE, desk.now)] == [
        event for event in desk.engine.drain() if isinstance(event, PositionChanged | AssetsChanged)
    ]
    assert move(desk, FUNDS + 200 * USDC, (PERPS, SPOT)).ok
    assert (0, (FUNDS + 500 * USDC, 0)) == (collateral(desk), spot(desk))
    moves = desk.account().moves
    assert ["L2SelfTransfer"] * 2 == [row.kind for row in list(moves)[-2:]]
    assert (SPOT, PERPS) == (moves[-2].money.from_route, moves[-2].money.to_route)


def test_each_purse_gives_what_is_free_in_it(desk: Desk) -> None:
    assert 21304 == move(desk, 500 * USDC + 1, (SPOT, PERPS)).code
    assert 21301 == move(desk, FUNDS + 1, (PERPS, SPOT)).code
    assert desk.create("buy", 1_000, 300_000, **IN_SPOT).ok  # locks 300
    assert 21304 == move(desk, 200 * USDC + 1, (SPOT, PERPS)).code
    assert move(desk, 200 * USDC, (SPOT, PERPS)).ok


def test_only_the_collateral_asset_backs_positions(desk: Desk) -> None:
    for way in ((SPOT, PERPS), (PERPS, SPOT), (PERPS, PERPS)):
        assert 21124 == move(desk, ETHER, way, ETH_ASSET, BOB).code
    assert 21124 == withdraw(desk, ETHER, PERPS, ETH_ASSET).code


def test_an_asset_goes_to_somebody_else_for_a_fee_in_collateral(desk: Desk) -> None:
    assert move(desk, ETHER // 2, (SPOT, SPOT), ETH_ASSET, BOB).ok
    assert ((3 * ETHER // 2, 0), (5 * ETHER // 2, 0)) == (spot(desk, ETH_ASSET), spot(desk, ETH_ASSET, BOB))
    assert ((500 * USDC - FEE, 0), FEE) == (spot(desk), desk.engine.fees_micro)
    assert (ETH_ASSET, ETHER // 2, FEE) == (
        (money := desk.account(BOB).moves[-1].money).asset_id,
        money.units,
        money.fee_micro,
    )
    assert move(desk, 500 * USDC - FEE, (SPOT, PERPS)).ok
    assert 21305 == move(desk, 1, (SPOT, SPOT), ETH_ASSET, BOB).code
    assert 21304 == move(desk, 2 * ETHER, (SPOT, SPOT), ETH_ASSET, BOB).code


def test_spot_balances_are_withdrawn(desk: Desk) -> None:
    assert withdraw(desk, ETHER, SPOT, ETH_ASSET).ok
    assert withdraw(desk, 100 * USDC, SPOT, COLLATERAL_ASSET).ok
    assert 21304 == withdraw(desk, ETHER + 1, SPOT, ETH_ASSET).code
    assert ((ETHER, 0), (400 * USDC, 0), FUNDS) == (spot(desk, ETH_ASSET), spot(desk), collateral(desk))
    assert everything_micro(desk.engine) == desk.engine.bridged[COLLATERAL_ASSET]
    assert units_of(desk.engine, ETH_ASSET) == desk.engine.bridged[ETH_ASSET]


# --- unified mode ----------------------------------------------------------------------------------------------------


def test_in_unified_mode_there_is_one_purse_of_the_collateral_asset(desk: Desk) -> None:
    assert unify(desk).ok
    assert (FUNDS + 500 * USDC, (0, 0)) == (collateral(desk), spot(desk))
    assert 21106 == move(desk, USDC, (PERPS, SPOT)).code
    desk.place(FEED, "sell", 1_000, 300_000, market_id=MARKET.market_id)
    assert "filled" == desk.order(desk.ioc("buy", 1_000, 300_000, **IN_SPOT)).status
    assert FUNDS + 200 * USDC == collateral(desk)
    assert {PositionChanged, AssetsChanged} <= {type(event) for event in desk.engine.drain()}
    desk.place(FEED, "buy", 1_000, 300_000, market_id=MARKET.market_id)
    assert "filled" == desk.order(desk.ioc("sell", 1_000, 300_000, **IN_SPOT)).status
    assert FUNDS + 500 * USDC - 60_000 == collateral(desk)
    assert unify(desk, 0).ok
    assert (FUNDS + 500 * USDC - 60_000, (0, 0)) == (collateral(desk), spot(desk)), "it stays where it is"


def test_what_spot_orders_lock_of_the_collateral_cannot_be_taken_out(desk: Desk) -> None:
    assert unify(desk).ok
    order = desk.order(desk.create("buy", 4_000, 300_000, **IN_SPOT))  # 1,200 of 1,500
    assert (0, 1_200 * USDC) == spot(desk)
    assert 21301 == withdraw(desk, 300 * USDC + 1, PERPS, COLLATERAL_ASSET).code
    assert 21739 == desk.create("buy", 1_100, 300_000, **IN_SPOT).code
    assert 21133 == unify(desk, 0).code
    assert withdraw(desk, 300 * USDC, PERPS, COLLATERAL_ASSET).ok
    desk.cancel(order.order_index, MARKET.market_id)
    assert unify(desk, 0).ok


def test_a_locked_collateral_that_became_margin_ends_the_order(desk: Desk) -> None:
    assert unify(desk).ok
    order = desk.order(desk.create("buy", 4_000, 300_000, **IN_SPOT))
    desk.place(FEED, "sell", 80_000, 300_000)
    assert "filled" == desk.order(desk.ioc("buy", 80_000, 300_000)).status  # 24,000: 1,200 of margin
    desk.place(FEED, "sell", 4_000, 300_000, market_id=MARKET.market_id)
    assert ("canceled-invalid-balance", 0) == (order.status, order.filled_lots)
    assert (0, 0) == spot(desk)


def test_profit_and_margin_cannot_be_spent_in_spot_markets(desk: Desk) -> None:
    assert unify(desk).ok
    desk.place(FEED, "sell", 10_000, 300_000)
    desk.ioc("buy", 10_000, 300_000)  # 150 of margin, 0.6 of fees
    free = FUNDS + 500 * USDC - 150 * USDC - 600_000
    lots = free // 300_000
    desk.place(FEED, "sell", 2 * lots, 300_000, market_id=MARKET.market_id)
    assert "canceled-invalid-balance" == desk.order(desk.ioc("buy", lots + 1, 300_000, **IN_SPOT)).status
    assert "filled" == desk.order(desk.ioc("buy", lots, 300_000, **IN_SPOT)).status


# --- a long random run -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [21, 22])
def test_purses_create_and_lose_nothing(seed: int) -> None:
    print("seed", seed)
    random, desk = Random(seed), spot_desk(seed)
    done = 0
    for step in range(1_200):
        action, price = random.random(), 300_000 + random.randint(-3_000, 3_000)
        one, side = random.choice([ALICE, BOB]), random.choice(["buy", "sell"])
        market_id = random.choice([0, MARKET.market_id])
        if action < 0.3:
            desk.place(FEED, side, random.randint(50, 5_000), price, market_id=market_id)
        elif action < 0.7:
            send = random.choice([desk.create, desk.ioc])
            send(side, random.randint(50, 5_000), price, account=one, MarketIndex=market_id)
        elif action < 0.8:
            way = random.choice([(SPOT, PERPS), (PERPS, SPOT), (SPOT, SPOT), (PERPS, PERPS)])
            to, asset = random.choice([ALICE, BOB]), random.choice([COLLATERAL_ASSET, ETH_ASSET])
            done += move(desk, random.randint(1, 100 * USDC), way, asset, to).ok
        elif action < 0.86:
            asset = random.choice([COLLATERAL_ASSET, ETH_ASSET])
            done += withdraw(desk, random.randint(1, 5 * USDC), random.randrange(2), asset).ok
        elif action < 0.92:
            done += unify(desk, random.randrange(2), one).ok
        else:
            desk.cancel_all(one)
        assert everything_micro(desk.engine) == desk.engine.bridged[COLLATERAL_ASSET], step
        assert units_of(desk.engine, ETH_ASSET) == desk.engine.bridged[ETH_ASSET], step
        for account in map(desk.account, (ALICE, BOB)):
            assert account.collateral_micro >= 0, step
            for asset_id, holding in account.assets.items():
                shared = account.is_unified and asset_id == COLLATERAL_ASSET
                assert holding.balance == 0 if shared else 0 <= holding.locked <= holding.balance, step
        desk.engine.drain()
    assert done > 50
    assert desk.engine.next_nonce(ALICE, KEY)
