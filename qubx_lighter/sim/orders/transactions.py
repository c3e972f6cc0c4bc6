"""The signer's transactions as the venue reads them, and what can be refused by looking at one alone.

``tx_info`` is the JSON text that the native signer writes; its signature is not verified here. What this venue does not do
(integrators) is refused, never half done.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar, Final

import msgspec

from qubx_lighter.constants import (
    DEFAULT_ORDER_EXPIRY_MS,
    MAX_BASE_LOTS,
    MAX_CANCEL_ALL_AHEAD_S,
    MAX_CLIENT_ORDER_INDEX,
    MAX_NONCE,
    MAX_ORDER_EXPIRY_MS,
    MAX_PRICE_TICKS,
    MIN_CANCEL_ALL_AHEAD_S,
    MIN_ORDER_EXPIRY_MS,
    NIL_MARKET_INDEX,
    CancelAllTime,
    Code,
    OrderType,
    SelfTradeBehavior,
    SelfTradeScope,
    TimeInForce,
    TxType,
)
from qubx_lighter.errors import VenueError
from qubx_lighter.protocol.order_table import TABLE, SelfTrade, Terms, self_trade_refusal
from qubx_lighter.sim.accounts.ledger import ApiKey
from qubx_lighter.sim.markets import market_rules
from qubx_lighter.sim.markets.market import Market
from qubx_lighter.sim.model.commands import PlaceOrder

INVALID_TX_TYPE_FOR_ACCOUNT: Final = 21511
UPDATE_ACCOUNT_CONFIG: Final = 41  # nothing here signs it
INTEGRATOR_NOT_APPROVED: Final = 21149
INVALID_TRIGGER_PRICE: Final = 21729
_MAX_ATTRIBUTES: Final = 4
_MAX_SKIP: Final = 2**47  # how far a nonce may jump with skip_nonce


class Attribute(IntEnum):
    """Keys of ``L2TxAttributes``."""

    INTEGRATOR_ACCOUNT = 1
    INTEGRATOR_TAKER_FEE = 2
    INTEGRATOR_MAKER_FEE = 3
    SKIP_NONCE = 4
    CANCEL_ALL_MARKET = 5
    SELF_TRADE_BEHAVIOR = 6
    SELF_TRADE_EQUALITY = 7
    ORDER_VERSION = 8


class _Attributed:
    """What a transaction says in its attributes."""

    __slots__ = ()

    l2_tx_attributes: dict[int, int] | None

    def attribute(self, key: Attribute) -> int:
        """Give an attribute; 0 where it is not set."""
        return (self.l2_tx_attributes or {}).get(key, 0)

    @property
    def self_trade(self) -> SelfTrade:
        """How it treats its own resting orders."""
        return SelfTrade(
            SelfTradeBehavior(self.attribute(Attribute.SELF_TRADE_BEHAVIOR)),
            SelfTradeScope(self.attribute(Attribute.SELF_TRADE_EQUALITY)),
        )


class _Signed(msgspec.Struct, _Attributed, frozen=True, rename="pascal"):
    """What every transaction holds."""

    account_index: int
    api_key_index: int
    expired_at: int  # ms
    nonce: int
    l2_tx_attributes: dict[int, int] | None = None


class _OfMarket(_Signed, frozen=True, rename="pascal", kw_only=True):
    market_index: int

    @property
    def market(self) -> int:
        return self.market_index


class OrderFields(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    """An order in a transaction."""

    market_index: int
    client_order_index: int
    base_amount: int
    price: int
    is_ask: int
    type: int
    time_in_force: int
    reduce_only: int
    trigger_price: int
    order_expiry: int  # ms

    def order_of(self, account_index: int) -> PlaceOrder:
        """Give the order that an account places with it.

        Raises:
            VenueError: a flag is neither 0 nor 1.
        """
        if self.is_ask not in (0, 1) or self.reduce_only not in (0, 1):
            raise VenueError(Code.INVALID_TX_INFO, "invalid tx info: flags")
        return PlaceOrder(
            account_index=account_index,
            market_id=self.market_index,
            is_ask=bool(self.is_ask),
            base_lots=self.base_amount,
            price_ticks=self.price,
            client_order_index=self.client_order_index,
            order_type=self.type,
            time_in_force=self.time_in_force,
            reduce_only=bool(self.reduce_only),
            order_expiry_ms=self.order_expiry,
            trigger_price_ticks=self.trigger_price,
        )


class CreateOrderTx(OrderFields, _Attributed, frozen=True, rename="pascal", kw_only=True):
    """Type 14; a struct has one struct as its base, so that what every transaction holds is repeated."""

    account_index: int
    api_key_index: int
    expired_at: int
    nonce: int
    l2_tx_attributes: dict[int, int] | None = None

    @property
    def market(self) -> int:
        """The market it is of."""
        return self.market_index

    def order(self) -> PlaceOrder:
        """Give the order it places.

        Raises:
            VenueError: a flag is neither 0 nor 1.
        """
        return self.order_of(self.account_index)


class CreateGroupedOrdersTx(_Signed, frozen=True, rename="pascal", kw_only=True):
    """Type 28."""

    grouping_type: int
    orders: tuple[OrderFields, ...]

    @property
    def market(self) -> int:
        """The one market of its orders; ``groups`` insists on it."""
        return self.orders[0].market_index if self.orders else NIL_MARKET_INDEX


class CancelOrderTx(_OfMarket, frozen=True, rename="pascal", kw_only=True):
    """Type 15; ``index`` is a client order index or an order index."""

    index: int


class CancelAllTx(_Signed, frozen=True, rename="pascal", kw_only=True):
    """Type 16."""

    time_in_force: int  # 0 immediate, 1 scheduled, 2 abort the scheduled one
    time: int  # ms

    @property
    def market(self) -> int:
        """The one market it is limited to, or 255; market 0 is an attribute that is set to 0."""
        return (self.l2_tx_attributes or {}).get(Attribute.CANCEL_ALL_MARKET, NIL_MARKET_INDEX)

    @property
    def is_of_one_market(self) -> bool:
        """Whether it is limited to one market."""
        return self.market != NIL_MARKET_INDEX


class ModifyOrderTx(_OfMarket, frozen=True, rename="pascal", kw_only=True):
    """Type 17; ``base_amount`` is the new total size."""

    index: int
    base_amount: int
    price: int
    trigger_price: int


class UpdateLeverageTx(_OfMarket, frozen=True, rename="pascal", kw_only=True):
    """Type 20."""

    initial_margin_fraction: int  # 1e-4
    margin_mode: int


class UpdateMarginTx(_OfMarket, frozen=True, rename="pascal", kw_only=True):
    """Type 29; ``direction`` 1 adds to an isolated position's margin, 0 removes."""

    usdc_amount: int = msgspec.field(name="USDCAmount")  # millionths
    direction: int


class _OfAccount(_Signed, frozen=True, rename="pascal", kw_only=True):
    """One that is of no market."""

    market: ClassVar[int] = NIL_MARKET_INDEX


class UpdateAccountConfigTx(_OfAccount, frozen=True, rename="pascal", kw_only=True):
    """Type 41; trading mode 0 is classic, 1 unified."""

    account_trading_mode: int


class WithdrawTx(_OfAccount, frozen=True, rename="pascal", kw_only=True):
    """Type 13."""

    account_index: int = msgspec.field(name="FromAccountIndex")
    asset_index: int
    route_type: int
    amount: int


class TransferTx(_OfAccount, frozen=True, rename="pascal", kw_only=True):
    """Type 12; to somebody else's account it carries the owner's signature on the chain."""

    account_index: int = msgspec.field(name="FromAccountIndex")
    to_account_index: int
    asset_index: int
    from_route_type: int
    to_route_type: int
    amount: int
    usdc_fee: int = msgspec.field(name="USDCFee")  # millionths
    memo: tuple[int, ...] = ()
    l1_sig: str = msgspec.field(name="L1Sig", default="")


class CreateSubAccountTx(_OfAccount, frozen=True, rename="pascal", kw_only=True):
    """Type 9."""


class CreatePublicPoolTx(_OfAccount, frozen=True, rename="pascal", kw_only=True):
    """Type 10; the fee in ppm, the rate in 1e-4."""

    operator_fee: int
    initial_total_shares: int
    min_operator_share_rate: int


class UpdatePublicPoolTx(_OfAccount, frozen=True, rename="pascal", kw_only=True):
    """Type 11; status 0 is active, 1 frozen."""

    public_pool_index: int
    status: int
    operator_fee: int
    min_operator_share_rate: int


class MintSharesTx(_OfAccount, frozen=True, rename="pascal", kw_only=True):
    """Type 18."""

    public_pool_index: int
    share_amount: int


class BurnSharesTx(_OfAccount, frozen=True, rename="pascal", kw_only=True):
    """Type 19."""

    public_pool_index: int
    share_amount: int


MoneyTransaction = (
    WithdrawTx | TransferTx | CreateSubAccountTx | CreatePublicPoolTx | UpdatePublicPoolTx | MintSharesTx | BurnSharesTx
)
Transaction = (
    MoneyTransaction
    | CreateOrderTx
    | CreateGroupedOrdersTx
    | CancelOrderTx
    | CancelAllTx
    | ModifyOrderTx
    | UpdateLeverageTx
    | UpdateMarginTx
    | UpdateAccountConfigTx
)

_DECODERS: Final[dict[int, msgspec.json.Decoder[Any]]] = {
    TxType.CREATE_ORDER: msgspec.json.Decoder(CreateOrderTx),
    TxType.CREATE_GROUPED_ORDERS: msgspec.json.Decoder(CreateGroupedOrdersTx),
    TxType.CANCEL_ORDER: msgspec.json.Decoder(CancelOrderTx),
    TxType.CANCEL_ALL_ORDERS: msgspec.json.Decoder(CancelAllTx),
    TxType.MODIFY_ORDER: msgspec.json.Decoder(ModifyOrderTx),
    TxType.UPDATE_LEVERAGE: msgspec.json.Decoder(UpdateLeverageTx),
    TxType.UPDATE_MARGIN: msgspec.json.Decoder(UpdateMarginTx),
    TxType.CREATE_SUB_ACCOUNT: msgspec.json.Decoder(CreateSubAccountTx),
    TxType.CREATE_PUBLIC_POOL: msgspec.json.Decoder(CreatePublicPoolTx),
    TxType.UPDATE_PUBLIC_POOL: msgspec.json.Decoder(UpdatePublicPoolTx),
    TxType.TRANSFER: msgspec.json.Decoder(TransferTx),
    TxType.WITHDRAW: msgspec.json.Decoder(WithdrawTx),
    TxType.MINT_SHARES: msgspec.json.Decoder(MintSharesTx),
    TxType.BURN_SHARES: msgspec.json.Decoder(BurnSharesTx),
    UPDATE_ACCOUNT_CONFIG: msgspec.json.Decoder(UpdateAccountConfigTx),
}


def decode(tx_type: int, tx_info: str) -> Transaction:
    """Read a transaction.

    Raises:
        VenueError: 21505 for a type that this venue does not take, 21501 for a text that is not one of that type, 21149
            for an integrator, whom nobody can approve here.
    """
    decoder = _DECODERS.get(tx_type)
    if decoder is None:
        raise VenueError(Code.UNSUPPORTED_TX_TYPE, "unsupported tx type")
    try:
        tx: Transaction = decoder.decode(tx_info)
    except msgspec.MsgspecError as error:
        raise VenueError(Code.INVALID_TX_INFO, f"invalid tx info: {error}") from error
    attributes = tx.l2_tx_attributes or {}
    if len(attributes) > _MAX_ATTRIBUTES or tx.attribute(Attribute.SKIP_NONCE) not in (0, 1):
        raise VenueError(Code.INVALID_TX_INFO, "invalid tx info: attributes")
    if tx.attribute(Attribute.SELF_TRADE_BEHAVIOR) not in SelfTradeBehavior:
        raise VenueError(Code.INVALID_TX_INFO, "invalid tx info: self trade behavior")
    if tx.attribute(Attribute.SELF_TRADE_EQUALITY) not in SelfTradeScope:
        raise VenueError(Code.INVALID_TX_INFO, "invalid tx info: self trade equality")
    if (refusal := self_trade_refusal(tx.self_trade)) is not None:
        raise VenueError(Code.INVALID_TX_INFO, f"invalid tx info: {refusal}")
    if tx.attribute(Attribute.INTEGRATOR_ACCOUNT):
        raise VenueError(INTEGRATOR_NOT_APPROVED, "integrator not approved")
    return tx


def check_maker_only(tx: Transaction) -> None:
    """Insist on what a maker-only key may send: post-only orders, amendments and cancels.

    Raises:
        VenueError: 21511.
    """
    posts = isinstance(tx, CreateOrderTx) and tx.time_in_force == TimeInForce.POST_ONLY
    if not posts and not isinstance(tx, CancelOrderTx | CancelAllTx | ModifyOrderTx):
        raise VenueError(INVALID_TX_TYPE_FOR_ACCOUNT, "invalid tx type for account")


def check_nonce(key: ApiKey, tx: Transaction) -> None:
    """Insist on the key's next nonce; with skip_nonce any later one will do.

    Raises:
        VenueError: 21104; the SDK knows it by the words "invalid nonce".
    """
    last = key.nonce + _MAX_SKIP - 1 if tx.attribute(Attribute.SKIP_NONCE) else key.nonce
    if not key.nonce <= tx.nonce <= min(last, MAX_NONCE - 1):
        raise VenueError(Code.INVALID_NONCE, "invalid nonce")


# --- rules of orders -------------------------------------------------------------------------------------------------


def terms_of(order_type: int, time_in_force: int) -> Terms:
    """Find what an order of this type and time in force must and must not have.

    Raises:
        VenueError: 21501: there is no such order.
    """
    try:
        terms = TABLE.get((OrderType(order_type), TimeInForce(time_in_force)))
    except ValueError:
        terms = None
    if terms is None:
        raise VenueError(Code.INVALID_TX_INFO, "invalid order type or time in force")
    return terms


def check_order(order: PlaceOrder, market: Market) -> None:
    """Insist on what an order must be, whatever the state of the book and the account.

    Size 0 of a reduce-only order that waits for its trigger is the position at that time.

    Raises:
        VenueError: 21501, 21605, 21619, 21701, 21702, 21706, 21727, 21729 or 21740.
    """
    terms = terms_of(order.order_type, order.time_in_force)
    if not 0 <= order.client_order_index <= MAX_CLIENT_ORDER_INDEX:
        raise VenueError(Code.INVALID_CLIENT_ORDER_INDEX, "invalid client order index")
    plain = {OrderType.LIMIT, OrderType.MARKET} | ({OrderType.TWAP} if market.spec.is_spot else set())
    if order.reduce_only or order.order_type not in plain:
        market_rules.insist_on_perpetual(market.spec)
    whole = terms.has_trigger and order.reduce_only and not order.base_lots
    check_size_and_price(market, 1 if whole else order.base_lots, order.price_ticks, reduce_only=order.reduce_only)
    check_trigger(order.trigger_price_ticks, has_trigger=terms.has_trigger)


def check_trigger(trigger_ticks: int, *, has_trigger: bool) -> None:
    """Insist on a trigger price of an order that waits for one, and on none of any other.

    Raises:
        VenueError: 21729. How far from the mark it may be (21735) is not documented: here as far as it likes.
    """
    if not 0 <= trigger_ticks <= MAX_PRICE_TICKS or bool(trigger_ticks) != has_trigger:
        raise VenueError(INVALID_TRIGGER_PRICE, "invalid trigger price")


def check_size_and_price(market: Market, lots: int, price_ticks: int, *, reduce_only: bool) -> None:
    """Insist on an open market, the wire's ranges and the market's minimums.

    Both minimums hold, for a market order at its worst price. Whether the venue spares reduce-only orders is not known;
    here it does, so that what is left of a position can be closed.

    Raises:
        VenueError: 21605, 21701, 21702, 21706 or 21740.
    """
    market_rules.check_tradable(market.spec, price_ticks, reduce_only=reduce_only)
    if not 1 <= lots <= MAX_BASE_LOTS:
        raise VenueError(Code.INVALID_BASE_AMOUNT, "invalid base amount")
    if not 1 <= price_ticks <= MAX_PRICE_TICKS:
        raise VenueError(Code.INVALID_PRICE, "invalid price")
    spec = market.spec
    enough = lots >= spec.min_base_lots and market.quote_micro(price_ticks, lots) >= spec.min_quote_micro
    if not enough and not reduce_only:
        raise VenueError(Code.AMOUNT_TOO_LOW, "invalid order base or quote amount")


def check_expiry(order: PlaceOrder, now: int) -> None:
    """Insist on no expiry of what never waits, else on one 5 minutes to 30 days ahead of ``now`` (µs).

    Raises:
        VenueError: 21711; also for -1, which only the signer understands.
    """
    if not terms_of(order.order_type, order.time_in_force).has_expiry:
        valid = order.order_expiry_ms == 0
    else:
        ahead = order.order_expiry_ms - now // 1000
        valid = MIN_ORDER_EXPIRY_MS <= ahead <= MAX_ORDER_EXPIRY_MS
    if not valid:
        raise VenueError(Code.INVALID_EXPIRY, "invalid expiry")


def default_expiry_ms(order: PlaceOrder, now: int) -> int:
    """Give the expiry of a local participant's order: 28 days where it needs one and names none."""
    if order.order_expiry_ms or not terms_of(order.order_type, order.time_in_force).has_expiry:
        return order.order_expiry_ms
    return now // 1000 + DEFAULT_ORDER_EXPIRY_MS


def check_cancel_all(tx: CancelAllTx, now: int) -> None:
    """Insist on a time 5 minutes to 15 days ahead of ``now`` (µs) of a scheduled cancel-all, of all markets, and on none else.

    Raises:
        VenueError: 21501.
    """
    if tx.time_in_force not in CancelAllTime:
        raise VenueError(Code.INVALID_TX_INFO, "invalid tx info: time in force")
    if tx.is_of_one_market and tx.time_in_force != CancelAllTime.IMMEDIATE:
        raise VenueError(Code.INVALID_TX_INFO, "invalid tx info: only an immediate cancel-all may be of one market")
    if tx.time_in_force == CancelAllTime.SCHEDULED:
        valid = MIN_CANCEL_ALL_AHEAD_S * 1000 <= tx.time - now // 1000 <= MAX_CANCEL_ALL_AHEAD_S * 1000
    else:
        valid = tx.time == 0
    if not valid:
        raise VenueError(Code.INVALID_TX_INFO, "invalid tx info: time")


def failure_text(code: int, message: str) -> str:
    """Write the text of a transaction that failed at the sequencer."""
    return msgspec.json.encode({"code": int(code), "message": message}).decode()
