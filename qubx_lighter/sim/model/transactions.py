"""The signer's transactions as the venue reads them.

``tx_info`` is the JSON text that the native signer writes; its signature is not verified here. What this venue does not do
(integrators) is refused, never half done.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar, Final

import msgspec

from qubx_lighter.constants import NIL_MARKET_INDEX, Code, SelfTradeBehavior, SelfTradeScope, TxType
from qubx_lighter.errors import VenueError
from qubx_lighter.protocol.order_table import SelfTrade, self_trade_refusal
from qubx_lighter.sim.model.commands import PlaceOrder

UPDATE_ACCOUNT_CONFIG: Final = 41  # nothing here signs it
INTEGRATOR_NOT_APPROVED: Final = 21149
_MAX_ATTRIBUTES: Final = 4


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
