"""Orders, trades and transactions as the venue writes them, with every field that today's wire has.

Fields about what this venue does not have (integrators) hold what the venue sends for orders without any.
"""

from __future__ import annotations

from typing import Final

import msgspec

from qubx_lighter.constants import OrderType, TimeInForce
from qubx_lighter.sim.model.records import LIQUIDATION_ORDER, TWAP_SUB, Order, Trade, TxRecord
from qubx_lighter.sim.model.specs import MarketSpec
from qubx_lighter.sim.wire.texts import MICRO, Row, micro_text, price_text, size_text

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
        "timestamp": order.updated_at // MICRO,
        "created_at": order.created_at // MICRO,
        "updated_at": order.updated_at // MICRO,
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
