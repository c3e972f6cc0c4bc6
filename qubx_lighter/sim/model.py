"""What goes into the venue's engine and what comes out: commands, results, events and the rows it keeps.

Units everywhere in the engine: ``*_ticks`` and ``*_lots`` are a market's integers, ``*_micro`` are millionths of the
collateral asset, *units* are those of any other asset, fees are ppm of the notional, times are microseconds (``now``) or
milliseconds where the wire says so.
Every change enters as one ``Command`` with its time, so a journal of commands rebuilds the venue exactly.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final, Literal

import msgspec

from qubx_lighter.constants import CODE_OK, NIL_MARKET_INDEX, OrderType, TimeInForce

PERPETUAL: Final = "perp"
SPOT: Final = "spot"
BINARY_OPTIONS: Final = "binary_options"
ACTIVE: Final = "active"

TRADE: Final = "trade"
LIQUIDATION: Final = "liquidation"
DELEVERAGE: Final = "deleverage"
SETTLEMENT: Final = "market-settlement"

LIQUIDATION_ORDER: Final = 8
"""The type of the orders by which the venue closes positions; nobody else places them."""

COLLATERAL_ASSET: Final = 3
"""USDC on the main deployment."""

BRIDGE_DEPOSIT: Final = "deposit"
BRIDGE_WITHDRAWAL: Final = "withdrawal"

STANDARD: Final = "standard"
PREMIUM: Final = "premium"
TIERS: Final = (STANDARD, PREMIUM)

INSURANCE_FUND: Final = 2**48 - 1
"""The account that takes liquidation fees, as the venue's markets name it."""

TWAP_SUB: Final = 7
"""The type of the orders in which the venue works a TWAP; nobody else places them."""

OPEN: Final = "open"
PENDING: Final = "pending"


class TriggerStatus(StrEnum):
    """What an order that is not in the book waits for."""

    NA = "na"  # nothing: it is in the book, or has come to an end there
    MARK_PRICE = "mark-price"
    TWAP = "twap"
    PARENT_ORDER = "parent-order"


_MARKET_KINDS: Final = {PERPETUAL: "perps", SPOT: "spot", BINARY_OPTIONS: "bo"}


class AssetSpec(msgspec.Struct, frozen=True):
    """What accounts hold beside collateral; amounts of it are *units*, integers with ``decimals``."""

    asset_id: int
    symbol: str
    decimals: int
    l1_decimals: int

    @property
    def scale(self) -> int:
        """How many units one of it is."""
        scale: int = 10**self.decimals
        return scale


class MarketSpec(msgspec.Struct, frozen=True):
    """A market's rules.

    Attributes:
        market_type: ``perp``, ``spot``, ``binary_options``, or a word that no client knows.
        status: the venue's word; orders are taken while it is ``active``.
        force_reduce_only: only orders that reduce a position are taken.
        is_listed: whether the public sees it; a delisted market lives on in accounts' rows.
        settlement_cap: of a binary option what it pays at most, in ticks.
    """

    market_id: int
    symbol: str
    price_decimals: int
    size_decimals: int
    min_base_lots: int
    min_quote_micro: int = 10_000_000
    initial_price_ticks: int = 0  # what mark price starts from before the first trade
    default_initial_margin_fraction: int = 500  # 1e-4
    min_initial_margin_fraction: int = 200  # 1e-4
    maintenance_margin_fraction: int = 120  # 1e-4
    closeout_margin_fraction: int = 80  # 1e-4
    maker_fee_ppm: int = 20
    taker_fee_ppm: int = 200
    created_at_ms: int = 1_700_000_000_000
    past_price_ticks: int = 0  # what the prices of a made-up past since created_at_ms wander about; 0: it has no past
    market_type: str = PERPETUAL
    status: str = ACTIVE
    force_reduce_only: bool = False
    is_listed: bool = True
    trading_hours: str = ""
    base_asset_id: int = 0  # of a spot market
    quote_asset_id: int = 0
    settlement_cap: int = 0  # ticks

    @property
    def is_perpetual(self) -> bool:
        """Whether it has funding, and positions that ``positions`` shows."""
        return self.market_type == PERPETUAL

    @property
    def is_spot(self) -> bool:
        """Whether assets change hands in it."""
        return self.market_type == SPOT

    @property
    def kind(self) -> str:
        """What orders and trades call its type."""
        return _MARKET_KINDS.get(self.market_type, self.market_type)


# --- commands ---------------------------------------------------------------------------------------------------------


class CreateMarket(msgspec.Struct, frozen=True, tag=True):
    """Open a market; of a spot market both assets are there."""

    spec: MarketSpec


class ChangeMarket(msgspec.Struct, frozen=True, tag=True):
    """Give a market other rules; what is None stays. Another grid takes an empty book."""

    market_id: int
    price_decimals: int | None = None
    size_decimals: int | None = None
    min_base_lots: int | None = None  # of the new grid; with another grid, and left out, the size that it was
    min_quote_micro: int | None = None
    force_reduce_only: bool | None = None
    trading_hours: str | None = None


class SetMarketStatus(msgspec.Struct, frozen=True, tag=True):
    """Set a market's status; ``settled`` ends its orders and closes its positions at the mark price."""

    market_id: int
    status: Literal["inactive", "active", "in-settlement", "waiting-for-settlement", "settled"]


class DelistMarket(msgspec.Struct, frozen=True, tag=True):
    """Settle a market and list it no more."""

    market_id: int


class CancelMarket(msgspec.Struct, frozen=True, tag=True):
    """End every working order of a market."""

    market_id: int


class CreateAsset(msgspec.Struct, frozen=True, tag=True):
    """Make an asset known."""

    spec: AssetSpec


class DepositAsset(msgspec.Struct, frozen=True, tag=True):
    """Add (or, negative, remove) spot balance of an asset."""

    account_index: int
    asset_id: int
    units: int


class CreateAccount(msgspec.Struct, frozen=True, tag=True):
    """Open a funded account; ``fee_free`` ones are the synthetic makers and takers: no fees, no margin, no liquidation."""

    account_index: int
    l1_address: str
    collateral_micro: int
    fee_free: bool = False
    tier: str = PREMIUM


class RegisterKey(msgspec.Struct, frozen=True, tag=True):
    """Register or replace an API key; its nonce starts at ``nonce``."""

    account_index: int
    api_key_index: int
    public_key: str
    nonce: int = 0


class Deposit(msgspec.Struct, frozen=True, tag=True):
    """Add (or, negative, remove) collateral."""

    account_index: int
    amount_micro: int


class SubmitTransaction(msgspec.Struct, frozen=True, tag=True):
    """A signed transaction as it came over REST or the socket; ``tx_info`` is the signer's JSON text."""

    tx_type: int
    tx_info: str
    tx_hash: str
    failure: str = ""  # a fault: the sequencer refuses for this reason, and the nonce is consumed all the same


class SubmitBatch(msgspec.Struct, frozen=True, tag=True):
    """Signed transactions that came in one request: they run back to back."""

    transactions: tuple[SubmitTransaction, ...]


class PlaceOrder(msgspec.Struct, frozen=True, tag=True):
    """An order of a local participant (the synthetic feed): no key, no nonce, same book and same rules."""

    account_index: int
    market_id: int
    is_ask: bool
    base_lots: int
    price_ticks: int
    client_order_index: int = 0
    order_type: int = int(OrderType.LIMIT)
    time_in_force: int = int(TimeInForce.GTT)
    reduce_only: bool = False
    order_expiry_ms: int = 0  # 0 from a local participant, of an order that has one: 28 days
    trigger_price_ticks: int = 0


class CancelOrder(msgspec.Struct, frozen=True, tag=True):
    """A local participant's cancel, by client or venue index."""

    account_index: int
    market_id: int
    index: int


class CancelAll(msgspec.Struct, frozen=True, tag=True):
    """A local participant's cancel of everything it has."""

    account_index: int


class EndOrder(msgspec.Struct, frozen=True, tag=True):
    """A fault: what is left of a working order ends with a status of the venue's; nothing where it is over already."""

    order_index: int
    status: str


class AdvanceTime(msgspec.Struct, frozen=True, tag=True):
    """Nothing but time: orders expire, what is scheduled is done, full hours settle their funding."""


class SettleFunding(msgspec.Struct, frozen=True, tag=True):
    """Settle funding at once, between the hours, as a test or a rehearsal wants it; markets' public history does not show it."""

    market_id: int = NIL_MARKET_INDEX  # 255: all
    rate: int | None = None  # 1e-4 percent, positive: longs pay; None: what the running hour will settle


class AcknowledgeNotification(msgspec.Struct, frozen=True, tag=True):
    """Mark a notification as read."""

    account_index: int
    notification_id: str


class ChangeTier(msgspec.Struct, frozen=True, tag=True):
    """Give an account another tier: ``standard`` trades without fees, ``premium`` for the markets' fees."""

    account_index: int
    tier: str


class SetMakerOnlyKeys(msgspec.Struct, frozen=True, tag=True):
    """Name the API keys of an account that may only place post-only orders, amend and cancel; those not named may do all."""

    account_index: int
    api_key_indexes: tuple[int, ...]


Command = (
    CreateMarket
    | ChangeMarket
    | SetMarketStatus
    | DelistMarket
    | CancelMarket
    | CreateAsset
    | DepositAsset
    | CreateAccount
    | RegisterKey
    | Deposit
    | SubmitTransaction
    | SubmitBatch
    | PlaceOrder
    | CancelOrder
    | CancelAll
    | EndOrder
    | AdvanceTime
    | SettleFunding
    | AcknowledgeNotification
    | ChangeTier
    | SetMakerOnlyKeys
)


class Result(msgspec.Struct, frozen=True):
    """What the API answers: 200 = queued and, here, executed at once; the order's own fate is in its status."""

    code: int
    message: str = ""
    order_index: int = 0  # the order created, if one was

    @property
    def ok(self) -> bool:
        """Tell whether the API accepted the command."""
        return self.code == CODE_OK


# --- rows the engine keeps --------------------------------------------------------------------------------------------


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


# --- events -----------------------------------------------------------------------------------------------------------


class BookChanged(msgspec.Struct, frozen=True):
    """The new absolute size of one level; ``nonce`` rises by one with every change over all markets."""

    market_id: int
    is_ask: bool
    price_ticks: int
    lots: int
    nonce: int
    time: int  # µs


class Traded(msgspec.Struct, frozen=True):
    """A match happened."""

    trade: Trade


class OrderChanged(msgspec.Struct, frozen=True):
    """A copy of the order after a change of an account that has API keys (the feed's own orders raise none)."""

    order: Order


class PositionChanged(msgspec.Struct, frozen=True):
    """An account's position, margin setting or collateral changed: send its figures."""

    account_index: int
    market_id: int  # 255: collateral only
    time: int  # µs


class FundingSettled(msgspec.Struct, frozen=True):
    """An account paid or received funding."""

    payment: FundingPayment


class NotificationSent(msgspec.Struct, frozen=True):
    """An account was told something."""

    notification: Notification


class AssetsChanged(msgspec.Struct, frozen=True):
    """An account's spot balances changed."""

    account_index: int
    time: int  # µs


class TransactionDone(msgspec.Struct, frozen=True):
    """The sequencer took a transaction."""

    record: TxRecord


Event = (
    BookChanged
    | Traded
    | OrderChanged
    | PositionChanged
    | FundingSettled
    | AssetsChanged
    | NotificationSent
    | TransactionDone
)
