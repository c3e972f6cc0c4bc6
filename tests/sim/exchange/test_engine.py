"""The engine: what is made once, and ids that follow from the seed."""

from __future__ import annotations

from qubx_lighter.constants import Code, TxType
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.model.commands import CreateAccount, CreateMarket, Deposit, PlaceOrder, RegisterKey
from qubx_lighter.sim.model.events import OrderChanged, PositionChanged
from tests.sim.desk import ALICE, ETH, FEED, FUNDS, KEY, START, Desk


def test_markets_accounts_and_keys_are_made_once(desk: Desk) -> None:
    codes = [
        desk.apply(CreateMarket(ETH)).code,
        desk.apply(CreateAccount(ALICE, "0x1", 1)).code,
        desk.apply(RegisterKey(404, KEY, "0x1")).code,
        desk.apply(RegisterKey(ALICE, 255, "0x1")).code,
        desk.apply(Deposit(404, 1)).code,
    ]
    assert [20001, 20001, 21100, 20001, 21100] == codes
    assert FUNDS == desk.account().collateral_micro


def test_deposits_and_withdrawals_change_collateral(desk: Desk) -> None:
    assert desk.apply(Deposit(ALICE, 5)).ok
    assert [PositionChanged(ALICE, 255, desk.now)] == desk.engine.drain()
    assert Code.BELOW_INITIAL_MARGIN == desk.apply(Deposit(ALICE, -FUNDS - 6)).code
    assert desk.apply(Deposit(ALICE, -FUNDS - 5)).ok
    assert 0 == desk.account().collateral_micro


def test_accounts_are_found_by_owner() -> None:
    desk = Desk()
    assert [ALICE] == [account.account_index for account in desk.engine.accounts_of(f"0X{ALICE:040X}")]
    assert [] == desk.engine.accounts_of("0xnobody")
    assert [1, 2, 8, 9] == [account.account_index for account in desk.engine.accounts()]
    assert desk.engine.account(404) is None


def test_same_seed_same_ids_other_seed_others() -> None:
    def ids(seed: int) -> tuple[object, ...]:
        desk = Desk(seed=seed)
        desk.place(FEED, "sell", 100, 300_000)
        desk.create("buy", 100, 300_000)
        trade = desk.engine.trades()[0]
        return trade.trade_id, desk.engine.book_nonce, desk.account().inactive[0].nonce

    assert ids(7) == ids(7)
    assert not set(ids(7)) & set(ids(8))


def test_an_engine_without_markets_refuses_politely() -> None:
    engine = Engine()
    engine.apply(CreateAccount(1, "0x1", FUNDS), START)
    order = PlaceOrder(account_index=1, market_id=0, is_ask=False, base_lots=1, price_ticks=1)
    assert Code.INVALID_MARKET == engine.apply(order, START).code
    assert [] == [event for event in engine.drain() if isinstance(event, OrderChanged)]
    assert TxType.CREATE_ORDER not in engine.markets
