"""All of the venue's money at once: whatever happens, nothing is created or lost, and a journal tells it again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from qubx_lighter.constants import TxType
from qubx_lighter.sim.accounts.assets import KNOWN
from qubx_lighter.sim.accounts.margin import Health
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.exchange.transfers import TRANSFER_FEE_MICRO
from qubx_lighter.sim.journal import Journal
from qubx_lighter.sim.model.commands import (
    Command,
    CreateAsset,
    CreateMarket,
    Deposit,
    DepositAsset,
    RegisterKey,
    Result,
    SettleFunding,
)
from qubx_lighter.sim.model.events import FundingSettled, Traded
from qubx_lighter.sim.model.specs import COLLATERAL_ASSET
from tests.sim.accounts.test_purses import ETH_ASSET
from tests.sim.accounts.test_purses import MARKET as SPOT
from tests.sim.desk import ALICE, BOB, BTC, ETH, FEED, KEY, OTHER_FEED, Desk
from tests.sim.money import everything_micro, units_of
from tests.sim.states import state

USDC = 1_000_000
POOL = 2**48 - 3
SUB = 2**48 - 4
TRADERS = (ALICE, BOB, POOL)
MARKETS = {ETH.market_id: 300_000, BTC.market_id: 1_000_000, SPOT.market_id: 300_000}


class Kept(Desk):
    """A desk whose commands are written to a journal."""

    def __init__(self, path: Path, seed: int) -> None:
        self.journal = Journal(path, seed=seed)
        super().__init__(ETH, BTC, seed=seed)

    def open(self, seed: int) -> Engine:
        return self.journal.restore()

    def apply(self, command: Command) -> Result:
        return self.journal.apply(self.engine, command, self.now)


class World:
    """Everybody who does something."""

    def __init__(self, path: Path, seed: int) -> None:
        self.random = Random(seed)
        self.desk = Kept(path, seed)
        self.prices = dict(MARKETS)
        self.seen: Counter[str] = Counter()
        desk = self.desk
        for command in (CreateAsset(KNOWN[ETH_ASSET]), CreateMarket(SPOT), Deposit(ALICE, 5_000 * USDC)):
            assert desk.apply(command).ok
        for index in (ALICE, BOB, FEED, OTHER_FEED):
            scale = 1 if index in TRADERS else 10**6
            assert desk.apply(DepositAsset(index, ETH_ASSET, 10**8 * scale)).ok
            assert desk.apply(DepositAsset(index, COLLATERAL_ASSET, 500 * USDC * scale)).ok
        pool = {"OperatorFee": 200_000, "InitialTotalShares": 1_500_000, "MinOperatorShareRate": 1_000}
        assert desk.send(TxType.CREATE_PUBLIC_POOL, **pool).ok
        assert desk.send(TxType.CREATE_SUB_ACCOUNT).ok
        for index in (POOL, SUB):
            assert desk.apply(RegisterKey(index, KEY, "0x01")).ok

    def step(self) -> None:
        """Let somebody do something, sensible or not."""
        random, desk = self.random, self.desk
        desk.now += random.choice([1_000, 300_000, 2_000_000, 400_000_000])
        action = random.choices(
            [
                self._quote,
                self._trade,
                self._cancel,
                self._fund,
                self._margin,
                self._transfer,
                self._withdraw,
                self._pool,
            ],
            [30, 36, 4, 3, 6, 10, 3, 8],
        )[0]
        result = action(random.choice(TRADERS))
        self.seen[f"{action.__name__} {'ok' if result.ok else 'refused'}"] += 1
        for event in desk.engine.drain():
            if isinstance(event, Traded):
                self.seen[event.trade.kind] += 1
            elif isinstance(event, FundingSettled):
                self.seen["funding"] += 1

    def _somewhere(self) -> tuple[int, int]:
        market_id = self.random.choice(list(MARKETS))
        self.prices[market_id] = max(20_000, int(self.prices[market_id] * self.random.uniform(0.985, 1.0155)))
        return market_id, self.prices[market_id]

    def _quote(self, _account: int) -> Result:
        market_id, price = self._somewhere()
        lots = self.random.choice([200, 5_000, 60_000])
        for maker in (FEED, OTHER_FEED):
            result = self.desk.place(maker, self.random.choice(["buy", "sell"]), lots, price, market_id=market_id)
        return result

    def _trade(self, account: int) -> Result:
        market_id, price = self._somewhere()
        send = self.random.choice([self.desk.ioc, self.desk.ioc, self.desk.market, self.desk.create])
        lots, reduces = self.random.randint(50, 40_000), int(self.random.random() < 0.1)
        side = self.random.choice(["buy", "sell"])
        return send(side, lots, price, account=account, MarketIndex=market_id, ReduceOnly=reduces)

    def _cancel(self, account: int) -> Result:
        return self.desk.cancel_all(account)

    def _fund(self, _account: int) -> Result:
        return self.desk.apply(SettleFunding(255, self.random.randint(-400, 400)))

    def _margin(self, account: int) -> Result:
        market_id = self.random.choice([ETH.market_id, BTC.market_id])
        if self.random.random() < 0.5:
            mode = self.random.randrange(2)
            fraction = self.random.choice([200, 500, 1000])
            return self.desk.leverage(fraction, account, MarketIndex=market_id, MarginMode=mode)
        body = {"MarketIndex": market_id, "USDCAmount": self.random.randint(1, 50 * USDC)}
        return self.desk.send(TxType.UPDATE_MARGIN, account, **body, Direction=self.random.randrange(2))

    def _transfer(self, account: int) -> Result:
        sender = self.random.choice([account, SUB])
        body: dict[str, Any] = {
            "AccountIndex": None,
            "FromAccountIndex": sender,
            "ToAccountIndex": self.random.choice([ALICE, BOB, SUB, POOL]),
            "AssetIndex": self.random.choice([COLLATERAL_ASSET, COLLATERAL_ASSET, ETH_ASSET]),
            "FromRouteType": self.random.randrange(2),
            "ToRouteType": self.random.randrange(2),
            "Amount": self.random.randint(1, 150 * USDC),
            "USDCFee": self.random.choice([0, TRANSFER_FEE_MICRO]),
            "Memo": [0] * 32,
            "L1Sig": "0x" + "ab" * 65,
        }
        return self.desk.send(TxType.TRANSFER, sender, **body)

    def _withdraw(self, account: int) -> Result:
        if self.random.random() < 0.4:
            return self.desk.apply(Deposit(account, self.random.randint(1, 300 * USDC)))
        if self.random.random() < 0.3:
            return self.desk.send(41, account, AccountTradingMode=self.random.randrange(2))
        asset, route = self.random.choice([COLLATERAL_ASSET, ETH_ASSET]), self.random.randrange(2)
        body = {"AccountIndex": None, "FromAccountIndex": account, "AssetIndex": asset, "RouteType": route}
        return self.desk.send(TxType.WITHDRAW, account, **body, Amount=self.random.randint(1, 20 * USDC))

    def _pool(self, _account: int) -> Result:
        tx_type = self.random.choice([TxType.MINT_SHARES, TxType.BURN_SHARES])
        shares, who = self.random.randint(1, 200_000), self.random.choice([ALICE, BOB, SUB])
        return self.desk.send(tx_type, who, PublicPoolIndex=POOL, ShareAmount=shares)

    def check(self) -> None:
        """Insist on every law that holds at all times."""
        engine = self.desk.engine
        assert engine.bridged[COLLATERAL_ASSET] == everything_micro(engine)
        assert engine.bridged[ETH_ASSET] == units_of(engine, ETH_ASSET)
        assert engine.funding_pot_micro >= 0
        for market_id in engine.markets:
            assert 0 == sum(each.positions[market_id].lots for each in engine.accounts() if each.holds(market_id))
        for index in (*TRADERS, SUB):
            account = self.desk.account(index)
            assert account.collateral_micro >= 0 or any(row.lots for row in account.positions.values())
            risks = [engine.cross_risk(index), *engine.isolated_risks(index).values()]
            assert all(risk.health < Health.FULL_LIQUIDATION for risk in risks)
            for row in account.positions.values():
                assert row.lots or not row.allocated_micro
        shares = sum(each.shares[POOL].shares for each in engine.accounts() if POOL in each.shares)
        pool = self.desk.account(POOL).pool
        assert pool is not None
        assert pool.total_shares == pool.operator_shares + shares


@pytest.mark.parametrize("seed", [101, 102, 103])
def test_whatever_happens_nothing_is_created_or_lost(seed: int, tmp_path: Path) -> None:
    print("seed", seed)
    world = World(tmp_path / "journal", seed)
    for _ in range(700):
        world.step()
        world.check()
    print(dict(world.seen))
    acts = ("_trade", "_margin", "_transfer", "_withdraw", "_pool", "_fund")
    assert all(world.seen[f"{act} ok"] for act in acts)
    assert world.seen["trade"] > 100
    assert world.seen["liquidation"] + world.seen["deleverage"] > 0
    assert world.seen["funding"] > 100
    world.desk.journal.close()
    with Journal(tmp_path / "journal") as journal:
        assert state(world.desk.engine) == state(journal.restore())
