"""The engine's rows as the venue writes them: exact decimal strings, and every field that today's wire has.

Fields about what this venue does not have (integrators) hold what the venue sends for
accounts and orders without any.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from qubx_lighter.constants import CODE_OK, OrderType, TimeInForce
from qubx_lighter.sim.accounts.ledger import Account
from qubx_lighter.sim.accounts.margin import Risk, is_isolated
from qubx_lighter.sim.exchange.engine import Engine
from qubx_lighter.sim.markets.market_history import Day
from qubx_lighter.sim.model.records import (
    LIQUIDATION,
    LIQUIDATION_ORDER,
    PENDING,
    TWAP_SUB,
    Notification,
    Order,
    Pool,
    Position,
    Trade,
    TriggerStatus,
    TxRecord,
)
from qubx_lighter.sim.model.specs import MarketSpec

Row = dict[str, Any]

COLLATERAL: Final = "USDC"
_MICRO_DECIMALS: Final = 6
_MICRO: Final = 10**_MICRO_DECIMALS
_ORDER_TYPES: Final[dict[int, str]] = {
    OrderType.LIMIT: "limit",
    OrderType.MARKET: "market",
    OrderType.STOP_LOSS: "stop-loss",
    OrderType.STOP_LOSS_LIMIT: "stop-loss-limit",
    OrderType.TAKE_PROFIT: "take-profit",
    OrderType.TAKE_PROFIT_LIMIT: "take-profit-limit",
    OrderType.TWAP: "twap",
    TWAP_SUB: "twap-sub",
    LIQUIDATION_ORDER: "liquidation",
}
_TIMES_IN_FORCE: Final = {
    TimeInForce.IOC: "immediate-or-cancel",
    TimeInForce.GTT: "good-till-time",
    TimeInForce.POST_ONLY: "post-only",
}
_TX_FAILED: Final = 0
_TX_EXECUTED: Final = 2


def decimal_text(value: int, decimals: int) -> str:
    """Write ``value`` / 10 ** ``decimals`` with exactly that many decimals."""
    digits = str(abs(value)).rjust(decimals + 1, "0")
    whole = digits[:-decimals] + "." + digits[-decimals:] if decimals else digits
    return "-" + whole if value < 0 else whole


def price_text(spec: MarketSpec, ticks: int) -> str:
    """Write a price."""
    return decimal_text(ticks, spec.price_decimals)


def size_text(spec: MarketSpec, lots: int) -> str:
    """Write a size."""
    return decimal_text(lots, spec.size_decimals)


def micro_text(micro: int) -> str:
    """Write an amount of collateral."""
    return decimal_text(micro, _MICRO_DECIMALS)


def percent_text(ppm: int) -> str:
    """Write a fee rate in percent: 20 ppm is ``0.0020``."""
    return decimal_text(ppm, 4)


def level_row(spec: MarketSpec, price_ticks: int, lots: int) -> Row:
    """Write one level of a book."""
    return {"price": price_text(spec, price_ticks), "size": size_text(spec, lots)}


def order_row(spec: MarketSpec, order: Order) -> Row:
    """Write an order; its times are in seconds, but ``transaction_time`` in µs, expiry and ``trigger_time`` in ms."""
    to_trigger = (*order.to_trigger, 0, 0)
    return {
        "order_index": order.order_index,
        "client_order_index": order.client_order_index,
        "order_id": str(order.order_index),
        "client_order_id": str(order.client_order_index),
        "market_index": order.market_id,
        "owner_account_index": order.account_index,
        "initial_base_amount": size_text(spec, order.initial_lots),
        "price": price_text(spec, order.price_ticks),
        "nonce": order.nonce,
        "remaining_base_amount": size_text(spec, order.remaining_lots),
        "is_ask": order.is_ask,
        "base_size": order.remaining_lots,
        "base_price": order.price_ticks,
        "filled_base_amount": size_text(spec, order.filled_lots),
        "filled_quote_amount": micro_text(order.filled_quote_micro),
        "side": "",  # always empty on the live venue
        "type": _ORDER_TYPES[order.order_type],
        "time_in_force": _TIMES_IN_FORCE[TimeInForce(order.time_in_force)],
        "reduce_only": order.reduce_only,
        "trigger_price": price_text(spec, order.trigger_price_ticks),
        "order_expiry": order.order_expiry_ms,
        "status": order.status,
        "trigger_status": order.trigger_status,
        "trigger_time": order.trigger_time_ms,
        "parent_order_index": order.parent_order_index,
        "parent_order_id": str(order.parent_order_index),
        "to_trigger_order_id_0": str(to_trigger[0]),
        "to_trigger_order_id_1": str(to_trigger[1]),
        "to_cancel_order_id_0": str(order.to_cancel),
        "block_height": 0,
        "timestamp": order.updated_at // _MICRO,
        "created_at": order.created_at // _MICRO,
        "updated_at": order.updated_at // _MICRO,
        "transaction_time": order.updated_at,
        "integrator_fee_collector_index": "0",
        "integrator_maker_fee": "0",
        "integrator_taker_fee": "0",
        "order_flags": 0,
        "order_version": order.order_version,
        "market_symbol": spec.symbol,
        "market_kind": spec.kind,
    }


def book_order_row(spec: MarketSpec, order: Order) -> Row:
    """Write a resting order as ``orderBookOrders`` shows it to everybody."""
    return {
        "order_index": order.order_index,
        "order_id": str(order.order_index),
        "owner_account_index": order.account_index,
        "initial_base_amount": size_text(spec, order.initial_lots),
        "remaining_base_amount": size_text(spec, order.remaining_lots),
        "price": price_text(spec, order.price_ticks),
        "order_expiry": order.order_expiry_ms,
        "transaction_time": order.updated_at,
    }


def trade_row(spec: MarketSpec, trade: Trade) -> Row:
    """Write a trade; as at the venue, fees and flags that are zero or false are left out."""
    row = {
        "trade_id": trade.trade_id,
        "trade_id_str": str(trade.trade_id),
        "tx_hash": trade.tx_hash,
        "type": trade.kind,
        "market_id": trade.market_id,
        "size": size_text(spec, trade.lots),
        "price": price_text(spec, trade.price_ticks),
        "usd_amount": micro_text(trade.quote_micro),
        "ask_id": trade.ask_order_index,
        "ask_id_str": str(trade.ask_order_index),
        "bid_id": trade.bid_order_index,
        "bid_id_str": str(trade.bid_order_index),
        "ask_client_id": trade.ask_client_order_index,
        "ask_client_id_str": str(trade.ask_client_order_index),
        "bid_client_id": trade.bid_client_order_index,
        "bid_client_id_str": str(trade.bid_client_order_index),
        "ask_account_id": trade.ask_account,
        "bid_account_id": trade.bid_account,
        "is_maker_ask": trade.is_maker_ask,
        "block_height": 0,
        "timestamp": trade.time // 1000,
        "taker_fee": trade.taker_fee_ppm,
        "taker_position_size_before": size_text(spec, trade.taker_position_lots_before),
        "taker_entry_quote_before": micro_text(trade.taker_entry_quote_micro_before),
        "taker_initial_margin_fraction_before": trade.taker_initial_margin_fraction_before,
        "taker_position_sign_changed": _turns(trade.taker_position_lots_before, trade, is_ask=not trade.is_maker_ask),
        "maker_fee": trade.maker_fee_ppm,
        "maker_position_size_before": size_text(spec, trade.maker_position_lots_before),
        "maker_entry_quote_before": micro_text(trade.maker_entry_quote_micro_before),
        "maker_initial_margin_fraction_before": trade.maker_initial_margin_fraction_before,
        "maker_position_sign_changed": _turns(trade.maker_position_lots_before, trade, is_ask=trade.is_maker_ask),
        "transaction_time": trade.time,
        "market_symbol": spec.symbol,
        "market_kind": spec.kind,
    }
    return {name: value for name, value in row.items() if value or name not in _LEFT_OUT_WHEN_ZERO}


_LEFT_OUT_WHEN_ZERO: Final = frozenset(
    ("taker_fee", "maker_fee", "taker_position_sign_changed", "maker_position_sign_changed")
)


def _turns(before: int, trade: Trade, *, is_ask: bool) -> bool:
    """Tell whether a side's position changed its sign; to begin and to end are changes (350 captured sides)."""
    after = before + (-trade.lots if is_ask else trade.lots)
    return (before > 0, before < 0) != (after > 0, after < 0)


def entry_ticks(spec: MarketSpec, position: Position) -> int:
    """Give the average price of a position, rounded half up; 0 for a flat one."""
    if not position.lots:
        return 0
    scale = 10 ** (spec.price_decimals + spec.size_decimals)
    ticks: int = (2 * position.entry_quote_micro * scale // (abs(position.lots) * _MICRO) + 1) // 2
    return ticks


def position_row(engine: Engine, account: Account, position: Position, mark_ticks: int = 0) -> Row:
    """Write a position, at today's mark price if no other is given; a flat one has size zero and sign 1."""
    spec = engine.markets[position.market_id]
    lots, mark = abs(position.lots), mark_ticks or engine.mark_price_ticks(position.market_id)
    orders = [order for order in account.orders.values() if order.market_id == position.market_id]
    pending = sum(order.status == PENDING for order in orders)
    tied = sum(order.reduce_only and order.trigger_status != TriggerStatus.PARENT_ORDER for order in orders)
    liquidation_ticks = engine.liquidation_price_ticks(account.account_index, position.market_id)
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
        "position_value": micro_text(engine.quote_micro(position.market_id, mark, lots)),
        "unrealized_pnl": micro_text(engine.unrealized_micro(position, mark) if lots else 0),
        "realized_pnl": micro_text(position.realized_pnl_micro),
        "liquidation_price": price_text(spec, liquidation_ticks) if liquidation_ticks else "0",
        **paid,
        "margin_mode": position.margin_mode,
        "allocated_margin": micro_text(position.allocated_micro),
        "total_discount": micro_text(0),
        "margin_set_flag": 0,
    }


def position_rows(engine: Engine, account: Account) -> dict[str, Row]:
    """Write the positions in perpetuals by market id, flat ones too."""
    return {
        str(market_id): position_row(engine, account, row)
        for market_id, row in account.positions.items()
        if engine.markets[market_id].is_perpetual
    }


def option_position_rows(engine: Engine, account: Account) -> list[Row]:
    """Write the positions in binary options, those that are open."""
    return [
        {
            "market_id": market_id,
            "entry_quote": micro_text(row.entry_quote_micro),
            "avg_entry_price": price_text(engine.markets[market_id], entry_ticks(engine.markets[market_id], row)),
            "sign": -1 if row.lots < 0 else 1,
            "size": size_text(engine.markets[market_id], abs(row.lots)),
        }
        for market_id, row in account.positions.items()
        if row.lots and not engine.markets[market_id].is_perpetual
    ]


def stats_row(engine: Engine, account: Account) -> Row:
    """Write an account's figures: those of its cross positions, and those of all, which come without a name too."""
    index = account.account_index
    cross, isolated = engine.cross_risk(index), engine.isolated_risks(index)
    notionals = {
        row.market_id: engine.quote_micro(row.market_id, engine.mark_price_ticks(row.market_id), abs(row.lots))
        for row in account.positions.values()
    }
    everything = sum(notionals.values())
    apart = sum(notionals[market_id] for market_id in isolated)
    total = cross._replace(
        collateral_micro=cross.collateral_micro + sum(risk.collateral_micro for risk in isolated.values()),
        value_micro=cross.value_micro + sum(risk.value_micro for risk in isolated.values()),
        initial_micro=cross.initial_micro + sum(risk.initial_micro for risk in isolated.values()),
    )
    of_all = _figures(total, everything, engine.available_balance_micro(index))
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


def account_row(engine: Engine, account: Account) -> Row:
    """Write an account as ``GET account`` shows it, but for its ``assets``."""
    index = account.account_index
    cross = engine.cross_risk(index)
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
        "available_balance": micro_text(engine.available_balance_micro(index)),
        "status": 1,
        "collateral": _collateral_text(account),
        "transaction_time": engine.now,
        "account_index": index,
        "name": "",
        "description": "",
        "can_invite": False,
        "referral_points_percentage": "",
        "can_rfq": False,
        "can_rfq_market_ids": [],
        "created_at": account.created_at // _MICRO,
        "metadata": {"color": ""},
        "agent_enabled": False,
        "positions": list(position_rows(engine, account).values()),
        "total_asset_value": micro_text(engine.total_value_micro(index)),
        "cross_asset_value": micro_text(cross.value_micro),
        "cross_initial_margin_requirement": micro_text(cross.initial_micro),
        "cross_maintenance_margin_requirement": micro_text(cross.maintenance_micro),
        "pool_info": _pool_info(account),
        "shares": share_rows(account),
        "pending_unlocks": [],
        "approved_integrators": [],
        "bo_positions": option_position_rows(engine, account),
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
        "timestamp": row.time // _MICRO,
    }
    if row.kind == LIQUIDATION:
        average = (
            2 * row.quote_micro * 10 ** (spec.price_decimals + spec.size_decimals) // (row.lots * _MICRO) + 1
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
    return datetime.fromtimestamp(time // _MICRO, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Expiry(msgspec.Struct):
    expired_at: int = msgspec.field(name="ExpiredAt", default=0)


def tx_row(record: TxRecord, l1_address: str) -> Row:
    """Write a transaction; one that the sequencer refused has status 0 and its error in ``event_info``'s ``ae``."""
    info = msgspec.json.decode(record.tx_info, type=_Expiry)
    event = msgspec.json.encode({"m": record.market_id, "ae": record.error}).decode()
    return {
        "hash": record.tx_hash,
        "type": record.tx_type,
        "info": record.tx_info,
        "event_info": event,
        "status": _TX_FAILED if record.error else _TX_EXECUTED,
        "transaction_index": 0,
        "l1_address": l1_address,
        "account_index": record.account_index,
        "nonce": record.nonce,
        "expire_at": info.expired_at,
        "block_height": 0,
        "queued_at": record.executed_at // 1000,
        "executed_at": record.executed_at // 1000,
        "sequence_index": 0,
        "parent_hash": "",
        "api_key_index": record.api_key_index,
        "transaction_time": record.executed_at,
    }


# --- markets ---------------------------------------------------------------------------------------------------------


def market_row(engine: Engine, spec: MarketSpec) -> Row:
    """Write a market as ``orderBooks`` lists it."""
    interest = engine.quote_micro(
        spec.market_id, engine.mark_price_ticks(spec.market_id), engine.open_interest_lots(spec.market_id)
    )
    return _market_rules(spec) | {"open_interest": micro_text(interest)}


def _market_rules(spec: MarketSpec) -> Row:
    return {
        "symbol": spec.symbol,
        "market_id": spec.market_id,
        "market_type": spec.market_type,
        "base_asset_id": spec.base_asset_id,
        "quote_asset_id": spec.quote_asset_id,
        "status": spec.status,
        "taker_fee": percent_text(spec.taker_fee_ppm),
        "is_taker_fee_enabled": True,
        "maker_fee": percent_text(spec.maker_fee_ppm),
        "is_maker_fee_enabled": True,
        "liquidation_fee": "1.0000",
        "min_base_amount": size_text(spec, spec.min_base_lots),
        "min_quote_amount": micro_text(spec.min_quote_micro),
        "order_quote_limit": "281474976.710655",
        "supported_size_decimals": spec.size_decimals,
        "supported_price_decimals": spec.price_decimals,
        "supported_quote_decimals": _MICRO_DECIMALS,
        "created_at": str(spec.created_at_ms),
        "multiplier": "1",
        "start_timestamp": 0,
        "end_timestamp": 0,
        "settlement_type": 0,
        "settlement_price": 0,
        "settlement_cap": spec.settlement_cap,
        "outcome": 0,
        "default_price": 0,
        "operator_account_index": 0,
        "is_frozen": False,
    }


def market_detail_row(engine: Engine, spec: MarketSpec, now_ms: int) -> Row:
    """Write a perpetual as ``orderBookDetails`` does."""
    mark = engine.mark_price_ticks(spec.market_id)
    premium = engine.history(spec.market_id).index.at(now_ms * 1000)
    return _traded_row(engine, spec, now_ms) | {
        "quote_multiplier": 1,
        "default_initial_margin_fraction": spec.default_initial_margin_fraction,
        "min_initial_margin_fraction": spec.min_initial_margin_fraction,
        "maintenance_margin_fraction": spec.maintenance_margin_fraction,
        "closeout_margin_fraction": spec.closeout_margin_fraction,
        "open_interest": float(size_text(spec, engine.open_interest_lots(spec.market_id))),
        "market_config": {
            "market_margin_mode": 0,
            "insurance_fund_account_index": 281474976710655,
            "liquidation_mode": 0,
            "force_reduce_only": spec.force_reduce_only,
            "trading_hours": spec.trading_hours,
            "funding_fee_discounts_enabled": False,
            "hidden": False,
            "rfq_enabled": False,
        },
        "strategy_index": 0,
        "funding_clamp_small": "0.0500",
        "funding_clamp_big": "4.0000",
        "base_interest_rate": "0.0100",
        "mark_price": price_text(spec, mark),
        "index_price": price_text(spec, premium.index_ticks(mark)),
        "market_flags": 0,
        "funding_premium_multiplier": 1,
    }


def spot_detail_row(engine: Engine, spec: MarketSpec, now_ms: int) -> Row:
    """Write a spot market as ``orderBookDetails`` does."""
    return _traded_row(engine, spec, now_ms) | {"open_interest": micro_text(0)}


def _traded_row(engine: Engine, spec: MarketSpec, now_ms: int) -> Row:
    """Write the rules of a market, and its last day."""
    history = engine.history(spec.market_id)
    day = history.last_day(now_ms)
    return (
        _market_rules(spec)
        | {
            "size_decimals": spec.size_decimals,
            "price_decimals": spec.price_decimals,
            "last_trade_price": float(price_text(spec, history.last_trade_ticks())),
            "daily_trades_count": day.trades,
            "daily_chart": {},
        }
        | daily_figures(spec, day)
    )


def daily_figures(spec: MarketSpec, day: Day) -> Row:
    """Write what a day's trades add up to, in numbers as the venue does."""
    return {
        "daily_base_token_volume": float(size_text(spec, day.lots)),
        "daily_quote_token_volume": float(micro_text(day.quote_micro)),
        "daily_price_low": float(price_text(spec, day.low_ticks)),
        "daily_price_high": float(price_text(spec, day.high_ticks)),
        "daily_price_change": (day.last_ticks - day.first_ticks) * 100 / day.first_ticks if day.first_ticks else 0.0,
    }


def success(**fields: Any) -> Row:
    """Write the body of a request that succeeded."""
    return {"code": CODE_OK, **fields}
