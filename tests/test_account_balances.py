"""Balances, margin and whose account it is, end to end: isolated margin, purses, spot assets, unified mode, pools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qubx.core.basics import OrderOrigin, OrderStatus
from qubx.core.events import AccountSnapshot, AccountSnapshotEvent, BalanceUpdateEvent, DealEvent

from qubx_lighter.connector import LighterConnector
from qubx_lighter.sim.faults import Kind
from qubx_lighter.sim.model import commands
from tests.live import ETH, MAKER, US, Desk, LiveVenue, desk_on

SPOT = 2048
COIN, USDC = 1, 3
SPOT_NAME = "SPOT:ETH-USDC"
MICRO = 10**6


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[LiveVenue]:
    """Run a venue with ETH both ways; we have 2 ETH and 9,000 USDC beside the collateral of 10,000."""
    venue = LiveVenue(tmp_path, markets=["ETH", "ETH/USDC"])
    for account, coins, money in ((US, 2 * 10**8, 9_000 * MICRO), (MAKER, 10**12, 10**13)):
        assert venue.execute(commands.DepositAsset(account, COIN, coins)).ok
        assert venue.execute(commands.DepositAsset(account, USDC, money)).ok
    venue.quote(ETH, 299_900, 300_100)
    venue.quote(SPOT, 299_900, 300_100)
    yield venue
    venue.close()


@pytest.fixture
def desk(venue: LiveVenue) -> Iterator[Desk]:
    with desk_on(venue) as desk:
        yield desk


def connector(desk: Desk) -> LighterConnector:
    assert isinstance(desk.connector, LighterConnector)
    return desk.connector


def money(venue: LiveVenue) -> float:
    """All USDC of ours at the venue, wherever it lies, without unrealised profit."""

    def read() -> float:
        account = venue.engine.account(US)
        allocated = sum(row.allocated_micro for row in account.positions.values())
        return float((account.collateral_micro + allocated + account.assets[USDC].balance) / MICRO)

    return venue.ask(read)  # type: ignore[no-any-return]


def total(desk: Desk, currency: str = "USDC") -> float:
    return round(desk.account.get_balance(currency, "LIGHTER").total, 8)


def snapshot(desk: Desk) -> AccountSnapshot:
    """Ask for a snapshot."""
    asked = desk.time.time()
    desk.connector.request_snapshot()
    told: list[AccountSnapshot] = []

    def come() -> bool:
        told[:] = [event.snapshot for event in desk.of_type(AccountSnapshotEvent) if event.snapshot.as_of >= asked]
        return bool(told)

    desk.until(come)
    return told[-1]


def test_isolated_margin_moves_to_a_position_and_back_and_stays_ours(desk: Desk, venue: LiveVenue) -> None:
    eth = desk.instrument("ETH-USDC")
    assert desk.connector.set_margin_mode(eth, "isolated")
    desk.until(lambda: desk.connector.get_margin_mode(eth) == "isolated")
    desk.until_status(desk.submit("ETH-USDC", 1.0, 3001.0, tif="ioc"), OrderStatus.FILLED)
    desk.until(lambda: total(desk) == money(venue))
    assert 18_999 < total(desk) < 19_000, "the fee alone is gone"
    desk.until(lambda: connector(desk).add_isolated_margin(eth, 500))  # once its position is known
    desk.until(lambda: venue.ask(lambda: venue.engine.account(US).positions[ETH].allocated_micro) > 500 * MICRO)
    told = snapshot(desk)
    (usdc,) = [row for row in told.balances or [] if row.currency == "USDC"]
    assert money(venue) == round(usdc.total, 6) == total(desk)
    (position,) = told.positions or []
    assert ("isolated", position.initial_margin) == (position.margin_mode, told.total_initial_margin)
    assert position.maint_margin == told.total_maint_margin
    risk = venue.ask(venue.engine.isolated_risks, US)[ETH]
    assert abs(risk.value_micro / MICRO / position.maint_margin - told.margin_ratio) < 1e-6
    cross = venue.ask(venue.engine.cross_risk, US)
    assert (cross.value_micro - cross.initial_micro) / MICRO == told.available_margin == told.withdrawable
    desk.until_status(desk.submit("ETH-USDC", -1.0, 2999.0, tif="ioc", reduce_only=True), OrderStatus.FILLED)
    desk.until(lambda: total(desk) == money(venue))
    assert abs(-2.0 - desk.account.get_position(eth).r_pnl) < 1e-9
    assert total(desk) == round(total_of(snapshot(desk), "USDC"), 8)


def total_of(told: AccountSnapshot, currency: str) -> float:
    return next(row.total for row in told.balances or [] if row.currency == currency)


def test_what_is_withdrawn_and_deposited_is_told_once_at_the_venues_time(desk: Desk, venue: LiveVenue) -> None:
    start = desk.time.time()
    connector(desk).act(lambda a: a.withdraw(amount=1500))
    desk.until(lambda: total(desk) == money(venue) == 17_500)
    venue.execute(commands.DepositAsset(US, COIN, 10**8))
    desk.until(lambda: total(desk, "ETH") == 3.0)
    pushes = desk.of_type(BalanceUpdateEvent)
    assert {"USDC", "ETH"} == {event.balance.currency for event in pushes}
    assert all(event.as_of - start < np.timedelta64(20, "s") for event in pushes)
    told = snapshot(desk)
    assert (17_500.0, 3.0) == (total_of(told, "USDC"), total_of(told, "ETH"))


def test_a_spot_holding_is_a_balance_that_qubx_makes_a_position_of(desk: Desk, venue: LiveVenue) -> None:
    spot = desk.instrument(SPOT_NAME)
    assert (2.0, 0.0) == (total(desk, "ETH"), desk.account.get_position(spot).quantity)
    snapshot(desk)  # the position is known now, since a strategy asked for it
    assert 2.0 == desk.account.get_position(spot).quantity
    desk.until_status(desk.submit(SPOT_NAME, 1.0, 3001.0, tif="ioc"), OrderStatus.FILLED)
    held = venue.ask(lambda: venue.engine.account(US).assets[COIN].balance) / 10**8
    desk.until(lambda: total(desk, "ETH") == held)
    assert 3.0 - 0.0002 == held == desk.account.get_position(spot).quantity
    resting = desk.until_status(desk.submit(SPOT_NAME, -1.5, 3100.0), OrderStatus.ACCEPTED)
    desk.until(lambda: desk.account.get_balance("ETH", "LIGHTER").locked == 1.5)
    assert round(held - 1.5, 8) == round(desk.account.get_balance("ETH", "LIGHTER").free, 8)
    told = snapshot(desk)
    assert told.equity is None, "what coins are worth is Qubx's own reckoning"
    assert (total(desk), held) == (money(venue), total_of(told, "ETH"))
    desk.cancel(resting)
    desk.until(lambda: desk.account.get_balance("ETH", "LIGHTER").locked == 0.0)


@pytest.mark.parametrize("late", ["account_all_trades", "account_all_assets", "user_stats", "account_all_orders"])
def test_the_money_of_a_spot_trade_is_counted_once_in_whatever_order_its_frames_come(
    late: str, desk: Desk, venue: LiveVenue
) -> None:
    for amount in (1.0, -0.5, 0.5):
        venue.fault(Kind.REORDER, f"{late}:{US}")
        price = 3001.0 if amount > 0 else 2999.0
        known = len(desk.of_type(DealEvent))
        desk.until_status(desk.submit(SPOT_NAME, amount, price, tif="ioc"), OrderStatus.FILLED)
        desk.until(lambda: len(desk.of_type(DealEvent)) > known)  # noqa: B023 - called before the next turn
        desk.until(lambda: total(desk) == money(venue))
        desk.until_status(desk.submit("ETH-USDC", amount / 10, price, tif="ioc"), OrderStatus.FILLED)
        desk.until(lambda: total(desk) == money(venue))


def test_in_unified_mode_spot_and_perpetuals_share_the_money(venue: LiveVenue) -> None:
    venue.ask(setattr, venue.engine.account(US), "is_unified", True)  # as the web site does for an account
    with desk_on(venue) as desk:
        told = snapshot(desk)
        row = next(row for row in told.balances or [] if row.currency == "USDC")
        assert row.total > 0
        assert told.collateral_equity == told.available_margin == told.withdrawable == 10_000
        desk.until_status(desk.submit("ETH-USDC", 1.0, 3001.0, tif="ioc"), OrderStatus.FILLED)
        desk.until_status(desk.submit("ETH-USDC", -1.0, 2999.0, tif="ioc"), OrderStatus.FILLED)
        spent = round(row.total - 2.0 - 6000 * 200e-6, 6)
        desk.until(lambda: round(total(desk), 6) == spent)
        assert spent == round(total_of(snapshot(desk), "USDC"), 6)


@pytest.mark.parametrize("kind", ["sub-account", "public pool"])
def test_a_strategy_runs_on_a_sub_account_or_a_pool_by_its_index(kind: str, desk: Desk, venue: LiveVenue) -> None:
    known = set(venue.ask(lambda: [account.account_index for account in venue.engine.accounts()]))
    if kind == "sub-account":
        connector(desk).act(lambda a: a.create_sub_account())
    else:
        connector(desk).act(
            lambda a: a.create_public_pool(deposit=2000, operator_fee_percent=10, min_operator_share_percent=10)
        )
    made: list[Any] = []

    def find() -> bool:
        ours = venue.ask(venue.engine.accounts_of, venue.account.l1_address)
        made[:] = [one for one in ours if one.account_index not in known]
        return bool(made)

    desk.until(find)
    index = made[0].account_index
    venue.execute(commands.Deposit(index, 3000 * MICRO))
    venue.execute(commands.RegisterKey(index, 4, venue.account.public_key))
    venue.execute(commands.PlaceOrder(index, ETH, False, 1000, 290_000, client_order_index=77))
    venue.accounts_file.write_text(
        venue.accounts_file.read_text().replace(f"account_index = {US}", f"account_index = {index}")
    )
    with desk_on(venue) as other:
        foreign: Any = other.account.get_order("lighter_77")
        assert OrderOrigin.EXTERNAL is foreign.origin
        other.cancel(foreign)
        other.until_status(foreign, OrderStatus.CANCELED)
        order = other.until_status(other.submit("ETH-USDC", 0.5, 3001.0, tif="ioc"), OrderStatus.FILLED)
        other.until(lambda: total(other) == venue.ask(lambda: made[0].collateral_micro) / MICRO)
        assert 0.5 == other.account.get_position(order.instrument).quantity
        assert {5000} == {venue.ask(lambda: made[0].positions[ETH].lots)}
    assert 0.0 == desk.account.get_position(order.instrument).quantity, "the other account's trades are not ours"
