"""Accounts, their positions and figures, and what they are told, as the venue writes them, with every field that today's wire has.

Fields about what this venue does not have (integrators) hold what the venue sends for accounts without any.
"""

from __future__ import annotations

from datetime import UTC, datetime

from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.accounts.margin import Risk, is_isolated
from qubx_lighter.sim.exchange.view import View
from qubx_lighter.sim.model.records import LIQUIDATION, PENDING, Notification, Pool, Position, TriggerStatus
from qubx_lighter.sim.model.specs import MarketSpec
from qubx_lighter.sim.wire.texts import MICRO, Row, decimal_text, micro_text, percent_text, price_text, size_text


def entry_ticks(spec: MarketSpec, position: Position) -> int:
    """Give the average price of a position, rounded half up; 0 for a flat one."""
    if not position.lots:
        return 0
    scale = 10 ** (spec.price_decimals + spec.size_decimals)
    ticks: int = (2 * position.entry_quote_micro * scale // (abs(position.lots) * MICRO) + 1) // 2
    return ticks


def position_row(view: View, account: Account, position: Position, mark_ticks: int = 0) -> Row:
    """Write a position, at today's mark price if no other is given; a flat one has size zero and sign 1."""
    spec = view.markets[position.market_id]
    lots, mark = abs(position.lots), mark_ticks or view.mark_price_ticks(position.market_id)
    orders = [order for order in account.orders.values() if order.market_id == position.market_id]
    pending = sum(order.status == PENDING for order in orders)
    tied = sum(order.reduce_only and order.trigger_status != TriggerStatus.PARENT_ORDER for order in orders)
    liquidation_ticks = view.liquidation_price_ticks(account.account_index, position.market_id)
    paid = {"total_funding_paid_out": micro_text(position.funding_paid_micro)} if position.funding_paid_micro else {}
    return {
        "market_id": position.market_id,
        "symbol": spec.symbol,
        "initial_margin_fraction": decimal_text(position.initial_margin_fraction, 2),
        "open_order_count": len(orders) - pending,
        "pending_order_count": pending,
        "position_tied_order_count": tied,
        "sign": -1 if position.lots < 0 else 1,
        "position": size_text(spec, lots),
        "avg_entry_price": price_text(spec, entry_ticks(spec, position)),
        "position_value": micro_text(view.quote_micro(position.market_id, mark, lots)),
        "unrealized_pnl": micro_text(view.unrealized_micro(position, mark) if lots else 0),
        "realized_pnl": micro_text(position.realized_pnl_micro),
        "liquidation_price": price_text(spec, liquidation_ticks) if liquidation_ticks else "0",
        **paid,
        "margin_mode": position.margin_mode,
        "allocated_margin": micro_text(position.allocated_micro),
        "total_discount": micro_text(0),
        "margin_set_flag": 0,
    }


def position_rows(view: View, account: Account) -> dict[str, Row]:
    """Write the positions in perpetuals by market id, flat ones too."""
    return {
        str(market_id): position_row(view, account, row)
        for market_id, row in account.positions.items()
        if view.markets[market_id].is_perpetual
    }


def option_position_rows(view: View, account: Account) -> list[Row]:
    """Write the positions in binary options, those that are open."""
    return [
        {
            "market_id": market_id,
            "entry_quote": micro_text(row.entry_quote_micro),
            "avg_entry_price": price_text(view.markets[market_id], entry_ticks(view.markets[market_id], row)),
            "sign": -1 if row.lots < 0 else 1,
            "size": size_text(view.markets[market_id], abs(row.lots)),
        }
        for market_id, row in account.positions.items()
        if row.lots and not view.markets[market_id].is_perpetual
    ]


def stats_row(view: View, account: Account) -> Row:
    """Write an account's figures: those of its cross positions, and those of all, which come without a name too."""
    index = account.account_index
    cross, isolated = view.cross_risk(index), view.isolated_risks(index)
    notionals = {
        row.market_id: view.quote_micro(row.market_id, view.mark_price_ticks(row.market_id), abs(row.lots))
        for row in account.positions.values()
    }
    everything = sum(notionals.values())
    apart = sum(notionals[market_id] for market_id in isolated)
    total = cross._replace(
        collateral_micro=cross.collateral_micro + sum(risk.collateral_micro for risk in isolated.values()),
        value_micro=cross.value_micro + sum(risk.value_micro for risk in isolated.values()),
        initial_micro=cross.initial_micro + sum(risk.initial_micro for risk in isolated.values()),
    )
    of_all = _figures(total, everything, view.available_balance_micro(index))
    of_cross = _figures(cross, everything - apart, cross.value_micro - cross.initial_micro)
    if account.is_unified:
        of_all, of_cross = (figures | {"collateral": _collateral_text(account)} for figures in (of_all, of_cross))
    return of_all | {"cross_stats": of_cross, "total_stats": of_all, "account_trading_mode": int(account.is_unified)}


def _figures(risk: Risk, notional_micro: int, available_micro: int) -> Row:
    value = risk.value_micro
    return {
        "collateral": micro_text(risk.collateral_micro),
        "portfolio_value": micro_text(value),
        "leverage": decimal_text(notional_micro * 100 // value if value > 0 else 0, 2),
        "available_balance": micro_text(available_micro),
        "margin_usage": decimal_text(risk.initial_micro * 10_000 // value if value > 0 else 0, 2),
        "buying_power": "0",  # always zero in captures
    }


def _collateral_text(account: Account) -> str:
    """Write the collateral; in unified mode clients find it in the asset's margin balance alone (nautilus_trader #4246)."""
    return micro_text(0 if account.is_unified else account.collateral_micro)


def account_row(view: View, account: Account) -> Row:
    """Write an account as ``GET account`` shows it, but for its ``assets``."""
    index = account.account_index
    cross = view.cross_risk(index)
    isolated_ids = {row.market_id for row in account.positions.values() if is_isolated(row)}
    return {
        "code": 0,
        "account_type": int(account.account_type),
        "account_trading_mode": int(account.is_unified),
        "index": index,
        "l1_address": account.l1_address,
        "cancel_all_time": account.cancel_all_time_ms,
        "total_order_count": len(account.orders),
        "total_isolated_order_count": sum(order.market_id in isolated_ids for order in account.orders.values()),
        "pending_order_count": sum(order.status == PENDING for order in account.orders.values()),
        "available_balance": micro_text(view.available_balance_micro(index)),
        "status": 1,
        "collateral": _collateral_text(account),
        "transaction_time": view.now,
        "account_index": index,
        "name": "",
        "description": "",
        "can_invite": False,
        "referral_points_percentage": "",
        "can_rfq": False,
        "can_rfq_market_ids": [],
        "created_at": account.created_at // MICRO,
        "metadata": {"color": ""},
        "agent_enabled": False,
        "positions": list(position_rows(view, account).values()),
        "total_asset_value": micro_text(view.total_value_micro(index)),
        "cross_asset_value": micro_text(cross.value_micro),
        "cross_initial_margin_requirement": micro_text(cross.initial_micro),
        "cross_maintenance_margin_requirement": micro_text(cross.maintenance_micro),
        "pool_info": _pool_info(account),
        "shares": share_rows(account),
        "pending_unlocks": [],
        "approved_integrators": [],
        "bo_positions": option_position_rows(view, account),
    }


def _pool_info(account: Account) -> Row:
    """Write what makes an account a pool; the SDK's model requires it of every account."""
    pool = account.pool or Pool(0, 0)
    return {
        "status": int(pool.is_frozen),
        "operator_fee": percent_text(pool.operator_fee_ppm),
        "min_operator_share_rate": decimal_text(pool.min_operator_share_rate, 2),
        "total_shares": pool.total_shares,
        "operator_shares": pool.operator_shares,
        "annual_percentage_yield": 0,
        "daily_returns": [],
        "share_prices": [],
        "sharpe_ratio": 0,
        "strategies": [],
    }


def share_rows(account: Account) -> list[Row]:
    """Write what an account holds of pools."""
    return [
        {
            "public_pool_index": pool_index,
            "shares_amount": share.shares,
            "entry_usdc": micro_text(share.principal_micro),
            "principal_amount": micro_text(share.principal_micro),
            "entry_timestamp": share.entered_at // 1000,
        }
        for pool_index, share in account.shares.items()
    ]


def notification_row(spec: MarketSpec, row: Notification) -> Row:
    """Write what an account was told of a liquidation or deleverage."""
    content = {
        "id": row.notification_id,
        "usdc_amount": micro_text(row.quote_micro),
        "size": size_text(spec, row.lots),
        "market_index": row.market_id,
        "timestamp": row.time // MICRO,
    }
    if row.kind == LIQUIDATION:
        average = (
            2 * row.quote_micro * 10 ** (spec.price_decimals + spec.size_decimals) // (row.lots * MICRO) + 1
        ) // 2
        content |= {
            "is_ask": row.is_ask,
            "price": price_text(spec, row.price_ticks),
            "avg_price": price_text(spec, average),
        }
    else:
        content["settlement_price"] = price_text(spec, row.price_ticks)
    created_at = _iso(row.time)
    return {
        "id": row.notification_id,
        "created_at": created_at,
        "updated_at": _iso(row.acknowledged_at) if row.acknowledged_at else created_at,
        "kind": row.kind,
        "account_index": row.account_index,
        "content": content,
        "ack": row.acknowledged_at > 0,
        "acked_at": _iso(row.acknowledged_at) if row.acknowledged_at else None,
    }


def _iso(time: int) -> str:
    """Write a time in µs as the venue does in texts."""
    return datetime.fromtimestamp(time // MICRO, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
