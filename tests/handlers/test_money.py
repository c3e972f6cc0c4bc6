"""Balances and margin figures, from frames and rows as the venue writes them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from qubx.core.basics import Balance

from qubx_lighter.handlers.money import Figures, Push, Wallet, figures
from qubx_lighter.protocol import wire

TIME = np.datetime64("2026-10-12T16:50:39.091234", "ns")
LATER = TIME + np.timedelta64(1, "s")
ACCOUNT = {
    "index": 5,
    "l1_address": "0x1",
    "collateral": "1000.000000",
    "available_balance": "905.000000",
    "total_asset_value": "1065.0000000001",
    "cross_asset_value": "1010.000000",
    "cross_initial_margin_requirement": "110.000000",
    "cross_maintenance_margin_requirement": "20.000000",
    "account_trading_mode": 0,
    "positions": [],
    "assets": [],
}
USDC = {
    "symbol": "USDC",
    "asset_id": 3,
    "balance": "0.000000",
    "locked_balance": "0.000000",
    "margin_balance": "1000.0",
}
ETH = {"symbol": "ETH", "asset_id": 1, "balance": "2.50000000", "locked_balance": "0.50000000", "margin_balance": "0"}


def account_row(**changes: Any) -> wire.AccountRow:
    fields = {name: value for name, value in (ACCOUNT | changes).items() if value is not None}
    return wire.decode(wire.AccountRow, json.dumps(fields).encode())


def asset_row(row: dict[str, Any], **changes: Any) -> wire.AssetRow:
    return wire.decode(wire.AssetRow, json.dumps(row | changes).encode())


def position_row(market_id: int, **changes: Any) -> dict[str, Any]:
    return {
        "market_id": market_id,
        "sign": 1,
        "position": "1.0000",
        "avg_entry_price": "1000.00",
        "position_value": "1000.000000",
        "unrealized_pnl": "0.000000",
        "initial_margin_fraction": "10.00",
        "margin_mode": 0,
        "allocated_margin": "0.000000",
        "liquidation_price": "",
    } | changes


def stats(collateral: str, available: str, **more: Any) -> wire.UserStats:
    body = {"collateral": collateral, "portfolio_value": collateral, "available_balance": available} | more
    return wire.decode(wire.UserStats, json.dumps(body).encode())


def amounts(balance: Balance) -> tuple[str, float, float, float]:
    return balance.currency, balance.total, balance.free, balance.locked


def told(pushes: list[Push]) -> list[tuple[str, float, float, float]]:
    return [amounts(push.balance) for push in pushes]


@pytest.fixture
def wallet() -> Wallet:
    return Wallet("LIGHTER", "USDC")


# --- snapshots -------------------------------------------------------------------------------------------------------


def test_the_collateral_is_counted_without_unrealized_profit(wallet: Wallet) -> None:
    (balance,) = wallet.of_account(account_row(assets=[USDC]), TIME)
    assert ("USDC", 1000.0, 900.0, 100.0) == amounts(balance)
    assert ("LIGHTER", TIME) == (balance.exchange, balance.last_update_time)


def test_margin_that_is_allocated_to_isolated_positions_is_still_ours(wallet: Wallet) -> None:
    row = position_row(1, margin_mode=1, allocated_margin="50.000000")
    (balance,) = wallet.of_account(account_row(assets=[USDC], positions=[row]), TIME)
    assert ("USDC", 1050.0, 900.0, 150.0) == amounts(balance)


def test_a_spot_balance_of_the_collateral_adds_to_it_and_what_orders_lock_is_not_free(wallet: Wallet) -> None:
    assets = [USDC | {"balance": "30.000000", "locked_balance": "10.000000"}]
    (balance,) = wallet.of_account(account_row(assets=assets), TIME)
    assert ("USDC", 1030.0, 920.0, 110.0) == amounts(balance)


def test_every_asset_has_its_balance(wallet: Wallet) -> None:
    balances = wallet.of_account(account_row(assets=[USDC, ETH]), TIME)
    assert [("USDC", 1000.0, 900.0, 100.0), ("ETH", 2.5, 2.0, 0.5)] == [amounts(row) for row in balances]


def test_an_asset_that_was_sold_is_told_as_zero_and_one_never_held_is_not(wallet: Wallet) -> None:
    lit = {"symbol": "LIT", "asset_id": 2, "balance": "0", "locked_balance": "0", "margin_balance": "0"}
    assert ["USDC", "ETH"] == [row.currency for row in wallet.of_account(account_row(assets=[USDC, ETH, lit]), TIME)]
    sold = ETH | {"balance": "0.00000000", "locked_balance": "0.00000000"}
    balances = wallet.of_account(account_row(assets=[USDC, sold, lit]), LATER)
    assert [("USDC", 1000.0), ("ETH", 0.0)] == [(row.currency, row.total) for row in balances]


def test_in_unified_mode_the_assets_margin_balance_is_the_collateral(wallet: Wallet) -> None:
    unified = account_row(
        account_trading_mode=1,
        collateral="1500.000000",  # with other assets' worth in it
        assets=[USDC | {"locked_balance": "40.000000"}, ETH | {"margin_balance": "1.00000000"}],
    )
    balances = wallet.of_account(unified, TIME)
    assert [("USDC", 1000.0, 860.0, 140.0), ("ETH", 3.5, 3.0, 0.5)] == [amounts(row) for row in balances]


def test_an_account_row_of_2025_has_fewer_fields(wallet: Wallet) -> None:
    row = account_row(
        total_asset_value=None,
        cross_asset_value=None,
        cross_initial_margin_requirement=None,
        cross_maintenance_margin_requirement=None,
        account_trading_mode=None,
        assets=None,
        positions=[position_row(1, unrealized_pnl="5.000000")],
    )
    assert [("USDC", 1000.0, 905.0, 95.0)] == [amounts(balance) for balance in wallet.of_account(row, TIME)]
    assert Figures(
        equity=1005.0,
        available_margin=905.0,
        margin_ratio=1005.0 / 12.0,
        withdrawable=905.0,
        total_maint_margin=12.0,
        total_initial_margin=100.0,
        collateral_equity=None,
    ) == figures(row, "USDC", lambda market_id: 0.012, spot_assets=False)


# --- pushes ----------------------------------------------------------------------------------------------------------


def test_nothing_is_pushed_before_all_parts_are_known(wallet: Wallet) -> None:
    assert [] == wallet.on_stats(stats("1000.0", "900.0"), TIME)
    assert [] == wallet.on_positions({}, complete=True)
    assert [("USDC", 1030.0, 930.0, 100.0)] == told(
        wallet.on_assets([asset_row(USDC, balance="30.0")], TIME, complete=True)
    )


def test_a_push_adds_the_newest_of_each_part(wallet: Wallet) -> None:
    wallet.of_account(account_row(assets=[USDC]), TIME)
    assert [("USDC", 990.0, 890.0, 100.0)] == told(wallet.on_stats(stats("990.0", "890.0"), TIME))
    isolated = {1: wire.decode(wire.PositionRow, json.dumps(position_row(1, allocated_margin="25.5")).encode())}
    (push,) = wallet.on_positions(isolated, complete=False)
    assert (("USDC", 1015.5, 890.0, 125.5), TIME) == (amounts(push.balance), push.as_of)
    assert [] == wallet.on_positions(isolated, complete=False), "a row that says nothing new about money"
    (push,) = wallet.on_assets([asset_row(USDC, balance="4.5")], LATER, complete=False)
    assert (("USDC", 1020.0, 894.5, 125.5), LATER) == (amounts(push.balance), push.as_of)


def test_a_push_is_as_new_as_the_spot_balance_in_it_and_a_later_one_never_older(wallet: Wallet) -> None:
    wallet.of_account(account_row(assets=[USDC]), TIME)
    first, second, third, fourth, fifth = (TIME + np.timedelta64(step, "ms") for step in range(1, 6))
    pushes = wallet.on_stats(stats("1000.0", "900.0"), first)
    pushes += wallet.on_assets([asset_row(USDC, balance="30.0")], third, complete=False)  # a spot trade's
    pushes += wallet.on_stats(stats("999.0", "899.0"), second)
    pushes += wallet.on_assets([asset_row(USDC, balance="30.0", locked_balance="5.0")], fourth, complete=False)
    pushes += wallet.on_stats(stats("998.0", "898.0"), fifth)
    assert [(1000.0, first), (1030.0, third), (1029.0, third), (1029.0, third), (1028.0, fifth)] == [
        (push.balance.total, push.as_of) for push in pushes
    ], "what says nothing new of the spot balance vouches for no deal of a perpetual"


def test_the_free_margin_of_isolated_positions_is_not_free(wallet: Wallet) -> None:
    wallet.of_account(account_row(assets=[USDC]), TIME)
    body = stats("1000.0", "950.0", cross_stats={"available_balance": "900.0", "leverage": "0.00"})
    assert [("USDC", 1000.0, 900.0, 100.0)] == told(wallet.on_stats(body, TIME))


def test_margin_of_isolated_positions_counts_once(wallet: Wallet) -> None:
    positions = [position_row(1, allocated_margin="50.0")]
    wallet.of_account(account_row(assets=[USDC], positions=positions, collateral="950.0"), TIME)
    body = stats("1000.0", "950.0", cross_stats={"available_balance": "900.0", "collateral": "950.0"})
    assert [("USDC", 1000.0, 900.0, 100.0)] == told(wallet.on_stats(body, TIME))


def test_the_figures_at_the_top_count_where_cross_margin_has_none_of_its_own(wallet: Wallet) -> None:
    wallet.of_account(account_row(assets=[USDC]), TIME)
    body = stats("1000.0", "950.0", cross_stats={"leverage": "0.00"})
    assert [("USDC", 1000.0, 950.0, 50.0)] == told(wallet.on_stats(body, TIME))


def test_pushes_of_assets_carry_the_venues_time(wallet: Wallet) -> None:
    wallet.of_account(account_row(assets=[USDC]), TIME)
    (push,) = wallet.on_assets([asset_row(ETH)], LATER, complete=False)
    assert (("ETH", 2.5, 2.0, 0.5), LATER) == (amounts(push.balance), push.as_of)


def test_an_asset_that_a_complete_list_lacks_is_gone(wallet: Wallet) -> None:
    wallet.on_assets([asset_row(USDC), asset_row(ETH)], TIME, complete=True)
    assert [("ETH", 0.0, 0.0, 0.0)] == told(wallet.on_assets([asset_row(USDC)], LATER, complete=True))


def test_in_unified_mode_the_total_is_as_old_as_the_assets_are(wallet: Wallet) -> None:
    wallet.of_account(account_row(assets=[USDC], account_trading_mode=1), TIME)
    wallet.on_positions({}, complete=True)
    wallet.on_assets([asset_row(USDC)], TIME, complete=True)
    (push,) = wallet.on_stats(stats("1300.0", "1200.0", account_trading_mode=1), LATER)
    assert (("USDC", 1000.0), TIME) == (amounts(push.balance)[:2], push.as_of)


# --- figures ---------------------------------------------------------------------------------------------------------


def test_the_figures_of_cross_margin_are_the_venues(wallet: Wallet) -> None:
    account = account_row(total_asset_value="1010.000000", positions=[position_row(0, unrealized_pnl="10.0")])
    assert Figures(
        equity=1010.0,
        available_margin=900.0,
        margin_ratio=50.5,
        withdrawable=900.0,
        total_maint_margin=20.0,
        total_initial_margin=110.0,
        collateral_equity=None,
    ) == figures(account, "USDC", lambda market_id: 0.012, spot_assets=False)


def test_an_isolated_position_counts_by_itself_and_the_nearest_liquidation_is_the_ratio() -> None:
    isolated = position_row(1, margin_mode=1, allocated_margin="60.0", unrealized_pnl="-5.0", position_value="1000.0")
    result = figures(account_row(positions=[isolated]), "USDC", lambda market_id: 0.012, spot_assets=False)
    assert (1065.0, 900.0) == (result.equity, result.available_margin)
    assert 55.0 / 12.0 == result.margin_ratio
    assert (32.0, 170.0) == (result.total_maint_margin, result.total_initial_margin)


def test_without_margin_requirements_the_ratio_is_100() -> None:
    account = account_row(cross_maintenance_margin_requirement="0.000000")
    assert 100.0 == figures(account, "USDC", lambda market_id: 0.012, spot_assets=False).margin_ratio


def test_unrealized_profit_cannot_be_withdrawn_nor_can_what_is_not_there() -> None:
    rich = account_row(cross_asset_value="5000.000000")
    assert 1000.0 == figures(rich, "USDC", lambda market_id: 0.012, spot_assets=False).withdrawable
    poor = account_row(cross_asset_value="50.000000")
    result = figures(poor, "USDC", lambda market_id: 0.012, spot_assets=False)
    assert (0.0, -60.0) == (result.withdrawable, result.available_margin)


def test_spot_assets_leave_the_equity_to_qubx_and_a_spot_balance_of_the_collateral_is_in_it() -> None:
    account = account_row(assets=[USDC | {"balance": "35.0"}])
    assert 1100.0 == figures(account, "USDC", lambda market_id: 0.012, spot_assets=False).equity
    assert figures(account, "USDC", lambda market_id: 0.012, spot_assets=True).equity is None


def test_unified_mode_knows_what_assets_are_worth_as_collateral() -> None:
    account = account_row(account_trading_mode=1)
    assert 1010.0 == figures(account, "USDC", lambda market_id: 0.012, spot_assets=False).collateral_equity
