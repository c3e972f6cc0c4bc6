"""The rows that the venue keeps: orders, trades, positions, money, transactions; units as in ``specs``."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final

import msgspec

TRADE: Final = "trade"
LIQUIDATION: Final = "liquidation"
DELEVERAGE: Final = "deleverage"
SETTLEMENT: Final = "market-settlement"

TWAP_SUB: Final = 7
"""The type of the orders in which the venue works a TWAP; nobody else places them."""

LIQUIDATION_ORDER: Final = 8
"""The type of the orders by which the venue closes positions; nobody else places them."""

OPEN: Final = "open"
PENDING: Final = "pending"

BRIDGE_DEPOSIT: Final = "deposit"
BRIDGE_WITHDRAWAL: Final = "withdrawal"

STANDARD: Final = "standard"
PREMIUM: Final = "premium"
TIERS: Final = (STANDARD, PREMIUM)

INSURANCE_FUND: Final = 2**48 - 1
"""The account that takes liquidation fees, as the venue's markets name it."""


class TriggerStatus(StrEnum):
    """What an order that is not in the book waits for."""

    NA = "na"  # nothing: it is in the book, or has come to an end there
    MARK_PRICE = "mark-price"
    TWAP = "twap"
    PARENT_ORDER = "parent-order"


class Order(msgspec.Struct):
    """An order; ``status`` is a wire string (``open``, ``filled``, ``canceled-post-only`` ...)."""

    order_index: int
    client_order_index: int
    account_index: int
    market_id: int
    is_ask: bool
    initial_lots: int
    remaining_lots: int
    price_ticks: int
    order_type: int
    time_in_force: int
    reduce_only: bool
    order_expiry_ms: int
    status: str
    created_at: int  # µs
    updated_at: int  # µs
    filled_lots: int = 0
    filled_quote_micro: int = 0
    nonce: int = 0  # the matching engine's sequence of the last change
    order_version: int = 0
    tx_hash: str = ""
    trigger_price_ticks: int = 0
    trigger_status: str = TriggerStatus.NA
    trigger_time_ms: int = 0  # when it was triggered
    parent_order_index: int = 0
    to_trigger: tuple[int, ...] = ()  # the orders that take its filled size when it has come to an end
    to_cancel: int = 0  # the order that ends when it is triggered
    self_trade_behavior: int = 0
    self_trade_equality: int = 0


class Trade(msgspec.Struct, frozen=True):
    """One match."""

    trade_id: int
    market_id: int
    price_ticks: int
    lots: int
    quote_micro: int
    ask_order_index: int
    bid_order_index: int
    ask_account: int
    bid_account: int
    ask_client_order_index: int
    bid_client_order_index: int
    is_maker_ask: bool
    taker_fee_ppm: int
    maker_fee_ppm: int
    time: int  # µs
    tx_hash: str
    taker_position_lots_before: int = 0  # signed
    maker_position_lots_before: int = 0  # signed
    taker_entry_quote_micro_before: int = 0  # unsigned, as in Position
    maker_entry_quote_micro_before: int = 0
    taker_initial_margin_fraction_before: int = 0  # 1e-4
    maker_initial_margin_fraction_before: int = 0
    kind: str = TRADE  # as the venue calls it: trade, liquidation, deleverage, market-settlement


class AccountType(IntEnum):
    """What an account is, as the venue numbers it."""

    MASTER = 0
    SUB = 1
    PUBLIC_POOL = 2
    INSURANCE_FUND = 3


class Pool(msgspec.Struct):
    """What makes an account a public pool."""

    operator_fee_ppm: int  # of an investor's profit
    min_operator_share_rate: int  # 1e-4: the part of the shares that the operator keeps
    total_shares: int = 0
    operator_shares: int = 0
    is_frozen: bool = False


class PoolShare(msgspec.Struct):
    """What an account that is not its operator holds of a pool."""

    shares: int = 0
    principal_micro: int = 0  # what was paid for them
    entered_at: int = 0  # µs, of the last that were bought


class Money(msgspec.Struct, frozen=True):
    """An amount of an asset on its way; routes are the purses that it leaves and enters."""

    asset_id: int
    units: int
    from_account: int
    to_account: int
    from_route: int = 0
    to_route: int = 0
    fee_micro: int = 0  # of collateral


class MoneyMove(msgspec.Struct, frozen=True):
    """One line of an account's record: over the bridge (``deposit``, ``withdrawal``), or a transfer by the venue's type."""

    move_id: int
    kind: str
    time: int  # µs
    money: Money
    tx_hash: str = ""


class Notification(msgspec.Struct, frozen=True):
    """What an account is told of a liquidation or deleverage."""

    notification_id: str
    account_index: int
    kind: str
    market_id: int
    is_ask: bool
    price_ticks: int  # the order's, or what was settled at
    lots: int
    quote_micro: int
    time: int  # µs
    acknowledged_at: int = 0  # µs


class Position(msgspec.Struct):
    """One account's position in one market."""

    market_id: int
    lots: int = 0  # signed
    entry_quote_micro: int = 0  # what the open lots cost, unsigned
    realized_pnl_micro: int = 0
    initial_margin_fraction: int = 500  # 1e-4; the account's own setting for this market
    margin_mode: int = 0
    allocated_micro: int = 0  # an isolated position's own collateral
    funding_paid_micro: int = 0  # since it was opened; negative: received
    open_bid_lots: int = 0  # resting and not reduce-only: what the margin check of new orders counts
    open_ask_lots: int = 0


class FundingPayment(msgspec.Struct, frozen=True):
    """What one settlement of a market's funding did to one account."""

    funding_id: int  # of the settlement: the same for all accounts, rising with time
    account_index: int
    market_id: int
    time: int  # µs: the full hour
    rate: int  # 1e-4 percent; positive: longs pay
    price_ticks: int  # the mark price
    lots: int  # signed
    change_micro: int  # of the collateral; negative: paid


class TxRecord(msgspec.Struct, frozen=True):
    """One transaction the sequencer took: ``error`` non-empty when it failed there (the nonce is consumed all the same)."""

    tx_hash: str
    tx_type: int
    tx_info: str
    account_index: int
    api_key_index: int
    nonce: int
    executed_at: int  # µs
    error: str = ""
    market_id: int = 255
