"""Deposits, withdrawals, transfers and pools as the venue writes them."""

from __future__ import annotations

from typing import Final

from qubx_lighter.constants import Route
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.exchange.transfers import WITHDRAWAL_DELAY_S
from qubx_lighter.sim.exchange.view import View
from qubx_lighter.sim.model.records import BRIDGE_DEPOSIT, BRIDGE_WITHDRAWAL, MoneyMove
from qubx_lighter.sim.wire.account_rows import account_row, share_rows
from qubx_lighter.sim.wire.asset_rows import account_assets, units_text
from qubx_lighter.sim.wire.texts import MICRO, Row, micro_text, percent_text

_OF_SUB_ACCOUNT: Final = (
    "code",
    "account_type",
    "account_trading_mode",
    "index",
    "l1_address",
    "cancel_all_time",
    "total_order_count",
    "total_isolated_order_count",
    "pending_order_count",
    "available_balance",
    "status",
    "collateral",
    "transaction_time",
)
_ROUTES: Final = {Route.PERPS: "perps", Route.SPOT: "spot"}


def bridge_row(view: View, move: MoneyMove, now: int) -> Row:
    """Write a deposit or withdrawal; the latter can be claimed on the chain after a while. Times in µs."""
    row: Row = {
        "id": str(move.move_id),
        "asset_id": move.money.asset_id,
        "amount": units_text(view.assets[move.money.asset_id], move.money.units),
        "timestamp": move.time // 1000,
        "status": "completed",
        "l1_tx_hash": "",
    }
    if move.kind == BRIDGE_WITHDRAWAL:
        waits = now < move.time + WITHDRAWAL_DELAY_S * MICRO
        row |= {"status": "pending" if waits else "claimable", "type": "secure"}
    return row


def transfer_row(view: View, move: MoneyMove) -> Row:
    """Write a transfer."""
    money = move.money
    sender, receiver = view.account(money.from_account), view.account(money.to_account)
    assert sender is not None, "it had the money"
    assert receiver is not None, "it has the money"
    return {
        "id": str(move.move_id),
        "asset_id": money.asset_id,
        "amount": units_text(view.assets[money.asset_id], money.units),
        "fee": micro_text(money.fee_micro),
        "timestamp": move.time // 1000,
        "type": move.kind,
        "from_l1_address": sender.l1_address,
        "to_l1_address": receiver.l1_address,
        "from_account_index": money.from_account,
        "to_account_index": money.to_account,
        "from_route": _ROUTES[Route(money.from_route)],
        "to_route": _ROUTES[Route(money.to_route)],
        "tx_hash": move.tx_hash,
    }


def is_transfer(move: MoneyMove) -> bool:
    """Tell whether a line of the record is between accounts."""
    return move.kind not in (BRIDGE_DEPOSIT, BRIDGE_WITHDRAWAL)


def sub_account_row(view: View, account: Account) -> Row:
    """Write an account as the list of an owner's accounts does: in short."""
    row = account_row(view, account)
    return {name: row[name] for name in _OF_SUB_ACCOUNT}


def pool_row(view: View, account: Account, holder: Account | None) -> Row:
    """Write a pool, and what an account holds of it; performance figures are those of a pool without a past."""
    pool = account.pool
    assert pool is not None, "only of pools"
    value = micro_text(view.total_value_micro(account.account_index))
    row: Row = {
        "code": 0,
        "account_index": account.account_index,
        "account_type": int(account.account_type),
        "master_account_index": account.master_index,
        "name": f"Pool {account.account_index}",
        "l1_address": account.l1_address,
        "created_at": account.created_at // MICRO,
        "status": int(pool.is_frozen),
        "operator_fee": percent_text(pool.operator_fee_ppm),
        "total_asset_value": value,
        "total_perps_value": value,
        "total_spot_value": micro_text(0),
        "total_shares": pool.total_shares,
        "annual_percentage_yield": 0,
        "sharpe_ratio": 0,
        "assets": list(account_assets(view, account).values()),
    }
    held = (
        [share for share in share_rows(holder) if share["public_pool_index"] == account.account_index] if holder else []
    )
    if held:
        row["account_share"] = held[0]
    return row
